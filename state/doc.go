// Package state is the state machine of one shard: sessions, offsets, timers, rollups, epochs, and the progress of the
// sinks. It is pure: no clock, no network, no goroutine, no randomness. Time comes in with entries, and every replica
// that applies the same entries holds the same state.
//
// # From entry to sink
//
//	Config ──► what the shard is, once
//	Batch  ──► fold items into sessions, move offsets, move the clock, fire timers        memory only
//	Cut    ──► close the open epoch: one image a changed session and rollup               one Pebble batch
//	Plan   ──► a sink's next range (A, B] of closed epochs, outstanding until its Ack     memory only
//	Ack    ──► the range is visible and durable in the sink                               memory only
//	Refuse ──► a row that a sink refuses for good becomes a dead letter                   memory only
//	Horizon ─► force the horizon up                                                       memory only
//
// "Memory only" is safe because the Raft log holds the entry; a checkpoint (every Cut, every Options.CheckpointBytes of
// change, every Snapshot) brings all of it to Pebble in one batch together with the applied index. Pebble has no log of
// its own: after a crash it holds the state as of some checkpoint, and the entries after it are applied again.
//
// # Life of a session
//
//	           first record                 session_end
//	(unknown) ─────────────► open ─────────────────────► open, closing ──grace──► closed ──┐ late event:
//	                          │                                                     ▲      │ revision + 1
//	                          └──idle timeout + grace──► expired ──session_end──────┘ ◄────┘
//	                                                       │
//	     last event before the horizon: purged ◄───────────┴── (closed, too)
//
// A session_end changes no column but status. A session is closed if it ever got one, whatever the order of arrival.
//
// # Keys of the Pebble store (integers big-endian; <sid> is a length byte and the session id)
//
//	m                                   meta: index, term, config, clock, epochs, progress, offsets, totals (JSON)
//	i <epoch 8> <sid> <origin 12>       a session, whole, as of that epoch: an image once the epoch is closed
//	j <epoch 8> <rollup key>            totals of a rollup key as of that closed epoch
//	l <sid>                             the live session of that id: origin 12, epoch 8 of its newest value
//	r <rollup key>                      present totals of a rollup key: epoch 8 of its last image, totals
//	t <kind 1> <deadline 8> <sid>       timer: kind 0 closes, kind 1 purges
//	x <epoch 8>                         ranges, offsets left out, counts, clock, checksum of the epoch
//	q <epoch 8> <seq 8>                 dead letters
//	g <kind 1> <epoch 8> <key>          an image that is superseded (value: by which epoch 8) or purged (^0), and kept
//	                                    for the plans or sinks that still need it
//	rollup key: <date 4> <table 1> (<length 2> <text>)*
//
// # Restore
//
// A snapshot replaces the folder as a whole; Open ends what a crash has cut off:
//
//	<dir> is renamed to <dir>.old ──► the snapshot to <dir> ──► folder above synced ──► <dir>.old removed
//	                               │                         │
//	                   Open: .old is put back             Open: .old is removed
//
// # Damage
//
// Every block of a table has a checksum; the MANIFEST is a log of records with checksums. What does not fit, or is
// missing, is a DamageError: returned by whatever met it, and reported to OnFatal, for Pebble meets most of it in the
// background. Only what Pebble blames on a file counts: an entry or a value that does not decode would be the same on every
// replica, and is an ordinary error, fatal as it is. A MANIFEST that breaks off may look like one that ends there: the
// state is then an earlier one, Durable says so, and raftstore compares that with its marker. OPTIONS has no checksum: a
// flipped bit there does nothing, is damage, or makes Open refuse. Snapshot reads every block of the copy before it goes
// to another replica.
//
// # Invariants
//
//	S1 Apply is a function of the stored state and the entry. In particular what a checkpoint writes, and when, changes
//	   neither a result nor any plan (design I2).
//	S2 Pebble changes only in checkpoint batches, each with the applied index: deletions wait for the next one in
//	   pendingDeletes. Deleting at once is wrong: after a crash the entries before the deletion are applied again, and must
//	   find what they found the first time.
//	S3 A closed epoch never changes: its images, ranges and offsets left out; its checksum is in the next Cut, and a
//	   replica that has another stops (ErrDiverged) (I4).
//	S4 An image is deleted only when (a) a newer closed image supersedes it and no outstanding plan whose range holds
//	   it ends before that newer one, or (b) its session is purged and every sink has acknowledged its epoch (I6).
//	S5 Every offset of a range is in exactly one of: items counted, LeftOut, or no record at all (I1).
//	S6 The timers that fire, their order and their number an entry do not depend on which sessions are in memory.
//
// # Assumptions
//
// Entries come in log order, each once, or again after a restart (skipped up to the applied index). The file system
// keeps what was synced. One process has the folder open (Pebble's lock).
//
// # Rejected
//
// A key an event, or a session rewritten an entry: 10 to 16 times the cost (measured). Session images under
// s/<session>/<epoch>: reading a plan would be a look-up a session; under i/<epoch> it is one scan.
package state
