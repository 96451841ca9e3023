// Package world runs three deckle nodes over three real Kafka brokers with replication, and does to the brokers and to
// the topic what happens to them. It holds tests and no other code: make world.
//
//	franz-go ─┐                                              ┌─► Delta on MinIO ──┐
//	Java ─────┼─► three brokers, 6 partitions × 3 replicas ──┤ three nodes        ├─► deckle verify ◄── truth
//	librdkafka┘    │ killed, frozen, leaders moved, bytes    └─► ClickHouse ──────┘                      ▲
//	               │ flipped, trimmed, rights taken, …                                                   │
//	               └─► ledger: a reader of its own keeps every committed record ─────────────────────────┘
//
// # Promise
//
//  1. After each fault the tables hold exactly what follows from the records that the brokers have, less the offsets
//     that were given up by deckle partitions skip: no record is lost, doubled or different. The dead letter topic has
//     each record that cannot be used, with its reason.
//  2. While one partition cannot be read, the others are; a condition says which one, and why.
//  3. What producers were told is written is in the topic (the brokers' promise): otherwise a comparison with what is
//     there would prove nothing.
//
// Each of the three clients sends with each codec. The producer of librdkafka that uses gzip is not idempotent, so that
// a broken connection may double its records for real. Java's client chooses partitions by murmur2, librdkafka by
// CRC32.
//
// # The truth
//
// The records come from package sim. What a partition has at an offset is known only from the brokers; so the ledger
// reads the topic after each fault, before and beside Deckle, and finds each record by its bytes among those that were
// made. Package sim works out what the tables must have. A record that nobody has made, or that was made and is not
// there, fails the test.
//
// # Assumptions
//
// Faults are bounded in time and number. Only processes that the test has started are signalled, by their ids. On a
// machine that is busy everything takes longer, and nothing depends on it, but for the limits of minutes.
//
// # Limits
//
// The processes share one machine and its page cache: a killed broker loses nothing that it has written. The brokers
// run Kafka 3.9; the ledger reads by the same client library as Deckle does.
package world
