package kafka

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A source's fetch waits for gatherBytes, but for gatherWait at most. Without it the answer comes with the first
// record, and a steady stream costs a fetch, an entry and its fsyncs every few records.
const (
	gatherBytes = 256 << 10
	gatherWait  = 100 * time.Millisecond
)

// earlyBytes is less than what any fetch brings that has found as much as it asked for: a source asks for
// fewestFetchBytes or more, and of batches that are larger than half of that one comes whole.
const earlyBytes = fewestFetchBytes / 2

// pace keeps a client from fetching again and again without a pause. A broker answers a fetch at once if it has an
// error for one of its partitions, and the client, which keeps to itself what it takes for passing (a partition without
// a leader, a disk of the broker that is offline), backs off only if each partition of the fetch has one. Beside
// partitions that are well it would repeat the fetch for as long as the error lasts: some thousand times per second.
//
// So an answer that comes before gatherWait has passed, and brings next to nothing, is held until then. It delays
// nothing that a fetch without errors would not delay. One such answer is let through, because the end of a log segment
// gives one, too.
type pace struct {
	ctx context.Context // ends the waits

	mu    sync.Mutex
	early map[int32]int // by broker: answers in a row that came early with next to nothing
}

func newPace(ctx context.Context) *pace { return &pace{ctx: ctx, early: map[int32]int{}} }

// OnBrokerE2E implements kgo.HookBrokerE2E. The client calls it before it looks at the answer, in the goroutine of the
// connection, on which it does nothing but fetch.
func (p *pace) OnBrokerE2E(meta kgo.BrokerMetadata, key int16, e kgo.BrokerE2E) {
	if key != int16(kmsg.Fetch) || e.Err() != nil {
		return
	}
	rest := gatherWait - e.DurationE2E()
	p.mu.Lock()
	if rest <= 0 || e.BytesRead >= earlyBytes {
		p.early[meta.NodeID] = 0
		p.mu.Unlock()
		return
	}
	p.early[meta.NodeID]++
	first := p.early[meta.NodeID] == 1
	p.mu.Unlock()
	if first {
		return
	}
	select {
	case <-time.After(rest):
	case <-p.ctx.Done():
	}
}
