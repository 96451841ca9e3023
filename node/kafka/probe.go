package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/state"
)

const (
	probeBytes = 1 << 20
	// probeQuiet without an error say that a partition at its end can be read: the client does not show empty answers.
	probeQuiet = 10 * time.Second
)

// Probe tells whether a partition can be read from where p stands, with a client of its own. It returns nil once it has
// read a record, or if p stands at the end of the log and nothing went wrong for a while; any error in the client's
// life is a failure. Fatal says of the error what Part.Fatal says. At the end of the log a probe takes ten seconds.
func (c *Client) Probe(ctx context.Context, topicID [16]byte, p state.PartitionStatus) (fatal bool, err error) {
	packed := newFetchSize(probeBytes, probeBytes*maxFetches*firstInflation)
	fetches, err := c.first(ctx, p, kgo.WithHooks(packed))
	if err != nil {
		return false, err
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	var met error
	read := false
	fetches.EachTopic(func(t kgo.FetchTopic) {
		t.EachPartition(func(fp kgo.FetchPartition) {
			switch {
			case len(fp.Records) > 0 && !SameTopic(topicID, t.TopicID):
				met = cmp.Or(met, ErrRecreated)
			case len(fp.Records) > 0: // also if an error follows: the source gets on
				read = true
			case fp.Err != nil && !errors.Is(fp.Err, context.DeadlineExceeded):
				met = cmp.Or(met, fp.Err)
			}
		})
	})
	switch {
	case met != nil:
		err := c.explain(met, packed.unread(p.Partition))
		c.describeLimit(ctx, err)
		return fatalFetchError(met), err
	case read:
		return false, nil
	}
	l := c.ListEnds(ctx, time.Now)
	end, known := l.Ends[p.Partition]
	switch {
	case !known:
		return false, fmt.Errorf("%w (its end is not known: %w)", ErrSilent, cmp.Or(l.Err, l.errs[p.Partition],
			errNoOffset))
	case end > p.Next:
		return false, fmt.Errorf("%w from offset %d to %d", ErrSilent, p.Next, end)
	}
	return false, nil
}

// first polls once from where p stands, with a client of its own, and waits for records for probeQuiet.
func (c *Client) first(ctx context.Context, p state.PartitionStatus, extra ...kgo.Opt) (kgo.Fetches, error) {
	from := map[int32]kgo.Offset{p.Partition: kgo.NewOffset().At(p.Next).WithEpoch(p.LeaderEpoch)}
	cl, err := c.reader(from, probeBytes, extra...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.quiet, probeQuiet))
	defer cancel()
	return cl.PollRecords(ctx, pollRecords), nil
}
