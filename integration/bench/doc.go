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
package main
