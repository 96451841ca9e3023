package delta

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sim/testworld/objects"
	"deckle/sinks"
	"deckle/state"
	"deckle/state/statetest"
)

// passes is a table whose files have rows of three shards each, and what revises them.
type passes struct {
	t     *testing.T
	mem   *objects.Mem
	m     *model
	d     *Delta
	rows  []schema.SessionRow
	step  func(name string) error // Options.step
	steps sync.Mutex
}

// newPasses writes two turns, of which each has one file for each of two dates.
func newPasses(t *testing.T) *passes {
	p := &passes{t: t, mem: objects.NewMem(nil), m: newModel(11, 3)}
	opts := testOptions(p.mem, p.m.rng)
	opts.RevisionFilesPerPass = 0 // the default
	opts.step = func(name string) error {
		p.steps.Lock()
		defer p.steps.Unlock()
		if p.step == nil {
			return nil
		}
		return p.step(name)
	}
	p.d = openJoining(t, opts)
	t.Cleanup(func() { p.must(p.d.Close()) })
	for turn := range uint64(2) {
		r := rowsOfTurn(t, p.d, p.m, nil, turn+1, 12)
		writeTurn(t, p.d, turn+1, &r)
		p.rows = append(p.rows, r.sessions...)
	}
	files := openTable(t, p.mem, "sessions").Snapshot().Files
	if len(files) != 4 || len(files[0].Parts) != 3 {
		t.Fatalf("%d files, the first of %d shards", len(files), len(files[0].Parts))
	}
	for _, r := range p.rows {
		p.m.closed[r.Key()] = r
	}
	return p
}

func (p *passes) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Error(err)
	}
}

// plan revises every third row of a shard, and inserts one that no file has.
func (p *passes) plan(shard uint32, a, b uint64) *state.Plan {
	var rows []schema.SessionRow
	for i := range p.rows {
		if s, _ := schema.SplitBatchID(p.rows[i].BatchID); s == shard && i%3 == 0 {
			r := p.rows[i]
			p.m.image(&r, shard, b)
			r.Stands = true
			rows = append(rows, r)
		}
	}
	r := p.m.sessionRow(shard, 2, int(1000*b))
	p.m.image(&r, shard, b)
	rows = append(rows, r)
	for _, r := range rows {
		r.Stands = false // no column
		p.m.closed[r.Key()] = r
	}
	plan := statetest.NewPlan(state.Config{Shard: shard}, state.SinkRevisions, a, b, nil, statetest.Content{Rows: rows})
	plan.Level = level.Lake
	return plan
}

// write writes plans in a turn, for which as many shards are waited for, and returns what each Write does.
func (p *passes) write(number uint64, shards []uint32, plans ...*state.Plan) []error {
	turn := sinks.Turn{Number: number, Every: 10 * time.Second, Revise: true}
	p.d.Revisions().Begin(turn, shards)
	errs := make([]error, len(plans))
	var wg sync.WaitGroup
	for i, plan := range plans {
		wg.Go(func() {
			errs[i] = p.d.Revisions().Write(sinks.WithTurn(p.t.Context(), turn), plan)
		})
	}
	wg.Wait()
	return errs
}

// check compares the table with the model, and the txns of the shards' revisions with what they are to be.
func (p *passes) check(txns ...int64) {
	p.t.Helper()
	checkSessions(p.t, p.mem, p.m)
	checkLog(p.t, p.mem, "sessions")
	s := openTable(p.t, p.mem, "sessions").Snapshot()
	for shard, want := range txns {
		if got := s.Txns[fmt.Sprintf("c1/p/%d/sessions.revisions", shard)]; got != want {
			p.t.Errorf("shard %d: txn %d, want %d", shard, got, want)
		}
	}
}

func (p *passes) version() int64 { return openTable(p.t, p.mem, "sessions").Snapshot().Version }

// The revisions of a turn are one pass and one commit, which replaces each file once and moves the txn of each shard.
// Who comes later, or repeats what is done, does so by itself.
func TestRevisionsTogether(t *testing.T) {
	p := newPasses(t)
	before := p.version()
	plans := []*state.Plan{p.plan(0, 2, 3), p.plan(1, 2, 4), p.plan(2, 2, 3)}
	for _, err := range p.write(3, []uint32{0, 1, 2}, plans...) {
		p.must(err)
	}
	p.check(3, 4, 3)
	if n := p.version() - before; n != 1 {
		t.Errorf("%d commits", n)
	}
	data, err := p.mem.Get(t.Context(), fmt.Sprintf("sessions/_delta_log/%020d.json", before+1))
	p.must(err)
	if n := strings.Count(string(data), `{"remove"`); n != 4 {
		t.Errorf("%d files are replaced", n)
	}
	// A shard is absent; one has been written by another leader.
	p.d.Revisions().Begin(sinks.Turn{Number: 4, Every: 10 * time.Second}, []uint32{0, 1, 2})
	p.d.Revisions().Absent(sinks.Turn{Number: 4}, 1)
	for _, err := range p.write(4, nil, p.plan(0, 3, 5), plans[2]) {
		p.must(err)
	}
	p.check(5, 4, 3)
	if n := p.version() - before; n != 2 {
		t.Errorf("%d commits", n)
	}
	// All have been.
	for _, err := range p.write(5, []uint32{1, 2}, plans[1], plans[2]) {
		p.must(err)
	}
	if n := p.version() - before; n != 2 {
		t.Errorf("%d commits", n)
	}
}

// A row that the table refuses is its own plan's.
func TestRefusedInAPass(t *testing.T) {
	p := newPasses(t)
	s := openTable(t, p.mem, "sessions").Snapshot()
	p.must(p.mem.PutIfAbsent(t.Context(), fmt.Sprintf("sessions/_delta_log/%020d.json", s.Version+1),
		[]byte(`{"metaData":`+metadataWith(t, p.mem, "delta.constraints.known", "session_id <> 'bad'")+"}\n"+
			`{"protocol":{"minReaderVersion":1,"minWriterVersion":4}}`+"\n")))
	bad := p.m.sessionRow(1, 2, 7777)
	bad.SessionID = "bad"
	plan := statetest.NewPlan(state.Config{Shard: 1}, state.SinkRevisions, 2, 3, nil,
		statetest.Content{Rows: []schema.SessionRow{bad}})
	plan.Level = level.Lake
	errs := p.write(3, []uint32{0, 1, 2}, p.plan(0, 2, 3), plan, p.plan(2, 2, 3))
	p.must(errs[0])
	p.must(errs[2])
	if e, ok := errors.AsType[*sinks.RefusedError](errs[1]); !ok {
		t.Errorf("%v, want that the row is refused", e)
	}
	p.check(3, 0, 3)
}

// A pass ends when a Write does whose plan it reads, and the Write returns after it; the other plans go on alone.
func TestPassEndsWithAWrite(t *testing.T) {
	p := newPasses(t)
	turn := sinks.Turn{Number: 3, Every: 10 * time.Second}
	p.d.Revisions().Begin(turn, []uint32{0, 1})
	ctx, cancel := context.WithCancel(sinks.WithTurn(t.Context(), turn))
	defer cancel()
	reached, left := make(chan struct{}), make(chan struct{})
	stop := sync.OnceFunc(func() { close(reached); <-left })
	p.step = func(string) error { stop(); return nil }
	ended, other := make(chan error, 1), make(chan error, 1)
	lost := p.plan(0, 2, 3)
	go func() { ended <- p.d.Revisions().Write(ctx, lost) }()
	go func() { other <- p.d.Revisions().Write(sinks.WithTurn(t.Context(), turn), p.plan(1, 2, 3)) }()
	<-reached
	cancel()
	select {
	case err := <-ended:
		t.Errorf("the Write has ended with %v while its plan is read", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(left)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	p.must(<-other)
	p.must(p.d.Revisions().Write(t.Context(), lost)) // the next leader's
	p.check(3, 3)
}

// A pass that is killed at any step has moved the txns of all shards or of none, and each shard repeats its plan alone
// or together with others.
func TestPassIsKilled(t *testing.T) {
	errKilled := errors.New("killed")
	for at := 1; ; at++ {
		p := newPasses(t)
		before, n := p.version(), 0
		p.step = func(string) error {
			if n++; n >= at && p.version() == before || n == at { // nobody goes on until it has committed
				return errKilled
			}
			return nil
		}
		plans := []*state.Plan{p.plan(0, 2, 3), p.plan(1, 2, 4), p.plan(2, 2, 3)}
		errs := p.write(3, []uint32{0, 1, 2}, plans...)
		failed := slices.ContainsFunc(errs, func(err error) bool { return err != nil })
		p.step = nil
		for i, err := range p.write(4, []uint32{0, 1, 2}, plans...) {
			if err != nil {
				t.Errorf("killed at step %d, shard %d: %v", at, i, err)
			}
		}
		p.check(3, 4, 3)
		if t.Failed() || !failed {
			if at < 10 {
				t.Errorf("a pass of %d steps", at)
			}
			return
		}
	}
}

var _ sinks.Joint = (*Revisions)(nil)
