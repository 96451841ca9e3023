package shard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"deckle/node/kafka"
	"deckle/node/status"
	"deckle/schema/level"
	"deckle/state"
)

// AddPartitions has the shard read its share of the first c.To partitions of the topic, from the beginning of each that
// is new to it, if this node leads the shard. With c.DryRun it says what it would do. The error wraps status.ErrRefused
// if nothing has changed; any other leaves that open, and to ask again is harmless.
func (s *Shard) AddPartitions(ctx context.Context, c *status.AddPartitions) (out status.ShardPartitions, err error) {
	out.Shard = s.id
	if !s.group.IsLeader() {
		return out, refused("this node does not lead shard %d (any more); ask again", s.id)
	}
	if err := s.group.Barrier(ctx); err != nil { // what is shown is what has been committed
		return out, refused("shard %d: %w", s.id, err)
	}
	view := s.store.Peek()
	out.Have = len(view.Partitions)
	if !view.Configured || view.Level < level.Operate {
		return out, refused("shard %d has level %d, in which no partition can be added; it rises once all nodes run "+
			"this version, and cluster.finalize and cluster.max_level let it (deckle upgrade status)", s.id, view.Level)
	}
	if c.To < 1 || c.To > state.MaxTopicPartitions { // another node may ask for anything
		return out, refused("%d is no number of partitions", c.To)
	}
	share := state.Share(view.Config.Shard, view.Config.Shards, c.To)
	switch {
	case c.To == view.TopicPartitions: // done before
		return out, nil
	case c.To < view.TopicPartitions || len(share) < out.Have:
		return out, refused("shard %d reads more partitions of the topic than those of its first %d", s.id, c.To)
	}
	e := &state.PartitionsEntry{From: view.TopicPartitions, Have: int32(out.Have), Count: c.To}
	if e.Starts, err = s.beginnings(ctx, &view, c.To, share[out.Have:], &out); err != nil || c.DryRun {
		return out, err
	}
	wctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	res, err := s.group.Propose(state.EncodePartitions(e)).Wait(wctx)
	if err != nil {
		return out, fmt.Errorf("it is not known whether shard %d reads the new partitions, ask again: %w", s.id, err)
	}
	r, ok := res.Value.(*state.PartitionsResult)
	switch {
	case !ok:
		return out, fmt.Errorf("new partitions of shard %d returned %T", s.id, res.Value)
	case r.Refused != state.PartitionsTaken:
		return out, refused("shard %d: %s; ask again", s.id, r.Refused)
	}
	s.log.Warn("the shard reads more partitions", "partitions", r.Added, "topic_partitions", r.Count, "by", c.By)
	return out, nil
}

// beginnings asks Kafka where new partitions begin and end, notes that in out, and returns the beginnings.
func (s *Shard) beginnings(
	ctx context.Context, view *state.View, to int32, added []int32, out *status.ShardPartitions,
) ([]int64, error) {
	l := s.env.Kafka.ListAll(ctx, s.env.Now)
	switch {
	case l.Err != nil:
		return nil, refused("the partitions of the topic are not known: %w", l.Err)
	case !kafka.SameTopic(view.Config.TopicID, l.Info.ID):
		return nil, refused("%w; its partitions are not those of this cluster's topic", kafka.ErrRecreated)
	case int(to) > l.Info.Partitions:
		return nil, refused("the topic has %d partitions, not %d", l.Info.Partitions, to)
	}
	starts := make([]int64, 0, len(added))
	for _, id := range added {
		from, end := found(l.Starts, id), found(l.Ends, id)
		if from == nil || end == nil {
			return nil, refused("where partition %d begins and ends is not known: %w", id,
				errors.Join(l.Missing(id), kafka.ErrSilent))
		}
		// gofail: var bugAddedFromEnd struct{}
		// from = end
		starts = append(starts, *from)
		out.Added = append(out.Added, status.AddedPartition{Partition: id, From: *from, End: *end})
	}
	return starts, nil
}

// Explains is the usual partitioner that explains where most of the records are that this node has looked at as the
// shard's leader, since it leads it, and how many those are; 0 if it has looked at none.
func (s *Shard) Explains() (kafka.Partitioner, int64) {
	if l := s.leads.Load(); l != nil {
		if p := l.placed.Load(); p != nil {
			return p.best(new(placed))
		}
	}
	return 0, 0
}
