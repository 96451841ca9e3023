// Package malformed floods a running cluster with records that cannot be used. It holds one test and no other code.
//
//	generator ──► broker (kfake, its own process) ──► three nodes, three shards, six partitions ──► Delta, local files
//	   ▲              └── <topic>.dlq ◄── dead letters ◄──────┘                                              │
//	   └───────────────────────── compared record by record at the end ──────────────────────────────────────┘
//
// # Promise
//
//  1. Every record that cannot be used is in the dead letter topic under its position, once by key, with the reason
//     that the generator knows and, up to 64 KiB, its bytes.
//  2. Every other record is in the table events exactly once.
//  3. Memory is flat: the median heap, after a collection, of the last third of the run is at most a quarter above that
//     of the second third. State and log stay on disk within a bound that does not depend on the number of records.
//
// The generator is a function of partition and index. Nothing has to be remembered about a million records, so that the
// heap that is measured is the nodes' heap. The broker keeps all records in memory, and is another process for the same
// reason.
//
// # Assumptions
//
// Wall clock and disk of the machine; loopback ports. "go test ./integration/malformed" sends 30,000 records,
// "make malformed" a million.
package malformed
