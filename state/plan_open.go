package state

import (
	"errors"
	"fmt"
	"maps"

	"deckle/schema/level"
)

// OpenPlan returns a view of the sink's outstanding plan, or ErrNoPlan if there is none. Any goroutine may call it. The
// caller closes the plan.
func (s *Store) OpenPlan(sink SinkID) (*Plan, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil || s.plans.closing() {
		return nil, ErrClosed
	}
	pr := s.meta.Sinks[sink]
	if pr.PlanB == 0 {
		return nil, ErrNoPlan
	}
	p := &Plan{
		Config: s.meta.Config, Sink: sink, A: pr.PlanA, B: pr.PlanB, SessionsAcked: s.meta.Sinks[SinkSessions].Acked,
		Level: s.meta.levelOf(pr.PlanB), Rules: s.meta.rulesOf(pr.PlanB),
	}
	for _, f := range s.meta.FormerRules {
		if f.Until > p.A && f.Until < p.B {
			p.Former = append(p.Former, f)
		}
	}
	// gofail: var bugPresentRules struct{}
	// p.Rules, p.Former = s.meta.Rules, nil
	if sink.reads(ReadsEvents) {
		p.EventGaps = s.meta.PendingGaps
	}
	if sink.reads(ReadsRevised) {
		// A plan of such a sink never passes what the sink before it has acknowledged, so that this bound does not
		// move.
		p.SessionsAcked = pr.PlanB
	}
	r := &storeReader{
		snap: s.db.NewSnapshot(), superseded: map[string]uint64{},
		deleted: maps.Clone(s.pendingDeletes), refused: map[string]uint64{},
	}
	for g, sup := range s.garbage {
		if sup <= p.B {
			r.superseded[string(g.image())] = sup
		}
	}
	for k, epoch := range s.meta.Refused {
		if k[0] == '0'+byte(sink) {
			r.refused[k[1:]] = epoch
		}
	}
	if sink.reads(ReadsRevised) && p.Level >= level.Lake && s.enabled(SinkSessions) {
		r.standing, r.unwritten = true, s.meta.Unwritten.clone()
	}
	for e := p.A + 1; e <= p.B; e++ {
		info, err := readEpochInfo(r.snap, e)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("state: plan (%d, %d] of %s: %w", p.A, p.B, sink, err), r.snap.Close())
		}
		p.Epochs = append(p.Epochs, info)
	}
	p.Reader = r
	if !s.plans.add(r) {
		return nil, errors.Join(ErrClosed, r.snap.Close())
	}
	return p, nil
}
