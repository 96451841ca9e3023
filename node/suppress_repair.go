package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"deckle/event"
	"deckle/node/status"
	"deckle/state"
)

const (
	// repairRounds is how often a repair compares the lists: somebody may change them meanwhile.
	repairRounds = 3
	// repairWithin bounds a repair, so that there is time to answer. What it has done stays done.
	repairWithin = 20 * time.Second
	// catchUp is how long a repair waits for this node's replica to have what the leader has.
	catchUp = 5 * time.Second
)

// errDiffers is what is left of a repair whose rounds are over.
var errDiffers = errors.New("the list differs still from that of shard 0, because it is changed meanwhile; ask again")

// repair gives every shard what shard 0 has, in both directions: shard 0 is always changed first, so what it has is the
// newest, and a withdrawn objection does not come back.
func (l *lists) repair(ctx context.Context, q *status.ListRequest) (*status.ListOutcome, error) {
	out := l.outcome(q)
	first, err := l.info(ctx, q, 0)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, repairWithin)
	defer cancel()
	l.eachOther(out, func(shard uint32) status.ListShard {
		done := status.ListShard{Shard: shard}
		for range repairRounds {
			same, err := l.repairShard(ctx, q, &done)
			if err != nil {
				done.Error = err.Error()
				return done
			}
			if same {
				return done
			}
		}
		done.Error = errDiffers.Error()
		return done
	})
	out.Readers, out.At = first.Info.Count, l.now().UTC().Truncate(time.Millisecond)
	return out, nil
}

func (l *lists) info(ctx context.Context, q *status.ListRequest, shard uint32) (*listReply, error) {
	r, err := l.call(ctx, &listCall{Op: listInfo, Verb: q.Op, Asker: q.Asker, Shard: shard})
	if err != nil {
		return nil, notChanged(err)
	}
	return r, nil
}

// repairShard does one round: same says that nothing was to be done. The shard is looked at before shard 0: whoever was
// added to it in between is in shard 0's list already, and whoever was removed from that is not listed there any more.
func (l *lists) repairShard(ctx context.Context, q *status.ListRequest, done *status.ListShard) (same bool, err error) {
	its, err := l.info(ctx, q, done.Shard)
	if err != nil {
		return false, err
	}
	list, err := l.replica(ctx, done.Shard, its.Info.Number)
	if err != nil {
		return false, err
	}
	zero, err := l.info(ctx, q, 0)
	if err != nil {
		return false, err
	}
	want, err := l.replica(ctx, 0, zero.Info.Number)
	switch {
	case err != nil:
		return false, err
	case sameList(&zero.Info, &its.Info):
		return true, nil
	case its.Salt != event.Salt{} && its.Salt != zero.Salt:
		return false, why(state.SuppressBySalt, done.Shard)
	}
	if its.Salt == (event.Salt{}) { // an entry of nobody sets it
		if _, err := l.mend(ctx, q, done.Shard, zero.Salt, false, nil); err != nil {
			return false, err
		}
	}
	done.Added, err = l.mendAll(ctx, q, done.Shard, zero.Salt, 0, false, done.Added, func(k event.ListingKey) bool {
		return want.Has(k) && !list.Has(k)
	})
	if err != nil {
		return false, err
	}
	done.Removed, err = l.mendAll(ctx, q, done.Shard, zero.Salt, done.Shard, true, done.Removed,
		func(k event.ListingKey) bool { return list.Has(k) && !want.Has(k) })
	return false, err
}

// replica returns the list of this node's replica, once it is at least that of a number.
func (l *lists) replica(ctx context.Context, shard uint32, number uint64) (*event.Suppression, error) {
	ctx, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	for {
		if list := l.shard(shard).Store().Suppression(); list.Number >= number {
			return list, nil
		}
		if !wait(ctx, 10*time.Millisecond) {
			return nil, listRefused("the replica of shard %d on node %s is behind its leader; ask another node", shard,
				l.commands.self)
		}
	}
}

// mendAll adds to a shard's list, or removes from it, what is picked of the listings that another shard's replica has.
// It returns before and how many were changed.
func (l *lists) mendAll(ctx context.Context, q *status.ListRequest, shard uint32, salt event.Salt, from uint32,
	remove bool, before int, pick func(event.ListingKey) bool) (changed int, err error) {
	changed = before
	var after *event.ListingKey
	var chosen []event.Listing
	flush := func() error {
		if len(chosen) == 0 {
			return nil
		}
		n, err := l.mend(ctx, q, shard, salt, remove, chosen)
		changed, chosen = changed+n, nil
		return err
	}
	for {
		page, _, err := l.shard(from).Store().Listings(after, state.MaxListings)
		if err != nil {
			return changed, fmt.Errorf("the list of shard %d: %w", from, err)
		}
		for i := range page {
			if !pick(page[i].Key()) {
				continue
			}
			if chosen = append(chosen, page[i].Listing); len(chosen) == status.MaxListIDs {
				if err := flush(); err != nil {
					return changed, err
				}
			}
		}
		if len(page) < state.MaxListings {
			return changed, flush()
		}
		last := page[len(page)-1].Key()
		after = &last
	}
}

// mend changes a shard's list.
func (l *lists) mend(ctx context.Context, q *status.ListRequest, shard uint32, salt event.Salt, remove bool,
	listings []event.Listing) (changed int, err error) {
	r, err := l.call(ctx, &listCall{Op: listChange, Verb: q.Op, Asker: q.Asker, Shard: shard, Remove: remove,
		Salt: salt, Listings: listings})
	if err != nil {
		return 0, err
	}
	return r.Changed, why(r.Why, shard)
}
