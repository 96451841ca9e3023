package raftstore

import (
	"errors"
	"fmt"

	"deckle/wal"
)

// Errors of Open that need an operator, or a restart.
var (
	// ErrConfig is wrapped by every error of Open that the configuration causes.
	ErrConfig = errors.New("raftstore: configuration")
	// ErrForeignFolder says that the data folder belongs to another node, another set of nodes or another number of
	// shards, or was written by a newer format.
	ErrForeignFolder = errors.New("raftstore: the data folder does not fit the configuration")
	// ErrDamaged says that what this node promised cannot be read back. With three nodes Open empties the folder and
	// rejoins instead of returning it. Damage found later is fatal, and answered by the next Open.
	ErrDamaged = errors.New("raftstore: damaged")
	// ErrSuperseded is handed to OnFatal when another incarnation has taken this node's place. After a restart the
	// folder is emptied and the node rejoins with a new incarnation.
	ErrSuperseded = errors.New("raftstore: another incarnation of this node has taken its place")
)

// Errors of an entry's Future.
var (
	// ErrNotLeader says that an entry was certainly not committed and never will be: this node does not lead the group,
	// or refused the entry before it was written.
	ErrNotLeader = errors.New("raftstore: not the leader")
	// ErrUncertain says that an entry may or may not have been committed, or may still be.
	ErrUncertain = errors.New("raftstore: outcome uncertain")
	// ErrStoreDeadline is what a StoreLogs that took longer than Timings.StoreDeadline returns: a leader steps down, a
	// follower refuses. The write may still reach the disk later.
	ErrStoreDeadline = errors.New("raftstore: the disk took longer than the store deadline")
)

// ErrNoRoom is wrapped by what says that the disk of a node is full: by Options.NoRoom, and by a checkpoint of a state
// machine that may not fit. It ends when there is room.
var ErrNoRoom = errors.New("no room on the disk")

// ErrUnfit says that a node was not offered a leadership, because it could not take it, or because this node does not
// lead: nothing has changed.
var ErrUnfit = errors.New("raftstore: not offered the leadership")

// ErrRefused says that another node has answered a request, with an error: it runs, whatever else it lacks.
var ErrRefused = errors.New("raftstore: the other node answers")

// ErrStream is wrapped by every error that a damaged snapshot stream causes.
var ErrStream = errors.New("raftstore: damaged snapshot stream")

// ErrTooNew is wrapped by every error that is caused by something which a newer binary has written: an entry that the
// state machine cannot read yet, and each one behind it, or a snapshot. Nothing is damaged. It ends when the newer
// binary runs on this node. (The Future of an entry wraps ErrUncertain or ErrNotLeader as well.)
var ErrTooNew = errors.New("raftstore: a newer version is needed")

// Errors between the nodes, and inside one.
var (
	// errSealBroken is wrapped by readSealed for a file whose content does not fit its checksum.
	errSealBroken = errors.New("raftstore: damaged file")
	// errHeader says that a connection does not begin with a header.
	errHeader = errors.New("raftstore: not a connection header")
	// errNotMe and errNotReady say why a connection was refused.
	errNotMe    = errors.New("raftstore: refused: the peer is not the server that is meant")
	errNotReady = errors.New("raftstore: refused: the peer does not run that group")
	// errFrame says that a control request or response is not one.
	errFrame = errors.New("raftstore: bad control frame")
	// errMalformed answers a Raft request that no peer of this program makes.
	errMalformed = errors.New("raftstore: malformed request")
	// errRefused answers a request whose speaker cannot be what it says, and fails a call whose answer cannot be one.
	errRefused = errors.New("raftstore: refused")
	// errNoTLS says that a handshake was cut, as by an end that has no TLS.
	errNoTLS = errors.New("raftstore: no TLS at the other end")
	// errTooMany says that a connection had to give way.
	errTooMany = errors.New("raftstore: too many connections: the oldest gives way")
	// errConflict answers a snapshot that has to wait until the conflicting end of the log is dropped.
	errConflict = errors.New("raftstore: the log conflicts with the snapshot; its end is being dropped")
	// errOvertaken says that a local snapshot came after one that was installed meanwhile.
	errOvertaken = errors.New("raftstore: a newer snapshot is there")
	errStopped   = errors.New("raftstore: stopped")
	// errDrained says that an operator wants the node to lead nothing.
	errDrained = errors.New("raftstore: the node is drained")
	// errLogBound says that a held group has made the log of this node too long.
	errLogBound = errors.New("raftstore: no entries are taken: the log of this node is too long")
)

// isDamage tells whether an error says that something this node promised is lost.
func isDamage(err error) bool {
	var corrupt *wal.CorruptError
	var state interface{ Damaged() bool }
	return errors.As(err, &corrupt) || errors.Is(err, ErrDamaged) || errors.Is(err, errSealBroken) ||
		errors.As(err, &state) && state.Damaged()
}

// isTooNew tells whether an error says that something was written by a newer binary. What is damaged is not waited for.
func isTooNew(err error) bool {
	var newer interface{ TooNew() bool }
	return !isDamage(err) && (errors.Is(err, ErrTooNew) || errors.As(err, &newer) && newer.TooNew())
}

// singleNodeDamage is the error of a single node that is damaged: it has no other node to rejoin.
func singleNodeDamage(dir string, cause error) error {
	return fmt.Errorf("%w: %w. This is a single node, so no other can give back what is lost, and nothing was "+
		"changed. Either restore the whole of %s from a copy that was made while the node was stopped, or move it "+
		"away and start with an empty folder and the sinks' tables of a new cluster", ErrDamaged, cause, dir)
}
