package shard

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"deckle/node/config"
	"deckle/node/kafka"
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

// Only what a broker answers proves that brokers work: that a partition waits for the others does not. With all brokers
// away, whatever was heard last, the partition that holds the clock is not left out; and when they are back, it has as
// long to deliver as it had before.
func TestWhoProvesThatBrokersWork(t *testing.T) {
	for _, after := range []time.Duration{5 * time.Second, 2 * time.Minute} { // the least that can be set, the default
		for name, x := range map[string]struct {
			hear   func(p *partition, now time.Time) // what is heard of the other partition
			proves bool
		}{
			"delivers":      {func(p *partition, now time.Time) { p.moved = now }, true},
			"is at its end": {func(p *partition, now time.Time) { p.seenAtEnd, p.listed = now, now }, true},
			"waits, and its end is known": {func(p *partition, now time.Time) {
				p.ahead, p.listed = true, now
			}, true},
			"waits":         {func(p *partition, _ time.Time) { p.ahead = true }, false},
			"can be listed": {func(p *partition, now time.Time) { p.listed = now }, false},
			"says nothing":  {func(*partition, time.Time) {}, false},
		} {
			t.Run(fmt.Sprintf("%s, %v", name, after), func(t *testing.T) {
				testWhoProves(t, after, x.hear, x.proves)
			})
		}
	}
}

func testWhoProves(t *testing.T, after time.Duration, hear func(*partition, time.Time), proves bool) {
	in, _ := newTestIntake(t)
	in.level, in.rules.LeaveOut = level.Real, after
	in.Watch = kafka.NewWatch(nil, 30*time.Second, nil)
	now := time.Now()
	in.began, in.unpaused, in.answered = now, now, now
	in.parts = map[int32]*partition{0: {id: 0, applied: 1, end: 9, moved: now}, 1: {id: 1, moved: now}}
	view := &state.View{Clock: 1000, Partitions: []state.PartitionStatus{{Partition: 0, Watermark: 1000},
		{Partition: 1, Watermark: 9000}}}
	// pass lets time pass, and says whether the first partition was left out meanwhile.
	pass := func(d time.Duration, heard bool) (out bool) {
		for over := now.Add(d); now.Before(over); {
			if now = now.Add(time.Second); heard {
				hear(in.parts[1], now)
			}
			in.findSilent(view, now)
			out = out || slices.Contains(in.out, 0)
		}
		return out
	}
	if pass(after-time.Second, true) {
		t.Error("left out too early")
	}
	if pass(time.Second, true) != proves {
		t.Errorf("left out: %v", !proves)
	}
	in.parts[0].moved = now // it delivers, and a little later no broker answers any more
	if pass(3*time.Second, true) {
		t.Error("left out although it delivers")
	}
	if pass(10*time.Minute, false) {
		t.Error("left out while no broker answers")
	}
	if pass(after, true) {
		t.Error("left out as soon as brokers answer again")
	}
	if pass(time.Second, true) != proves {
		t.Errorf("left out after they have answered for the whole time: %v", !proves)
	}
}

// One that was idle until no broker told where it ends any more has not been silent for long.
func TestIdleIsNotSilent(t *testing.T) {
	in, _ := newTestIntake(t)
	in.level, in.rules.LeaveOut = level.Real, 2*time.Minute
	in.Watch = kafka.NewWatch(nil, 30*time.Second, nil)
	now := time.Now()
	long := now.Add(-time.Hour)
	in.began, in.unpaused, in.answered = long, long, long
	in.parts = map[int32]*partition{0: {id: 0, moved: long, seenAtEnd: now}, 1: {id: 1, moved: now}}
	view := &state.View{Clock: 1000, Partitions: []state.PartitionStatus{{Partition: 0, Watermark: 1000},
		{Partition: 1, Watermark: 1000}}}
	for d := time.Duration(0); d <= 2*time.Minute; d += time.Second {
		in.parts[1].moved = now.Add(d)
		in.findSilent(view, now.Add(d))
		if out := len(in.out) > 0; out != (d == 2*time.Minute) {
			t.Fatalf("after %v: left out %v", d, in.out)
		}
	}
}
