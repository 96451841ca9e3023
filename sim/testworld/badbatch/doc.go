// Package badbatch is a double of a broker whose log holds record batches that cannot be read: it stands between a
// Kafka client and any broker, and breaks chosen batches in the answers to fetches.
//
// # Promise
//
// A batch that holds a chosen offset of a partition arrives broken, as often as it is fetched, until the partition is
// mended. Everything else passes as it is. What goes on in a connection does not depend on how reads cut it.
//
// # Assumptions
//
// The client fetches one topic only: partitions are told apart by their numbers. It writes each request with one call.
package badbatch
