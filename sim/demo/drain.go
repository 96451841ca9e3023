package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"deckle/node/status"
	"deckle/sim"
)

// backlog is what is left to do until the tables are complete.
type backlog struct {
	Records  int64  // not yet applied, on the replica that is furthest behind
	Open     int64  // sessions not yet closed
	Epochs   uint64 // closed and not yet acknowledged: the sink that is furthest behind
	Unclosed int64  // records or sessions in epochs not yet closed
	Waiting  string // something that cannot be counted, e.g. a replica that is missing
}

func (b backlog) done() bool { return b == backlog{} }

// String says what is left, "nothing" when that is nothing.
func (b backlog) String() string {
	var parts []string
	add := func(n int64, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", count(n), what))
		}
	}
	add(b.Records, "records to apply")
	add(b.Open, "sessions to close")
	add(b.Unclosed, "changes to cut")
	add(int64(b.Epochs), "epochs to flush")
	if b.Waiting != "" {
		parts = append(parts, b.Waiting)
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// remaining compares what each node says with what was produced. All replicas of all shards must be at the end.
func remaining(sts []status.Node, produced map[int32]sim.Span, shards int) backlog {
	var total backlog
	if len(sts) == 0 {
		total.Waiting = "no node"
	}
	for _, st := range sts {
		var b backlog
		covered := map[int32]bool{}
		for i := range st.Shards {
			s := &st.Shards[i]
			v := &s.State
			if !v.Configured {
				total.Waiting = fmt.Sprintf("shard %d of node %s", s.Shard, st.Node)
				continue
			}
			for _, p := range v.Partitions {
				covered[p.Partition] = true
				b.Records += max(0, produced[p.Partition].To-p.Next)
			}
			b.Open += v.OpenStatus
			b.Unclosed += max(v.OpenEvents, v.OpenSessions)
			for _, id := range v.Config.Sinks {
				if p := v.Sinks[id]; v.LastClosed > p.Acked {
					b.Epochs = max(b.Epochs, v.LastClosed-p.Acked)
				} else if p.PlanB > p.Acked {
					b.Epochs = max(b.Epochs, 1)
				}
			}
			for what, why := range s.Stopped {
				total.Waiting = fmt.Sprintf("shard %d: %s stopped: %s", s.Shard, what, why)
			}
		}
		for p, span := range produced {
			if !covered[p] {
				b.Records += span.Records
			}
		}
		if len(st.Shards) != shards {
			total.Waiting = fmt.Sprintf("node %s has %d of %d shards", st.Node, len(st.Shards), shards)
		}
		total.Records = max(total.Records, b.Records)
		total.Open = max(total.Open, b.Open)
		total.Unclosed = max(total.Unclosed, b.Unclosed)
		total.Epochs = max(total.Epochs, b.Epochs)
	}
	return total
}

// drain waits until nothing remains, or ctx ends; it returns what remained.
func (c *cluster) drain(ctx context.Context, produced map[int32]sim.Span, shards int, show func(backlog)) (backlog,
	error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		b := remaining(c.statuses(), produced, shards)
		show(b)
		if b.done() {
			return b, nil
		}
		select {
		case err := <-c.fatal:
			return b, err
		case <-ctx.Done():
			return b, nil
		case <-tick.C:
		}
	}
}
