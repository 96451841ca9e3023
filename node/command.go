package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"deckle/node/shard"
	"deckle/node/status"
	"deckle/raftstore"
)

// commandReply is what a node answers to a command that another one has passed on.
type commandReply struct {
	Outcome status.Outcome
	Refused bool   // Error is a refusal: nothing has changed
	Error   string // "" if the command was carried out
}

// commands carries out what operators ask for partitions.
type commands struct {
	self   string
	shards func() []*shard.Shard // none before the groups run
	pass   func(ctx context.Context, node string, what json.RawMessage) (json.RawMessage, error)
}

// command carries out an operator's command, here or at the node that leads the shard of the partition. The error wraps
// status.ErrRefused if nothing has changed.
func (k *commands) command(ctx context.Context, c status.Command) (status.Outcome, error) {
	c.By = k.self
	s := k.shardOf(c.Partition)
	if s == nil {
		return status.Outcome{}, fmt.Errorf("%w: this node knows no shard that reads partition %d", status.ErrRefused,
			c.Partition)
	}
	leader := s.Leader()
	switch leader {
	case "":
		return status.Outcome{}, fmt.Errorf("%w: shard %d has no known leader; ask again", status.ErrNoLeader,
			s.ID())
	case k.self:
		return s.Do(ctx, c)
	}
	what, err := json.Marshal(c)
	if err != nil {
		return status.Outcome{}, err
	}
	answer, err := k.pass(ctx, leader, what)
	if errors.Is(err, raftstore.ErrRefused) {
		return status.Outcome{}, fmt.Errorf("%w: %w", status.ErrRefused, err)
	}
	if err != nil {
		return status.Outcome{}, fmt.Errorf("node %s has not answered, see the status: %w", leader, err)
	}
	var r commandReply
	if err := json.Unmarshal(answer, &r); err != nil {
		return status.Outcome{}, fmt.Errorf("answer of node %s: %w", leader, err)
	}
	switch {
	case r.Refused:
		return r.Outcome, &refusal{r.Error}
	case r.Error != "":
		return r.Outcome, errors.New(r.Error)
	}
	return r.Outcome, nil
}

// refusal is the text of another node's refusal.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return status.ErrRefused }

// obey answers a command that another node has passed on. It is not passed on again.
func (k *commands) obey(ctx context.Context, what json.RawMessage) json.RawMessage {
	var c status.Command
	var r commandReply
	err := json.Unmarshal(what, &c)
	if err == nil {
		if s := k.shardOf(c.Partition); s != nil {
			r.Outcome, err = s.Do(ctx, c)
		} else {
			err = fmt.Errorf("%w: node %s does not run the shard of partition %d yet", status.ErrRefused, k.self,
				c.Partition)
		}
	}
	if err != nil {
		r.Refused, r.Error = errors.Is(err, status.ErrRefused), err.Error()
	}
	b, err := json.Marshal(r)
	if err != nil { // a struct of plain fields always encodes
		return nil
	}
	return b
}

// shardOf returns the shard that reads a partition, nil if none does.
func (k *commands) shardOf(partition int32) *shard.Shard {
	for _, s := range k.shards() {
		if slices.Contains(s.Store().Peek().Config.Partitions, partition) {
			return s
		}
	}
	return nil
}
