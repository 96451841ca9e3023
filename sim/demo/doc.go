// Package demo runs the whole of Deckle in one process: a broker, one or three nodes with real Raft between them, the
// simulator, and at the end the reconciliation of everything with the ground truth.
//
//	simulator ──► broker (kfake in <run>/kafka, ──► node a, b, c ──► Delta (<run>/delta, or S3)
//	    │            or --brokers)                  (<run>/node-a …)    ClickHouse, if given
//	    │                                               │ replicas of every shard  │
//	    └─► truth (<run>/truth.jsonl) ──► reconcile ◄───┴──────────────────────────┘
//
// A run has four phases:
//
//	start ──► produce ──► drain ──► reconcile ──► Report
//	            time up      bounded: every record applied, every session closed,
//	            or Ctrl-C    every epoch acknowledged by every sink, on every replica
//
// # Promise
//
//  1. Report.Equal is true only if the simulator's truth is exact, the drain has come to its end, and every table,
//     every replica of every shard and the dead letter queue agree with the truth row by row. Whatever could not be
//     compared counts as not equal.
//  2. Every run has a folder of its own below Options.Dir, and a topic, prefix and database of its own in services that
//     were given; nothing is deleted.
//  3. It listens on the loopback only, on ports that the kernel chooses, but for the page: Options.HTTP if that is
//     free.
//
// The log of the nodes goes to <run>/deckle.log, so that the terminal stays readable.
package demo
