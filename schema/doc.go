// Package schema declares what a session is, once: the columns of sessions, of their pages and of the raw events, and
// the rollups with their measures, each with its name, its kind, the rule of docs/schema.md, the comment that
// ClickHouse shows, and the place of its value in a row.
//
// # Promise
//
// All code that stores, shows or reads a row walks these tables: the state's folding and images, ClickHouse's
// statements, blocks and views, Delta's columns and files, the API's JSON, the tables of docs/schema.md. A column that
// is added here is in all of them. Package sim does not import this one: its list of columns is an independent truth.
//
//	event.Item ─ fold (state) ─► SessionRow ─► Sessions ─► ClickHouse, Delta, /api/v1/sessions
//	                                    └─ Pages ────────► ClickHouse
//	RollupRow ─────────────────────────────► Rollups × Measures ─► ClickHouse, /api/v1/analytics
//
// # Invariants
//
//   - H1 A value is read at an offset that is computed once, when the program starts; reading it allocates nothing.
//   - H2 Names and kinds never change; a column is never removed, because existing tables hold it.
//   - H3 The texts of the first event, the sums and the measures are stored in the order of their tables (package
//     state, format.go); new ones go to the end.
package schema
