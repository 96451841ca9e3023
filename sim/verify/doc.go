// Package verify reconciles tables with the ground truth of package sim: row by row, column by column, sum by sum.
//
// # Promise
//
//  1. Report.Equal is true only if the truth is exact and complete, and every given table holds exactly the rows that
//     follow from it: none lost, none doubled, none changed, and no others. Of table events, rows may be missing whose
//     offsets an operator has given up, as the table itself says; they are counted and named. Rows of sessions that
//     others have deleted (Options.Deleted) must be missing.
//  2. Whatever differs is named by table, row key and column, up to Limit rows per table; beyond that it is only
//     counted.
//  3. It reads only what the readers return, and writes nothing. A table that still changes is read again until it is
//     quiet, for at most Wait.
//
// # How
//
//	pass 1   truth ──► one entry per session: id, and for each kind of table the number of rows and the sum of hashes
//	               └─► rollups (whole: they are few), sums of the metric columns
//	         table ──► the same from its rows, by session ──► sessions whose numbers or sums of hashes differ
//	pass 2   truth and table again, keeping only the rows of those sessions ──► differences by row and column
//
// The hash is 64-bit FNV-1a: two different sets agree by chance with a probability of 2^-64, and there is no
// adversary. If the second pass finds nothing where the first one did, the table was changed between the two.
//
// Memory: about 250 bytes per session of the truth, half of them its id, and 20 bytes per session while a table is
// read; the exact users of the rollups take about 100 bytes per session more. A million sessions take about 400 MB,
// however many events they have. Rows are not kept, except those of at most Limit sessions per table.
//
// # Kinds of tables
//
// Rows are lists of texts in the canonical form of package sim (rows.go there), in the order of these columns:
//
//	Events     sim.EventColumns                          events
//	Sessions   sim.SessionColumns                        sessions, session_metrics
//	Pages      sim.PageColumns                           page_analytics
//	Rollups    RollupColumns(view)                       the five rollup views
//	Letters    partition, offset, reason                 the dead letter queue
//
// A session that has several possible origins (unkeyed mode) may have any of them; its row is then read as if it had
// the first one. JSON columns are compared as values. Averages are compared to nine digits.
//
// # Rejected
//
//   - Comparing sums and counts only: no sum shows two errors that cancel each other out, and no row is named.
//   - Holding every row of the truth: a million sessions take about 5 GB.
//   - A sorted merge: it needs every reader to sort, and Delta has no order across files.
package verify
