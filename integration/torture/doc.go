// Command torture runs three real `deckle run` processes over Apache Kafka, MinIO and the ClickHouse engine, kills and
// stops them, spoils their connections and restarts their services, while a simulator produces and readers watch; then every
// row must be right.
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
//	build (with failpoints) ─► start ─► workload ─► round ─► round ─► … ─► simulator ends ─► all equal? ─► torture.json
//	                                                  │
//	              fault ─► heal, start what is down ──┴─► every node follows, every sink goes on by two epochs of every shard
//
// The plan of rounds follows from the seed: each kind once, in any order, then by weight until there are enough kills (plan.go
// has the kinds). Every wait is bounded: a cluster that does not go on within minutes, a node that ends by itself, and anything
// that asks for a person fail the run.
//
// Killed "at" a failpoint: the point is armed with a long sleep on one node, and the node killed when it has been reached, so
// between two steps of a flush and nowhere else. "Stopped at" it: the node sleeps there while the others take its shards over,
// and then takes the next step, which is no longer its own.
//
// # What is wanted
//
//  1. Nothing lost, doubled or different, by `deckle verify`, by four readers that nobody here wrote (readers.py), and by the
//     offsets counted here.
//  2. No reader ever sees what none may (invariant I7 of docs/design.md, docs/clickhouse.md). sim/history says state by state
//     what that is, for the simulated cluster, too. Every version of a Delta table is read from the files of the log
//     itself; and a table that is opened from its newest checkpoint must have the same files as the versions one by one.
//  3. Recovery is measured, from the SIGKILL of a leader until a session that was produced after it is visible in both sinks:
//     recovery_ms; the worst of the shards that the node led. The targets (p50 3 s, max 6 s, a node follows within 12 s) are
//     reported and not enforced: a busy machine is no fault of the tables'. visible_without_fault_ms is the same without a
//     fault, for comparison.
//
// # What it is not
//
// SIGKILL loses nothing that was written: lost and torn writes, full disks and clocks belong to the simulator of the cluster.
// All data are in a memory file system if there is room (data_in in the report says so): in earnest there are six machines with
// disks of their own, and on one disk three nodes that close an epoch a second, 60 MB/s together, wait for each other's fsyncs
// until leaders lose their leases. The engine's front runs one query at a time, so ClickHouse is slower here than a server is.
// Rounds are timed by the machine: the seed repeats the plan, not the interleaving. Two processors that do nothing else are
// enough; on a machine that is busy leaders lose their leases of 500 ms, and rounds take as long as it takes.
//
// # That it can fail
//
// The tests of sim/history show each check a state that it must refuse. `make torture-bug` plants bugs in the
// real binary, by failpoints whose names begin with "bug", and wants each to be found.
package main
