package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"deckle/node/kafka"
	"deckle/node/shard"
	"deckle/node/status"
	"deckle/node/web"
	"deckle/state"
)

const (
	// addWithin bounds a request to add partitions, so that its answer is ready before the connection ends, and
	// splitWithin what of that goes to the search for sessions that split.
	addWithin, splitWithin = 25 * time.Second, 5 * time.Second
	// maxSplitNamed is how many sessions that split are named.
	maxSplitNamed = 20
	// addEnvelope is the first element of what one node asks of another; see listEnvelope.
	addEnvelope = "partitions"
)

// adding has partitions be read that were added to the topic, by an entry in each shard, shard 0 first: what shard 0
// refuses, no other shard is asked for. Each shard is whole by itself, so they may take it at different times; one that
// has not taken it yet is asked by whoever repeats the request.
type adding struct {
	commands *commands
	ends     func(ctx context.Context) *kafka.Listing
}

// addCall is what a node asks of the leader of a shard.
type addCall struct {
	Shard uint32
	Ask   status.AddPartitions
}

// addReply is what that answers.
type addReply struct {
	Refused bool   // Error is a refusal: nothing has changed
	Error   string // "" if it was done
	Out     *status.ShardPartitions
}

// Do carries out a request, at whatever nodes lead the shards. The error wraps status.ErrRefused if nothing has changed
// anywhere. What a single shard has not done is in the answer. Once it has begun, it does not end with ctx.
func (a *adding) Do(ctx context.Context, q status.AddPartitions) (*status.PartitionsAdded, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), addWithin)
	defer cancel()
	q.By = a.commands.self
	shards := a.commands.shards()
	if len(shards) == 0 {
		return nil, listRefused("the shards of this node do not run yet")
	}
	l := a.ends(ctx)
	if l.Err != nil {
		return nil, listRefused("the partitions of the topic are not known: %w", l.Err)
	}
	topic := int32(min(l.Info.Partitions, state.MaxTopicPartitions))
	if q.To == 0 {
		q.To = topic
	}
	out := &status.PartitionsAdded{DryRun: q.DryRun, To: q.To, Whole: true}
	begun, done := false, true // some shard has taken it already; all have
	for _, s := range shards {
		v := s.Store().Peek()
		if !v.Configured {
			return nil, listRefused("shard %d is not created yet", s.ID())
		}
		out.From += len(v.Partitions)
		begun = begun || v.TopicPartitions == q.To
		done = done && len(v.Partitions) == len(state.Share(s.ID(), uint32(len(shards)), q.To))
		out.Shards = append(out.Shards, status.ShardPartitions{Shard: s.ID(), Have: len(v.Partitions)})
	}
	switch {
	case q.To > topic:
		return nil, listRefused("the topic has %d partitions, not %d", topic, q.To)
	case int(q.To) < out.From:
		return nil, listRefused("%d partitions are read already; none can be taken away", out.From)
	case q.From != nil && *q.From != out.From && !begun:
		return nil, listRefused("%d partitions are read now, and %d when it was shown", out.From, *q.From)
	case done:
		out.Split = status.SessionsSplit{None: true, Whole: true}
		return out, nil
	}
	if q.DryRun {
		a.split(ctx, out, topic)
	}
	first, err := a.call(ctx, &addCall{Ask: q})
	if err != nil {
		return nil, err
	}
	out.Shards[0] = *first
	var all sync.WaitGroup
	for i := range out.Shards[1:] {
		s := &out.Shards[i+1]
		all.Go(func() {
			switch r, err := a.call(ctx, &addCall{Shard: s.Shard, Ask: q}); {
			case err != nil:
				s.Error = err.Error()
			default:
				*s = *r
			}
		})
	}
	all.Wait()
	for i := range out.Shards {
		out.Whole = out.Whole && out.Shards[i].Error == ""
	}
	return out, nil
}

// split counts the open sessions whose key goes to another shard with the partitions that the topic has now. Partition
// p belongs to shard p mod S, and (h mod n) mod S is h mod S where S divides n: then no key changes its shard.
func (a *adding) split(ctx context.Context, out *status.PartitionsAdded, topic int32) {
	shards := a.commands.shards()
	n, of := int32(len(shards)), &out.Split
	of.Whole = true
	// What is read now is a number that the topic had only if no shard has begun.
	whole := !slices.ContainsFunc(out.Shards, func(s status.ShardPartitions) bool { return s.Have*int(n) != out.From })
	if before := int32(out.From); before == 0 || whole && before%n == 0 && topic%n == 0 {
		of.None = true
		return
	}
	by := a.partitioner(shards, of)
	ctx, cancel := context.WithTimeout(ctx, splitWithin)
	defer cancel()
	for _, s := range shards {
		whole, err := s.Store().OpenKeys(ctx, func(id string, byID bool) {
			switch key := []byte(id); {
			case !byID || len(key) == 0:
				of.Unknown++
			case uint32(by.Partition(key, topic)%n) != s.ID(): // its next record goes to another shard
				if of.Sessions++; len(of.Named) < maxSplitNamed {
					of.Named = append(of.Named, id)
				}
			}
		})
		of.Whole = of.Whole && whole && err == nil
	}
	slices.Sort(of.Named)
}

// partitioner is the one that explains most records that this node has looked at; if it leads no shard, the usual one
// of Kafka's own client is assumed.
func (a *adding) partitioner(shards []*shard.Shard, of *status.SessionsSplit) (by kafka.Partitioner) {
	most := int64(0)
	for _, s := range shards {
		if p, n := s.Explains(); n > most {
			by, most = p, n
		}
	}
	if of.Assumed = most == 0; of.Assumed {
		by = kafka.Murmur2
	}
	of.Partitioner = by.String()
	return by
}

// call asks the leader of a shard, which may be this node. The error wraps status.ErrRefused if nothing has changed
// there.
func (a *adding) call(ctx context.Context, c *addCall) (*status.ShardPartitions, error) {
	k := a.commands
	s := k.lists.shard(c.Shard)
	if s == nil {
		return nil, listRefused("this node knows no shard %d", c.Shard)
	}
	leader := s.Leader()
	switch leader {
	case "":
		return nil, fmt.Errorf("%w: shard %d has no known leader; ask again", status.ErrNoLeader, c.Shard)
	case k.self:
		out, err := s.AddPartitions(ctx, &c.Ask)
		return &out, err
	}
	what, err := json.Marshal([]any{addEnvelope, c})
	if err != nil {
		return nil, err
	}
	var r addReply
	silent := fmt.Sprintf("node %s, which leads shard %d, has not answered, and it is not known whether it has added "+
		"its partitions; ask again", leader, c.Shard)
	if err := k.passOn(ctx, leader, what, silent, &r); err != nil {
		return nil, err
	}
	if err := refusedThere(r.Refused, r.Error); err != nil {
		return nil, err
	}
	if r.Out == nil {
		return nil, listRefused("node %s, which leads shard %d, is of an earlier version, which adds no partitions",
			leader, c.Shard)
	}
	return r.Out, nil
}

// obey answers a call that another node, from, has made, if that node may make it and the role reaches here, too.
func (a *adding) obey(ctx context.Context, from string, what json.RawMessage) json.RawMessage {
	c, r := &addCall{}, &addReply{}
	if err := json.Unmarshal(what, c); err != nil {
		return encoded(&addReply{Refused: true, Error: err.Error()})
	}
	_, args := web.AddArgs(&c.Ask)
	err := a.commands.judged(from, &asked{by: c.Ask.By, asker: &c.Ask.Asker, verb: web.VerbAdd,
		target: fmt.Sprint("shard ", c.Shard), args: args, quiet: c.Ask.DryRun, whole: true}, func() error {
		s := a.commands.lists.shard(c.Shard)
		if s == nil {
			return listRefused("node %s does not run shard %d yet", a.commands.self, c.Shard)
		}
		out, err := s.AddPartitions(ctx, &c.Ask)
		r.Out = &out
		return err
	})
	if err != nil {
		r.Refused, r.Error, r.Out = errors.Is(err, status.ErrRefused), err.Error(), nil
	}
	return encoded(r)
}
