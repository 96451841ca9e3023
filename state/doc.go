// Package state is the state machine of one shard: sessions, offsets, timers, rollups, epochs, and the progress of the
// sinks. It is pure: it has no clock, no network, no goroutine and no randomness. Time comes in with the entries, and
// every replica that applies the same entries holds the same state.
//
// # From entry to sink
//
//	Config ──► what the shard is, once
//	Batch  ──► fold items into sessions, move offsets, move the clock, fire timers        memory only
//	Cut    ──► close the open epoch: one image per changed session and rollup             one Pebble batch
//	Plan   ──► a sink's next range (A, B] of closed epochs, outstanding until its Ack     memory only
//	Ack    ──► the range is visible and durable in the sink                               memory only
//	Refuse ──► a row that a sink refuses for good becomes a dead letter                   memory only
//	Skip   ──► an operator gives offsets up that have not been applied: a gap             memory only
//	SkipEvents ─► or, for the table events alone, offsets that have                       memory only
//	Horizon ─► force the horizon up                                                       memory only
//	Suppress ► change the list of suppressed readers                                      memory only
//	Partitions ► read partitions that were added to the topic                             memory only
//
// "Memory only" is safe because the Raft log holds the entry. A checkpoint (with every Cut, after every
// Options.CheckpointBytes of change, with every Snapshot) writes all of it to Pebble in one batch, together with the
// applied index. Pebble has no log of its own: after a crash it holds the state of some checkpoint, and the entries
// after that checkpoint are applied again.
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
// A session_end changes no column except status. A session that ever got one is closed, whatever the order of arrival.
//
// # Keys of the Pebble store (integers big-endian; <sid> is a length byte and the session id)
//
//	m                                   meta: index, term, config, clock, epochs, progress, offsets, totals (JSON)
//	i <epoch 8> <sid> <origin 12>       the session as of that epoch: its image, once the epoch is closed. It has the
//	                                    events, or, from level 2 on, those after the segments
//	s <sid> <origin 12> <n 4>           segment n of a session's events, which all of its images share
//	j <epoch 8> <rollup key>            totals of a rollup key as of that closed epoch
//	l <sid>                             the live session with that id: origin 12, epoch 8 of its newest value
//	r <rollup key>                      present totals of a rollup key: epoch 8 of its last image, totals
//	t <kind 1> <deadline 8> <sid>       timer: kind 0 closes, kind 1 purges
//	x <epoch 8>                         ranges, offsets left out, counts, clock, checksum of the epoch
//	q <epoch 8> <seq 8>                 dead letters
//	g <kind 1> <epoch 8> <key>          garbage: an image that is superseded (value: by which epoch 8) or purged (^0),
//	                                    but kept for plans or sinks that still need it. Of kind s: the segments of a
//	                                    purged session, whose last image is of that epoch
//	u <fast 8> <hash 8>                 a suppressed reader: kind, the rest of the hash, when, by whom. The key is all
//	                                    that memory has of it, so that memory alone tells who is on the list
//	rollup key: <date 4> <table 1> (<length 2> <text>)*
//
// # Segments
//
//	events of a session ──► tail, in the image ──64 KiB──► sealed, in memory ──checkpoint──► s/…/<n>, in Pebble only
//
// An entry costs what it appends. Therefore a session keeps its events in its image only while they are few, as nearly
// all sessions do. From level 2 on, the event with which they reach 64 KiB ends a segment, which is written once and
// never changes. An image has the size and the hash of each of its segments. Folding needs the ids and the tail only;
// whoever makes a row reads the segments from Pebble, and compares them with the hashes. A session that was whole at
// level 1 gets its first segment, of any size, with its first change at level 2.
//
// # Restore
//
// A snapshot replaces the folder as a whole. Open ends a Restore that a crash has interrupted:
//
//	<dir> is renamed to <dir>.old ──► the snapshot to <dir> ──► folder above synced ──► <dir>.old removed
//	                               │                         │
//	                   Open: .old is put back             Open: .old is removed
//
// # Damage
//
// Every block of a table has a checksum, and the MANIFEST is a log of records with checksums. Something that does not
// fit its checksum, or is missing, is a DamageError. The method that met it returns it, and OnFatal is called with it,
// because Pebble meets most damage in the background. Only what Pebble blames on a file counts: an entry or a value
// that does not decode would be the same on every replica, so it is an ordinary error, and fatal as such. A MANIFEST
// that breaks off may look like one that ends there. The state is then an earlier one; Durable says so, and raftstore
// compares that with its marker. OPTIONS has no checksum: a flipped bit there does nothing, is damage, or makes Open
// refuse. Snapshot reads every block of the copy before it goes to another replica.
//
// # Invariants
//
//	S1 Apply is a function of the stored state and the entry. In particular, what a checkpoint writes, and when,
//	   changes neither a result nor any plan (design I2).
//	S2 Pebble changes only in checkpoint batches, each with the applied index. Deletions wait for the next one in
//	   pendingDeletes, those of segments in pendingRanges. Deleting at once would be wrong: after a crash the entries
//	   before the deletion are applied again, and must find what they found the first time.
//	S3 A closed epoch never changes: neither its images, nor its ranges, nor the offsets left out. Its checksum is in
//	   the next Cut, and a replica that has another checksum stops (ErrDiverged) (I4).
//	S4 An image is deleted only when (a) a newer closed image supersedes it, and no outstanding plan whose range holds
//	   it ends before that newer one, or (b) its session is purged, and every sink that reads images has acknowledged
//	   its epoch (I6). The segments of a session are deleted with its last image, when all sinks are past the older
//	   ones, too.
//	S5 Every offset of a range is exactly one of: an item that is counted, an offset in LeftOut (suppressed records,
//	   too), or no record at all, or none that the rules of the epoch let in (I1). Every offset between two ranges
//	   lies in one gap, which a Skip entry has made (level 2). Ranges of one partition are joined except over a gap. A
//	   gap of raw events lies within ranges: their records count, the epochs say so for ever (S3), and only plans of
//	   raw events are read through it.
//	S6 Which timers an entry fires, in which order and how many, does not depend on which sessions are in memory.
//
// # Assumptions
//
// Entries come in log order, each once, or again after a restart (those up to the applied index are skipped). The file
// system keeps what was synced. One process has the folder open (Pebble's lock).
//
// # Rejected
//
// One key per event, or rewriting a session with every entry: 10 to 16 times the cost (measured). Session images under
// s/<session>/<epoch>: reading a plan would need one look-up per session; under i/<epoch> it is one scan.
package state
