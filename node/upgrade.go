package node

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"deckle/node/shard"
	"deckle/node/status"
	"deckle/schema/level"
)

// Finalize implements web.Mover: the leader of each shard lets it rise to the highest level that all members have and
// allow. What a single shard has not done is in the outcome, unless none has.
func (m *mover) Finalize(ctx context.Context, asker *status.Asker) (*status.FinalizeOutcome, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), moveWithin)
	defer cancel()
	shards := m.commands.shards()
	if len(shards) == 0 {
		return nil, fmt.Errorf("%w: the shards of node %s do not run yet", status.ErrRefused, m.commands.self)
	}
	out := &status.FinalizeOutcome{Whole: true, Shards: make([]status.ShardRisen, len(shards))}
	errs := make([]error, len(shards))
	var all sync.WaitGroup
	for i, s := range shards {
		all.Go(func() {
			r, err := m.finalize(ctx, s, asker)
			if err == nil && level.Level(r.To) < level.Current {
				err = fmt.Errorf("%w: shard %d has level %d, this version has %d: the version, or cluster.max_level, "+
					"of some node has no more", status.ErrRefused, s.ID(), r.To, level.Current)
			}
			if errs[i] = err; r == nil {
				r = &status.ShardRisen{}
			}
			if out.Shards[i] = *r; err != nil {
				out.Shards[i].Error = err.Error()
			}
			out.Shards[i].Shard = s.ID()
		})
	}
	all.Wait()
	failed := 0
	for _, err := range errs {
		if err != nil {
			failed++
		}
	}
	risen := slices.ContainsFunc(out.Shards, func(r status.ShardRisen) bool { return r.To > r.From })
	if failed == len(errs) && !risen {
		return nil, errs[0]
	}
	out.Whole = failed == 0
	return out, nil
}

// finalize has the leader of a shard raise it.
func (m *mover) finalize(ctx context.Context, s *shard.Shard, asker *status.Asker) (*status.ShardRisen, error) {
	switch leader := s.Leader(); leader {
	case "":
		return nil, fmt.Errorf("%w: shard %d has no known leader; ask again", status.ErrNoLeader, s.ID())
	case m.commands.self:
		return m.raise(ctx, s.ID())
	default:
		r, err := m.call(ctx, leader, &moveCall{Op: moveRise, Shard: s.ID(), Asker: *asker})
		if err == nil && r.Risen == nil {
			err = fmt.Errorf("node %s has not said what has come of it", leader)
		}
		if err != nil {
			return nil, err
		}
		return r.Risen, nil
	}
}

// raise raises a shard that this node leads.
func (m *mover) raise(ctx context.Context, id uint32) (*status.ShardRisen, error) {
	for _, s := range m.commands.shards() {
		if s.ID() == id {
			from, to, err := s.Finalize(ctx)
			if err != nil {
				return nil, err
			}
			return &status.ShardRisen{Shard: id, From: uint32(from), To: uint32(to)}, nil
		}
	}
	return nil, fmt.Errorf("%w: node %s does not run shard %d yet", status.ErrRefused, m.commands.self, id)
}
