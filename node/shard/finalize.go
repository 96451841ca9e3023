package shard

import (
	"context"
	"fmt"
	"time"

	"deckle/node/status"
	"deckle/schema/level"
)

// Finalize lets the shard rise to the highest level that all members have and allow, also where cluster.finalize is
// manual, and returns when it has. It rises between two runs of its intake, so nothing is in flight. The error wraps
// status.ErrRefused if nothing has changed. A shard that has that level already stays as it is.
func (s *Shard) Finalize(ctx context.Context) (from, to level.Level, err error) {
	from = s.store.Peek().Level
	if !s.group.IsLeader() {
		return from, from, fmt.Errorf("%w: this node does not lead shard %d (any more); ask again", status.ErrNoLeader,
			s.id)
	}
	if from == 0 {
		return from, from, refused("shard %d has not been created yet", s.id)
	}
	most := level.Current
	if own := s.env.Config.Cluster.MaxLevel; own > 0 {
		most = min(most, level.Level(own))
	}
	if most <= from {
		return from, from, nil
	}
	r := askLevel(ctx, s.group, from, most, most)
	if r.to <= from {
		return from, from, refused("%s", r.why)
	}
	s.finalized.Store(uint32(r.to))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if to = s.store.Peek().Level; to >= r.to {
			return from, to, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return from, to, fmt.Errorf("shard %d has not risen to level %d yet; it does once its intake runs, if "+
				"this node leads it then: %w", s.id, r.to, ctx.Err())
		}
	}
}
