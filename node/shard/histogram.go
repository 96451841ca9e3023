package shard

import (
	"math"
	"math/bits"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/status"
)

// histogram is a log-linear histogram of milliseconds: exact below 64 ms, then 64 buckets per power of two.
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
