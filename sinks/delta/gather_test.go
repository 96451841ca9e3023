package delta

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sim/testworld/objects"
	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
	"deckle/state"
	"deckle/state/statetest"
)

// lakeNode is a node with sinks that write together. A crash ends it whole, and it is opened again.
type lakeNode struct {
	worker
	now       atomic.Pointer[Delta]
	reopening sync.Mutex
}

// committer stands for the node that commits for all, and for what becomes of requests on the way to it.
type committer struct {
	t      *testing.T
	nodes  []*lakeNode
	shards int

	mu     sync.Mutex
	rng    *rand.Rand
	faults bool
	given  map[string]int // by outcome
	told   map[string]int // what Options.Offered was told
}

func (c *committer) draw(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.IntN(n)
}

// take is what a committer does with an offer, without others to wait for.
func (c *committer) take(ctx context.Context, at *lakeNode, data []byte) deltalog.Answer {
	o, err := deltalog.DecodeOffer(data)
	if err == nil {
		err = o.Check(&deltalog.OfferRules{ClusterID: "c1", Pipeline: "p", Shards: uint32(c.shards),
			PartitionColumns: map[string][]string{"events": {"event_date"}, "sessions": {"session_date"}}[o.Table],
			Leads:            func(uint32) bool { return true }})
	}
	if err != nil {
		c.t.Errorf("an offer is refused: %v", err)
		return deltalog.Answer{Outcome: deltalog.OutcomeNo}
	}
	if len(o.Parts) == 0 {
		return deltalog.Answer{Outcome: deltalog.OutcomeDone}
	}
	log := at.now.Load().Sessions().log
	if o.Table == "events" {
		log = at.now.Load().Events().log
	}
	return log.SubmitAll(ctx, []deltalog.Submission{{Change: &o.Change, Withdrawn: ctx.Done()}})[0]
}

func (c *committer) offer(ctx context.Context, o *deltalog.Offer) (deltalog.Answer, error) {
	data, err := deltalog.EncodeOffer(o)
	if err != nil {
		return deltalog.Answer{}, err
	}
	errLost := errors.New("lost")
	to := c.nodes[c.draw(len(c.nodes))] // there may be two
	fault := -1
	c.mu.Lock()
	if c.faults {
		fault = c.rng.IntN(12)
	}
	c.mu.Unlock()
	var a deltalog.Answer
	switch fault {
	case 0: // the request is lost
		return a, errLost
	case 1: // the answer is lost
		c.take(ctx, to, data)
		return a, errLost
	case 2: // it arrives twice, at two committers
		go c.take(ctx, c.nodes[0], data)
		a = c.take(ctx, to, data)
	case 3: // it arrives when its node has given up
		go func() {
			time.Sleep(time.Duration(c.draw(3)) * time.Millisecond)
			c.take(context.WithoutCancel(ctx), to, data)
		}()
		return a, errLost
	case 4: // answered before the put, which does not come
		return deltalog.Answer{Outcome: deltalog.OutcomeDone}, nil
	case 5:
		return deltalog.Answer{Outcome: deltalog.OutcomeCommitted, Version: int64(c.draw(40))}, nil
	case 6:
		return deltalog.Answer{Outcome: []deltalog.Outcome{deltalog.OutcomeSplit, deltalog.OutcomeRebuild,
			deltalog.OutcomeNo, "?"}[c.draw(4)]}, nil
	default:
		a = c.take(ctx, to, data)
	}
	c.mu.Lock()
	c.given[string(a.Outcome)]++
	c.mu.Unlock()
	return a, nil
}

// write writes a plan until it is done. The first attempt is of the turn.
func (n *lakeNode) write(source func(uint32) sinks.EventSource, id state.SinkID, turn *sinks.Turn, plan *state.Plan) {
	for try := 0; ; try++ {
		ctx := context.Background()
		if turn != nil && try == 0 {
			ctx = sinks.WithTurn(ctx, *turn)
		}
		d := n.now.Load()
		sink := map[state.SinkID]sinks.Sink{state.SinkEvents: d.Events(), state.SinkSessions: d.Sessions(),
			state.SinkRevisions: d.Revisions()}[id]
		err := sink.Write(ctx, plan)
		if err == nil {
			return
		}
		stop, stopped := errors.AsType[*sinks.StopError](err)
		if try > 500 || stopped && !strings.Contains(err.Error(), "has a part of a change only") ||
			!stopped && !errors.Is(err, errCrash) && !errors.Is(err, objects.ErrFault) &&
				!errors.Is(err, store.ErrExists) && !errors.Is(err, deltalog.ErrClosed) &&
				!errors.Is(err, context.Canceled) {
			n.t.Errorf("%s: try %d: %v %v", id, try, err, stop)
			return
		}
		if errors.Is(err, errCrash) {
			n.reopening.Lock()
			if n.now.Load() == d {
				_ = d.Close()
				n.reopen(source)
			}
			n.reopening.Unlock()
		}
	}
}

func (n *lakeNode) reopen(source func(uint32) sinks.EventSource) {
	n.opts.EventSource = source
	n.mu.Lock() // something that the former one has begun may go on
	n.opts.Rand = seeded(n.rng)
	n.mu.Unlock()
	n.now.Store(mustOpen(n.t, n.opts))
}

// TestRounds: when a round is offered, and what it has.
func TestRounds(t *testing.T) {
	for name, tc := range map[string]struct {
		leads        []uint32
		absent, come []uint32 // before the plans, which come at once
		number       uint64   // of the plans' turn
		want         string   // the parts of each offer
		alone        int      // plans that are committed by themselves
		waits        bool     // the round's time has to go by
	}{
		"all are here":    {[]uint32{0, 1}, nil, []uint32{0, 1}, 1, "[0 1]", 0, false},
		"one is absent":   {[]uint32{0, 1, 2}, []uint32{1}, []uint32{0, 2}, 1, "[0 2]", 0, false},
		"one never comes": {[]uint32{0, 1, 2}, nil, []uint32{0, 2}, 1, "[0 2]", 0, true},
		"all are absent":  {[]uint32{0, 1}, []uint32{0, 1}, nil, 1, "[]", 0, false},
		"nobody comes":    {[]uint32{0, 1}, nil, nil, 1, "", 0, true},
		"after the end":   {[]uint32{0, 1}, []uint32{0, 1}, []uint32{0, 1}, 1, "[] [0 1]", 0, true},
		"of another turn": {[]uint32{0, 1}, []uint32{0, 1}, []uint32{0, 1}, 2, "[]", 2, false},
		"twice":           {[]uint32{0, 1}, nil, []uint32{0, 0, 1}, 1, "[0 1]", 1, false},
		"led since then":  {[]uint32{0, 1}, nil, []uint32{3, 0, 1}, 1, "[0 1 3]", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var offers []string
				opts := Options{Offer: func(_ context.Context, o *deltalog.Offer) (deltalog.Answer, error) {
					ids := []string{}
					for _, p := range o.Parts {
						ids = append(ids, p.AppID)
					}
					slices.Sort(ids)
					mu.Lock()
					offers = append(offers, fmt.Sprint(ids))
					mu.Unlock()
					return deltalog.Answer{}, errCrash
				}, step: func(name string) error {
					if name == "offered" {
						return errCrash // it needs no log
					}
					return nil
				}, Logger: slog.New(slog.DiscardHandler)}
				g := newGather((&writer{opts: &opts, tables: &declared.sessions}).gathers(deltalog.LaneSessions))
				defer g.close()
				began := time.Now()
				g.Begin(sinks.Turn{Number: 1}, tc.leads)
				g.Begin(sinks.Turn{Number: 1}, []uint32{0, 1, 2, 3, 4, 5}) // heard twice
				for _, s := range tc.absent {
					g.Absent(sinks.Turn{Number: 1}, s)
				}
				alone := 0
				var wg sync.WaitGroup
				var seats []*seat
				ctx := sinks.WithTurn(t.Context(), sinks.Turn{Number: tc.number})
				for _, s := range tc.come {
					seats = append(seats, g.come(ctx, s))
				}
				for i, s := range tc.come {
					wg.Go(func() {
						c := &deltalog.Change{Parts: []deltalog.Part{{AppID: fmt.Sprint(s), Version: 1}}}
						if err := seats[i].submit(t.Context(), &draft{change: c}); errors.Is(err, errAlone) {
							mu.Lock()
							alone++
							mu.Unlock()
						} else if !errors.Is(err, errCrash) {
							t.Errorf("shard %d: %v", s, err)
						}
					})
				}
				wg.Wait()
				time.Sleep(gatherFor)
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				if got := strings.Join(offers, " "); got != tc.want || alone != tc.alone {
					t.Errorf("offers %s, %d alone; want %s, %d", got, alone, tc.want, tc.alone)
				}
				if took := time.Since(began) - gatherFor; tc.come != nil && (took > 0) != tc.waits {
					t.Errorf("it took %v", took)
				}
				// Whoever comes late is offered for the same turn, together with others, a moment later.
				if tc.number != 1 {
					return
				}
				offers = nil
				for _, seat := range []*seat{g.come(ctx, 0), g.come(ctx, 1)} {
					go func() {
						s := seat.shard
						c := &deltalog.Change{Parts: []deltalog.Part{{AppID: fmt.Sprint(s), Version: 2}}}
						if err := seat.submit(t.Context(), &draft{change: c}); !errors.Is(err, errCrash) {
							t.Errorf("shard %d, late: %v", s, err)
						}
					}()
				}
				mu.Unlock()
				time.Sleep(gatherAfter)
				synctest.Wait()
				mu.Lock()
				if got := strings.Join(offers, " "); got != "[0 1]" {
					t.Errorf("late offers %s", got)
				}
			})
		})
	}
}

// slowRows have no file for a while, or an error then.
type slowRows struct {
	takes time.Duration
	err   error
}

func (r slowRows) stage(context.Context, []unstaged) ([]deltalog.Add, int64, error) {
	time.Sleep(r.takes)
	return nil, 0, r.err
}

// TestSlowUploads: what a round has staged is offered though another plan has not, with word that more will come; and
// when the other leaves without files, that nothing will.
func TestSlowUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type offer struct {
			at    time.Duration
			parts int
			more  bool
		}
		var mu sync.Mutex
		var got []offer
		began := time.Now()
		g := newGather(gatherOptions{lane: deltalog.LaneSessions, patience: gatherFor,
			logger: slog.New(slog.DiscardHandler),
			offer: func(_ context.Context, o *deltalog.Offer) (deltalog.Answer, error) {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, offer{time.Since(began), len(o.Parts), o.More})
				return deltalog.Answer{}, errCrash
			},
			step: func(name string) error {
				if name == "offered" {
					return errCrash // it needs no log
				}
				return nil
			}, offered: func(deltalog.Outcome) {}})
		defer g.close()
		write := func(turn uint64, shard uint32, takes time.Duration) {
			s := g.come(sinks.WithTurn(t.Context(), sinks.Turn{Number: turn}), shard)
			go func() {
				defer s.leave()
				if time.Sleep(max(takes, -takes)); takes > 0 {
					_ = s.submit(t.Context(), &draft{change: &deltalog.Change{
						Parts: []deltalog.Part{{AppID: fmt.Sprint(shard)}}}})
				}
			}()
		}
		is := func(want ...offer) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(got, want) {
				t.Errorf("offers %+v, want %+v", got, want)
			}
			began, got = time.Now(), nil
		}
		g.Begin(sinks.Turn{Number: 1}, []uint32{0, 1, 2})
		write(1, 0, 100*time.Millisecond)
		write(1, 1, 5*time.Second)
		write(1, 2, 280*time.Millisecond)
		time.Sleep(6 * time.Second)
		is(offer{gatherFor, 2, true}, offer{5 * time.Second, 1, false})
		g.Begin(sinks.Turn{Number: 2}, []uint32{0, 1, 2})
		write(2, 0, time.Second)
		time.Sleep(2 * time.Second)
		is(offer{time.Second + gatherAfter, 1, true})
		write(2, 1, -time.Second)
		g.Absent(sinks.Turn{Number: 2}, 2)
		time.Sleep(2 * time.Second)
		is(offer{time.Second, 0, false})
		// A joined file that takes long is offered last, though it was begun first; and if it cannot be staged, the end
		// is told all the same.
		late := func(turn uint64, shard uint32, rows slowRows) {
			s := g.come(sinks.WithTurn(t.Context(), sinks.Turn{Number: turn}), shard)
			go func() {
				_ = s.submit(t.Context(), &draft{change: &deltalog.Change{
					Parts: []deltalog.Part{{AppID: fmt.Sprint(shard)}}}, rows: rows})
			}()
		}
		for turn, err := range map[uint64]error{3: nil, 4: errCrash} {
			g.Begin(sinks.Turn{Number: turn}, []uint32{0, 1})
			late(turn, 0, slowRows{takes: time.Second, err: err})
			time.Sleep(gatherFor + gatherAfter)
			late(turn, 1, slowRows{})
			time.Sleep(2 * time.Second)
			parts := 1
			if err != nil {
				parts = 0
			}
			is(offer{gatherFor + gatherAfter, 1, true}, offer{gatherFor + time.Second, parts, false})
		}
	})
}

// TestSharedCommits: several nodes write the plans of several shards in turns, and offer what they have staged to one
// another; offers and answers are lost, doubled, late or lies, nodes are killed between any two steps, a shard has two
// leaders at times, and the store fails. The shards rise one after the other to the level at which rows of several of
// them stand in one file, and their rows are revised. Every row stands once, each txn is at the end of its plan, and
// the bounds of each file are those of its rows.
func TestSharedCommits(t *testing.T) {
	seeds := 6
	if testing.Short() {
		seeds = 1
	}
	committed := 0
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { committed += sharedCommits(t, seed, true) })
	}
	if committed < 2*seeds { // on a quick machine there are eight times as many
		t.Errorf("%d offers were committed in %d seeds: the test shows little", committed, seeds)
	}
	// Where nothing fails, a turn is one commit of each table for each node, with one file for each date.
	t.Run("quiet", func(t *testing.T) { sharedCommits(t, 99, false) })
}

// sharedCommits returns how many offers the committer has committed.
func sharedCommits(t *testing.T, seed uint64, faults bool) int {
	const shards, turns = 6, 14
	m := newModel(seed, shards)
	mem := objects.NewMem(nil)
	source := func(shard uint32) sinks.EventSource { return sourceOf{m, shard} }
	c := &committer{t: t, shards: shards, rng: rand.New(rand.NewPCG(seed, 5)), faults: faults, given: map[string]int{},
		told: map[string]int{}}
	if faults {
		mem.SetFaults(seed, objects.Faults{Before: 0.02, Lost: 0.03, OwnTwice: 0.03, Late: 0.03})
	}
	for i := range 3 {
		n := &lakeNode{worker: worker{t: t, mem: mem, rng: rand.New(rand.NewPCG(seed, uint64(100+i)))}}
		n.opts = testOptions(mem, n.rng)
		n.opts.gatherFor = 30 * time.Second
		if faults {
			n.crash, n.opts.gatherFor = 0.03, time.Second
		}
		n.opts.FileBytes, n.opts.layout, n.opts.Offer = 1<<20, wider, c.offer
		if seed%2 == 1 && faults { // few of the files that could be joined are
			n.opts.FileBytes, n.opts.join = 30_000, joinLimits{plan: 12_000, groups: 5}
		}
		n.opts.Offered = func(_ string, o deltalog.Outcome) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.told[string(o)]++
		}
		n.opts.step = func(string) error {
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.rng.Float64() < n.crash {
				return errCrash
			}
			return nil
		}
		n.reopen(source)
		c.nodes = append(c.nodes, n)
	}
	rows := 0
	acked := map[string]uint64{}
	for number := range uint64(turns) {
		at := func(shard uint32) level.Level {
			if faults && number <= 2+uint64(shard) {
				return level.First
			}
			return level.Lake
		}
		turn := sinks.Turn{Number: number + 1, Every: 10 * time.Second}
		var jobs []func()
		for i, n := range c.nodes {
			leads := []uint32{uint32(i), uint32(i + 3)}
			n.now.Load().Events().Begin(turn, leads)
			n.now.Load().Sessions().Begin(turn, leads)
			n.now.Load().Revisions().Begin(turn, leads)
			for _, shard := range leads {
				a := m.epoch[shard]
				events, batches := m.eventEpochs(shard, 1)
				b := m.epoch[shard]
				var closed []schema.SessionRow
				for range m.rng.IntN(4) {
					rows++
					closed = append(closed, m.sessionRow(shard, b, rows))
				}
				for _, r := range closed {
					m.closed[r.Key()] = r
				}
				of := func(id state.SinkID, rows []schema.SessionRow) func() *state.Plan {
					return func() *state.Plan {
						p := statetest.NewPlan(state.Config{Shard: shard}, id, a, b, nil, statetest.Content{Rows: rows})
						p.Level = at(shard)
						return p
					}
				}
				sessions := of(state.SinkSessions, closed)
				raw := func() *state.Plan {
					p := events()
					p.Level = at(shard)
					return p
				}
				plan := raw()
				var revised []schema.SessionRow
				for j := range m.first[shard] {
					if m.rng.IntN(4) == 0 {
						r := &m.first[shard][j]
						m.image(r, shard, b)
						revised, m.closed[r.Key()] = append(revised, *r), *r
					}
				}
				m.first[shard] = append(m.first[shard], closed...)
				revisions, passes := of(state.SinkRevisions, revised), &turn
				if len(revised) == 0 || faults && m.rng.IntN(5) == 0 {
					n.now.Load().Revisions().Absent(turn, shard)
					passes = nil
				}
				if len(revised) > 0 {
					acked["sessions.revisions"+fmt.Sprint(shard)] = b
					jobs = append(jobs, func() { n.write(source, state.SinkRevisions, passes, revisions()) })
				}
				buf := n.now.Load().Events().Buffer(shard)
				buf.Rise(plan.Level)
				for j, epoch := range plan.Epochs {
					for _, batch := range batches[j] {
						if err := buf.Append(&batch, epoch.LeftOut); err != nil {
							t.Fatal(err)
						}
					}
					buf.Seal(epoch.Epoch, true)
				}
				if len(closed) > 0 {
					acked["sessions"+fmt.Sprint(shard)] = b
				}
				if _, most := plan.Rows(); most > 0 {
					acked["events"+fmt.Sprint(shard)] = b
				}
				switch faults && m.rng.IntN(5) == 0 { // its flusher waits after an error
				case true:
					n.now.Load().Sessions().Absent(turn, shard)
					jobs = append(jobs, func() { n.write(source, state.SinkSessions, nil, sessions()) })
				case false:
					jobs = append(jobs, func() { n.write(source, state.SinkSessions, &turn, sessions()) })
				}
				jobs = append(jobs, func() { n.write(source, state.SinkEvents, &turn, plan) })
				if faults && m.rng.IntN(4) == 0 { // a former leader of the shard
					former := c.nodes[(i+1)%3]
					jobs = append(jobs, func() { former.write(source, state.SinkSessions, nil, sessions()) })
					jobs = append(jobs, func() { former.write(source, state.SinkEvents, nil, raw()) })
					if len(revised) > 0 {
						jobs = append(jobs, func() { former.write(source, state.SinkRevisions, nil, revisions()) })
					}
				}
			}
		}
		var wg sync.WaitGroup
		for _, job := range jobs {
			wg.Go(job)
		}
		wg.Wait()
		if t.Failed() {
			break
		}
	}
	mem.SetFaults(0, objects.Faults{})
	for _, n := range c.nodes {
		n.crash = 0
		if err := n.now.Load().Close(); err != nil {
			t.Error(err)
		}
	}
	checkSessions(t, mem, m)
	checkEvents(t, mem, m)
	checkStats(t, mem)
	for _, kind := range []string{"sessions", "sessions.revisions", "events"} {
		name, _, _ := strings.Cut(kind, ".")
		s := openTable(t, mem, name).Snapshot()
		for shard := range uint32(shards) {
			want := int64(acked[kind+fmt.Sprint(shard)])
			if got := s.Txns[fmt.Sprintf("c1/p/%d/%s", shard, kind)]; got != want {
				t.Errorf("shard %d, %s: txn %d, want %d", shard, kind, got, want)
			}
		}
	}
	joined := 0
	for _, name := range []string{"sessions", "events"} {
		checkLog(t, mem, name)
		commits, several := insertsOf(t, mem, name, !faults)
		joined += several
		if most := 3 * turns; !faults && commits > most {
			t.Errorf("%s: %d commits in %d turns of 3 nodes", name, commits, turns)
		}
	}
	t.Logf("%v, told %v, %d files of several shards", c.given, c.told, joined)
	if joined == 0 && !faults {
		t.Error("no file has rows of several shards")
	}
	switch {
	case !faults && (c.told["committed"] != c.given["committed"] || len(c.told) != 1):
		t.Errorf("told %v, given %v", c.told, c.given)
	case faults && (c.told["alone"] == 0 || c.told["no"] == 0 || c.told["?"] > 0):
		t.Errorf("told %v", c.told)
	}
	return c.given["committed"]
}
