// Package deltalog is the transaction log of a Delta table: replay, commit by put-if-absent, checkpoints and cleanup.
//
// # Promise
//
// A change that Submit reports as done is in the log exactly once: this call or another writer has put it there, which
// the txns of its parts show.
//
// # Invariants
//
//  1. Version n+1 is only ever written by put-if-absent, built on a snapshot of version n. So no commit is overwritten
//     and every check that Submit makes (txns, files to be removed, guard) holds at the moment the commit lands. A
//     commit has the rows of a part if and only if it moves the part's txn from Base to Version (changes that are not
//     Last come before it, and move none).
//  2. A commit carries a unique id (commitInfo.txnId). After any answer but success the object is read back. If it has
//     that id, the commit is done. If it has another id, the race is lost. If there is no object, the same bytes are
//     put again at the same version. A writer relies on a commit that it has read only after its name is durable
//     (store.SyncNames).
//  3. A commit has at most one txn per application id, one add per path, and one remove per path and deletion vector. A
//     txn's version never decreases.
//  4. A checkpoint of version n holds what replay of 0..n holds (live adds, unexpired tombstones, newest txn,
//     metaData, protocol), and is written after commit n exists.
//  5. Cleanup deletes commits and checksums only below a checkpoint that is older than the retention, so that every
//     version within it can be read, and nothing that a property of the table keeps. A property that cannot be read
//     keeps everything.
//  6. A table with a feature or a rule for rows that this package does not know, with a file that has a deletion vector
//     under a protocol that does not know them, with the id of another cluster, without one of its columns, or with a
//     txn retention is refused with a *sinks.StopError: nothing is written to it. So are changes that remove files from
//     a table that takes appends only. Columns of others may be there, and are null in what is written here.
//  7. A version checksum is written by the process that wrote the version, if it is absent, and only if the number of
//     live files is certain: no order of faults, and no put that takes effect late, leaves a wrong one.
//  8. The rows of a commit's adds were judged by the rules that stand at its version (Change.Rules).
//  9. A logical file is a path and the deletion vector that hides rows of it. A file is removed only by a change that
//     was made with the vector that it has at the commit's version (Change.Vectors), so that rows which somebody
//     deletes in the meantime do not come back; and a checkpoint has the vectors of live files and of tombstones.
//     Deckle gives a file another vector by a change that removes it and adds it again (Change.Hide).
//  10. While the table has a change data feed, a commit that removes files and changes data has files of changes, with
//     all rows that it replaces and adds.
//  11. While the table has in-commit timestamps, each commit has one, greater than that of the version before.
//  12. Nothing is written for an application id whose txn is less than this process has seen it (Snapshot.WentBack),
//     until it is as great again, or an operator has settled it.
//
// # Log
//
//	<table>/_delta_log/00000000000000000000.json                 protocol (1,2), metaData, commitInfo
//	<table>/_delta_log/0000000000000000000n.json                 commitInfo, txn…, remove…, add…
//	<table>/_delta_log/0000000000000000000n.crc                  version checksum
//	<table>/_delta_log/0000000000000000000n.checkpoint.parquet   classic, in one file, as often as said below
//	<table>/_delta_log/_last_checkpoint                          a hint, which may be missing or wrong
//
// A partition value that is null is written as null, and read from that or from an empty text (Values). To the protocol
// both are null; but delta-rs reads the empty text of a column of texts as a text.
//
// # A commit
//
//	          ┌── all txns ≥ Version: done; some: *SplitError; one neither done nor at Base: ErrRebuild;
//	          │   one that went back: *sinks.StopError
//	submit ─► collect ─► check ─► put n+1 if absent ── yes ───────────────► apply, done
//	            ▲          │             │ anything else
//	            │          │             ▼
//	            │          │          read n+1 back ── own id ────────────► apply, done
//	            │          │             │ other id        │ none
//	            │          ▼             ▼                 └► wait, put again (bounded), else an error
//	            └─ a removed file is gone, guard: ErrRebuild ◄─ replay the winner, check again at n+2
//
// Changes that shards submit while a commit is being written are collected into the next one: one put with several txn.
//
// What a node has staged for several shards it may offer to another one (Offer), which has it committed together with
// those of others (SubmitAll). The committer has no authority: it does what any node may, under the same checks. Its
// answer only says where to look (Landed).
//
// # When a checkpoint is made
//
// A table's property delta.checkpointInterval is obeyed: at every version that it divides. Otherwise a checkpoint is
// due at the first version that is Options.CheckpointInterval commits or more behind the former one, and
//
//   - the former one has at most 32 KiB, or at most 2 % of the bytes of data files added since: the next one will be
//     about as large, so that checkpoints cost at most 2 % of the data; or
//   - it is 100 commits behind the former one, and one more for each 20 KiB of that, or 1,000: what a reader has to
//     read of commits stays small beside the checkpoint that it has to read anyway. A table of very many small files
//     costs more than 2 % for that: at a million files of 95 KB, 144 MB for each 95 MB of data, until they are
//     compacted.
//
// So it follows from the log and the size of the former checkpoint. The node that commits the version at which one is
// due makes it. A node does not ask after each commit what the others have made: when it would make one itself, one
// small read (_last_checkpoint) tells, and the rule is applied anew. If a checkpoint that is due is missing for a few
// commits more, as its node died, any other makes one.
//
// # What is deleted
//
// By delta.logRetentionDuration (30 days; less than a day counts as a day, as a writer that lags behind finds out by
// what it misses), unless delta.enableExpiredLogCleanup is false, commits, checksums and checkpoints go. Once a day, of
// the checkpoints within the retention those go that are older than delta.checkpointRetentionDuration (2 days), except
// the first of each day and, among the newest 10,000 versions, the first of each 1,000: a version is read from the last
// checkpoint of these before it. The two newest always stay. Files removed longer ago than
// delta.deletedFileRetentionDuration (7 days) leave the checkpoints.
//
// # Memory
//
// A snapshot holds no statistics. Without Options.KeepFiles, for a table of appends, it holds no files; with it 80
// bytes per live file: partition, origin, size and version, by which revisions find their candidates, and what its
// name is made from. A checkpoint is read by ranges of the object, one row group (50,000 rows, as they are stored) at a
// time. A new one is made by reading the former one and folding in the commits since. Up to 8 MB it is held in memory;
// a larger one is made twice, once for its size and once into the put. TestLogMemory has the figures (make log-memory).
//
// Rejected: multi-part and V2 checkpoints (features that many readers lack); keeping every add with its statistics in
// memory (2 KB per file, a hundred thousand files per day); an application id of a txn with the Raft term in it (a new
// leader would not find what an earlier one wrote); log compaction files (x.y.compacted.json): readers "can optionally
// consume" them, so that they allow no longer tail. delta-kernel-rs, which is in delta-rs, DuckDB, Polars and
// ClickHouse, has stopped reading them until it has tested them (its issue 2337), Trino never did; what is left, Spark
// and the Java kernel, would save reads of at most 1,000 commits that they read in parallel; a histogram of file sizes
// in checksums (its two names and its bins differ between readers).
package deltalog
