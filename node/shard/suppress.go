package shard

import (
	"context"
	"fmt"
	"time"

	"deckle/event"
	"deckle/schema/level"
	"deckle/state"
)

// listOrderPatience is how long a change of the list waits for the intake to take it. One that does not run (no leader
// of a partition, a missing key, a pause between two runs) keeps no reader from being suppressed.
const listOrderPatience = 2 * time.Second

// Suppress changes the shard's list of suppressed readers, if this node leads the shard. From the entry on no record of
// those who are added is let in. The result says whether the state has refused it, and why (state.SuppressRefusal). The
// error wraps status.ErrRefused if nothing has changed; any other leaves that open, and to ask again is harmless.
//
// The salt of e must be that of shard 0's list: Salt returns it. Now is set here.
func (s *Shard) Suppress(ctx context.Context, e state.SuppressEntry) (*state.SuppressResult, error) {
	if len(e.Listings) > state.MaxListings {
		return nil, refused("%d listings at once, at most %d", len(e.Listings), state.MaxListings)
	}
	if e.Salt == (event.Salt{}) || e.Op != state.SuppressAdd && e.Op != state.SuppressRemove {
		return nil, refused("a change of the list without a salt, or of operation %d", e.Op)
	}
	if !s.group.IsLeader() {
		return nil, refused("this node does not lead shard %d (any more); ask again", s.id)
	}
	if l := s.store.Peek().Level; l < level.Guarded { // an older member could not read the entry
		return nil, refused("shard %d has level %d, in which no reader can be suppressed; it rises once all nodes run "+
			"this version", s.id, l)
	}
	e.Now = s.env.Now().UnixMilli()
	o := &listOrder{entry: state.EncodeSuppress(&e), gone: ctx.Done(), done: make(chan struct{})}
	wait := time.NewTimer(listOrderPatience)
	defer wait.Stop()
	orders := s.listOrders
	// gofail: var listPastIntake struct{}
	// orders, _ = nil, wait.Reset(0)
	select {
	case orders <- o:
		select {
		case <-o.done:
		case <-ctx.Done():
			return nil, unknownList(ctx.Err())
		}
	case <-wait.C: // a batch of an intake that begins meanwhile is refused, and judged again
		o.res, o.err = proposeList(ctx, s.group, o.entry)
	case <-ctx.Done():
		return nil, refused("the intake of shard %d is busy: %w", s.id, ctx.Err())
	}
	if o.err != nil {
		return nil, unknownList(o.err)
	}
	if o.res.Refused == state.SuppressTaken {
		s.log.Warn("the list of suppressed readers changes", "op", e.Op, "changed", o.res.Changed,
			"number", o.res.List.Number, "readers", o.res.List.Count, "by", e.By)
	}
	return o.res, nil
}

func unknownList(err error) error {
	return fmt.Errorf("it is not known whether the list of suppressed readers has changed, ask again: %w", err)
}

// Salt returns the salt of the shard's list as of everything that has been committed; ok is false if it has none yet.
// It needs the leadership, since a replica that lags would not know of one.
func (s *Shard) Salt(ctx context.Context) (salt event.Salt, ok bool, err error) {
	if !s.group.IsLeader() {
		return salt, false, refused("this node does not lead shard %d (any more); ask again", s.id)
	}
	if err := s.group.Barrier(ctx); err != nil {
		return salt, false, err
	}
	salt = s.store.Suppression().Salt
	return salt, salt != (event.Salt{}), nil
}
