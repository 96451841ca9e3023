// Package year lets the real writer of the Delta tables keep them for months of compressed time, and holds what it
// leaves to bounds that do not grow: live files, objects and checkpoints of the log, memory to load a table, requests.
//
// Real are the sinks with their buffers and plans, revisions, checkpoints, checksums, cleanup of the log, compaction
// and vacuum, by the node's schedule and defaults. Not real are the clock, which stands still while anything is done,
// and the store: objects lie in a few large files without an fsync, and requests are counted as S3 does.
//
//	every interval   one plan of events and one of sessions, each of the next shard: a commit for each table, as one
//	                 shared by all nodes
//	every minute     a plan of revisions; whether a vacuum is due is looked up
//	every 10 min     compaction of both tables
//	every 24 h       vacuum, when it is due by the mark in the store
//	every day        both tables are opened as a writer opens them; the figures of the day
//
// # Scale
//
// Rows are few: a commit has 8 events and 2 sessions. What the compaction has as sizes (32 and 256 MiB of files, 512
// MiB of a job) is divided by -scale, so that a day has as many large files as one with so many times its bytes. All
// bytes in the figures are those that were written. Two rules see the small bytes as they are: checkpoints within 2 %
// of the data, which come more rarely than they would, so that the other rule (a number of commits) sets their cost;
// and the size from which revisions look for rows by ranges.
//
// # Bound
//
// After each day, for each table, with large = 128 MiB / scale:
//
//	live files ≤ live bytes / large + 2 × dates + hot tier
//	hot tier   = for each date that is open or has been closed for less than two days: 16 files, and its bytes / 8 MiB
//	             × scale; and 4 for each interval from one compaction to the next, and 2 minutes
//
// 16 is what the rule of doubling leaves of small files; a file of half of 32 MiB is left as it is, and one of about a
// quarter is what a job may end with.
package year
