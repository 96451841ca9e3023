// Package letters reads the dead letters of a topic (sinks/deadletter writes them), and what has been decided about
// them.
//
// # Promise
//
// A list has every letter of its part of the topic, once, by the last record of its key; nothing that compaction or a
// transaction has left empty is waited for, and what Kafka does not give is an error and never a shorter list. What is
// shown of a letter is what both the letter and the present rules show.
//
//	<topic>.dlq ─────────► parse ─► filter ─┐
//	                                        ├─► page, with the place where the next one begins
//	<topic>.dlq.review ──► last decision ───┘
//
// # The review topic
//
// Compacted, one record for each letter that somebody has decided about, under the letter's key; no record means open.
// The value is JSON (review.go):
//
//	{"state": "replayed" | "discarded", "by": "…", "at": "2026-11-30T21:00:00Z", "request": "16 hexadecimal digits",
//	 "times": 1, "edited": true, "revision": 1, "sha256_was": "…", "sha256": "…"}
//
// # Invariants
//
//  1. A value leaves a node by Show alone, through the Redactor of the present rules, and not at all if a reader on the
//     list of suppressed readers may be its.
//  2. Memory is bounded: a page by letters and by the bytes that it is chosen from.
//
// # Limits
//
// A letter that was written twice, or deleted, is listed as it was if the page ends between the two. A key without its
// place costs a pass over the partition that it is hashed to.
package letters
