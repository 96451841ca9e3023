package shard

import (
	"sync"

	"deckle/state"
)

// timestamps is the distribution of the Kafka timestamps of one epoch's records. Buckets start at 4 ms, and their width
// is doubled when there would be more than maxTimestampBuckets of them (a backlog of hours in one epoch).
type timestamps struct {
	shift  uint // a bucket is 1<<shift milliseconds
	counts map[int64]int64
}

const (
	timestampShift      = 2
	maxTimestampBuckets = 4096
)

func newTimestamps() *timestamps {
	return &timestamps{shift: timestampShift, counts: map[int64]int64{}}
}

func (a *timestamps) add(millis, n int64) {
	a.counts[millis>>a.shift] += n
	for len(a.counts) > maxTimestampBuckets {
		wider := make(map[int64]int64, maxTimestampBuckets/2)
		for b, c := range a.counts {
			wider[b>>1] += c
		}
		a.shift, a.counts = a.shift+1, wider
	}
}

// each calls f with the middle of every bucket, in Unix milliseconds, and its count.
func (a *timestamps) each(f func(millis, n int64)) {
	for b, c := range a.counts {
		f(b<<a.shift+1<<(a.shift-1), c)
	}
}

// maxArrivalEpochs bounds the epochs whose arrivals are kept while a sink is down; older ones go unmeasured.
const maxArrivalEpochs = 1024

// epochArrivals follows the epochs of one leadership: when their records arrived, how many events they have.
type epochArrivals struct {
	mu     sync.Mutex
	open   *timestamps
	epochs map[uint64]*timestamps
	events map[uint64]int64 // rows of the events table
	oldest uint64
	seen   map[state.SinkID]uint64 // the last epoch that each sink has observed
}

func newEpochArrivals() *epochArrivals {
	return &epochArrivals{open: newTimestamps(), epochs: map[uint64]*timestamps{}, events: map[uint64]int64{},
		seen: map[state.SinkID]uint64{}}
}

// add notes the Kafka timestamps of records that have become part of the open epoch.
func (p *epochArrivals) add(millis []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := 0; i < len(millis); {
		j := i + 1
		for j < len(millis) && millis[j] == millis[i] {
			j++
		}
		p.open.add(millis[i], int64(j-i))
		i = j
	}
}

// close closes the open epoch, which has a number of events.
func (p *epochArrivals) close(epoch uint64, events int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epochs[epoch], p.open = p.open, newTimestamps()
	p.events[epoch] = events
	if p.oldest == 0 {
		p.oldest = epoch
	}
	for len(p.epochs) > maxArrivalEpochs {
		p.drop(p.oldest)
	}
}

func (p *epochArrivals) drop(epoch uint64) {
	delete(p.epochs, epoch)
	delete(p.events, epoch)
	p.oldest = epoch + 1
}

// visible observes into h how long the records of the epochs (a, b] took until now to be visible in the sink id, and
// forgets the epochs that all of the sinks have observed. That the state has a sink's acknowledgement is not enough:
// its flusher may not have come here yet.
func (p *epochArrivals) visible(id state.SinkID, a, b uint64, nowMillis int64, h *histogram, all []state.SinkID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := max(a+1, p.oldest); e <= b && p.oldest > 0; e++ {
		if arrived, ok := p.epochs[e]; ok {
			arrived.each(func(millis, n int64) { h.observe(nowMillis-millis, n) })
		}
	}
	p.seen[id] = max(p.seen[id], b)
	least := p.seen[id]
	for _, other := range all {
		least = min(least, p.seen[other])
	}
	for p.oldest > 0 && p.oldest <= least && len(p.epochs) > 0 {
		p.drop(p.oldest)
	}
}

// reach returns the last epoch b of (a, closed] such that the epochs up to it have at most limit events together; at
// least a+1. What epochs from before this leadership have, earlier knows: if they went one by one, a sink that is
// behind would fall further behind with every change of leader.
func (p *epochArrivals) reach(
	a, closed uint64, limit int64, earlier func(epoch uint64) (int64, error),
) (uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var sum int64
	b := a
	for b < closed {
		n, ok := p.events[b+1]
		if !ok {
			var err error
			if n, err = earlier(b + 1); err != nil {
				return 0, err
			}
		}
		if sum += n; sum > limit && b > a {
			break
		}
		b++
	}
	return b, nil
}
