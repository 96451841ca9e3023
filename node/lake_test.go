package node

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"deckle/node/condition"
)

func TestBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket{rate: 100, now: time.Now}
		began := time.Now()
		for range 5 {
			if err := b.take(t.Context(), 250); err != nil {
				t.Fatal(err)
			}
		}
		// The fifth waits for what the four before it have taken.
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("1,250 bytes at 100 a second took %v", took)
		}
		time.Sleep(time.Hour)
		began = time.Now()
		if err := b.take(t.Context(), 100); err != nil || time.Since(began) != 0 {
			t.Errorf("after an hour: %v, %v", time.Since(began), err)
		}
		if err := b.take(t.Context(), 100); err != nil || time.Since(began) != time.Second {
			t.Errorf("a quiet hour was saved up: %v, %v", time.Since(began), err)
		}
	})
}

// While a shard is stopped, or a sink of a Delta table, nothing is done to the tables.
func TestLakeRests(t *testing.T) {
	var holds []condition.Condition
	l := &lake{leads: func(shard uint32) bool { return shard == 1 },
		holds: func() []condition.Condition { return holds }}
	for _, c := range []struct {
		id      condition.ID
		subject string
		want    bool
	}{
		{condition.SinkStopped, "sessions of shard 4", false}, {condition.SinkStopped, "revisions of shard 0", false},
		{condition.SinkStopped, "events of shard 1", false}, {condition.SinkStopped, "clickhouse of shard 1", true},
		{condition.ShardStopped, "shard 4", false}, {condition.SinkFailing, "sessions of shard 4", true},
		{condition.PartitionStopped, "partition 3", true},
	} {
		holds = []condition.Condition{{ID: condition.MemberDown, Subject: "n2"}, {ID: c.id, Subject: c.subject}}
		if l.may(1) != c.want || l.may(0) {
			t.Errorf("%s, %s: %v, want %v", c.id, c.subject, l.may(1), c.want)
		}
	}
}

// What fails three times in a row is a condition; once it works, or is another node's, it is none.
func TestLakeFailing(t *testing.T) {
	deps := &Deps{}
	deps.complete()
	l := &lake{deps: deps, list: condition.New("n1", time.Now, deps.Logger)}
	failed := map[string]int{}
	holds := func() bool { return len(l.list.Snapshot()) > 0 }
	for i, step := range []struct {
		err  error
		want bool
	}{{errors.New("x"), false}, {errors.New("x"), false}, {errNotOurs, false}, {errors.New("x"), true}, {nil, false},
		{errors.New("x"), false}} {
		if l.judge(condition.VacuumFailing, "events", failed, step.err); holds() != step.want {
			t.Errorf("step %d: %v", i, l.list.Snapshot())
		}
	}
}
