package shard

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"deckle/node/condition"
	"deckle/state"
)

// groupOffsets gathers what every measured sink has, for the offsets of Kafka's consumer group. They serve tools that
// show lag; nobody reads them back.
type groupOffsets struct {
	mu     sync.Mutex
	sinks  map[state.SinkID]map[int32]int64 // the offsets that each sink has reached, by partition
	common chan map[int32]int64             // what all have reached; the latest replaces one not yet taken
}

func newGroupOffsets() *groupOffsets {
	return &groupOffsets{sinks: map[state.SinkID]map[int32]int64{}, common: make(chan map[int32]int64, 1)}
}

// advance notes that a sink has the ranges of a plan, or is past its gaps, and passes on what every measured sink of
// the shard has.
func (g *groupOffsets) advance(id state.SinkID, p *state.Plan) {
	g.mu.Lock()
	defer g.mu.Unlock()
	to := g.sinks[id]
	if to == nil {
		to = map[int32]int64{}
		g.sinks[id] = to
	}
	for _, r := range p.Ranges() {
		to[r.Partition] = max(to[r.Partition], r.To)
	}
	for i := range p.Epochs {
		for _, gap := range p.Epochs[i].Gaps {
			to[gap.Partition] = max(to[gap.Partition], gap.To)
		}
	}
	all := maps.Clone(to)
	for _, other := range measured(p.Config.Sinks) {
		for part, o := range all {
			if min(o, g.sinks[other][part]) == 0 {
				delete(all, part)
			} else {
				all[part] = min(o, g.sinks[other][part])
			}
		}
	}
	if len(all) == 0 {
		return
	}
	select {
	case <-g.common: // an older one that nobody has taken yet
	default:
	}
	g.common <- all
}

// measured are those of the sinks whose latency from event to visible is kept, and which the group offsets wait for.
func measured(ids []state.SinkID) []state.SinkID {
	return slices.DeleteFunc(slices.Clone(ids), func(id state.SinkID) bool { return !id.Spec().Measured })
}

// commitOffsets writes the group's offsets until ctx ends. A failure is only shown.
func (l *leadership) commitOffsets(ctx context.Context) {
	group := l.Config.Kafka.Group
	for {
		select {
		case all := <-l.offsets.common:
			cctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			err := l.Kafka.CommitOffsets(cctx, group, all)
			cancel()
			if ctx.Err() != nil {
				return
			}
			result, why := "ok", ""
			if err != nil {
				result, why = "error", fmt.Sprintf("the offsets of group %s were not written: %v", group, err)
			}
			l.cond.keep(condition.GroupOffsetsFailing, l.cond.subject(), why)
			l.Metrics.groupCommits.WithLabelValues(result).Inc()
		case <-ctx.Done():
			return
		}
	}
}
