// Package kafka is a node's way to its source topic: it describes and watches the topic, reads records from given
// offsets, and reads records again that were read before.
//
// # Promise
//
// A Source hands over the committed records of each partition in offset order, from the offset it was given, without a
// gap that the log does not have itself, or says why it cannot go on, per partition: the others go on. A Refetch gives
// exactly the records that it is asked for, or an error that tells a loss (an operator is needed) from a silence (it
// may pass).
//
//	Client ──► Describe, Starts, ListEnds, CommitOffsets, CheckNew (may a cluster be created over this topic),
//	   │       Advise (what of the topics does not fit the cluster)      requests, through one client
//	   │
//	   ├─────► Watch     lists ids and ends again and again, for all shards of the node
//	   ├─────► Source    poll ─► Handover ─► Chunk ─► intake; one client per run of an intake
//	   │                  ▲         error of a partition: records before it, the error, then nothing of it
//	   │                  └── SetOffsets ◄── Restart, once a Probe has read it
//	   ├─────► Probe     tells whether a partition can be read; one client per call
//	   ├─────► Compare   tells whether the log still has the record that was read last; one request per broker
//	   └─────► Refetch   read: poll ─► take, or silence ─► done, lost or silent; one client per partition and call
//
// # Invariants
//
//  1. No offset is ever reset. An offset out of range, another topic id or a diverging leader epoch is an error of the
//     partition; what follows it is the caller's decision.
//  2. A chunk's part says below which offset everything has been handed over, so that a chunk that goes astray on its
//     way shows. A chunk with an error of the client still has parts that must be taken: the client is past them.
//  3. Offsets of consumer groups are written for tools that show lag, never read.
//  4. Memory is bounded: fetches by number and by bytes, inflated, as measured; an inflated batch by bytes; a source by
//     one chunk not yet taken. A broker sends the first batch of a fetch whole, so one batch per fetch comes on top.
//  5. From an error of a partition on, nothing of it is handed over before Restart: the client may have passed what it
//     could not read, and the next poll would bring the record behind it. The goroutine that polls sets offsets anew
//     itself, so that nothing polled before can follow.
//  6. Nothing of a topic is altered. A refusal for want of a right names the right (package rights).
//  7. A loss is only what the brokers say plainly: the log begins after the record, or the topic has another id.
//  8. A comparison says that the log is another one only if it has seen what disproves it, and that nothing disproves
//     it only if the broker has said what stands there now, or that nothing does. An error, a throttled answer or none
//     is neither.
//
// # Assumptions
//
// Topic ids are unique, or the brokers know none (then they are not compared). A leader epoch, where records have one,
// changes whenever the log may have lost its end, unless the whole broker was restored from a backup (Compare). Such a
// restore ends the broker's connections.
//
// # Limits
//
// A batch whose checksum is right but whose records do not decode is passed over by the client without a word if
// another batch follows in the same fetch, and is silence otherwise. Brokers take no such batch: they decode it
// themselves. What else the client keeps to itself (a leader that is none, a batch that it takes for cut off) shows as
// silence: whoever lists the ends sees it. A broker's answer beyond the client's bound names no partition. A position
// between two records that the broker keeps no record for (compaction) is passed with the next record.
//
// # Rejected
//
// A consumer group: its rebalances know nothing of Raft's leaders, and its offsets would be a second truth. One client
// for all shards: the end of a shard's leadership would have to be taken out of shared fetches; a client for each run
// ends as a whole. Seeking in a running client where a run begins (SetOffsets works only on partitions that it has
// begun to read): a new client is as cheap as the Barrier before it. A reader's client for comparisons: it hides empty
// answers and moved leaders, and connects anew each time. SetOffsets as the probe: it begins all fetches of the client
// anew, for the sake of a partition that may fail for days. A probe for each partition at once: a storm of clients upon
// brokers in trouble.
package kafka
