package main

import (
	"cmp"
	"slices"
	"time"
)

// sampleEvery is the time between two questions to a node. Each costs the node about a millisecond, which is measured
// as its own work.
const sampleEvery = 250 * time.Millisecond

// middle is the median of samples, the lower one of two.
func middle[T cmp.Ordered](of []T) T {
	s := slices.Sorted(slices.Values(of))
	if len(s) == 0 {
		return *new(T)
	}
	return s[(len(s)-1)/2]
}
