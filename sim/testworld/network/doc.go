// Package network is a network in memory for a bubble of testing/synctest: named hosts, connections with the semantics
// of net.Conn, and faults that may begin and end at any moment.
//
// Promise. Everything that waits here waits for a condition or a timer, so that virtual time goes on; there is no
// goroutine but those that deliver when a timer fires. The bytes of a connection arrive in order, once, or not at all;
// only the Relay repeats messages and lets them overtake each other, on connections of its own.
//
//	dialer's host                                                           listener's host
//	  Conn ──Write──► flow: chunks, each with its time of arrival ──deliver──► buffer ──Read──► Conn
//	       ◄──Read─── buffer ◄──deliver── flow ◄──Write──
//	                     │                                        a flow has at most window bytes in it;
//	                     └ held while the link from → to is cut   a writer waits for room
//
// Faults, all of which may be combined.
//
//   - Cut(from, to): nothing that is sent from → to arrives before Heal: bytes, ends, resets, and dials, which wait
//     until their context ends. One way only; what comes back still arrives.
//   - Delay(from, to): a latency, with jitter, of everything that is sent from then on.
//   - Reset(a, b): the connections between the two end with ECONNRESET at both ends, at once.
//   - Freeze(host): the process is paused. Its reads, writes, accepts and dials return only after Thaw, timeouts too;
//     what is sent to it waits, as in the kernel's buffers, and its port is open.
//   - Kill(host): the process ends. Its connections fail for itself at once, and are reset for the others as soon as
//     that news gets through; its listeners close. A Process that was obtained before stays dead for ever, while the
//     next process may listen and dial under the name.
//
// Invariants.
//
//  1. An end that was closed gives net.ErrClosed; a peer reads what was sent before, and then io.EOF.
//  2. What arrives at a closed or dead end resets the connection of the sender.
//  3. A deadline is a timer only while somebody waits. A deadline in the past fails even if there is something to read.
//  4. After Network.Close every call returns, no timer is left and nothing repeated is under way.
//
// # The relay
//
// A Raft connection of package raftstore begins with a header (raftstore/wire.go) and one byte of answer. Then
// hashicorp/raft's transport sends a request (a byte that tells its type, and msgpack) and reads its answer before it
// sends the next: raftstore allows one request in flight. So what was written up to the first Read is one whole
// request. The Relay keeps a copy of some, AppendEntries, RequestVote and its pre-vote, and sends each once more,
// later, on a connection of its own with the same header, and drops the answer: the receiver sees a message that was
// duplicated, delayed and overtaken. A TimeoutNow is never repeated (it makes its receiver a candidate, and the
// network that repeats it forms no leader), nor is an InstallSnapshot, whose stream follows it.
package network
