// Command bench measures Deckle beside a tuned Spark Structured Streaming job that does the same work, on one machine and in
// one run: `make bench`. It writes bench.json.
//
// # What is measured
//
//	simulator ──► Kafka: a backlog of warm-up + EVENTS records, 4 partitions, Snappy     (before, and not measured)
//	                 │
//	                 ├──► spark       sessions → Delta append + ClickHouse, latest image wins; rollups, pages
//	                 ├──► deckle      one node: sessions, revisions, rollups, pages, dead letters; no raw events
//	                 ├──► deckle_raw  the same, and every raw event in Delta
//	                 └──► deckle3     three nodes on this machine, no raw events
//
// Each takes its turn, several times, with an empty data folder, an empty prefix of the bucket and a database of its own.
// A run is measured over a window:
//
//	start, warm-up │ window                                         │ tables are read, compared with the truth
//	───────────────┼────────────────────────────────────────────────┼───────────────────────────────────
//	               events a(t0)                    all applied, all visible in every sink
//	               CPU  c(t0)                                        CPU c(t1)
//
// The window opens at the first sample after the warm-up's records have been taken; its events are the backlog less what
// was taken then. (Spark warms itself with more records, into tables that are thrown away, and its window is the whole
// backlog: a JVM is cold for a million records.) The CPU seconds are user and system time of all processes of the measured system (Spark: the JVM and the
// Python driver), not of the broker and the stores. The window closes when every session is closed and the last row is visible in every sink, so that
// nothing that was measured is left undone.
//
// # Promise
//
//  1. A figure comes from a run whose tables were read in full afterwards and are equal to the ground truth, or "equal" says
//     false and the program fails.
//  2. Medians of several alternating runs, with their least and greatest; never a best one.
//  3. Ratios only compare what ran in the same call.
//
// # -full
//
// `make bench-full` measures Deckle alone, in parts that -only picks; it writes bench-full.json and prints tables. Records come
// live, as the clock goes, at a steady rate from the simulator, which runs in this process. After a warm-up a window opens:
//
//		sim ──► Kafka ──► node(s) ──► MinIO, ClickHouse
//		 │ made: Kafka timestamp       │ log: 00…n.json   │ deckle_ledger
//		 │ of each (partition, offset) ▼                  ▼
//		 └──────────────────────────► watch: polled every 25 ms ──► delay of every record of the window
//
//	  - CPU an event: user and system time of all nodes, per record that they applied in the window.
//	  - Memory: PSS of all nodes, a sample a second, median and greatest.
//	  - Visible in Delta: the commit's file could be read from the log of table events. Which records a commit has is told by
//	    the bounds of its files' statistics, a partition a shard, without a gap; anything else fails the part.
//	  - Visible in ClickHouse: the ledger, whose row of an epoch is written last, has reached the epoch of the commit that has the
//	    record in Delta. So a record of several epochs in one Delta commit counts as visible when the last of them is: never
//	    too early. The rows of session_metrics are counted at the end, and are as many as there were sessions.
//	  - Produced: the record's Kafka timestamp, taken when the simulator made it, so before batching and acknowledgement.
//
//		part      nodes  load                                             measured
//		sessions  1      -rate, beside N sessions that stay open          CPU an event, memory; no raw events
//		soak      3      -soak-rate for -soak                             memory: last half minute ÷ the one after the first minute
//		latency   3      -rate, interval 10 s and 1 s, raw events         delay of each record: p50, p99, max
//		commits   1      5,000/s, interval 250 ms, raw events             CPU an event, time of a commit, after N commits
//		recovery  1      until the state has -state-bytes on disk         SIGKILL between two cuts; start until ready, until caught up
//		outage    1      -outage-rate, raw events, a service killed       slope of the data folder, also without an outage
//		late      3      -rate, 1 % late, sessions of 12 s, grace 1 s     bytes of Delta files that replace others; delays
//
// Each window says beside its figures which rate was asked for, reached and applied, and the machine's load average. A part that
// fails is named in the report and fails the program; the others are run and written.
package main
