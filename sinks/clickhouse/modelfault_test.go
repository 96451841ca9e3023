package clickhouse_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	model "deckle/sim/testworld/clickhouse"
	"deckle/sinks"
	"deckle/sinks/clickhouse"
	"deckle/state"
)

// TestFaults checks which rows each fault leaves behind, at once and a minute later, which error the client gets and
// after how long, and that repeating the plan repairs the damage.
func TestFaults(t *testing.T) {
	const memory = int(proto.ErrMemoryLimitExceeded)
	none, all, some := 0, 1, 2
	const closed = "(EOF|closed pipe)" // depending on which end of the pipe is closed first
	for _, tc := range []struct {
		name       string
		fault      model.Fault
		now, later int
		took       time.Duration
		err        string
	}{
		{"nothing", model.Fault{}, all, all, 0, ""},
		{"fail before", model.FailBefore(memory), none, none, 0, "MEMORY_LIMIT_EXCEEDED"},
		{"fail after", model.FailAfter(memory), all, all, 0, "MEMORY_LIMIT_EXCEEDED"},
		{"fail in the middle", model.FailMiddle(memory), some, some, 0, "MEMORY_LIMIT_EXCEEDED"},
		{"close before", model.CloseBefore(), none, none, 0, closed},
		{"close after", model.CloseAfter(), all, all, 0, closed},
		{"close, and late", model.CloseLate(10 * time.Second), none, all, 0, closed},
		{"stall before", model.StallBefore(), none, none, 30 * time.Second, "read timeout"},
		{"stall after", model.StallAfter(), all, all, 30 * time.Second, "read timeout"},
		{"slow", model.Slow(10 * time.Second), all, all, 20 * time.Second, ""},
		{"slower than the client waits", model.Slow(40 * time.Second), none, all, 30 * time.Second, "read timeout"},
		{"month by month", model.Fault{Between: time.Second}, all, all, time.Second, ""},
		{"late and no code", model.Fault{Effect: model.Late, Late: 10 * time.Second}, none, all, 0,
			"UNKNOWN_STATUS_OF_INSERT"},
		{"nothing, which is no truth", model.Fault{Effect: model.Nothing}, none, none, 0, "UNKNOWN_STATUS_OF_INSERT"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, s := openModel(t, nil)
				m := clickhouse.NewModel(rand.New(rand.NewPCG(7, 7)), 1)
				p := m.Advance(0, 1)
				var rows atomic.Int64
				srv.SetHook(func(q model.Query) model.Fault {
					if q.Kind == model.Insert && q.Table == sessionsTable {
						if q.Partitions != 2 {
							t.Errorf("%d partitions: the middle of the block is not tested", q.Partitions)
						}
						rows.Store(int64(q.Rows))
						return tc.fault
					}
					return model.Fault{}
				})
				check := func(when string, want int) {
					n, of := len(visibleSessions(srv)), int(rows.Load())
					if (want == none) != (n == 0) || (want == all) != (n == of) {
						t.Errorf("%s: %d rows of %d", when, n, of)
					}
				}
				start := time.Now()
				err := s.Attempt(t.Context(), p)
				if took := time.Since(start); took != tc.took {
					t.Errorf("it took %s, want %s", took, tc.took)
				}
				if tc.err == "" && err != nil || tc.err != "" &&
					(err == nil || !regexp.MustCompile(tc.err).MatchString(err.Error()) || !clickhouse.IsRetry(err)) {
					t.Errorf("got %v, want %q", err, tc.err)
				}
				time.Sleep(5 * time.Second)
				check("soon", tc.now)
				time.Sleep(time.Minute)
				check("later", tc.later)
				srv.SetHook(nil)
				if err := s.Write(t.Context(), p); err != nil {
					t.Fatal(err)
				}
				m.Compare(t, clickhouse.ReaderOf(s), "repeated")
			})
		})
	}
}

// TestRefusedRow: a row violates a constraint that an operator has added.
func TestRefusedRowOfTheModel(t *testing.T) {
	srv, s := openModel(t, nil)
	err := srv.Exec(modelDB, "ALTER TABLE "+sessionsTable+" ADD CONSTRAINT c CHECK session_id != 's-0-7'")
	if err != nil {
		t.Fatal(err)
	}
	p := clickhouse.NewModel(rand.New(rand.NewPCG(2, 2)), 1).Advance(0, 1)
	r, ok := errors.AsType[*sinks.RefusedError](s.Write(t.Context(), p))
	if !ok || !strings.HasPrefix(r.RowKey, "s-0-7\x00") {
		t.Errorf("got %v", r)
	}
	if ok && (r.Brief == "" || strings.Contains(r.Brief, "s-0-7")) { // what a letter says that may show no value
		t.Errorf("in brief: %s", r.Brief)
	}
	if err := srv.Exec(modelDB, "DROP TABLE "+sessionsTable); err != nil {
		t.Fatal(err)
	}
	var stop *sinks.StopError
	if err := s.Write(t.Context(), p); err == nil || errors.As(err, &stop) {
		t.Errorf("a dropped table before any plan is created again at the next check: %v", err)
	}
}

// A total that the server refuses holds up the plan of its shard, and must (docs/design.md §6), but no other shard.
func TestRefusedTotalHoldsItsShard(t *testing.T) {
	srv, s := openModel(t, nil)
	err := srv.Exec(modelDB, "ALTER TABLE "+totalsTable+" ADD CONSTRAINT c CHECK shard != '0'")
	if err != nil {
		t.Fatal(err)
	}
	m := clickhouse.NewModel(rand.New(rand.NewPCG(2, 2)), 2)
	var stop *sinks.StopError
	if err := s.Write(t.Context(), m.Advance(0, 1)); !errors.As(err, &stop) || !strings.Contains(err.Error(), "total") {
		t.Errorf("a refused total: %v", err)
	}
	if err := s.Write(t.Context(), m.Advance(1, 1)); err != nil {
		t.Errorf("the other shard: %v", err)
	}
}

// TestExactUnderRandomFaults: leaders, two of which may believe that they lead the same shard, write plans until they
// are acknowledged, on a server where everything goes wrong. No visible row ever goes back, and in the end the views
// are exact.
func TestExactUnderRandomFaults(t *testing.T) {
	runs := 20
	if testing.Short() {
		runs = 5
	}
	first := uint64(time.Now().UnixNano())
	total := map[string]int{}
	for i := range runs {
		seed := first + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for k, n := range randomFaults(t, seed) {
					total[k] += n
				}
			})
		})
	}
	t.Logf("faults: %v", total)
	for _, k := range []string{"fail", "close", "stall", "late", "middle", "slow"} {
		if total[k] == 0 {
			t.Errorf("no fault of the kind %q", k)
		}
	}
}

// faultPlan draws faults.
type faultPlan struct {
	mu    sync.Mutex
	rng   *rand.Rand
	count map[string]int
}

func (p *faultPlan) draw(q model.Query) model.Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rng.IntN(10) > 0 { // a plan is a dozen queries, and starts again from its beginning after each failure
		return model.Fault{}
	}
	soon := time.Duration(p.rng.Int64N(int64(20 * time.Second)))
	code := []int{int(proto.ErrMemoryLimitExceeded), int(proto.ErrTooManyParts), 0}[p.rng.IntN(3)]
	switch p.rng.IntN(9) {
	case 0:
		p.count["fail"]++
		return model.FailBefore(code)
	case 1:
		p.count["fail"]++
		return model.FailAfter(code)
	case 2:
		p.count["close"]++
		return model.CloseBefore()
	case 3:
		p.count["close"]++
		return model.CloseAfter()
	case 4:
		p.count["stall"]++
		return model.StallBefore()
	case 5:
		p.count["stall"]++
		return model.StallAfter()
	case 6:
		p.count["late"]++
		return model.CloseLate(5 * soon)
	case 7:
		if q.Partitions > 1 {
			p.count["middle"]++
		}
		return model.FailMiddle(code)
	default:
		p.count["slow"]++
		return model.Fault{Before: soon, Between: soon / 4, After: soon / 2}
	}
}

func randomFaults(t *testing.T, seed uint64) map[string]int {
	rng := rand.New(rand.NewPCG(seed, 8))
	srv, s := openModel(t, func(o *clickhouse.Options) { o.BlockRows = 40 })
	faults := &faultPlan{rng: rand.New(rand.NewPCG(seed, 9)), count: map[string]int{}}
	srv.SetHook(faults.draw)
	const shards = 3
	m := clickhouse.NewModel(rng, shards)

	ctx, cancel := context.WithCancel(t.Context())
	var watcher sync.WaitGroup
	watcher.Go(func() { watch(ctx, t, srv) })

	plans, delays := make([][]*state.Plan, shards), make([][]time.Duration, shards)
	for shard := range shards {
		for range 4 {
			delays[shard] = append(delays[shard], time.Duration(rng.Int64N(int64(5*time.Minute))))
			plans[shard] = append(plans[shard], m.Advance(shard, 1+rng.IntN(2)))
		}
	}
	var old, leaders sync.WaitGroup
	for shard, own := range plans {
		leaders.Go(func() {
			for i, p := range own {
				// This is another leader with the same plan, deposed by now, that knows nothing of the ledger.
				old.Go(func() {
					time.Sleep(delays[shard][i])
					for range 5 {
						if s.Attempt(t.Context(), p) == nil {
							return
						}
					}
				})
				for attempt := 0; ; attempt++ {
					err := s.Write(t.Context(), p)
					if err == nil {
						break
					}
					if !clickhouse.IsRetry(err) || attempt > 1000 {
						t.Errorf("shard %d: %v", shard, err)
						return
					}
					time.Sleep(time.Second)
				}
			}
		})
	}
	leaders.Wait()
	old.Wait()
	srv.SetHook(nil)
	if n := srv.Late(); n > 0 && rng.IntN(2) == 0 {
		srv.Settle()
	} else {
		time.Sleep(5 * time.Minute)
	}
	if n := srv.Late(); n != 0 {
		t.Errorf("%d inserts are still to come", n)
	}
	cancel()
	watcher.Wait()
	if !t.Failed() {
		m.Compare(t, clickhouse.ReaderOf(s), "in the end")
	}
	return faults.count
}

// watch reads the visible rows continuously: no version goes back, and every row that the ledger promises is there.
func watch(ctx context.Context, t *testing.T, srv *model.Server) {
	versions := map[string]uint64{}
	newest := func(key string, v uint64) {
		if v < versions[key] {
			t.Errorf("%s goes back from version %d to %d", key, versions[key], v)
		}
		versions[key] = v
	}
	var seen uint64
	for ctx.Err() == nil {
		if n := srv.Changes(); n != seen {
			seen = n
			for _, r := range visibleSessions(srv) {
				newest(r.Text("session_id")+" "+r.Text("origin"), r.Uint("version"))
			}
			for _, r := range srv.Rows(modelDB, totalsTable) {
				newest(totalKey(r), r.Uint("version"))
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}
