package shard

import (
	"context"
	"sync"
)

// epochBoard is where the intake says which epochs are noted, and the one way to wait for that. An epoch is noted when
// its events buffer is sealed and its arrivals and number of events are known: a moment after the state has closed it.
// Those who wait are also woken by changes of the state that are only announced.
type epochBoard struct {
	mu      sync.Mutex
	noted   uint64
	changed chan struct{} // closed at the next change, and replaced
}

func newEpochBoard(noted uint64) *epochBoard {
	return &epochBoard{noted: noted, changed: make(chan struct{})}
}

// note says that every epoch up to this one is noted.
func (b *epochBoard) note(epoch uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.noted = epoch
	b.wake()
}

// announce wakes everyone who waits: something has changed in the state that they may wait for.
func (b *epochBoard) announce() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wake()
}

// wake is called with the lock held.
func (b *epochBoard) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// last returns the last noted epoch.
func (b *epochBoard) last() uint64 {
	noted, _ := b.look()
	return noted
}

func (b *epochBoard) look() (noted uint64, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.noted, b.changed
}

// wait returns when ready says yes to the last noted epoch. It asks at once and after every change, until ctx ends.
func (b *epochBoard) wait(ctx context.Context, ready func(noted uint64) bool) error {
	for {
		noted, changed := b.look()
		if ready(noted) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
