package shard

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestHistogramQuantilesAreExactToOnePartIn64(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var h histogram
	var all []int64
	for range 20000 {
		v := int64(rng.ExpFloat64() * 3000)
		all = append(all, v)
		h.observe(v, 1)
	}
	slices.Sort(all)
	got := h.latency()
	for _, c := range []struct {
		q    float64
		have float64
	}{{0.5, got.P50}, {0.99, got.P99}} {
		want := float64(all[int(c.q*float64(len(all)))-1])
		if c.have < want || c.have > want*(1+1.0/64)+1 {
			t.Errorf("quantile %v: %v, exact %v", c.q, c.have, want)
		}
	}
	if got.Max != float64(all[len(all)-1]) || got.Count != 20000 {
		t.Errorf("max %v count %d", got.Max, got.Count)
	}
}

func TestHistogramBucketsAreContiguous(t *testing.T) {
	last := -1
	for v := range int64(1 << 20) {
		b := histogramBucket(v)
		if b != last && b != last+1 {
			t.Fatalf("value %d: bucket %d after %d", v, b, last)
		}
		if v > histogramUpper(b) || b > 0 && v <= histogramUpper(b-1) {
			t.Fatalf("value %d: bucket %d ends at %d", v, b, histogramUpper(b))
		}
		last = b
	}
}
