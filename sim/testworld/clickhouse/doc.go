// Package clickhouse is a ClickHouse server in the process: a model of the database that package sinks/clickhouse
// writes to and reads from, behind the native protocol, with faults. It is for tests and the simulator, and no part of
// Deckle.
//
// Promise. What sinks/clickhouse sends is answered as ClickHouse answers it: the same rows, the same codes of
// exceptions, the same atomicity. The property test of the sink runs against both, and where a real engine is
// available, a test compares every view and every query of the sink on both after the same inserts.
//
//	client ──► Session (wire.go) ──► parse ──► Hook draws a Fault ──► Server: databases, tables, views
//	 net.Conn   Query, Data …                   Before, Effect, Late,     rows in the order of their inserts;
//	                                            After, Answer             newest by partition and key
//
//	a query:   arrived ──Before──► takes effect, part by part ──After──► answered: Truth, Fail, Close, Stall
//	                                 │ Nothing, First: never whole
//	                                 └ Late: after the answer
//
// Invariants.
//  1. A table keeps every row that was ever inserted. FINAL shows, by partition and sorting key, the row with the
//     greatest version, of equal versions the last one inserted. A merge only hides what FINAL does not show.
//  2. The rows of one INSERT in one partition become visible together, under the lock; the partitions one after
//     another. A connection that breaks before its last block inserts nothing.
//  3. With deduplicate_insert=disable nothing is dropped and nothing remembered; on servers older than 26.2
//     insert_deduplicate=0 has that effect, and only there. Otherwise, if there is a window, a partition's block is
//     dropped if one of the same content, or of the same token whatever its content, is among the last ones remembered.
//  4. Sorting key, partition key, version column, types, constraints and comments are those of the CREATE statement and
//     of ADD COLUMN and ADD CONSTRAINT after it, and system.tables and system.columns show what there is. Rows that are
//     older than a column have its default.
//  5. What the model does not understand, it refuses (NOT_IMPLEMENTED, SYNTAX_ERROR); it does not guess. A view whose
//     query has another shape than sinks/clickhouse/views.go gives it is refused when it is created.
//  6. An effect other than All is never answered as a success.
//
// Time. Waits are timers, nothing polls, and the goroutine of a connection ends with the connection: inside a
// testing/synctest bubble a server that was made there is durably blocked when it waits. Close ends all goroutines.
//
// Limits: the types of the sink's tables; MergeTree and ReplacingMergeTree; partitions by toYYYYMM of a Date or none;
// SELECTs of columns, count, countIf, max and toString with simple conditions, GROUP BY, HAVING and ORDER BY; a TTL is
// kept and shown and never applied; an INSERT of several blocks is one; no Progress, Log or Profile packets. Protocol
// 54453. Session alone, without the model, serves integration/chfront.
package clickhouse
