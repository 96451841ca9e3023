package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"

	"deckle/sinks/rights"
)

// CommitOffsets writes offsets to a consumer group, by partition, for tools that show lag. Nothing reads them back. The
// error names each partition whose offset was refused; those of the others are written all the same.
func (c *Client) CommitOffsets(ctx context.Context, group string, offsets map[int32]int64) error {
	all := kadm.Offsets{}
	for p, o := range offsets {
		all.AddOffset(c.topic, p, o, -1)
	}
	needs := []rights.Right{rights.Group("Read", group), rights.Topic("Read", c.topic)}
	answers, err := kadm.NewClient(c.admin).CommitOffsets(ctx, group, all)
	if err != nil {
		return fmt.Errorf("kafka: offsets of group %s: %w", group, rights.Explain(err, needs...))
	}
	var refused []error
	for _, p := range slices.Sorted(maps.Keys(offsets)) {
		if a, ok := answers.Lookup(c.topic, p); ok && a.Err != nil {
			refused = append(refused, fmt.Errorf("kafka: offset of %s/%d in group %s: %w", c.topic, p, group,
				rights.Explain(a.Err, needs...)))
		}
	}
	return errors.Join(refused...)
}
