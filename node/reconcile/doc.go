// Package reconcile compares what a running cluster has read with what its tables show, for a stretch of time, without
// a ground truth: production's own check.
//
// # Promise
//
//  1. Report.Equal is true only if each offset of the stretch that Kafka still has is accounted for exactly once, and
//     if every row of a session that is old enough is the same in all tables that should have it.
//  2. What is not accounted for is named by partition and offset, or by table and date, up to Limit findings of each
//     kind; beyond that it is only counted. Findings have no personal data.
//  3. What cannot be judged (Kafka has deleted it, a row has just changed) is counted apart and is never equal nor
//     different.
//  4. It writes nothing, and reads only the columns that it compares.
//
// # Offsets
//
//	offsets = rows in events + letters + empty + left out + suppressed + duplicates + given up + without a record
//	          + not checked + missing
//
// The stretch is that of Kafka's times, so events of any date lie in it. A row that Kafka has no record for, and two
// rows of one offset, are findings, too. A record that has neither row nor letter is decoded by the rules of the
// configuration, which say whether it is left out. What they accept must be a duplicate: table events then has a row of
// another offset with the same session and event id. It is looked for in the dates of the records in question, and one
// day around them. What is left is given to Options.Suppressed, which knows who has objected.
//
// Rules that have changed since may judge a record otherwise than they did when it was read: it is a finding then, and
// says which reason the present rules give.
//
// # Sessions
//
// Rows of sessions in Delta and of session_metrics in ClickHouse are compared by key, date by date, in the columns of
// numbers, times and status. A row whose image was cut less than Settle ago is not judged: sinks are written one
// after the other, revisions of Delta minutes later. Open sessions are in ClickHouse alone. The totals of
// session_summary are compared with the rows of session_metrics. They are written one after the other, so a difference
// counts if it is still there after several looks.
//
// # Memory
//
// Two bits for each offset of the stretch, 40 bytes for each record that is neither a row nor a letter (most of them
// duplicates), and 64 bytes for each session of one date.
//
// # Rejected
//
//   - Counting alone: two errors that cancel each other out would pass, and nothing could be named.
//   - Folding the stretch again (replay): it needs the state of the time before, and hours.
//   - Going by the positions of sinks: a sink without rows does not move its own for hours.
package reconcile
