package shard

import (
	"fmt"

	"deckle/node/kafka"
)

// stop ends the reading of one partition; what has been read of it before stays valid.
func (in *intake) stop(p *partition, reason string) {
	if p.stopped != "" {
		return
	}
	p.stopped = reason
	in.cond.setStopped(partName(p.id), reason)
	if in.src != nil {
		in.src.Pause(p.id)
	}
}

func (in *intake) stopAll(reason string) {
	for _, id := range in.order {
		in.stop(in.parts[id], reason)
	}
}

// accept looks at what a poll brought and keeps the records for fill, whatever else the poll reports: the client will
// not bring them again. An error begins a new run.
func (in *intake) accept(c *kafka.Chunk) error {
	if c.Err != nil {
		in.cond.setFetching(c.Err)
		in.troubled = in.Now()
	}
	for i := range c.Parts {
		part := &c.Parts[i]
		p := in.parts[part.Partition]
		if p == nil || p.stopped != "" {
			continue
		}
		switch {
		case part.Fatal:
			in.Metrics.sourceErrors.WithLabelValues("fatal").Inc()
			in.stop(p,
				fmt.Sprintf("Kafka cannot serve offset %d any more: %v. Records between it and what Kafka still has "+
					"are lost to this cluster; nothing has been skipped", p.next, part.Err))
			continue
		case part.Err != nil:
			in.Metrics.sourceErrors.WithLabelValues("other").Inc()
			return fmt.Errorf("kafka: %s/%d: %w", in.cfg.Topic, part.Partition, part.Err)
		}
		p.end = max(p.end, part.End)
		next := in.accepted(p)
		if part.From != next {
			// A range says that all of it has been read: what went astray between source and here must be read again.
			return fmt.Errorf("%w: partition %d: the source handed over everything below %d, taken is everything "+
				"below %d",
				errResync, p.id, part.From, next)
		}
		if len(part.Records) == 0 {
			continue
		}
		if first := part.Records[0].Offset; first > next && part.LogStart > next {
			in.stop(p,
				fmt.Sprintf("Kafka's log begins at offset %d, the next one to read is %d: the records between are "+
					"lost "+
					"to this cluster; nothing has been skipped", part.LogStart, next))
			continue
		}
		if in.cfg.Shards > 1 && !p.keyed && p.withoutKeys(part.Records) {
			in.stop(p,
				"its first records have no key, and there is more than one shard: the events of a session would be "+
					"spread over the shards. Let the producers key records by session_id")
			continue
		}
		in.pending = append(in.pending, *part)
	}
	return nil
}

// accepted is the offset after the last record accepted from the source, pending ones included.
func (in *intake) accepted(p *partition) int64 {
	next := p.next
	for i := range in.pending {
		if part := &in.pending[i]; part.Partition == p.id && len(part.Records) > 0 {
			next = max(next, part.Records[len(part.Records)-1].Offset+1)
		}
	}
	return next
}
