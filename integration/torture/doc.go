// Command torture runs three real `deckle run` processes over Apache Kafka, MinIO and the ClickHouse engine. It kills
// and stops them, disturbs their connections and restarts their services, while a simulator produces and readers watch;
// in the end every row must be right.
//
//	make torture KILLS=100 SEED=7        go run ./integration/torture -kills 100 -seed 7
//
//	             ┌────────── proxy ──────────┐
//	simulator ─► Kafka ◄── proxy ── node 1 ── proxy ─► MinIO ◄──────────── deltaWatch: every version of both tables
//	probes ────►  ▲ ▲               │ ▲ ▲                 └──────────────── snapshots: the newest, from its checkpoint
//	              │ └── proxy ── node 2 │ │
//	              │                 ▲   │ └── proxy ─► ClickHouse ◄──────── clickWatch: looks at all tables
//	              └──── proxy ── node 3 ┘     each node has its own proxies: a link is one node's way to one target
//
// # A run
//
//	build (with failpoints) ─► start ─► workload ─► round ─► round ─► … ─► simulator ends ─► all equal? ─► report
//	                                                  │
//	              fault ─► heal, start what is down ──┴─► every node catches up, every sink advances by two epochs of
//	                                                      every shard
//
// The plan of rounds follows from the seed: each kind once, in any order, then by weight until there are enough kills
// (plan.go has the kinds). Every wait is bounded: the run fails if the cluster makes no progress within minutes, if a
// node ends by itself, and if anything asks for an operator.
//
// A node is killed "at" a failpoint: the failpoint is armed with a long sleep on one node, and the node is killed once
// it has reached the failpoint, so exactly between two steps of a flush. A node is "stopped at" a failpoint: it sleeps
// there while the others take over its shards, and then takes the next step, for a shard that is no longer its own.
//
// Both Delta tables are compacted every three seconds, by files that are five seconds old, so that compaction meets
// revisions, kills and shared commits all the time. The report has how many of its jobs have committed, and how many
// were killed at its failpoints: with the sources read, with a file staged, and with the commit made. A run in which
// none has committed fails.
//
// Every wire of a node has TLS: to the others, to Kafka (SCRAM, access control lists), to MinIO and to ClickHouse. Its
// HTTP side has TLS and tokens, its data folder is sealed. What is not a node (simulator, probes, readers) reaches the
// services without TLS. Rounds rotate the CA of the nodes, each service's password, and the token.
//
// # What is checked
//
//  1. Nothing is lost, doubled or different, according to `deckle verify`, to four readers that are not part of this
//     project (readers.py), and to the offsets that are counted here.
//  2. No reader ever sees what no reader may see (invariant I7 of docs/design.md, docs/clickhouse.md). sim/history says
//     state by state what that is, for the simulated cluster, too. Every version of a Delta table is read from the
//     files of the log itself; and a table that is opened from its newest checkpoint must have the same files as the
//     versions one by one.
//  3. Recovery is measured, from the SIGKILL of a leader until a session that was produced after it is visible in both
//     sinks: recovery_ms is the worst of the shards that the node led. The targets (p50 3 s, max 6 s, a node catches up
//     within 12 s) are reported and not enforced: a busy machine does not make the tables wrong.
//     visible_without_fault_ms is the same without a fault, as a comparison.
//
// # What is not tested here
//
// SIGKILL loses nothing that was written: lost and torn writes, full disks and clocks are left to the simulated
// cluster. All data are in a memory file system if there is room (data_in in the report says so): in production there
// are six machines with disks of their own, while on one disk three nodes that close an epoch per second, and write 60
// MB/s together, wait for each other's fsyncs until leaders lose their leases. The engine's front runs one query at a
// time, so ClickHouse is slower here than a server is. Rounds are timed by the machine: the seed repeats the plan, not
// the interleaving. Two processors that do nothing else are enough; on a busy machine leaders lose their leases of 500
// ms, and rounds take longer.
//
// # How we know that it can fail
//
// The tests of sim/history show each check a state that it must refuse. `make torture-bug` plants bugs in the real
// binary, by failpoints whose names begin with "bug", and requires that each is found.
package main
