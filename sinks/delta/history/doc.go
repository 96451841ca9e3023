// Package history reads the log of a Delta table as any reader may: what each commit did, the table as of a version,
// the difference between two, and whether log and objects agree (Check). It writes nothing.
//
// # Promise
//
// A version is the replay of the commits that the protocol names, from the newest checkpoint at or below it that can be
// read. What cannot be read exactly is an error, never a table that lacks or doubles something: a *FeatureError for a
// feature of readers that is not known here, a *deltalog.CorruptionError for a damaged object, an add with a deletion
// vector under a protocol that does not know them among these.
//
// # What it reads beside package deltalog
//
// The writer's package refuses what it could not write. A reader need not: features that bind writers alone (change
// data feed, row tracking, constraints, domain metadata and any unknown one) change nothing of what is live, and are
// only named. Checkpoints in several parts and actions of a file with a deletion vector are read, too. Not read are
// checkpoints with sidecars (v2) and commits that a catalog keeps; log compaction files and version checksums are
// passed over, as they only save time.
//
// # Order
//
// The log is read first and the objects are listed afterwards, because each is read while others write: a file that is
// live in the log must then be in the listing, unless a later commit has removed it, which Check looks up before it
// calls a file missing.
//
// # Restore
//
// A Restorer works out which files a restore takes away and brings back; package deltalog commits that. Its rules:
//
//	commit since version N             --rows=again                              --rows=gone
//	Deckle's insert                    taken over                                passed over
//	Deckle's revision                  taken over; *RefusedError where it        passed over
//	                                   stands on what is passed over
//	changes no data, whoever made it   taken over if what it replaces is wanted  passed over
//	any other, RESTOREs among them     passed over                               passed over
//
// Rejected: choosing files by the epochs in their tags alone (a file that was compacted since has rows of before and
// after N, and a revised file has the tags of the one that it replaced).
//
// # Memory
//
// A State holds every live file: about 300 bytes each, and its statistics if they are asked for. A deep check reads one
// file at a time.
package history
