// Package vacuum removes the objects of a Delta table that no reader inside the retention and no writer needs: staged
// files whose commit never came, and files that were removed long ago.
//
// # Promise
//
// No object is removed that is a live file of a version inside the retention, that is, of any version that was the
// newest at some time since the cutoff (the store's clock less the retention) and that can still be replayed. This
// holds while others commit, and wherever a run is killed: a run keeps nothing, and the next one begins anew with what
// is left.
//
// # Rule
//
// An object is removed if all of this holds:
//
//  1. It is older than the retention by the store's clock. That is the time of an object that Prepare puts; it counts
//     as no later than the clock here. A dry run puts nothing and goes by the clock here alone.
//  2. It is live in no version from the cutoff on, by the log that was read after the objects were listed.
//  3. No commit since has named it, by the log as it is before each request that removes something.
//  4. No tombstone that log or checkpoint has of it is younger than the retention, by its writer's clock.
//
// # Order
//
//	list objects ─► read log ─► ( read what is new in the log ─► remove up to 1,000 )… ─► read what is new once more
//
// The objects are listed first. If the log were read first, a file that a commit between the two makes live (a RESTORE
// takes an old one back) would be taken by the snapshot from before that commit. For the same reason the log is read on
// before each request. What remains is the time of one request: whoever takes a file back that is in no version inside
// the retention may lose to it. Such a file is promised to nobody; Spark and delta-rs take the same risk. The last
// reading of the log finds it, and it is an error that names the file.
//
// # Why no outstanding plan is asked for
//
// A node stages files for a plan again with each attempt to write it, under new names (package delta). The only staged
// files that a node can still commit are those of an attempt that is under way, and a sink commits none that it has
// staged more than delta.StagedLife (24 hours) ago: such a change is made again. Both times are its own clock's, so
// that it does not matter what that clock says, only that nobody sets it back by a day in between. So what is older
// than twice that life by the store's clock (Floor) can be in no commit to come, and what is younger is never removed.
// The default is longer for the sake of readers, and for writers of others, whose rule is the week. A PUT of a commit
// that hangs in the network lives for a minute.
//
// # Refused
//
// A table with a feature that this package does not know (it may name objects that are not in the log: v2 checkpoints,
// catalogs), with absolute paths (which may be objects of this folder by another name), with a
// log that cannot be read exactly, or whose retention cannot be understood. Objects with names that are no
// text (control characters, no UTF-8) are left, and named.
//
// Rejected: a commit VACUUM START as Spark writes one (it stops no other writer, and makes the log longer each day); a
// list of what is to be removed kept between runs (it would be a snapshot from before the next run's log).
package vacuum
