package delta

import (
	"context"
	"testing"
	"time"
)

// TestRevisionsYield: once another tool has committed, the next pass waits for two intervals, and what begins meanwhile
// waits for the same moment; then none does for an hour, and none at all once the last ten commits are ours.
func TestRevisionsYield(t *testing.T) {
	l := newLake(t)
	l.must(l.d.Close())
	now := time.Unix(1_800_000_000, 0)
	var slept []time.Duration
	opts := testOptions(l.mem, l.m.rng)
	opts.RevisionInterval, opts.CheckpointInterval = time.Minute, 1000
	opts.Now = func() time.Time { return now }
	opts.sleep = func(ctx context.Context, d time.Duration) error {
		slept = append(slept, d)
		return ctx.Err()
	}
	l.d = mustOpen(t, opts)
	epoch := uint64(1)
	a := l.row(1, 1)
	l.must(l.sessions(0, 1, a))
	pass := func(what string, want time.Duration) {
		t.Helper()
		slept = nil
		epoch++
		l.must(l.revisions(epoch-1, epoch, l.revised(a, epoch)))
		if want == 0 && len(slept) > 0 || want > 0 && (len(slept) != 1 || slept[0] != want) {
			t.Errorf("%s: slept %v, want %v", what, slept, want)
		}
	}
	foreign := func() { l.commit("sessions", `{"commitInfo":{"operation":"UPDATE","engineInfo":"spark"}}`) }
	pass("alone", 0)
	foreign()
	pass("beside another tool", 2*time.Minute)
	now = now.Add(30 * time.Second) // another shard
	pass("meanwhile", 90*time.Second)
	now = now.Add(90 * time.Second)
	pass("afterwards", 0)
	foreign()
	now = now.Add(57*time.Minute + 59*time.Second)
	pass("within the hour", 0)
	now = now.Add(time.Second)
	pass("an hour later", 2*time.Minute)
	now = now.Add(2 * time.Hour)
	foreign()
	now = now.Add(-90 * time.Minute)
	for range 10 {
		pass("within the hour", 0)
	}
	now = now.Add(2 * time.Hour)
	pass("the last ten commits are ours", 0)
	// A pass without rows commits nothing, and waits for nothing.
	foreign()
	l.must(l.revisions(epoch, epoch+1))
	if len(slept) > 0 {
		t.Errorf("without rows: slept %v", slept)
	}
}
