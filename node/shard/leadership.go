package shard

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"deckle/raftstore"
	"deckle/state"
)

// leadership is one leadership of a shard: what its intake and its flushers share.
type leadership struct {
	*Env
	id    uint32 // of the shard
	log   *slog.Logger
	group *raftstore.Group
	store *state.Store
	cond  *standing

	// finalized is up to which level an operator has said that the shard may rise; of the shard. founded says that this
	// leadership has created the shard: it rises at once, since there is nothing to go back to.
	finalized *atomic.Uint32
	founded   bool

	end      context.CancelCauseFunc // ends this leadership; a *stopError stops the shard
	epochs   *epochBoard
	turns    *turnBoard // nil: see Env.Turns
	arrivals *epochArrivals
	visible  *[state.NumSinks]histogram // of the shard, over all its leaderships here
	offsets  *groupOffsets
	cuts     *cutTimes // nil: there are no traces
	orders   <-chan *order
	passed   <-chan struct{}
	// listOrders are changes of the list of suppressed readers.
	listOrders <-chan *listOrder
	// refused says that a row was refused: its dead letter waits in the open epoch for a cut.
	refused atomic.Bool
	// placed is what the intake has seen of where keys are, as of its last maintenance; nil before the first.
	placed atomic.Pointer[placed]

	// What one run of the intake leaves to the next; owned by the goroutine that runs them.
	buffer  epochBuffer
	backlog bool // what had gathered before this leadership has not been read yet
	// lowSince is since when the level has been below what this node could write; zero if it is not.
	lowSince time.Time
	// waits says why the shard must not be read, "" if it may: see privacyWaits. keyless says that a key is missing,
	// and handed when the shard was last offered to another node for that.
	waits   string
	keyless bool
	handed  time.Time
	// foreign are the partitions that stopped because the topic had another id, and since when.
	foreign map[int32]time.Time
	// halts are the partitions that have stopped for what may pass, and how that is looked at.
	halts map[int32]*halted
}

func (l *leadership) label() string { return fmt.Sprint(l.id) }

// entriesInFlight is how many entries may be in flight; a cut, a tick and a forced horizon may come on top.
func (l *leadership) entriesInFlight() int { return max(l.Config.Limits.InFlightEntries, 1) }
