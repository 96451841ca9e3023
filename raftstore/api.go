package raftstore

import "context"

// StateMachine is what a group replicates; *state.Store is one. Apply, Snapshot and Restore are called by one goroutine
// at a time, except Snapshot, which may run beside Apply.
//
// An error of a state machine that has, somewhere in its chain, a method Damaged() bool that returns true says that the
// state machine's files are lost: the folder is emptied and the node rejoins, at once if Open met the error, else with
// the next start.
//
// An error of Apply that has, somewhere in its chain, a method TooNew() bool that returns true says that the entry was
// written by a newer binary, and that the state machine is as it was before. The group is then held: Apply is not
// called again before the next start.
type StateMachine interface {
	// Apply folds one committed entry; entries at or below the applied index are skipped. An error is fatal, unless it
	// says that the entry is too new.
	Apply(index, term uint64, entry []byte) (any, error)
	// Applied returns index and term of the last entry folded, or restored.
	Applied() (index, term uint64)
	// Durable returns the index up to which the state is on disk: the log may be truncated up to it, never past it.
	Durable() uint64
	// Level returns the level of the group as of the last entry folded, or restored; 0 counts as 1, the first. It is
	// called by any goroutine, at any time, and must not wait for Apply.
	Level() uint32
	// Checkpoint brings everything applied so far to disk and returns when it is durable.
	Checkpoint(ctx context.Context) error
	// Snapshot writes a durable copy of the state into dir, which must not exist, on the state's file system.
	Snapshot(dir string) (index, term uint64, err error)
	// Restore replaces the state by the files of a snapshot, which become the state machine's. If it is interrupted,
	// the next open has the former state or the new one, and in the first case dir is still there.
	Restore(dir string) error
	// Close ends its background work and closes its files.
	Close() error
}
