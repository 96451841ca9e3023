package kafka

import (
	"context"
	"sync/atomic"
	"time"
)

// Watch lists the topic's id and ends again and again, for all shards of the node: a fetch that finds nothing does not
// reach the user of the client library, so one must ask to learn that a partition is at its end.
type Watch struct {
	c     *Client
	every time.Duration
	now   func() time.Time
	last  atomic.Pointer[Listing]
	good  atomic.Pointer[Listing] // the last one without an error
	start atomic.Bool             // the beginnings of the partitions are wanted, too
}

// NewWatch returns a watch that lets a partition be seen at its end a few times within idleAfter, the time after which
// it counts as idle. It lists nothing before Run.
func NewWatch(c *Client, idleAfter time.Duration, now func() time.Time) *Watch {
	return &Watch{c: c, every: min(max(idleAfter/4, 100*time.Millisecond), 3*time.Second), now: now}
}

// Latest returns the last listing, nil before the first.
func (w *Watch) Latest() *Listing { return w.last.Load() }

// Fresh returns the last listing without an error, nil if there is none or it is too old to say anything about now.
func (w *Watch) Fresh() *Listing {
	l := w.good.Load()
	if l == nil || w.now().Sub(l.Begun) > w.Stale() {
		return nil
	}
	return l
}

// WantStarts lets listings have the beginnings of the partitions from now on.
func (w *Watch) WantStarts() { w.start.Store(true) }

// Stale is the age from which a listing says nothing about the present.
func (w *Watch) Stale() time.Duration { return 3*w.every + 5*time.Second }

// Run lists until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	for {
		// A broker that does not answer must not hide that the last listing has grown old.
		lctx, cancel := context.WithTimeout(ctx, w.every+10*time.Second)
		l := w.c.listAll(lctx, w.now, w.start.Load())
		cancel()
		if ctx.Err() != nil {
			return
		}
		w.last.Store(l)
		if l.Err == nil {
			w.good.Store(l)
		}
		select {
		case <-time.After(w.every):
		case <-ctx.Done():
			return
		}
	}
}
