// Package delta writes the Delta tables events and sessions, and reads them back for reconciliation.
//
// # Promise
//
// Each plan becomes visible exactly once, by one commit that carries txn{cluster/pipeline/shard/table, B}. Plans of
// revisions may need several commits: their rows become visible one by one and never go back to an older image. Any
// number of leaders may write the same plan at the same time.
//
// # Invariants
//
//  1. A plan (A, B] is done if and only if the log has its txn with version ≥ B. A txn strictly inside (A, B) cannot
//     come from this history and stops the shard. A plan without rows is done without a commit: repeating it does
//     nothing, and the txn only lags.
//  2. A data file is written under a name that nobody else uses (an attempt id from Options.Rand), never changed, and
//     never deleted here: a commit whose answer was lost may have made it live.
//  3. A file of sessions has rows of one partition (the date, or the opening brand and the date, both fixed when a
//     session is opened), sorted by (brand, session_id, origin), where the partition has the brand by (session_id,
//     origin); one of events is sorted by (partition, offset). Its tags give each shard that it may have rows of, with
//     the epochs (from, to] that contain the first closed image of each of them; without tags it may have any.
//  4. A row (session_id, origin) is visible in one live file at most. Revisions replace it only by an image of a later
//     epoch, in a commit that removes the file it was read from, or that gives the file a deletion vector which hides
//     it, and insert it only if no file that may hold it does, in a commit that is guarded against such a file
//     appearing meanwhile. A row that was written before
//     (schema.SessionRow.Stands) and that no file holds was deleted by another tool: it is counted, and stays away
//     (docs/design.md §6 has the reasons).
//  5. Memory: encoded events take up to Options.BufferMemoryBytes over all shards, and joined files, while they are
//     made, up to four times Options.FileBytes. Sessions and revisions take the rows of one file per call
//     (Options.FileBytes, not encoded).
//
// # How a plan is written
//
//	events     applied batches ─► buffer (Parquet, one row group per partition) ─ Seal ──────────────► sealed epochs ┐
//	           Kafka, read again where no buffer has the plan ───────────────────────────────► files ────────────────┤
//	sessions   rows, sorted in chunks of FileBytes ──────────────────────────────────────────► files ────────────────┤
//	revisions  rows ─► candidate files by tags ─► read, replace, write again (≤ N files per commit) ─────────────────┤
//	                                                                      put files, then deltalog.Submit ◄──────────┘
//
// # Rows that are hidden
//
// With Options.DeletionVectors, and where the table may have deletion vectors (deltalog.Log.GiveVectors), a revision of
// a few rows of a large file (mayHide) hides the older images and writes the newer ones of a partition into one file of
// their own, whose tags are those of these rows, of whatever shards they are:
//
//	images ─► put ─► vectors of all files of the step, in one object ─► put ─► one commit:
//	  remove (file, former vector), add (same file, new vector, tightBounds false), add (images)
//
// A new vector hides what the former one did, too. Of two revisions of one file, and of a revision and a DELETE of
// another tool, the later one is made again, as it has read the file with another vector (deltalog.Change.Vectors). The
// vectors' object has a name that is used once, so a late put of an attempt that was given up is a leftover, as a data
// file is. Statistics stay those of the whole data file: who skips by them may read a file in vain, and misses no row.
// A file is rewritten once more than a tenth of its rows would be hidden, so never are all of them.
//
// # Turns
//
// Plans of events and of sessions that begin with a turn (sinks.WithTurn) are committed together, if Options.Offer is
// set. A node's round of a turn and a table takes plans until all shards that it leads have come or are absent
// (Begin, Absent). Then their rows are joined into one file a date, and one change with all of them is offered to the
// node that commits for all. 300 ms after the turn, and 50 ms after the first of them, what is there is offered without
// the rest, with word that more will come (deltalog.Offer.More), and the rest in the same way. What becomes of those
// that are late is the committer's to say (package share). A plan that has to be fetched from Kafka, or is written
// again after an error, goes alone: that is always correct.
//
//	Begin ─► Write: rows ─┐                             ┌─ committed at v ─► Landed(v) ── yes ─────────────► done
//	         Write: rows ─┼─► join ─► offer ─► answer ──┤                        │ no
//	         Absent ──────┘                             └─ anything else ────────┴─► refresh, Submit here ─► done
//	                                                                                     │ split, rebuild
//	                                                                                     └─► each plan alone
//
// Nothing is acknowledged on the committer's word: a plan is done once this node has found its txn in the log, and its
// files, where the answer named the commit. A plan that goes alone after the others stages files of its own rows; the
// joined file is then nobody's, and vacuum's. Rows are kept until the Write has returned.
//
// Revisions have rounds, too, one second long, but no offers: this node makes one pass over the table for the plans of
// all its shards, and commits by itself (together.go). After any error in it each plan has a pass of its own, in which
// it meets by itself what is its own: a row that the table refuses, a txn that somebody has moved. The nodes' passes
// follow one another (package shard, Turns), because two at once would want the same files: compaction joins rows of
// all shards.
//
// # Joined files
//
// From level.Lake on the rows of all plans of a round, and of all epochs of a plan, stand in one file for each date
// (join.go). Nothing of events is encoded twice: the column chunks of finished files are copied, with their page
// indexes, under a new footer, and the bounds of the columns merged. Rows of sessions are sorted together before they
// are encoded. A plan of more than 16 MiB (as rows in memory, or encoded), and one of events that get defaults of
// columns of others, has files of its own in the same offer; a joined file has at most Options.FileBytes, 64 shards
// and 512 row groups. The rows of the files are counted against the plans before they are offered.
//
// A joined file's tag is deltalog.TagParts. A build below level.Lake would read such a file whole for each revision,
// so no plan of a lower level is joined. Options.join is where joining can be switched off.
//
// # Values
//
// events: an empty optional text is null. sessions: no column of level 1 is null, an empty text is "". Times are UTC
// microseconds. A row with a number that does not fit a long is refused (*sinks.RefusedError).
//
// # Other tools
//
// Columns of others are null in new rows; a file that is written again keeps their values, as they are (foreign). Rows
// are judged by the table's constraints before a file of them is staged (judge): a violation is a *sinks.RefusedError
// of a session, and a *sinks.StopError for events, of whose plan no row can be left out. A revision judges its images
// with the values of others that stand beside them, and no other row.
//
// While the table has a change data feed, a commit of revisions that replaces rows names files of changes, too, with
// all rows that it replaces (before, after) and inserts: readers of the feed take those alone
// (deltalog.Change.Changes). So such a commit has no change in it that only adds rows; deltalog keeps them apart.
// Whether there is a feed is looked at for each commit, and the commit is made again if that has changed.
//
// # Levels
//
// A plan of a level writes the columns of that level. Before the first file with new columns, the table gets them by
// a commit of its own (deltalog.Log.AddColumns); until then v0.1.0 can read and write it. Files of level 1 stay the
// same byte for byte. Of a column that a file does not have, the reader gives what is true of older rows: 0 or "",
// or, where nobody knows it, that it is unknown; other readers see null in both cases. A revision writes what its
// file had, and adds that.
//
// Rejected: one file per shard that stays open over several epochs of events (a commit needs closed files); a separate
// table for revisions (plain SELECTs must be exact); vectors that stand in the log (a checkpoint repeats them).
package delta
