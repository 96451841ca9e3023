package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"deckle/node/kafka"
	"deckle/node/status"
	"deckle/schema/level"
	"deckle/state"
)

// Do carries out a command, if this node leads the shard. The error wraps status.ErrRefused if nothing has changed.
func (s *Shard) Do(ctx context.Context, c status.Command) (status.Outcome, error) {
	if !s.group.IsLeader() {
		return status.Outcome{}, refused("this node does not lead shard %d (any more); ask again", s.id)
	}
	if c.Sink != "" {
		return s.skipEvents(ctx, &c)
	}
	if !c.Resume {
		if err := s.judgeSkip(ctx, &c); err != nil {
			return status.Outcome{}, err
		}
	}
	o := &order{Command: c, done: make(chan struct{})}
	select {
	case s.orders <- o:
	case <-ctx.Done():
		return status.Outcome{}, refused("the intake of shard %d does not run; the status says why", s.id)
	}
	select {
	case <-o.done:
		return o.outcome, o.err
	case <-ctx.Done():
		return status.Outcome{}, fmt.Errorf("it is not known whether the command was carried out, see the status: %w",
			ctx.Err())
	}
}

// judgeSkip refuses to give up what the log does not have yet: records that are written there later would never be
// read.
func (s *Shard) judgeSkip(ctx context.Context, c *status.Command) error {
	if c.From < 0 || c.To < c.From {
		return refused("the range from offset %d to %d is none", c.From, c.To)
	}
	view := s.store.Peek()
	l := s.env.Kafka.ListEnds(ctx, s.env.Now)
	if l.Err != nil {
		return refused("the end of the partition is not known: %w", l.Err)
	}
	if !kafka.SameTopic(view.Config.TopicID, l.Info.ID) {
		return refused("%w; a gap cannot mend that", kafka.ErrRecreated)
	}
	end, known := l.Ends[c.Partition]
	switch {
	case !known:
		return refused("the end of partition %d is not known: %w", c.Partition,
			errors.Join(l.Missing(c.Partition), kafka.ErrSilent))
	case c.To > end:
		return refused("partition %d ends at offset %d: what is written between that and %d later would never be read",
			c.Partition, end, c.To)
	}
	return nil
}

// skipEvents gives up raw events that have been applied and that Kafka cannot give again: the intake has nothing to do
// with them. What has been given up before is given up.
func (s *Shard) skipEvents(ctx context.Context, c *status.Command) (out status.Outcome, err error) {
	view := s.store.Peek()
	out.Next = c.To
	switch lost := s.cond.lostEvents(); {
	case c.Resume:
		return out, refused("a sink has nothing to resume: what fails is tried again by itself")
	case c.Sink != state.SinkEvents.String():
		return out, refused("sink %q needs no record again that it does not have; raw events do (sink %s)", c.Sink,
			state.SinkEvents)
	case !slices.Contains(view.Config.Sinks, state.SinkEvents):
		return out, refused("this cluster keeps no raw events")
	case view.Level < level.Real:
		return out, refused("shard %d has level 1, in which no offset can be given up; it rises once all nodes run "+
			"this version", s.id)
	case c.From < 0 || c.To <= c.From:
		return out, refused("there is no offset from %d up to %d, without it", c.From, c.To)
	case view.EventGaps[c.Partition].Covers(c.From, c.To):
		return out, nil
	case lost == nil:
		return out, refused("the raw events of shard %d wait for no record that Kafka cannot give", s.id)
	}
	gap := &state.Gap{Partition: c.Partition, From: c.From, To: c.To, At: s.env.Now().UnixMilli(), By: c.By,
		Reason: c.Reason}
	wctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	res, err := s.group.Propose(state.EncodeSkipEvents(gap)).Wait(wctx)
	if err != nil {
		return out, fmt.Errorf("it is not known whether the raw events were given up, see the status: %w", err)
	}
	r, ok := res.Value.(*state.EventsSkipResult)
	switch {
	case !ok:
		return out, fmt.Errorf("a skip of raw events returned %T", res.Value)
	case r.Full:
		return out, refused("shard %d has as many gaps of raw events as it keeps; ask again once those have been "+
			"passed", s.id)
	case r.Rejected && r.From == r.To:
		return out, refused("partition %d has no offset that has been read and is not in table events yet", c.Partition)
	case r.Rejected:
		return out, refused("of partition %d only offsets from %d up to %d, without it, have been read and are not in "+
			"table events yet", c.Partition, r.From, r.To)
	}
	out.Skipped = r.Offsets
	s.log.Warn("an operator has given up raw events of a partition", "partition", c.Partition, "from", c.From,
		"to", c.To, "offsets", r.Offsets, "by", c.By, "reason", c.Reason)
	select {
	case s.passed <- struct{}{}: // whoever waits for those records need not
	default:
	}
	return out, nil
}
