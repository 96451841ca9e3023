// Package front takes the connections of the HTTP side, and holds strangers to what a node can spare.
//
// # Promise
//
// However many connections are opened, only a bounded number of them holds a file descriptor: storage, Kafka and the
// other nodes keep theirs. A client that is slow, or sends too much, is refused or ended, and others are answered.
//
//	net.Listener ──► Limit ── too many in all, or from one address ──► closed at once
//	                   ▼
//	                 Serve ── slow handshake, header, body or reader ──► ended
//	                   ▼
//	                 Gate.Enter ── flood, foreign Host, too many at a time ──► Refusal
//	                   ▼
//	                 Gate.Take ── beyond the client's rate of the class ──► Refusal
//
// # Invariants
//
//  1. A connection beyond a limit is taken and closed, never left in the kernel's queue, where it would hold back those
//     that are within.
//
//  2. What is counted as open is what has not been closed: a connection that is closed twice is counted once.
//
//  3. Who asks is the other end of the connection, unless that is a trusted proxy: then it is the last address of
//     X-Forwarded-For that is none. No header authenticates, and none that a stranger writes is believed.
//
//  4. A name under which a request comes is one of the server's own, whoever sends it. Behind a trusted proxy both Host
//     and X-Forwarded-Host are.
//
//  5. What strangers make the gate remember is bounded: 10,000 clients; beyond that the newest share one allowance.
//
// # Limits
//
// A flood below the limits from many addresses, or of the kernel's queues, is for a firewall.
//
// The package knows connections and requests, and no route. It imports none of ours.
package front
