// Package deadletter is the sink that produces every record that cannot be used, and every row that another sink
// refused, to a compacted Kafka topic (docs/schema.md, dead letters).
//
// Promise. After Write(plan) has returned nil, every dead letter of the plan is acknowledged by all in-sync replicas,
// or the topic takes it in no form and it is counted and told. Producing a plan again yields the same records, byte for
// byte, under the same keys, as long as Kafka has the originals and the topic takes what it took. A reader that keeps
// the last record of each key, as compaction does, sees each letter once.
//
//	plan ──► letter ──► original bytes, from Kafka again ──► record ──► topic <topic>.dlq (compact, delete)
//
//	key    <topic>/<partition>/<offset>                     or  sink/<sink>/<shard>/<epoch>/<session id>/<origin>
//	value  the original, its first 64 KiB                   or  the row as JSON (its first 896 KiB)
//	headers reason, detail, length, sha256, source_topic, source_partition, source_offset, source_timestamp,
//	        rejected_at; where they apply: truncated=true, original_lost=true; for a row: sink, shard, epoch, row_key
//
// By the rules of its epoch (event.Letters) a letter may carry less: value=masked names and structure, value=none
// nothing. Then it has neither length nor sha256, which would confirm a guess of what is not shown, and truncated=true
// is said of what is shown.
//
// One letter holds up no other. What a topic does not take (MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE, INVALID_RECORD,
// INVALID_TIMESTAMP) is produced again in a batch of its own, since a broker refuses batches and the client fails with
// them what waits for the same partition:
//
//	as it is ─► half of the value, again and again ─► no value, 64 bytes of the detail ─► key and reason ─► passed
//	            down to 512 bytes                                                                          and told
//
// An INVALID_TIMESTAMP first gives the letter the present time. Any other failure of a letter lets the others be
// produced, and the plan be written again; a topic or a right that is missing ends the Write, since every letter would
// meet it. A letter whose original Kafka holds and cannot give (a damaged batch) lets the letters of the other
// partitions go first, and goes without it after five minutes; where a partition has no leader, its letters wait for
// one.
//
// Invariants.
//  1. A key names one letter for ever, and a record's content is a function of the letter, its epoch, the original and
//     what the topic takes. The timestamp that it is produced with (unless the topic refuses it) and rejected_at are
//     the epoch's clock, not the producer's. A topic that is created here sets the timestamp itself: it deletes by it,
//     and the clock of a leader may be wrong.
//  2. No record has a null value, because compaction would take it for a deletion, which is what package letters writes
//     for a letter that somebody purges. A letter without its original has
//     an empty value and says original_lost=true.
//  3. The bytes of a value that is shown whole have the letter's SHA-256, unless they are truncated. If Kafka now holds
//     something else at the position than what was judged, the original counts as lost.
//  4. Memory is bounded: Produce waits while Options.BufferedBytes are unacknowledged, over all shards.
//
// Assumptions. The producer is idempotent with acks=all, so that a retry inside one Write makes no second record.
// Across Writes, only the key protects. Compaction leaves the tail of the topic uncompacted, so readers take the last
// record of a key, or count keys.
//
// Rejected. Keeping the original bytes in the state: a flood of broken megabyte records would fill the log and every
// replica with what Kafka already holds. Transactions: one more producer id per shard and epoch would give nothing
// that the key does not give.
package deadletter
