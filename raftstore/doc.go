// Package raftstore replicates the shards' state machines: hashicorp/raft, one group a shard, over one port and one log.
//
// # Promise
//
// An entry whose Future has a result was fsynced on a quorum and applied here, in the order in which this leader
// proposed it. Every replica applies the same entries in the same order. Any one of three nodes may vanish, with its
// disk too, and come back with an empty one, without a person.
//
// # Invariants
//
//  1. A server id (node name and incarnation) names one data folder. A folder that lost anything it promised is emptied
//     whole and gets a new incarnation; a connection says which id it means, and another one refuses it.
//  2. A group's first configuration is written once, by the first of the configured nodes, while its identity says
//     "founding": after a majority of the founders has noted the cluster's id. A node that knows a cluster never founds
//     another.
//  3. The log is cut only up to a marker, and a marker is written only when the state machine is durable up to it. At
//     start: durable ≥ marker, log ≥ applied; anything else is damage, and so are a log record, a sealed file or a file of
//     the state machine that do not fit their checksum.
//  4. A node keeps no log entry below an installed snapshot (it was never compared with it), and cuts a log only where
//     it conflicts with what is known to be committed.
//  5. An error of the state machine or of the log stops the group for good and reaches OnFatal once. Nothing is skipped.
//     If it is damage, the identity says "void" before the process can end, so that it is answered by the next Open and
//     not met again and again.
//  6. Entries of one leadership are accepted in order: after one was refused, none is taken until the leadership has
//     been announced anew.
//  7. What Raft keeps in memory is what its log and its marker say: where the two part (the log conflicts with a
//     snapshot, a leader's change of the configuration could not be stored), the instance ends and another one begins.
//
// # A node's life (file identity)
//
//	          all peers: no cluster,                majority told,
//	          and this is the first    ┌──────────┐ configurations written
//	        ┌─────────────────────────►│ founding ├───────────────┐
//	┌───────┴┐ told by the founder     └──────────┘               ▼
//	│  new   ├───────────────────────────────────────────────►┌────────┐  replaced by another   ┌──────┐
//	└───────┬┘                         ┌──────────┐           │ member ├──────────────────────►│ void │
//	        └─────────────────────────►│ joining  ├──────────►└────────┘  incarnation           └──┬───┘
//	          peers have a cluster     └────▲─────┘ voter in every group, or damage at run time   │
//	                                        └───────────── folder emptied, new incarnation ◄──────┘
//	                                                        (damage found by Open comes here, too)
//
// A single node has nobody to rejoin: damage found by Open is its error, and nothing is changed; a void folder is refused
// at every start, until the whole of it is restored from a copy or moved away.
//
// A joining node asks each group's leader, which first asks the node itself at its configured address, then removes the
// former server, adds the new one as a non-voter, and makes it a voter when it has caught up. Every step is plain Raft
// membership change and is repeated until it is done.
//
// # The folder
//
//	identity                      who the node is (sealed.go: one line of JSON, one of CRC32C, replaced as a whole)
//	wal/                          the log of all groups (package wal)
//	shard-<n>/                    the state machine's files
//	snapshots/marker-<n>          index, term and configuration up to which the state stands for the log
//	snapshots/staged-<n>/         a received snapshot, until it is swapped in (snapshots.go)
//	snapshots/send-<n>-<k>/       a copy of the state on its way to a follower (sender.go)
//
// # Assumptions
//
// The disk: what Sync has returned for is there after a power cut, a rename is atomic, and damage shows in a checksum:
// of a log record, of a sealed file, of a block of the state machine's tables. A snapshot carries one for each file, and
// the state machine has checked its own before, so that damage does not travel.
// The network may lose, delay, repeat and cut. Clocks only run: no two nodes' times are compared. The two other nodes
// of a cluster keep a majority's folders; all three lost at once is a new cluster, or, where one still knows the id, a
// cluster that waits. Damage is a matter of one disk: of two nodes that find some at the same time both are emptied, and
// with them a majority. So an error that every replica would meet alike must not call itself damage (StateMachine).
//
// # Known limits
//
// If the founder loses its disk between telling its peers and its first committed entries, within the first second of a
// cluster's life, the groups have no leader: the folders, which hold nothing yet, have to be emptied by hand. Changes of
// membership beyond replacing a folder are not offered. The configured address of a node may change with a restart of
// all nodes; Raft's own record of it is not used to dial.
//
// # Rejected
//
// A Raft library that knows many groups (none kept as well in Go). The heartbeat fast path, pipelining and replay of
// committed logs of hashicorp/raft: broken upstream, see transport.go and group.go. Snapshots as files of their own
// locally: the state machine has them already. Incarnations in addresses only: a vote would then outlive its folder.
package raftstore
