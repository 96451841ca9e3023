package node

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// topicWatch looks at the topic's id and ends again and again, for all shards of the node: a fetch that finds nothing
// does not reach the client's user, so being at the end is learnt by asking.
type topicWatch struct {
	cl    *kgo.Client
	topic string
	every time.Duration
	now   func() time.Time
	last  atomic.Pointer[listing]
}

// watchInterval lets a partition be seen at its end a few times before it counts as idle.
func watchInterval(idleAfter time.Duration) time.Duration {
	return min(max(idleAfter/4, 100*time.Millisecond), 3*time.Second)
}

func newTopicWatch(cl *kgo.Client, topic string, idleAfter time.Duration, now func() time.Time) *topicWatch {
	return &topicWatch{cl: cl, topic: topic, every: watchInterval(idleAfter), now: now}
}

// latest returns the last look, nil before the first.
func (w *topicWatch) latest() *listing { return w.last.Load() }

// stale is the age from which a look says nothing about the present.
func (w *topicWatch) stale() time.Duration { return 3*w.every + 5*time.Second }

func (w *topicWatch) run(ctx context.Context) {
	for {
		// A broker that does not answer must not hide that the last look has grown old.
		lctx, cancel := context.WithTimeout(ctx, w.every+10*time.Second)
		l := listEnds(lctx, w.cl, w.topic, w.now)
		cancel()
		if ctx.Err() != nil {
			return
		}
		w.last.Store(l)
		select {
		case <-time.After(w.every):
		case <-ctx.Done():
			return
		}
	}
}
