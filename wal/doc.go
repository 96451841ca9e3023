// Package wal is the write-ahead log of a node, shared by all its Raft groups (design §4).
//
// # Promise
//
// What a call has acknowledged survives the end of the process and the loss of power. What it has not acknowledged may
// survive or not; if it survives, a later write of the same index makes it void. One fsync serves every group that
// waits.
//
// # Invariants
//
//  1. A call that returned nil is durable: its records, and the names of all segments up to theirs, were synced.
//  2. Storing index i makes every entry of that group at or above i that was stored before void, live and at replay. So
//     a write whose caller gave up may reach the disk late without harm: the order of the records is the order of the
//     calls.
//  3. A group's log is contiguous. An entry that leaves a gap, above or below, makes all others void and begins the
//     log again; the library writes one only after it installed a snapshot.
//  4. The state of all groups is a function of the records: live and at replay, table.apply folds the same mutations in
//     the same order. A read sees only what is durable.
//  5. The segments on disk are numbered without a hole. A segment gets its name when its head is synced. Segments
//     that hold no entry that a group needs are deleted, the oldest first, each deletion synced before the next.
//  6. The head of a segment holds everything but the entries as it is at that point: each group's bounds, vote and
//     values. So the deletion of old segments never has to rewrite anything, and costs no more than these few bytes per
//     segment.
//  7. Nothing is appended to a file after Open: a fresh segment is begun, which says where the one before it ends.
//  8. Only the newest segment may be torn, and only behind the part that is proven to have been on disk (see below).
//     Anything else that cannot be read back is a CorruptError, and Open has then changed nothing.
//  9. After a failed write or fsync every call fails, for good. The failure is reported once to OnFatal.
//  10. Term and vote of a group change in one record. A new LastVoteTerm removes the former LastVoteCand in it, so no
//     crash can pair a candidate with a term it was not voted for in.
//
// # Format
//
// A folder holds LOCK, segments, and possibly a segment that was not finished (.tmp; removed at the next Open). All
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
// The CRC (32 bits, Castagnoli) covers segment number and offset too: bytes that were copied elsewhere are no record,
// so an entry may hold pieces of a log. `synced` is how much of this segment an fsync had covered when the record was
// written. One write is in flight at a time, so it is where the record's own write starts.
//
// # Files
//
//	format     every magic, version, kind of record and file name
//	options    what Open takes, and the errors
//	record     the frame of a record: encoding, decoding, the proof that a part was synced
//	mutation   a record's payload as a change of a group
//	table      the state of all groups, as the mutations make it
//	segment    a file of the log: header, head, creation
//	log        Log: queue, group commit, rotation, failure, Close      these five are one machine under Log.mu
//	open       replay: torn or damaged, and the fresh segment
//	group      Group: what the library calls
//	collect    deletion of segments that no group needs
//	metrics    Stats and metrics
//
// # Torn or damaged
//
// Writes are synced one after the other, so a crash can only hurt the last one. When Open reads the newest segment, it
// stops at the first record, at offset X, that cannot be read back. That is damage if X lies in the head, or below the
// synced offset of a record before X, or below that of any whole record which the search for markers finds behind X. A
// whole record behind X whose synced offset is at most X proves nothing: a disk may keep the later pages of one
// unsynced write and lose earlier ones. If it is no damage, the tail from X on is torn and counts no more: the next
// segment's prevEnd says so, and the file is left as it is.
//
// Records of the last write that can be read back are written again into the head of the fresh segment, because nothing
// proves that they are on disk: a process may have died before its fsync, or a failed fsync may have left clean pages
// in memory that never reached the disk. What Open shows is therefore durable.
//
//	         ┌──────────── write synced ───────────┐
//	(queue)──► write ─► fsync ─► apply to table ─► wake waiters
//	             │        │
//	             └────────┴─► failed: ErrFailed for good, OnFatal once
//
// # Assumptions about the disk
//
//   - An fsync (fdatasync for appends) that succeeds has brought data and length to the medium, and the fsync of a
//     folder the names in it. A disk that acknowledges and forgets breaks invariant 1.
//   - A rename within the folder is atomic.
//   - An append disturbs no synced byte, not even in the same sector or page.
//   - Unsynced pages reach the disk in any order or not at all; a missing page may read as zeros or as the end of the
//     file. Nothing is assumed about the atomicity of sectors.
//   - Bits may flip anywhere: each record is verified when Open reads it and again when GetLog reads it. Two things
//     cannot be told from a torn write: flipped bits within the last write before a crash, as no later record proves
//     that it was synced (after an orderly Close the mark does), and a newest file that was shortened to any length
//     behind its head. The loss of the newest segment's file is noticed only where its predecessor was sealed; the loss
//     of all segments looks like an empty log. The owner detects these by comparing its last applied index.
//
// # Limits
//
// Memory: 16 bytes per entry for the index, CacheBytes per group, a write buffer of at most 10 MiB, one segment while
// opening. A call carries at most 256 MiB, a key has at most 1 KiB, a value 64 KiB. Disk: the segments from the oldest
// needed entry on; Laggards names the groups that keep them.
//
// # Rejected
//
//   - One log per group (as raft-wal has it): one fsync per group, and the disk serves them one after the other.
//   - Copying the entries of slow groups to new segments: a checkpoint and a truncation do the same, and are needed
//     anyway.
//   - Recycling or preallocating segments: no difference was measured.
//   - Truncating the torn file: vfs.FS cannot do it, and a file that nothing changes is easier to reason about.
//   - Pebble's fixed blocks: chunks of 32 KiB would split each large entry into pieces that GetLog must join again.
package wal
