package shard

import (
	"context"
	"errors"
	"fmt"

	"deckle/node/kafka"
	"deckle/node/status"
)

// Do carries out a command, if this node leads the shard. The error wraps status.ErrRefused if nothing has changed.
func (s *Shard) Do(ctx context.Context, c status.Command) (status.Outcome, error) {
	if !s.group.IsLeader() {
		return status.Outcome{}, refused("this node does not lead shard %d (any more); ask again", s.id)
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
