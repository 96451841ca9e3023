// Command bench compares Deckle with a tuned Spark Structured Streaming job that does the same work, on one machine and
// in one run: `make bench`. It writes bench.json.
//
// # What is measured
//
//	simulator ──► Kafka: a backlog of warm-up + EVENTS records, 4 partitions, Snappy   (produced before, not measured)
//	                 │
//	                 ├──► spark       sessions → Delta append + ClickHouse, latest image wins; rollups, pages
//	                 ├──► deckle      one node: sessions, revisions, rollups, pages, dead letters; no raw events
//	                 ├──► deckle_raw  the same, and every raw event in Delta
//	                 ├──► deckle3     three nodes on this machine, no raw events
//	                 └──► deckle_guarded, deckle3_guarded     the same two with TLS between the nodes and at the HTTP
//	                                  side and with sealed data folders; the ways to the services are as they were
//
// They run one after the other, several times, each with an empty data folder, an empty prefix of the bucket and a
// database of its own. A run is measured over a window:
//
//	start, warm-up │ window                                         │ tables are read, compared with the truth
//	───────────────┼────────────────────────────────────────────────┼───────────────────────────────────
//	               events a(t0)                    all applied, all visible in every sink
//	               CPU  c(t0)                                        CPU c(t1)
//
// The window opens at the first sample after the warm-up's records have been applied; its events are the backlog
// without the records that had been applied by then. (Spark warms itself up with more records, into tables that are
// thrown away, and its window is the whole backlog: a JVM is slow for its first million records.) The CPU seconds are
// user and system time of all processes of the measured system (Spark: the JVM and the Python driver), not of the
// broker and the stores. The window closes when every session is closed and the last row is visible in every sink, so
// that no work which belongs to the measured events is left undone.
//
// # Promise
//
//  1. Every figure comes from a run whose tables were read in full afterwards and are equal to the ground truth;
//     otherwise "equal" says false and the program fails.
//  2. The figures are medians of several alternating runs, along with the least and the greatest; never those of the
//     best run.
//  3. Ratios only compare systems that ran in the same call.
//
// # -full
//
// `make bench-full` measures Deckle alone, in parts that -only picks; it writes bench-full.json and prints tables. The
// records are produced live, by the wall clock, at a steady rate by the simulator, which runs in this process. After a
// warm-up a window opens:
//
//		sim ──► Kafka ──► node(s) ──► MinIO, ClickHouse
//		 │ made: Kafka timestamp       │ log: 00…n.json   │ deckle_ledger
//		 │ of each (partition, offset) ▼                  ▼
//		 └──────────────────────────► watch: polled every 25 ms ──► delay of every record of the window
//
//	  - CPU per event: user and system time of all nodes, per record that they applied in the window.
//	  - Memory: PSS of all nodes, one sample per second, median and greatest.
//	  - Visible in Delta: the commit's file could be read from the log of table events. The bounds in the statistics
//	    of a commit's data files say which records it has: one partition per shard, without a gap; anything else fails
//	    the part.
//	  - Visible in ClickHouse: the ledger, whose row of an epoch is written last, has reached the epoch of the commit
//	    that has the record in Delta. If a Delta commit has several epochs, all of its records count as visible when
//	    the last epoch is: never too early. The rows of session_metrics are counted at the end, and must be as many as
//	    there were sessions.
//	  - Produced: the record's Kafka timestamp, which is the time when the simulator made it, so before batching and
//	    acknowledgement.
//
//		part      nodes  load                                         measured
//		sessions  1      -rate, along with N sessions that stay open  CPU per event, memory; no raw events
//		soak      3      -soak-rate for -soak                         memory: last half minute ÷ half a minute after
//		                                                              the first minute
//		latency   3      -rate, interval 10 s and 1 s, raw events     delay of each record: p50, p99, max
//		commits   1      5,000/s, interval 250 ms, raw events         CPU per event, time of a commit, after N commits
//		recovery  1      until the state has -state-bytes on disk     SIGKILL in the middle of an epoch; from start to
//		                                                              ready, to caught up
//		outage    1      -outage-rate, raw events, a service killed   slope of the data folder, also without an outage
//		big       1      2,000/s, and one session with 1,900 events   delays of all others with it and without it, in
//		                 over the window, of 24 KiB or 3,900 bytes;   turns (-runs); VmHWM of the process
//		                 interval 1 s, raw events
//		late      3      -rate, 1 % late, sessions of 12 s, grace 1 s bytes of Delta files that replace others; delays
//
// Each window reports, along with its figures, the rates that were asked for, produced and applied, and the machine's
// load average. A part that fails is named in the report and fails the program; the other parts are run and written.
package main
