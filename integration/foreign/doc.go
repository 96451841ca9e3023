// Package foreign has tools that nobody here wrote change the table of sessions beside a node that runs: rows are
// deleted and updated, columns, constraints and properties come and go, files are merged, removed and restored, while
// sessions end and change. After each operation the node goes on, and the tool and Deckle's own reader find the same
// rows: those that follow from the records that were sent and from what the tool was told to do.
//
//	tool                       in
//	delta-rs                   make integration
//	Spark 3.5 with Delta 3.3   make foreign-spark
//	Spark 4.0 with Delta 4.0   make foreign-spark
//
// An operation is a function in the list operations, which does its work and leaves the truth right (world.rows). Time
// is that of events: a record of a session that never ends moves the clock past the grace of those that have ended.
package foreign
