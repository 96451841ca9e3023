// Package node wires a Deckle node: configuration, source, shard loops, flushers, HTTP.
//
// # Promise
//
// A node moves the records of the partitions whose shards it leads into their Raft groups, in order and without a gap,
// and carries every closed epoch to every sink. Whatever fails outside (broker, store, database, disk space, a peer) it
// waits for and says so; what needs a person stops exactly the part that it concerns and is shown in Status.
//
//	            ┌──────────────────────── shard (one a Raft group, always) ───────────────────────┐
//	leadership  │  follower ──won──► lead: Barrier ─► Config entry or check ─► intake + flushers   │
//	            │     ▲                │                  │                        │               │
//	            │     └──────lost──────┘              stop (a person)       error: drop what is    │
//	            │                                                          in flight, Barrier,     │
//	            │                                                          offsets from the state  │
//	            └──────────────────────────────────────────────────────────────────────────────────┘
//
//	intake   kgo client ─► chunk ─► decode ─► batch ─► Propose … in flight … ─► result ─► events buffer, latency
//	         (one goroutine owns all of it; a poller feeds it, a waiter hands it the results in order)
//	flusher  one a sink and leadership:  Plan entry ─► OpenPlan ─► Write (again and again) ─► Ack entry
//
// # Invariants
//
//  1. Ranges are proposed in offset order from the applied state's next offset. Whatever is uncertain (a failed Propose,
//     a rejected entry) is forgotten, and the offsets are read from the applied state after a Barrier: a failed entry
//     may still be committed (trap 1 of multi-group Raft), the state refuses the repetition.
//  2. Offsets in Kafka's groups are written, never read. An offset out of range, another topic id, a diverging leader
//     epoch or a log that ends before the next offset stops the partition; nothing is ever reset.
//  3. Nothing is written to a sink but an outstanding plan, and nothing is acknowledged but what Write has returned nil
//     for. Sinks wait for nobody, except revisions for sessions (the state sees to that).
//  4. An events buffer is sealed complete only if this leadership has seen every entry of the epoch; otherwise the sink
//     fetches the ranges again from Kafka, and the number of rows must be the epoch's.
//  5. A partition is idle only if a successful listing, begun after its last record was taken, showed its next offset at
//     the last stable offset, and none since showed otherwise, for IdleAfter. Paused, stopped or unlisted is not idle.
//  6. What is held in memory is bounded: fetches by bytes, chunks by one, entries in flight by count, epochs' latency
//     figures by number. At a budget intake stops reading; it resumes by itself.
//
// # Assumptions
//
// Deps.Now carries a monotonic reading (as time.Now does) or never goes back. A position between two records that the
// broker keeps no record for (compaction) is passed with the next record; at the very end of a compacted topic such a
// gap delays idleness until a record follows. Transaction markers are kept by the client, so they are not such a gap.
//
// # Rejected
//
// A consumer group: its rebalances know nothing of Raft's leaders, and its offsets would be a second truth. One client
// for all shards: a shard's end of leadership would have to be taken out of shared fetches; a client a leadership dies
// whole. Seeking in a running client (SetOffsets works only on partitions polled before): a new client is as cheap as
// the Barrier before it.
package node
