package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"deckle/node/shard"
)

// founding keeps a cluster from being founded while what it is to write to refuses it. Its shards would be created,
// with all that is fixed then, and the node would be green over tables that nobody can write.
type founding struct {
	stores connector

	// turn has room for whoever looks, or reads what was found: the others wait for the answer, or until they give up.
	turn chan struct{}
	at   time.Time // of the last look; zero: none yet
	last error
}

func newFounding(stores connector) *founding {
	return &founding{stores: stores, turn: make(chan struct{}, 1)}
}

// againAfter is how long the answer of the stores holds for the other shards of the node.
const againAfter = 5 * time.Second

// may returns nil if nothing that stays until somebody acts is known to be wrong with the stores of the sinks, and
// otherwise an error that wraps shard.ErrNotFounded and says what to do. A store that does not answer is not wrong: it
// may be there tomorrow, and the sinks wait for it.
func (f *founding) may(ctx context.Context) error {
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if now := f.stores.deps.Now(); f.at.IsZero() || now.Sub(f.at) >= againAfter {
		err := f.look(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.at, f.last = f.stores.deps.Now(), err
	}
	return f.last
}

func (f *founding) look(ctx context.Context) error {
	var wrong []string
	for _, part := range []func(context.Context) []Finding{f.stores.lakeAlone, f.stores.clickHouse} {
		bounded, cancel := context.WithTimeout(ctx, connectTimeout)
		found := part(bounded)
		cancel()
		for i := range found {
			if o := &found[i]; o.Outcome == Refused {
				text := o.Check + ": " + o.Text
				if o.Todo != "" {
					text += " (" + o.Todo + ")"
				}
				wrong = append(wrong, text)
			}
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s. It is looked at again by itself; deckle check says more, and deckle run --force founds "+
		"the cluster all the same", shard.ErrNotFounded, strings.Join(wrong, "; "))
}
