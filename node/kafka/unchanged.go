package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/state"
)

// ErrUnproven says that nothing proves that a partition's log is still the one that was read.
var ErrUnproven = errors.New("nothing proves that the log is still the one that was read")

// Unchanged tells whether a partition that has stopped can go on as if nothing had happened: the last record that was
// applied is still at its offset, unchanged, nothing new lies between it and the next offset, and that can be read. All
// of it together is a proof: a log that was cut and has grown again has the next offset, too, and other records before
// it. Compare alone is none: it lets pass what retention has removed. The error wraps ErrUnproven where it is known
// that there is no proof.
func (c *Client) Unchanged(ctx context.Context, topicID [16]byte, p state.PartitionStatus) error {
	if p.LastHash == 0 {
		return fmt.Errorf("%w: no record of it is known", ErrUnproven)
	}
	var found Verdict
	c.Compare(ctx, topicID, []Known{{Partition: p.Partition, Offset: p.LastOffset, Hash: p.LastHash, Next: p.Next}},
		func(v Verdict) { found = v })
	switch {
	case found.Err != nil:
		return found.Err
	case !found.Same:
		return fmt.Errorf("%w: the record at offset %d is not there any more, or not all that follows could be "+
			"looked at", ErrUnproven, p.LastOffset)
	}
	_, err := c.Probe(ctx, topicID, p)
	return err
}

// Next returns the first records from where p stands on, at least one, with a client of its own. It waits for them as
// long as Probe does.
func (c *Client) Next(ctx context.Context, topicID [16]byte, p state.PartitionStatus) ([]*kgo.Record, error) {
	fetches, err := c.first(ctx, p)
	if err != nil {
		return nil, err
	}
	var records []*kgo.Record
	fetches.EachTopic(func(t kgo.FetchTopic) {
		t.EachPartition(func(fp kgo.FetchPartition) {
			switch {
			case len(fp.Records) > 0 && !SameTopic(topicID, t.TopicID):
				err = cmp.Or(err, ErrRecreated)
			case fp.Err != nil:
				err = cmp.Or(err, c.explain(fp.Err, 0))
			default:
				records = append(records, fp.Records...)
			}
		})
	})
	switch {
	case err != nil:
		return nil, err
	case len(records) == 0:
		return nil, fmt.Errorf("%w from offset %d on", ErrSilent, p.Next)
	}
	return records, nil
}
