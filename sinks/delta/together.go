package delta

import (
	"context"
	"errors"
	"time"

	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
	"deckle/state"
)

// passFor is how long after a turn was heard revisions wait for the plans of all shards. Nobody waits for them.
const passFor = time.Second

// together makes one pass for the plans of a round: since compaction has joined rows of all shards in the same files,
// passes of their own would want the same ones, and all but one of them be made again. It saves commits, and decides
// nothing: after any error each plan goes on alone, and meets by itself what is its own.
func (s *Revisions) together(ctx context.Context, seats []*seat) {
	plans := make([]*state.Plan, len(seats))
	alike := true
	for i, seat := range seats {
		plans[i] = seat.draft.plan
		alike = alike && s.table(plans[i]) == s.table(plans[0])
	}
	if len(plans) == 1 || !alike { // while the cluster rises, the files are of several levels
		s.answer(seats, errAlone)
		return
	}
	// A plan is read for as long as its Write lasts, so the pass ends with the first of them that ends.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, seat := range seats {
		defer context.AfterFunc(seat.draft.ctx, cancel)()
	}
	ctx, amount := sinks.CountWritten(ctx)
	if err := s.untilJudged(ctx, func(j *judge) error { return s.write(ctx, j, plans...) }); err != nil {
		s.opts.Logger.Debug("delta: a pass for several shards has ended, each goes on alone", "shards", len(seats),
			"error", err)
		s.answer(seats, errAlone)
		return
	}
	rows, bytes := amount.Load()
	n := int64(len(seats))
	for i, seat := range seats { // whose rows the rewritten files hold is not known
		at := int64(i)
		sinks.Wrote(seat.draft.ctx, rows*(at+1)/n-rows*at/n, bytes*(at+1)/n-bytes*at/n)
	}
	s.answer(seats, nil)
}

// errApart says that plans cannot have a pass in common.
var errApart = errors.New("delta: the plans of a pass are not at the same place")

// begin judges the plans by the part of the log that has been read, and begins a change on that. Of several plans all
// or none must have been written: errApart.
func (s *Revisions) begin(plans []*state.Plan) (change *deltalog.Change, done bool, err error) {
	n := 0
	for _, plan := range plans {
		c, done, err := s.start(s.appID(plan.Config.Shard), plan)
		switch {
		case err != nil:
			return nil, false, err
		case done:
			n++
		case change == nil:
			change = c
		default:
			// gofail: var bugPassTxnLost struct{}
			// continue
			change.Parts = append(change.Parts, c.Parts...)
		}
	}
	if n > 0 && n < len(plans) {
		return nil, false, errApart
	}
	return change, n > 0, nil
}
