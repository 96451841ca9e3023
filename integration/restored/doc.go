// Package restored holds a test on a real Kafka broker whose log is replaced by an older copy of it, as by a restore
// from a backup: offsets that were read come again, with other records.
package restored
