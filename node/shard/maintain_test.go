package shard

import (
	"testing"
	"time"

	"deckle/node/config"
	"deckle/schema/level"
	"deckle/state"
)

// From level 2 on a partition waits for another one only while that one holds the clock and reads a backlog, which ends
// by itself: not for a slow device at the head of its log, nor for one that is left out, idle, stopped or failing. At
// level 1 it waits for all of them.
func TestWhoIsWaitedFor(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		why    string
		holder partition
		status state.PartitionStatus
		level  level.Level
		waits  bool
	}{
		{"reads a backlog", partition{applied: 5, end: 9}, state.PartitionStatus{}, level.Real, true},
		{"is at its head", partition{applied: 5, end: 9, head: now}, state.PartitionStatus{}, level.Real, false},
		{"has been there lately", partition{applied: 5, end: 9, head: now.Add(-time.Second)}, state.PartitionStatus{},
			level.Real, false},
		{"was there long ago", partition{applied: 5, end: 9, head: now.Add(-time.Hour)}, state.PartitionStatus{},
			level.Real, true},
		{"is left out", partition{applied: 5, end: 9}, state.PartitionStatus{Out: true}, level.Real, false},
		{"is idle", partition{applied: 5, end: 9}, state.PartitionStatus{Idle: true}, level.Real, false},
		{"is stopped", partition{applied: 5, end: 9, stopped: "why"}, state.PartitionStatus{}, level.Real, false},
		{"does not hold the clock", partition{applied: 5, end: 9}, state.PartitionStatus{Watermark: 101}, level.Real,
			false},
		{"level 1", partition{applied: 5, end: 9, head: now}, state.PartitionStatus{}, level.First, true},
	} {
		cfg := &config.Config{Kafka: config.Kafka{IdleAfter: 30 * time.Second}}
		in := &intake{leadership: &leadership{Env: &Env{Config: cfg, Now: func() time.Time { return now }}},
			level: c.level, parts: map[int32]*partition{0: &c.holder, 1: {id: 1}}}
		c.status.Watermark = max(c.status.Watermark, 100)
		view := &state.View{Clock: 100, Partitions: []state.PartitionStatus{c.status,
			{Partition: 1, Watermark: 10_000}}}
		if got := in.behindABacklog(view, now); got != c.waits {
			t.Errorf("the other one %s: waits %v, want %v", c.why, got, c.waits)
		}
	}
}
