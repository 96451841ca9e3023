// Package clickhouse is the sink that keeps session_metrics, page_analytics and the rollups in ClickHouse.
//
// Promise. After Write(plan) has returned nil, every row and total of the plan is on ClickHouse's disk (fsynced), and a
// plain SELECT of the views is exact. Any number of Writes of the same plan, or of an older one, by any past or present
// leader, at the same time or years later, changes nothing that a SELECT shows.
//
//	plan ─┬─ sessions ──► blocks ──► session_metrics_versions ─┬─► view session_metrics
//	      │   └─ pages ─► blocks ──► page_analytics_versions ──┼─► view page_analytics
//	      ├─ totals ────► blocks ──► rollup_versions ──────────┴─► views session_summary, brand_analytics, …
//	      └─ last ──────► one row ─► deckle_ledger                 (position, owner, checksum)
//
// The stored tables are ReplacingMergeTree(version); the version is the epoch of the image or total in its shard. Every
// key belongs to one shard for its whole life (sessions by their origin, totals by a column), so two versions of a key
// are comparable, and equal versions have equal content (a closed epoch never changes). The views read with FINAL, so
// that a SELECT never depends on whether a merge has run.
//
// Invariants.
//  1. A row's sorting key and partition key hold only values that never change in its life, so that versions of a row
//     always meet in a merge.
//  2. Totals are absolute, never increments; a total of zero is stored and hidden by the view.
//  3. One INSERT is one block (ch-go and ClickHouse are atomic by block): at most Options.BlockRows rows or
//     Options.BlockBytes bytes. Inserts carry insert_deduplicate=0, deduplicate_insert=disable (which overrides it from
//     26.2 on) and async_insert=0.
//  4. The ledger's row is inserted after everything else of its plan has been acknowledged: position b in the ledger
//     implies that every row of epochs ≤ b is visible.
//  5. The ledger never runs behind what was acknowledged to the state: a position below the plan's A means that
//     ClickHouse has lost acknowledged rows (a dropped table, an old backup), and stops the shard. It is read before a
//     plan is written, unless it was seen at the plan's A within five seconds and nothing has failed since.
//  6. All rows of a database belong to one cluster and one pipeline, which claim it in the ledger before the first row.
//  7. A table is never emptied or created again after it may have held rows, and altered only to add columns: with the
//     first plan of a level that has them (ADD COLUMN IF NOT EXISTS, which any number of nodes may repeat), and by
//     whoever inserts and finds them missing. Rows that are older have the default value, or null where nobody knows
//     it. A plan of a lower level writes the same rows as before.
//  8. A view is replaced by one of another version, never by one of a lower level: its comment says both.
//
// Errors. An exception's code decides (errors.go): a data error bisects the block, by reading the plan again, until one
// session is left, which is named in a *sinks.RefusedError; a schema error is a *sinks.StopError, because creating the
// missing tables again would silently serve wrong totals; everything else, network and unknown codes included, is
// returned for the node to repeat.
//
// Assumptions. fsync_after_insert and fsync_part_directory do what they are documented to do (that they are set is
// checked on every table at start). A merge's result is not fsynced at once, but ClickHouse keeps the merged parts for
// old_parts_lifetime (8 minutes). Nothing but Deckle deletes versions: a table with a TTL is refused (checked at
// start), because a merge may delete a row's newest version and leave an older one in another part, which FINAL would
// then show.
//
// Connections. ch-go retries forever a read that has timed out, and looks at its context only between packets. So the
// package wraps the connection: a read that returns nothing for ReadTimeout fails, and the end of the context closes
// the socket. A connection that has had any error is closed and never used again.
//
// Rejected. Insert deduplication tokens (the server forgets them after their window; a token that is used again with
// other content drops rows silently). AggregatingMergeTree and materialized views (a repeated insert counts twice).
// CollapsingMergeTree (it needs the exact old row). One table per rollup: five parts and fsyncs per flush instead of
// one, and the totals of a plan in five steps instead of one. A join for total_users: a filter on a dimension would not
// reach the sessions; the views append sessions to totals (UNION ALL) and group once. Pages as arrays in the session
// row: there would be no sorting key for articles.
package clickhouse
