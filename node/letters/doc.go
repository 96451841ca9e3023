// Package letters reads the dead letters of a topic (sinks/deadletter writes them), and carries out what people decide
// about them: their records go back into the source topic, as they were or mended, or the letters are deleted.
//
// # Promise
//
// A list has every letter of its part of the topic, once, by the last record of its key; nothing that compaction or a
// transaction has left empty is waited for, and what Kafka does not give is an error and never a shorter list. What is
// shown of a letter is what both the letter and the present rules show.
//
// A letter is replayed or discarded exactly once, unless somebody asks for it again, on purpose: whoever else asks,
// at whatever node, and wherever a process or a connection ends.
//
// # The protocol
//
//	letters, by key and place ─► find ─► value, key ─► decode by the present rules      nothing has changed yet
//	                                                        │
//	  InitProducerID       fences whoever reviews, ends their transaction
//	  read the review topic up to its high watermark ─► those that are open
//	  begin ─► records into the source topic (purge: tombstones into the letters' topic)
//	           and decisions into the review topic, ≤ 500 letters, ≤ 8 MiB ─► commit
//	  no answer: InitProducerID, read the review topic: is there a decision of this request?
//
// There is one transactional id for each review topic (TransactionalID). Once InitProducerID has answered, no other
// transaction under it can commit, and one that was being committed is: its markers are written, so its decisions lie
// below the high watermark, and are readable. What is open then was never replayed. (A leader that is new tells no high
// watermark before it knows the true one, KIP-207.) So of two operators the later one goes on, and the earlier one's
// commit fails, whole. Requests of one node wait for none: the second is refused, and told who is before it.
//
// A client makes one transaction and is closed. One that met an error might begin anew by itself, and commit a part: it
// is compared whether the producer's id and epoch are those of before.
//
// # The review topic
//
// <topic>.dlq.review: compacted and nothing else, or it would forget; created with one partition and the replication
// factor of the letters' topic. One record for each letter that somebody has decided about, under the letter's key; no
// record means open. The value is JSON (review.go); the greatest revision holds:
//
//	{"state": "replayed" | "discarded", "by": "…", "at": "2026-11-30T21:00:00Z", "request": "16 hexadecimal digits",
//	 "times": 1, "edited": true, "revision": 1, "sha256_was": "…", "sha256": "…"}
//
// The hashes are of an edit, and only of a letter that shows its value.
//
// # What is written into the source topic
//
// The partition is the letter's. The value is the letter's if that is whole, else that of Kafka at the letter's place,
// if it is the record that was refused: by its hash or, where the letter shows less and therefore has none, by its time
// and what the letter shows, in the topic that the shard reads. The key and the headers are those of that record; where
// Kafka has it no more, the key is the id of the session, or of the user if that is what leads to the partition. The
// headers deckle-replay (the letter's key) and deckle-replay-count (how often it and its forebears were replayed) are
// added. A record that would be a letter again, is of before the horizon, or would be left out is refused.
//
// # Invariants
//
//  1. No record of a letter is committed without the decision about it, and the other way round.
//  2. No decision is made before everything that was committed before it has been read.
//  3. A value leaves a node by Show alone, through the Redactor of the present rules, and not at all if a reader on the
//     list of suppressed readers may be its.
//  4. Memory is bounded: a page by letters and by the bytes that it is chosen from, a transaction by both.
//  5. An error that wraps status.ErrRefused says that nothing has changed.
//
// # Limits
//
// A letter that was written twice, or deleted, is listed as it was if the page ends between the two. A key without its
// place costs a pass over the partition that it is hashed to. A row that a sink has refused can be listed, shown and
// purged, and not written again. A transaction is open for as long as its records take to be acknowledged; a process
// that is killed meanwhile leaves it open for ten seconds, and the intake of those partitions waits.
//
// # Rejected
//
// A key that the intake recognises a replayed record by: the state would have to remember every letter. A lock with a
// clock: who had it may write after it has ended. Reading the review topic by polling: a client says nothing where
// compaction has left the end of a partition empty.
package letters
