// Package compact makes few large data files of many small ones.
//
// # Promise
//
// Every row that stood in the table stands there once, with the same values, in every version; a commit of compaction
// changes no data and says so (dataChange is false). Appends never wait for it and never fail by it. It ends: each
// commit leaves fewer files than it found, or fewer rows that a deletion vector hides.
//
// # Invariants
//
//  1. The adds and removes of a job are one commit, and it is made only on a version in which every removed file is
//     live (deltalog.Change.Rearrange). Data files never change, so what was read of them is what is removed.
//  2. A job's output has as many rows as its input, and as many as the log says. A row that comes twice ends the job.
//  3. The new file has the columns of the highest level of its sources, and all those columns of other tools that the
//     table's schema has and one of them has: of the same name, type and values, whatever their type. A value that a
//     source does not have stays null, a default of its column included: no data changes.
//  4. A file with a column that neither this binary nor the table's schema has is left alone, and so is a damaged one,
//     one whose columns are stored in another way than Deckle's (or, if they are of another tool, than in the smaller
//     files of the job), and files that would not become fewer; for a day, then they are tried again.
//  5. The tags of the new file cover those of its sources: one range of epochs for each shard (deltalog.TagParts), or
//     none, "not known", if a source has none. So whoever looks for a row never passes over the file that has it.
//  6. A staged file is committed within Options.StagedLife or never (vacuum takes none that is younger than twice
//     that), and is never deleted here.
//  7. Memory: Options.MemoryBytes of rows, one source file (at most half of ColdBytes; one of which much is hidden:
//     five quarters of it), and a row group of the new file. Disk: the rows of one job (JobBytes, as it is stored),
//     packed, and one new file; removed at every beginning
//     and end. Run by one goroutine.
//
// # What is compacted
//
// A date is open until Options.Closed after its end, and then closed: nothing is revised in it any more. Of an open one
// the files below half of HotBytes become files of HotBytes, of a closed one those below half of ColdBytes become files
// of ColdBytes. Only files older than Settle are taken, by the clock of whoever staged them (a wrong clock costs work,
// and no row): revisions want the young ones. The smallest come first, and the next one is taken if it is not larger
// than all before it together: so a byte is written again once for each doubling of its file, and a date has, besides
// the whole files, as many small ones as its size can be halved. A job has four files at least, except for the last one
// of a closed date that has been quiet for a day, and JobFiles at most, so that it gets to its end where nodes restart
// often. In a date with more than 500 small files a minute's age is enough.
//
// A file of which deletion vectors hide more than a fifth of the rows is written anew without them, whatever its size.
//
// # A job
//
//	plan ─► read sources ─► sort, runs on disk ─► merge ─► write, put ─► commit ── every source is live ─► done
//	  ▲                                                                    │ one is gone
//	  └───────── three times ◄── without what is gone ◄────────────────────┘
//
// # What may go wrong
//
//	killed, before the commit         staged files, which vacuum takes; runs, which the next beginning removes
//	killed, the commit's answer lost  it is found by its id, or the next plan sees that the sources are gone
//	a late PUT of the commit          finds its version taken, or stands: it was right for its version
//	two compactors                    one commits; the other one's sources are gone
//	a revision rewrites a source      the job is made again without that file. The other way round the revision is
//	                                  made again once: it finds its file gone, or a new one that may hold its row
//	                                  (Guard)
//	a RESTORE, DELETE, OPTIMIZE       as a revision; also if a deletion vector hides more rows of a source, which is
//	                                  another file then
//	vacuum meanwhile                  takes no source inside its retention, and no staged file within two days
//	the disk is full, a run damaged   the job fails; the sources stand
//	a table that takes appends only   is compacted: nothing changes
//
// # Order
//
// sessions: brand, session_id, origin. events: session_id, kafka_partition, kafka_offset. The columns of a session are
// nearly the same in all of its rows, so they pack well beside each other, and whoever looks for a session or an id
// skips the other files and pages. For events that was measured (docs/performance.md): where many sessions go on at
// once, files by timestamp are 17 % larger, where few do, 7 % smaller; a session needs 4 % of a file instead of all of
// it, ten minutes need all of it instead of 9 %. Days are partitions anyway, so the order by session stays.
//
// Rejected: joining files without decoding them (thousands of row groups); a job that goes on where it was killed (its
// state would have to be durable, and a job takes minutes); a commit together with inserts, which would not be blind
// appends any more.
package compact
