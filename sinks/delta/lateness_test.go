package delta

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/share"
)

// pace is how long the steps of a plan take, drawn anew for each of them.
type pace struct {
	cut   func(r *rand.Rand, shard uint32) time.Duration // from the turn until the cut is answered
	stage func(r *rand.Rand) time.Duration               // files are uploaded
	log   func(r *rand.Rand) time.Duration               // a commit, or a look at the log
}

// between draws from a uniform distribution.
func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Float64()*float64(to-from))
}

// skewed draws from a distribution with a long tail: median, and sigma of its logarithm.
func skewed(r *rand.Rand, median time.Duration, sigma float64) time.Duration {
	return time.Duration(float64(median) * math.Exp(r.NormFloat64()*sigma))
}

// lakeModel is three nodes with two shards each, which are cut together: flushers as those of node/shard, and the real
// gathers, offers and rounds between them. Only the log is a model.
type lakeModel struct {
	p     pace
	apart bool // each plan is committed by itself

	mu      sync.Mutex // what follows
	r       *rand.Rand
	commits int
	files   int             // that were staged
	late    []time.Duration // of each epoch: from its turn until it is acknowledged
}

const (
	modelNodes, modelShards = 3, 6
	modelEvery              = 10 * time.Second
	modelWait               = 550 * time.Millisecond
)

func (m *lakeModel) draw(f func(r *rand.Rand) time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return f(m.r)
}

// SubmitAll implements share.Log.
func (m *lakeModel) SubmitAll(_ context.Context, group []deltalog.Submission) []deltalog.Answer {
	time.Sleep(m.draw(m.p.log))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commits++
	answers := make([]deltalog.Answer, len(group))
	for i := range answers {
		answers[i] = deltalog.Answer{Outcome: deltalog.OutcomeCommitted, Version: int64(m.commits)}
	}
	return answers
}

func (m *lakeModel) Landed(context.Context, int64, *deltalog.Change) (bool, error) {
	time.Sleep(m.draw(m.p.log))
	return true, nil
}

func (m *lakeModel) Refresh(context.Context) error { return nil }

func (m *lakeModel) Submit(context.Context, *deltalog.Change) error {
	time.Sleep(m.draw(m.p.log))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commits++
	return nil
}

// modelPeers implements share.Peers: node i leads the shards i and i + 3.
type modelPeers int

func (p modelPeers) Self() string               { return fmt.Sprint(int(p)) }
func (p modelPeers) Shards() uint32             { return modelShards }
func (p modelPeers) Leader(shard uint32) string { return fmt.Sprint(shard % modelNodes) }

// modelFlusher is the flusher of a shard's events, as node/shard has it.
type modelFlusher struct {
	m     *lakeModel
	g     *gather
	shard uint32

	mu       sync.Mutex
	idle     bool
	open     *sinks.Turn // begun for it while it was idle
	turn     sinks.Turn  // the last one
	answered bool
	cutOf    sinks.Turn
	epochs   []time.Time // the turns of the epochs that are closed and not written
	changed  chan struct{}
}

// begin is a turn: the shard is cut, which takes its time.
func (f *modelFlusher) begin(t sinks.Turn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turn, f.answered = t, false
	if f.open != nil {
		f.g.Absent(*f.open, f.shard)
	}
	if f.open = nil; f.idle {
		f.open = &t
	} else {
		f.g.Absent(t, f.shard)
	}
	at := time.Now()
	time.AfterFunc(f.m.draw(func(r *rand.Rand) time.Duration { return f.m.p.cut(r, f.shard) }), func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.epochs = append(f.epochs, at)
		if f.turn == t {
			f.answered, f.cutOf = true, t
		}
		select {
		case f.changed <- struct{}{}:
		default:
		}
	})
}

// run writes one plan after the other until ctx ends.
func (f *modelFlusher) run(ctx context.Context) {
	for {
		f.mu.Lock()
		var t *sinks.Turn
		switch {
		case f.open != nil && f.answered:
			t = f.open
		case f.open == nil && f.cutOf.Every > 0 && len(f.epochs) > 0:
			t = new(f.cutOf)
		}
		f.idle = t == nil
		epochs := f.epochs
		if t != nil {
			f.open, f.epochs = nil, nil
		}
		f.mu.Unlock()
		if t == nil {
			select {
			case <-f.changed:
				continue
			case <-ctx.Done():
				return
			}
		}
		time.Sleep(40 * time.Millisecond) // the plan's entry
		f.write(sinks.WithTurn(ctx, *t))
		time.Sleep(20 * time.Millisecond) // that of the acknowledgement
		f.m.mu.Lock()
		for _, at := range epochs {
			f.m.late = append(f.m.late, time.Since(at))
		}
		f.m.mu.Unlock()
	}
}

func (f *modelFlusher) write(ctx context.Context) {
	var seat *seat
	if !f.m.apart {
		seat = f.g.come(ctx, f.shard)
	}
	defer seat.leave()
	d := &draft{change: &deltalog.Change{Parts: []deltalog.Part{{AppID: fmt.Sprintf("c/p/%d/events", f.shard)}}},
		rows: modelRows{f.m}}
	if seat.submit(ctx, d) != nil {
		_ = d.own(ctx)
		_ = f.m.Submit(ctx, d.change)
	}
}

// modelRows are the rows of a plan whose file, alone or with others, takes a while to be staged.
type modelRows struct{ m *lakeModel }

func (r modelRows) stage(context.Context, []unstaged) ([]deltalog.Add, int64, error) {
	time.Sleep(r.m.draw(r.m.p.stage))
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	r.m.files++
	return nil, 0, nil
}

// run lets so many turns go by.
func (m *lakeModel) run(t *testing.T, turns int) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rounds := make([]*share.Rounds, modelNodes)
	var gathers []*gather
	var flushers []*modelFlusher
	for i := range modelNodes {
		rounds[i] = share.New(share.Options{Peers: modelPeers(i), Wait: modelWait,
			Log:   func(string) share.Log { return m },
			Check: func(*deltalog.Offer, func(uint32) bool) error { return nil }})
		defer rounds[i].Close()
		client := share.NewClient(modelPeers(i), rounds[i],
			func(ctx context.Context, _ string, what json.RawMessage) (json.RawMessage, error) {
				time.Sleep(2 * time.Millisecond)
				return share.Serve(ctx, fmt.Sprint(i), what, rounds[0], nil), nil
			})
		g := newGather(gatherOptions{lane: deltalog.LaneEvents, table: "events", log: m, patience: gatherFor,
			offer: func(ctx context.Context, o *deltalog.Offer) (deltalog.Answer, error) {
				return client.Offer(ctx, o, 2*modelEvery), nil
			},
			young: func(*deltalog.Change) error { return nil }, step: func(string) error { return nil },
			logger: slog.New(slog.DiscardHandler), offered: func(deltalog.Outcome) {}})
		defer g.close()
		gathers = append(gathers, g)
	}
	var all sync.WaitGroup
	for s := range uint32(modelShards) {
		f := &modelFlusher{m: m, g: gathers[s%modelNodes], shard: s, changed: make(chan struct{}, 1)}
		flushers = append(flushers, f)
		all.Go(func() { f.run(ctx) })
	}
	synctest.Wait()
	for n := range uint64(turns) {
		turn := sinks.Turn{Number: n + 1, Every: modelEvery}
		rounds[0].Heard(turn)
		for i, g := range gathers {
			g.Begin(turn, []uint32{uint32(i), uint32(i + modelNodes)})
		}
		for _, f := range flushers {
			f.begin(turn)
		}
		time.Sleep(modelEvery)
	}
	cancel()
	all.Wait()
}

// TestLateness: how long after its turn what a shard has closed is acknowledged, and in how many commits, while three
// nodes cut six shards at once, on machines of several kinds. Time is virtual: what a busy machine does to the steps of
// a plan is drawn. The commits have a bound, which nothing lifts; and sharing them costs little: nobody who is late
// loses a turn, as he did when he waited for the next one, which made him late for that, too.
func TestLateness(t *testing.T) {
	quick := pace{
		func(r *rand.Rand, _ uint32) time.Duration {
			return between(r, 60*time.Millisecond, 120*time.Millisecond)
		},
		func(r *rand.Rand) time.Duration { return between(r, 50*time.Millisecond, 100*time.Millisecond) },
		func(r *rand.Rand) time.Duration { return between(r, 20*time.Millisecond, 40*time.Millisecond) }}
	slowShard, slowUploads := quick, quick
	slowShard.cut = func(r *rand.Rand, shard uint32) time.Duration {
		if shard == 4 {
			return between(r, 2*time.Second, 4*time.Second)
		}
		return quick.cut(r, shard)
	}
	slowUploads.stage = func(r *rand.Rand) time.Duration {
		if r.IntN(300) == 0 {
			return between(r, 2*time.Second, 6*time.Second)
		}
		return quick.stage(r)
	}
	for name, c := range map[string]struct {
		pace
		more50, more99 time.Duration // at most so much more than where each plan is committed by itself
	}{
		"quick": {quick, 150 * time.Millisecond, 150 * time.Millisecond},
		"loaded": {pace{
			func(r *rand.Rand, _ uint32) time.Duration { return skewed(r, time.Second, 0.5) },
			func(r *rand.Rand) time.Duration { return skewed(r, 300*time.Millisecond, 0.7) },
			func(r *rand.Rand) time.Duration { return skewed(r, 150*time.Millisecond, 0.5) },
		}, 2 * time.Second, 1500 * time.Millisecond},
		"one slow shard": {slowShard, 4 * time.Second, 1500 * time.Millisecond},
		"slow uploads":   {slowUploads, 150 * time.Millisecond, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const turns = 600
				at := func(apart bool) (p50, p99 time.Duration, commits int) {
					m := &lakeModel{p: c.pace, apart: apart, r: rand.New(rand.NewPCG(1, 2))}
					m.run(t, turns)
					slices.Sort(m.late)
					of := func(q float64) time.Duration {
						return m.late[int(q*float64(len(m.late)-1))].Round(10 * time.Millisecond)
					}
					t.Logf("apart %v: %d epochs, p50 %v, p90 %v, p99 %v, most %v, %.3f commits, %.2f files a turn",
						apart, len(m.late), of(0.5), of(0.9), of(0.99), of(1), float64(m.commits)/turns,
						float64(m.files)/turns)
					return of(0.5), of(0.99), m.commits
				}
				apart50, apart99, _ := at(true)
				p50, p99, commits := at(false)
				if p50 > apart50+c.more50 || p99 > apart99+c.more99 {
					t.Errorf("p50 %v and p99 %v, where each plan is committed by itself %v and %v", p50, p99, apart50,
						apart99)
				}
				if most := turns + 36 + turns*10/130 + 1; commits > most {
					t.Errorf("%d commits, more than %d", commits, most)
				}
			})
		})
	}
}
