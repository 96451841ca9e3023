// Package shard runs one shard on one node: it follows the shard's Raft group, and while this node leads it, moves
// Kafka's records into the group and carries every closed epoch to every sink.
//
// # Promise
//
// A leader moves the records of its shard's partitions into its Raft group, in order and without a gap, and carries
// every closed epoch to every sink. Whatever fails outside (broker, store, database, a peer) it waits for and shows in
// Status. What needs an operator stops exactly the part that it concerns (a partition, a sink, the shard), is shown,
// and is looked at again: it goes on by itself where that is proven to be safe.
//
//	            ┌──────────────── Shard (one per Raft group, as long as the node runs) ────────────────┐
//	            │  follower ──won──► lead: Barrier ─► Config entry, or check ─► intake and flushers    │
//	            │     ▲                │                    │                       │                  │
//	            │     └──────lost──────┘             stop (an operator)      error: forget what is     │
//	            │                                                            in flight, Barrier,       │
//	            │                                                            offsets from the state    │
//	            └──────────────────────────────────────────────────────────────────────────────────────┘
//
//	intake    Source ─► accept ─► fill: decode ─► batch ─► Propose … in flight … ─► result ─► events buffer, arrivals
//	          (one goroutine owns all of it; the source's goroutine feeds it, another awaits the results in order)
//	          CutResult ─► seal the buffer ─► close the arrivals ─► epochBoard.note
//	                                                                     │
//	flusher   await an epoch ◄───────────────────────────────────────────┘
//	          ─► Plan entry ─► OpenPlan ─► Write (again and again) ─► Ack entry ─► latency, group offsets, announce
//	          (one per sink and leadership)
//
//	Turns     hear, or ask ─► turnBoard of each shard led ─► intake: Cut entry ─► its answer ─► flushers of Delta
//	          (one per node; not with delta.commit_wait: 0s)
//
// # Invariants
//
//  1. Ranges are proposed in offset order from the applied state's next offset. Whatever is uncertain (a failed
//     Propose, a rejected entry) is forgotten, and the offsets are read from the applied state after a Barrier: a
//     failed entry may still be committed, and then the state refuses the repetition.
//  2. What keeps a partition from being read (a broken batch, one that inflates too much, a codec, a right, silence) is
//     its own: what lies before it is applied, the others go on, and a probe, one at a time, with backoff, tells when
//     it can be read again. Once its last record has been compared, it is set anew at the next offset. An offset out of
//     range, another topic id, a diverging leader epoch, a log that ends before the next offset or that has another
//     last record stops the partition; nothing is ever reset. What another topic id has stopped goes on when the id is
//     its own again. What an offset or another record has stopped goes on once the last record that was applied is
//     proven to be there, unchanged, and the next offset can be read; what proves nothing lets nothing go on. A chunk
//     that does not begin where the last one ended begins a new run. An operator may give offsets up (Shard.Do): a new
//     run follows, so that nothing is left of what was fetched before. Nothing of a partition is taken before the last
//     record that was taken of it has been compared with the log, in this run and since the connection and the leader
//     epoch by which more comes were new (proof): also after it went on by itself. What comes meanwhile is held, one
//     chunk or two, and the partition pauses.
//  3. Nothing is written to a sink but an outstanding plan, and nothing is acknowledged but what Write has returned nil
//     for. A sink waits for no other, except for the one that state's table of sinks names (the state sees to that). A
//     sink that has stopped begins anew after a while, with its position: it writes nothing before its checks pass.
//  4. An epoch is noted when its events buffer is sealed and its arrivals and its number of events are known; the
//     intake notes epochs in order, and only after the state has closed them. A bounded plan ends at a noted epoch at
//     the latest, and a plan is measured only when its last epoch is noted. A flusher that waits looks again after
//     every note, and after every acknowledgement of another sink (announce); no change is lost between a look and a
//     wait.
//  5. An events buffer is sealed as complete only if this leadership has seen every event of the epoch; otherwise the
//     sink fetches the ranges again from Kafka, and the number of rows must be the epoch's. What an operator has
//     given up of them (Shard.Do) is not asked for, and that number is an upper bound then.
//  6. A partition is idle only if a successful listing, begun after its last record was applied, showed its next offset
//     at the last stable offset, and none since showed otherwise, for IdleAfter. A partition that is paused, stopped or
//     not listed is not idle.
//  7. Records are judged by one list of suppressed readers, whose number their batch names. A change of the list passes
//     the intake behind what is in flight (Shard.Suppress): buffers judge by the new one from their next use on. Where
//     the intake does not run, the change does not wait for it, and the state refuses a batch that was judged before:
//     then a new run begins at once.
//  8. Where there are turns, a plan of a Delta table begins with one, so that the plans of all shards can be in one
//     commit. Without one begin the first plan of a leadership, a plan that is outstanding, and one of a shard that has
//     gathered much. For each turn that has begun for a shard and a sink (sinks.Joint) there is a Write with it, or an
//     Absent. What a turn's cut closes never waits for the next turn: a plan waits for the cut as long as the intake
//     runs, and what was closed when its plan had begun, or while its flusher was at something else, is written late,
//     in the same turn.
//  9. Memory is bounded: chunks by one, entries in flight by count, arrivals by number of epochs. Near a budget
//     partitions that run ahead of the clock wait, never the one that holds it; at a budget intake stops reading. Both
//     end by themselves.
//
// # Assumptions
//
// Env.Now carries a monotonic reading (as time.Now does) or never goes back. Flushers of an earlier leadership may
// still write while a later one runs: sinks tolerate that (package sinks).
//
// # Limits
//
// At the very end of a compacted topic a gap without a record delays idleness until a record follows. The latency of
// epochs that another leader took in is not measured.
//
// # Rejected
//
// Offsets in Kafka's groups as the truth: the offsets are part of the state, with what was made of the records. A
// goroutine per partition: decoding is cheap, and one entry for all partitions costs one fsync. Waking each flusher
// through a channel of its own, with the noted epoch beside it: five things said together what the epochBoard says.
package shard
