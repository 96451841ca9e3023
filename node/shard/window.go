package shard

import (
	"time"

	"deckle/node/condition"
)

const (
	rejectedWindow = condition.RejectedMinutes * time.Minute
	sampleEvery    = 5 * time.Second
)

// window keeps what had been counted at times of the last minutes.
type window[T any] struct {
	samples []sampled[T] // ascending by time, the first one is where the window begins
}

type sampled[T any] struct {
	at      time.Time
	counted T
}

// begin takes what is counted now, and returns what had been counted where the window begins.
func (w *window[T]) begin(counted T, now time.Time) *T {
	if n := len(w.samples); n == 0 || now.Sub(w.samples[n-1].at) >= sampleEvery {
		w.samples = append(w.samples, sampled[T]{now, counted})
	}
	for len(w.samples) > 1 && now.Sub(w.samples[1].at) >= rejectedWindow {
		w.samples = w.samples[1:]
	}
	return &w.samples[0].counted
}

// many says whether n of the records are enough for a condition, and keeps whether it holds. It begins above the share
// and ends at half of it, so that it does not begin and end all the time.
func many(n, records int64, share float64, holds *bool) bool {
	if *holds {
		share /= 2
	}
	*holds = n >= condition.RejectedFew && float64(n) > share*float64(records)
	return *holds
}
