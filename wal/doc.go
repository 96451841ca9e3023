// Package wal is the write-ahead log of a node, shared by all its Raft groups (design §4).
//
// # Promise
//
// What a call has acknowledged survives the loss of the process and of power; what it has not acknowledged may survive
// or not, and where it survives, a later write of the same index voids it. One fsync serves every group that waits.
//
// # Invariants
//
//  1. A call that returned nil is durable: its records, and the names of all segments up to theirs, were synced.
//  2. Storing index i voids every entry of that group at or above i stored before, live and at replay. So a write whose
//     caller gave up may land late without harm: the order of the records is the order of the calls.
//  3. A group's log is contiguous. An entry that leaves a gap, above or below, starts the log anew; the library writes
//     one only after it installed a snapshot.
//  4. The state of all groups is a function of the records: live and at replay, table.apply folds the same mutations in
//     the same order. A read sees only what is durable.
//  5. The segments on disk are numbered without a hole. A segment gets its name when its head is synced; one is deleted,
//     oldest first, each deletion synced before the next, when no group needs an entry of it.
//  6. The head of a segment holds everything but entries as of there: each group's bounds, vote and values. So the
//     deletion of old segments never has to rewrite anything, and costs a segment no more than these few bytes.
//  7. Nothing is appended to a file after Open: a fresh segment is begun, and says where the one before it ends.
//  8. Only the newest segment may be torn, and only behind what is proven to have been on disk (below). Anything else
//     that does not read back is a CorruptError, and Open has then changed nothing.
//  9. After a failed write or fsync every call fails, for good. The failure is reported once to OnFatal.
//  10. Term and vote of a group change in one record. A new LastVoteTerm voids the former LastVoteCand in it, so no
//     crash can pair a candidate with a term it was not voted for in.
//
// # Format
//
// A folder holds LOCK, segments, and perhaps a segment that was not finished (.tmp; removed at the next Open). All
// integers are little-endian. A record starts at a multiple of 8 and is padded with zeros to one.
//
//	0000000000000001.wal   0000000000000002.wal   0000000000000003.wal
//	(deleted)              ┌────────┬───────┬───────┬───────────┬────────┬─────────┬ ─ ─ ─ ─┬──────┐
//	                       │ header │ state │ state │ records…  │ write  │ write   │ write…  │ seal │
//	                       └────────┴───────┴───────┴───────────┴────────┴─────────┴ ─ ─ ─ ─┴──────┘
//	                       └────────── head, synced before ────┘└ one fsync each    ┘ next segment's
//	                                   the file has its name                          prevEnd ▲
//
//	header  ┌─────────┬─────────┬────────┬─────┬─────────┬──────┬──────┬─────┐
//	40 B    │ magic 8 │ version │ states │ seq │ prevEnd │ head │ zero │ crc │
//	        └─────────┴───4─────┴───4────┴──8──┴────4────┴──4───┴──4───┴──4──┘
//	record  ┌─────┬────────┬──────┬──────┬────────┬────────┬───────┬─────────┬──────┐
//	        │ crc │ marker │ kind │ zero │ length │ synced │ group │ payload │ zero │
//	        └──4──┴───2────┴──1───┴──1───┴───4────┴───4────┴───8───┴─length──┴─0..7─┘
//
//	entry   index 8, term 8, appended at 8 (ns), length of data 4, type 1, flags 1, zero 2, data, extensions
//	delete  min 8, max 8                  set    length of key 4, key, value
//	drop    (empty)                       vote   flags 1, term 8, vote term 8, length 4, candidate
//	state   first 8, last 8, vote, then length, key, length, value, ...
//	seal    (empty) the next segment exists       mark   (empty) orderly close
//
// The CRC (32 bits, Castagnoli) covers segment number and offset too: bytes copied elsewhere are no record, so an
// entry may hold pieces of a log. `synced` is how much of this segment an fsync had covered when the record was
// written. One write is in flight at a time, so it is where the record's own write starts.
//
// # Torn or damaged
//
// Writes are synced one after the other, so a crash can only hurt the last one. Reading the newest segment, Open stops
// at the first record at X that does not read back. It is damage, if X lies in the head, or below the synced offset of
// a record before X, or of any whole record found behind X by its marker. A whole record behind X whose synced offset
// is no greater proves nothing: a disk may keep the later pages of one unsynced write and lose earlier ones. Then the
// tail from X is cut: the next segment's prevEnd says so, and the file is left as it is.
//
// Records of the last write that do read back are written again into the head of the fresh segment, because nothing
// proves that they are on disk: a process may have died before its fsync, or a failed fsync may have left clean pages
// in memory that never reached the disk. What Open shows is therefore durable.
//
//	         ┌──────────── write synced ───────────┐
//	(queue)──► write ─► fsync ─► apply to table ─► wake waiters
//	             │        │
//	             └────────┴─► failed: sticky ErrFailed, OnFatal once
//
// # Assumptions about the disk
//
//   - fsync (fdatasync for appends) that succeeds has brought data and length to the medium, and the fsync of a folder
//     the names in it. A disk that acknowledges and forgets breaks invariant 1.
//   - rename within the folder is atomic.
//   - An append disturbs no synced byte, not even in the same sector or page.
//   - Unsynced pages reach the disk in any order or not at all; a missing page may read as zeros or as the end of the
//     file. Nothing is assumed about the atomicity of sectors.
//   - Bits may rot anywhere: each record is verified when Open reads it and again when GetLog reads it. What cannot be
//     told from a torn write is rot within the last write before a crash, as no later record proves it synced (after
//     an orderly Close the mark does), and the newest file cut short at any place behind its head. Loss of the newest segment's file is noticed only where its predecessor was
//     sealed; loss of all is an empty log. The owner compares its last applied index for these.
//
// # Limits
//
// Memory: 16 bytes an entry for the index, CacheBytes a group, a write buffer of at most 10 MiB, one segment while
// opening. A call carries at most 256 MiB, a key 1 KiB, a value 64 KiB. Disk: the segments from the oldest entry needed
// on; Laggards names who holds them.
//
// # Rejected
//
//   - A log a group (raft-wal's way): an fsync a group, and the disk serves them one after the other.
//   - Rewriting entries of slow groups forward: a checkpoint and a truncation do the same, and are needed anyway.
//   - Recycling or preallocating segments: no difference was measured.
//   - Truncating the torn file: vfs.FS cannot, and a file that nobody changes is easier to reason about.
//   - Pebble's fixed blocks: chunks of 32 KiB would cut each large entry in pieces that GetLog must join again.
package wal
