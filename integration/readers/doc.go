// Package readers writes Delta tables with the real writer, does to them what happens to tables over the years, and has
// clients that nobody here wrote read every version: all rows, and rows by predicates, which clients answer by
// partitions, statistics and page indexes. A version that the log still has must equal the truth; one that it has not
// any more must be an error, and so may be one whose files vacuum has removed: never other rows.
//
//	client                       how a version is read                      in
//	delta-rs (DataFusion)        DeltaTable(version), QueryBuilder          make integration, make readers
//	DuckDB (delta-kernel-rs)     delta_scan(version)                        make integration, make readers
//	Polars                       scan_delta(version), by brand use_pyarrow  make integration, make readers
//	chDB (delta-kernel-rs)       deltaLakeLocal, its setting of a version   make integration, make readers
//	Spark 3.5 with Delta 3.3     VERSION AS OF                              make readers
//	Spark 4.0 with Delta 4.0     VERSION AS OF                              make readers
//
// Sessions are partitioned by date, and, for delta-rs, DuckDB, Polars and Spark, which differ in how they read
// partition values, by brand and date, whatever is in the brands; then a third of the versions is read.
//
// delta-rs and Spark read the change data feed of sessions, too: it must have the differences of the versions, as far
// as the log and the files of those are there.
//
// What is done to a table is an operation: a function of its own, named in the list stages. Whoever builds another one
// adds it there: it does its work on the table and leaves the truth right (lake.sessions, lake.events), which lake.note
// keeps by version. What another tool does is done by hand here, with the lake's clock; the tools themselves are in
// integration/foreign.
package readers
