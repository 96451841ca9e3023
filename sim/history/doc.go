// Package history judges what readers of the tables have seen, one observation after the other: whether some state was
// shown that no reader may ever see (invariants I5 and I7 of docs/design.md; docs/clickhouse.md). The torture feeds it
// from real services, and the simulated cluster from its own; it knows neither, nor anything else of Deckle.
//
//	versions of a Delta table ──► Events, Sessions ──┐
//	looks at ClickHouse ────────► ClickHouse ────────┴──► Report
//
// What must hold.
//
//  1. Delta, events: an epoch of a shard comes whole, after the epochs before it, and together with the transaction
//     that says so; no record stands twice; no file is ever removed.
//  2. Delta, sessions: a row comes with the plan of its epoch, stands once, and is only ever replaced by a newer image
//     of the same session; none goes away, unless another tool deletes it, and then it never comes back.
//  3. ClickHouse: the ledger, totals, sessions and visits never go back or away; the rows of an epoch come at once; the
//     five rollups of one shard count the same; totals never count more than the sessions do; and a shard with nothing
//     beyond the epoch of its ledger counts exactly the same in both.
//
// The state of a history is as large as the tables: it keeps every session and a bit per record.
package history
