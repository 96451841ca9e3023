package shard

import (
	"context"
	"time"

	"deckle/state"
)

// Where the nodes share the commits of Delta tables (Turns), all shards are cut together. Their plans to ClickHouse
// would fight for the same processors then, and take several times as long. So these begin at cuts of the shard's own,
// which are spread over the interval, and have what has been closed since the last of them; raw events of two epochs
// are in one file all the same (sinks.EventsBuffer.Seal).

// waitsApart says whether a sink's plans wait for the shard's cuts for ClickHouse.
func (l *leadership) waitsApart(s *state.SinkSpec) bool {
	return l.apart && s.Destination == state.ToClickHouse
}

// awaitApart returns when there is a plan to be written, or an epoch for one: when the shard's cut for ClickHouse is
// answered, or before where what there is does not wait for that.
func (f *flusher) awaitApart(ctx context.Context) error {
	var since time.Time // when there was an epoch first
	for {
		// The cut is looked at first: once it is answered, the epoch is noted.
		cut := f.cutApart.Load()
		noted, changed := f.epochs.look()
		outstanding, more := f.has(noted)
		var wait time.Duration
		switch {
		case outstanding:
			return nil
		case more:
			if alone, err := f.alone(noted); alone || err != nil {
				return err
			}
			if since.IsZero() {
				since = f.Now()
			}
			// Where the intake does not run there are no cuts: then what has waited for an interval goes.
			wait = since.Add(f.Config.Flush.Interval + silence).Sub(f.Now())
			if f.store.View().Sinks[f.sink.ID].Acked < cut || wait <= 0 {
				return nil
			}
		}
		if err := either(ctx, changed, nil, wait); err != nil {
			return err
		}
	}
}
