package node

import (
	"math"
	"math/bits"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/status"
	"deckle/state"
)

// arrivals is the distribution of the Kafka timestamps of one epoch's records. Buckets start at 4 ms and are doubled
// when there would be more than maxArrivalBuckets of them (a backlog of hours in one epoch).
type arrivals struct {
	shift  uint // a bucket is 1<<shift milliseconds
	counts map[int64]int64
}

const (
	arrivalShift      = 2
	maxArrivalBuckets = 4096
)

func newArrivals() *arrivals { return &arrivals{shift: arrivalShift, counts: map[int64]int64{}} }

func (a *arrivals) add(millis, n int64) {
	a.counts[millis>>a.shift] += n
	for len(a.counts) > maxArrivalBuckets {
		wider := make(map[int64]int64, maxArrivalBuckets/2)
		for b, c := range a.counts {
			wider[b>>1] += c
		}
		a.shift, a.counts = a.shift+1, wider
	}
}

// each calls f with the middle of every bucket, in Unix milliseconds, and its count.
func (a *arrivals) each(f func(millis, n int64)) {
	for b, c := range a.counts {
		f(b<<a.shift+1<<(a.shift-1), c)
	}
}

// maxArrivalEpochs bounds the epochs whose arrivals are kept while a sink is down; older ones go unmeasured.
const maxArrivalEpochs = 1024

// pipeline follows the epochs of one leadership: when their records arrived, how many rows they have.
type pipeline struct {
	mu     sync.Mutex
	open   *arrivals
	epochs map[uint64]*arrivals
	events map[uint64]int64 // rows of the events table
	oldest uint64
	seen   map[state.SinkID]uint64 // the last epoch that each sink has observed
}

func newPipeline() *pipeline {
	return &pipeline{open: newArrivals(), epochs: map[uint64]*arrivals{}, events: map[uint64]int64{}, seen: map[state.SinkID]uint64{}}
}

// apply notes the Kafka timestamps of records that have become part of the open epoch.
func (p *pipeline) apply(millis []int64) {
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

// cut closes the open epoch.
func (p *pipeline) cut(epoch uint64, events int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epochs[epoch], p.open = p.open, newArrivals()
	p.events[epoch] = events
	if p.oldest == 0 {
		p.oldest = epoch
	}
	for len(p.epochs) > maxArrivalEpochs {
		p.drop(p.oldest)
	}
}

func (p *pipeline) drop(epoch uint64) {
	delete(p.epochs, epoch)
	delete(p.events, epoch)
	p.oldest = epoch + 1
}

// acked observes into h how long the records of the epochs (a, b] took until now to be visible in the sink id, and
// forgets the epochs that all of the sinks have observed. That the state has a sink's acknowledgement is not enough: its
// flusher may not have come here yet.
func (p *pipeline) acked(id state.SinkID, a, b uint64, nowMillis int64, h *histogram, all []state.SinkID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := max(a+1, p.oldest); e <= b && p.oldest > 0; e++ {
		if arr, ok := p.epochs[e]; ok {
			arr.each(func(millis, n int64) { h.observe(nowMillis-millis, n) })
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

// reach returns the last epoch b of (a, closed] such that the epochs up to it have at most limit event rows together;
// at least a+1. What epochs from before this leadership have, earlier knows: if they went one by one, a sink that is behind
// would fall further behind with every change of leader.
func (p *pipeline) reach(a, closed uint64, limit int64, earlier func(epoch uint64) (int64, error)) (uint64, error) {
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

// histogram is a log-linear histogram of milliseconds: exact below 64 ms, then 64 buckets a power of two.
type histogram struct {
	mu     sync.Mutex
	counts [histogramBuckets]int64
	count  int64
	sum    float64
	max    int64
}

const (
	histogramSub     = 64
	histogramBuckets = histogramSub * 36 // up to 2^41 ms
)

func histogramBucket(v int64) int {
	if v < histogramSub {
		return int(max(v, 0))
	}
	e := bits.Len64(uint64(v)) - 7 // v>>e lies in [64, 128)
	return min(histogramSub*e+int(v>>e), histogramBuckets-1)
}

// histogramUpper returns the greatest value of a bucket.
func histogramUpper(i int) int64 {
	if i < 2*histogramSub {
		return int64(i)
	}
	e := i/histogramSub - 1
	return int64(i-histogramSub*e+1)<<e - 1
}

// observe counts a latency of millis n times. A negative one (clocks differ) counts as 0.
func (h *histogram) observe(millis, n int64) {
	millis = max(millis, 0)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[histogramBucket(millis)] += n
	h.count += n
	h.sum += float64(millis) * float64(n)
	h.max = max(h.max, millis)
}

func (h *histogram) latency() status.Latency {
	h.mu.Lock()
	defer h.mu.Unlock()
	return status.Latency{P50: h.quantile(0.5), P99: h.quantile(0.99), Max: float64(h.max), Count: h.count}
}

// quantile is called with the lock held.
func (h *histogram) quantile(q float64) float64 {
	if h.count == 0 {
		return 0
	}
	rank := int64(math.Ceil(q * float64(h.count)))
	var seen int64
	for i, c := range h.counts {
		if seen += c; seen >= rank && c > 0 {
			return float64(min(histogramUpper(i), h.max))
		}
	}
	return float64(h.max)
}

// visibleBounds are the buckets that Prometheus sees, in seconds.
var visibleBounds = []float64{0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 30, 60, 120, 300, 900, 3600}

// prometheus returns count, sum in seconds, and cumulative buckets by visibleBounds.
func (h *histogram) prometheus(desc *prometheus.Desc, labels ...string) prometheus.Metric {
	h.mu.Lock()
	defer h.mu.Unlock()
	buckets := make(map[float64]uint64, len(visibleBounds))
	var seen int64
	i := 0
	for _, bound := range visibleBounds {
		for ; i < len(h.counts) && float64(histogramUpper(i)) <= bound*1000; i++ {
			seen += h.counts[i]
		}
		buckets[bound] = uint64(seen)
	}
	return prometheus.MustNewConstHistogram(desc, uint64(h.count), h.sum/1000, buckets, labels...)
}
