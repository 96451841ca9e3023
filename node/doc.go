// Package node puts a Deckle node together: it opens the disk, the Raft groups, the sinks and the Kafka client from a
// configuration, gives them to the shards, watches the node's budgets, and ends everything in order.
//
// # Promise
//
// Open returns a node that works in the background until Close. A sink, a broker or a peer that is down at the start
// keeps nothing else from working. Close stops intake and flushers, hands leadership over and closes the disk, and ends
// in bounded time whatever hangs. An error that should end the process is reported exactly once.
//
//	config ──► node: Open ──┬──► raftstore, state    one Raft group and one store per shard, one log, one block cache
//	                        ├──► kafka               Client, Watch, Refetch
//	                        ├──► sinkSlots           each sink opened when first needed, shared by all shards
//	                        ├──► budget              disk, free space, memory: why intake rests
//	                        ├──► shard (Env) × n     follows its group; leads when the group says so
//	                        └──► status, web         what all of them say, as figures, metrics and pages
//
// # Invariants
//
//  1. The packages below (config, kafka, shard, status, web) never import this one: shards take an Env of values and
//     small interfaces, the handler a Source.
//  2. A sink is opened by one caller at a time; a failed attempt answers for the shards that ask shortly after it. What
//     an opener returns along with an error is no sink.
//  3. Sinks are closed when no flusher is left, or not at all if one does not end in time. The state is closed after
//     the flushers have been asked to end: they read plans from it.
//  4. The disk budget that is not configured is decided once, when the data folder is created, and stored beside it.
//
// # Assumptions
//
// Deps.Now carries a monotonic reading (as time.Now does) or never goes back.
//
// # Limits
//
// Pausing for a budget begins at it and ends below it; between two looks at the disk, 2 seconds, a budget may be
// exceeded by what intake takes in meanwhile.
//
// # Rejected
//
// Opening all sinks at the start: one that is down would keep the others waiting. A limit in the file system (a quota):
// Pebble and Raft must be able to write even when intake may not.
package node
