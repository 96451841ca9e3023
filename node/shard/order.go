package shard

import (
	"errors"
	"fmt"

	"deckle/node/status"
	"deckle/state"
)

// errOrdered ends a run of the intake after an operator's command. The next one begins with the applied offsets and
// clients of its own, so that nothing is left of what the former one has fetched.
var errOrdered = errors.New("shard: the partitions begin anew after a command")

// errMore ends a run of the intake after partitions were added to the shard: the next one reads them, too.
var errMore = errors.New("shard: the shard reads more partitions")

// errRelisted ends a run of the intake whose records were judged by a former list of suppressed readers: the list has
// changed past the intake. The next run begins at once.
var errRelisted = errors.New("shard: records are judged again")

// order is a command on its way to the intake. The intake sets outcome and err, and closes done.
type order struct {
	status.Command
	outcome status.Outcome
	err     error
	done    chan struct{}
}

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %w", status.ErrRefused, fmt.Errorf(format, args...))
}

// listOrder is a change of the list of suppressed readers on its way to the intake.
type listOrder struct {
	entry []byte
	gone  <-chan struct{} // closed when nobody waits for it any more
	res   *state.SuppressResult
	err   error
	done  chan struct{}
}
