// Package cluster simulates the whole of Deckle under virtual time: three nodes, broker, object store and ClickHouse
// in one process and one bubble of testing/synctest, while a fault plan does to them what happens to disks, networks,
// clocks and services. It checks the invariants of docs/design.md §9 while it runs, and compares the tables with the
// ground truth at the end.
//
//	           ┌──────────────────────────── one bubble, virtual time ────────────────────────────┐
//	seed ──┬──►│ sim (workload) ──► kfake ──► node n0, n1, n2 ──► objects (S3)                     │
//	       │   │                     ▲          │  │  │           └► ClickHouse, a model          │
//	       └──►│ fault plan ─────────┴──────────┴──┴──┴── disk, gate, clock, network               │
//	           │ oracle: every plan that a sink is given ──► polls of replicas and tables          │
//	           └───────────────────────────────────────────────────────────────────────────────────┘
//	then: heal everything ─► drain ─► sim/verify against the truth ─► Result
//
// # What is real and what is a model
//
// Real: all of Deckle (package node and below), with the Kafka client, Raft, Pebble and the Parquet files. Models: the
// broker (kfake), the network (testworld/network: buffered connections, no packets), the disk (Pebble's crashable file
// system: what was not synced may be lost, torn by blocks or reordered), the object store (put-if-absent, ambiguous
// answers, late puts), the server of ClickHouse (testworld/clickhouse: versions, partitions, deduplication, late
// inserts).
//
// # Invariants checked
//
//   - I1: on every replica, at every look, offsets = applied + duplicates + nulls + dead letters.
//   - I2: replicas at the same index have the same checksum, whenever they were looked at and whatever has happened to
//     them.
//   - I3: an offset that any replica has applied is never lost again.
//   - I4: a plan (sink, shard, b) has the same content for every process that ever writes it, and follows the one
//     before.
//   - I5, I7: at every look each table shows what the plans say it must, or may, show (lookdelta.go, lookclick.go), and
//     nothing that sim/history forbids.
//   - A row of table sessions that a foreign tool has deleted (foreign.go) stays deleted, also when its session is
//     revised afterwards; every other row is there.
//   - a breach of I6 or I8 shows as a breach of another one, as a node that stops, or as a drain that does not end.
//   - Of what every rule about personal data takes away or changes, no byte is left at the end: not in a log, a state,
//     a snapshot, a table or a letter (planted.go).
//   - A record is decoded by the rules of its epoch, also when the epoch is fetched again: rules and HMAC keys change
//     while records flow, and the truth is worked out anew at the end, by the rules that the epochs name (rules.go).
//   - From the entry on that has put a reader on the list of suppressed readers, none of the reader's records is an
//     event or a letter, or in a state or an object; before it, and after a removal, all are. The list changes while
//     records flow (readers.go). Which one held where a record was decided, is read from the entries that the shards
//     have applied, at the end (journal.go); the counters of each shard must agree, and all shards have the same list.
//   - A node gives up, or stops a part of itself, only if a fault of its own disk explains it.
//
// # Seeds
//
// A seed decides the workload and the fault plan, not the order of goroutines: the same seed again meets the same
// faults at the same virtual times, but another interleaving. A failure prints its history; -seed S -count N repeats
// it.
//
// # What the bubble cannot do
//
// Virtual time goes on only when every goroutine waits for a channel, a condition or time itself. A goroutine that
// waits for a mutex does not count. So nothing may sleep, nor wait for another process, while it holds a mutex that
// others want: Locks of Deckle that are held as long as a request lasts are semaphores (waiting for one ends with the
// context, which is better in any case), but Pebble holds mutexes while it writes files. Therefore:
//   - a slow disk slows the log's syncs, not Pebble's (a flush holds none of Pebble's mutexes while it syncs a table,
//     but a goroutine that waits for the flush may hold the mutex of the state);
//   - a paused process sends and receives nothing, but its timers may still make it write to its disk, as if that had
//     happened when it goes on.
package cluster
