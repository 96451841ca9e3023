// Package sim makes the workload of a publisher's readers, sends it to Kafka with faults in the data, and writes down
// what must come out: the ground truth.
//
// It is independent on purpose: it imports nothing else of this project, neither the event decoder nor the state, and
// the ground truth is naive code (encoding/json into maps, one list of records per session, sorted when the session is
// over), so that an error there is not repeated here.
//
// # Parts
//
//	Generator ──Record──► Producer ──franz-go──► Kafka
//	 (no I/O,              (paced, bounded,        │ acknowledged: partition, offset, timestamp
//	  deterministic)        N clients)             ▼
//	                                             Truth ──► JSON lines in a file, or memory ──► package verify
//
// # Promise
//
//  1. The same Options (Seed, shares, sizes) and the same clock give the same records for each producer, byte for
//     byte. Only timestamps depend on the clock; ids do not. Two runs with the same seed into one topic therefore
//     repeat the same ids: use another seed.
//  2. Every record counts in the truth exactly when the broker has acknowledged it, with the broker's position. A
//     record of which nobody knows whether it was delivered is counted as Uncertain, and a truth with such a record is
//     not exact: Run returns an error and verify refuses it.
//  3. When Run returns, every session that was begun has been ended by a session_end, and every record that was held
//     back (late, swapped, duplicate) has been sent.
//  4. What the truth expects of a record follows from its bytes and its position alone; what the generator meant is
//     compared with it, and a disagreement is an error (Summary.Mistaken), and not a difference for which the tables
//     are blamed.
//  5. Memory: records of unfinished sessions and at most MaxBuffered records in the client. A finished session is
//     written and forgotten (a truth in memory keeps it, of course).
//
// Cost, measured: making a record takes about 8 µs of CPU, and its truth, naive as it is, about 45 µs. So a run with a
// truth produces at most about 20,000 records per second and core; measurements of throughput do without a truth.
//
// # Faults
//
//   - duplicate: the same bytes again, 1 to 10 × Sessions records later;
//   - out of order: swapped with the next record of its session;
//   - late: sent up to 40 × Sessions records later, but at most 4 minutes at the given rate, a third of them with a
//     timestamp up to 5 minutes older; often after the session_end. Never outside the 6 h horizon;
//   - malformed: extra records of every class of docs/schema.md that a decoder refuses;
//   - too late: extra records 12 to 48 h old. They are made only after 10 s of the clock and 20,000 records, because
//     before that a shard's clock may be unset. This presumes that the cluster follows the stream: one that reads a
//     backlog may see such a record before it has seen every partition of the shard, and then accepts it. Leave the
//     share at 0 where a backlog is read;
//   - odd: values that are legal and strange: fractions, negative numbers, numbers as text, an unknown field,
//     milliseconds;
//   - keys that lie: sessions whose records come each under a key of its own, or under the user's id after a login, but
//     all in the partition of the session: what is counted of them stays whole;
//   - private: sessions whose events have personal data, in an object of their own and within metadata. The truth is
//     what the rules leave of them, in words of its own (private.go): FirstRules, which the cluster must have then, or
//     those that held for each record (Truth.By);
//   - doubtful: extra records that are refused, and name a reader all the same: broken behind the ids, by an escaped
//     name, twice, as 27.0, too large, or without a key. Whose record it is decides about it before what is wrong with
//     it (suppressed.go): the truth of a run in which readers were suppressed is worked out by Truth.By;
//   - huge: sessions of at least 40 events, each with 2 to 4 KB of engagement_metrics.
//
// # File of the truth
//
// One JSON object per line, with "kind" first:
//
//	{"kind":"header","version":2,"topic":"web_clicks","seed":7,"keyed":true}
//	{"kind":"session", …the columns of session_metrics…, "origins":[{"position":"3/118","date":"2026-11-22"}],
//	    "pages":[…rows of page_analytics…], "events":[[3,118,"base64"],…]}      one per session, when it is over
//	{"kind":"dead","partition":3,"offset":120,"reason":"malformed"}            one per dead letter
//	{"kind":"duplicate","partition":3,"offset":131}                            one per duplicate
//	{"kind":"summary", …totals, ranges by partition, sums of columns…}         last; without it the file is unfinished
//
// "origins" has one element in keyed mode: the position of the session's first accepted record, and the day of its
// timestamp. In a topic without keys the order between partitions depends on the consumer, and each applied record is
// a candidate. "events" are the applied records: partition, offset, and a fingerprint of the row of table events: 8
// bytes FNV-1a of the whole row, then 2 bytes per column of EventColumns, so that a changed value is found and its
// column named at a tenth of the size.
package sim
