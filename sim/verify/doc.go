// Package verify reconciles tables with the ground truth of package sim: row by row, column by column, sum by sum.
//
// # Promise
//
//  1. Report.Equal is true only if the truth is exact and complete, and every given table holds exactly the rows that
//     follow from it: none lost, none doubled, none changed, none besides.
//  2. Whatever differs is named by table, row key and column, up to Limit rows a table; beyond that it is counted.
//  3. It reads and writes nothing but what the readers give: a table that is still moving is read again until it is
//     quiet, at most for Wait.
//
// # How
//
//	pass 1   truth ──► one entry a session: id, and for each kind of table the number of its rows and the sum of their hashes
//	               └─► rollups (whole: they are few), sums of the metric columns
//	         table ──► the same from its rows, by session ──► sessions whose numbers or sums of hashes differ
//	pass 2   truth and table again, keeping only the rows of those sessions ──► differences by row and column
//
// The hash is 64-bit FNV-1a: a chance agreement is a matter of 2^-64, and nobody here is an adversary. A second pass that
// finds nothing where the first did says that the table was changed between the two.
//
// Memory: about 250 bytes a session of the truth, of which half is its id, and 20 bytes a session while a table is read;
// for the exact users of the rollups some 100 bytes a session more. A million sessions take about 400 MB, however many
// events they have. Rows are never held, but for at most Limit sessions a table.
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
// A session that has several possible origins (unkeyed mode) may have any of them; its row is then read as if it had the
// first. JSON columns are compared as values. Averages are compared to nine digits.
//
// # Rejected
//
//   - Comparing sums and counts only: two errors that cancel are seen by no sum, and no row is named.
//   - Holding every row of the truth: a million sessions are some 5 GB.
//   - A sorted merge: it needs every reader to sort, and Delta has no order across files.
package verify
