package node

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/schema/level"
	"deckle/sinks/delta"
	"deckle/sinks/delta/store"
)

func TestBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket{rate: func() int64 { return 100 }, now: time.Now}
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
	full, now := "", level.Lake // and not the newest level: a cluster may be held there
	l := &lake{leads: func(shard uint32) bool { return shard == 1 }, level: func() level.Level { return now },
		holds: func() []condition.Condition { return holds }, full: func() string { return full }}
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
		full = "the disk is full"
		if l.mayCompact(1) || l.may(1) != c.want {
			t.Errorf("%s, %s: on a full disk it compacts, or no longer takes files away", c.id, c.subject)
		}
		if full = ""; l.mayCompact(1) != c.want {
			t.Errorf("%s, %s: it compacts: %v, want %v", c.id, c.subject, !c.want, c.want)
		}
		if now = level.Guarded; l.mayCompact(1) {
			t.Errorf("%s, %s: it compacts below the level whose files those are", c.id, c.subject)
		}
		now = level.Lake
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

// A round of compaction reads what has been committed since the one before, and a vacuum that is not due asks for
// nothing: of the requests of a year most would be theirs.
func TestLakeRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, d, write := newTables(t)
		for epoch := range uint64(20) {
			write(epoch + 1)
		}
		var mu sync.Mutex
		asked := map[string]int{}
		mem.SetHook(func(op, key string) error {
			mu.Lock()
			defer mu.Unlock()
			if op == "get" && strings.Contains(key, "_delta_log/0") {
				op = "commit"
			}
			asked[op]++
			return nil
		})
		since := func() map[string]int {
			mu.Lock()
			defer mu.Unlock()
			defer func() { asked = map[string]int{} }()
			return asked
		}
		off := false
		deps := &Deps{}
		deps.complete()
		var leads atomic.Bool
		leads.Store(true)
		cfg := &config.Config{Cluster: config.Cluster{Shards: 2}, Delta: &config.Delta{Events: &off,
			Compaction: config.Compaction{Every: 10 * time.Minute, RateBytes: 1 << 30},
			Vacuum:     config.Vacuum{Every: 24 * time.Hour}}}
		l := newLake(&lake{deps: deps, list: condition.New("n1", time.Now, deps.Logger),
			cfg:    func() *config.Config { return cfg },
			leads:  func(uint32) bool { return leads.Load() },
			holds:  func() []condition.Condition { return nil },
			full:   func() string { return "" },
			level:  func() level.Level { return level.Current },
			tables: func(context.Context) (*delta.Delta, error) { return d, nil },
			store:  func() (store.Store, error) { return mem, nil },
			fs:     vfs.NewMem(), dir: "compact"})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { l.compactAll(ctx) })
		time.Sleep(11 * time.Minute)
		if got := since(); got["commit"] < 10 { // the rest is in a checkpoint
			t.Errorf("the first round has read %d commits of 20", got["commit"])
		}
		for epoch := range uint64(3) {
			write(epoch + 21)
		}
		since()
		time.Sleep(10 * time.Minute)
		if got := since(); got["commit"] < 3 || got["commit"] > 8 { // a commit of its own, and whether one follows
			t.Errorf("the second round has read %d commits of 3", got["commit"])
		}
		leads.Store(false)
		time.Sleep(10 * time.Minute)
		since()
		leads.Store(true)
		time.Sleep(10 * time.Minute)
		if got := since(); got["commit"] < 9 {
			t.Errorf("who leads again has read %d commits", got["commit"])
		}
		cancel()
		wg.Wait()

		ctx, cancel = context.WithCancel(t.Context())
		wg.Go(func() { l.vacuumAll(ctx) })
		time.Sleep(2 * time.Minute) // the first vacuum
		since()
		time.Sleep(23 * time.Hour)
		if got := since(); got["list"] > 1 || len(got) > 1 { // the mark that the first has left
			t.Errorf("vacuums that are not due: %v", got)
		}
		time.Sleep(2 * time.Hour)
		if got := since(); got["list"] == 0 {
			t.Errorf("a vacuum that is due: %v", got)
		}
		cancel()
		wg.Wait()
	})
}
