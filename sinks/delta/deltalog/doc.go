// Package deltalog is the transaction log of a Delta table: replay, commit by put-if-absent, checkpoints and cleanup.
//
// # Promise
//
// A change that Submit reports as done is in the log exactly once: this call or another writer has put it there, which
// its txn shows.
//
// # Invariants
//
//  1. Version n+1 is only ever written by put-if-absent, built on a snapshot of version n. So no commit is overwritten
//     and every check that Submit makes (txn, files to be removed, guard) holds at the moment the commit lands.
//  2. A commit carries a unique id (commitInfo.txnId). After any answer but success the object is read back. If it has
//     that id, the commit is done. If it has another id, the race is lost. If there is no object, the same bytes are
//     put again at the same version. A writer relies on a commit that it has read only after its name is durable
//     (store.SyncNames).
//  3. A commit has at most one txn per application id, and one add and one remove per path. A txn's version never
//     decreases.
//  4. A checkpoint of version n holds what replay of 0..n holds (live adds, unexpired tombstones, newest txn,
//     metaData, protocol), and is written after commit n exists.
//  5. Cleanup deletes only what is older than a checkpoint that is older than the retention.
//  6. A table with a reader or writer feature that this package does not know, with the id of another cluster, with
//     another schema, or with a txn retention is refused with a *sinks.StopError: nothing is written to it.
//
// # Log
//
//	<table>/_delta_log/00000000000000000000.json                 protocol (1,2), metaData, commitInfo
//	<table>/_delta_log/0000000000000000000n.json                 commitInfo, txn…, remove…, add…
//	<table>/_delta_log/0000000000000000000n.checkpoint.parquet   every 10 commits, classic
//	<table>/_delta_log/_last_checkpoint                          a hint, which may be missing or wrong
//
// # A commit
//
//	          ┌── txn ≥ version: done ──┐
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
// # Memory
//
// A snapshot holds no statistics and, for an append-only table, no files. A checkpoint is therefore made by streaming
// the former checkpoint and folding in the commits since; it takes as much memory as its compressed size.
//
// Rejected: multi-part and V2 checkpoints (features that many readers lack); keeping every add with its statistics in
// memory (2 KB per file, a hundred thousand files per day); an application id of a txn with the Raft term in it (a new
// leader would not find what an earlier one wrote).
package deltalog
