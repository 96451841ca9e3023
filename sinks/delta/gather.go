package delta

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
	"deckle/state"
)

// Offerer has an offer committed by the node that commits for all, and returns what has become of it. It ends with ctx.
// An error says that the outcome is not known: nobody answered, or nobody could be asked.
type Offerer func(ctx context.Context, o *deltalog.Offer) (deltalog.Answer, error)

// OutcomeAlone is told of a commit that the node has made by itself (Options.Offered). It is the answer to no offer.
const OutcomeAlone deltalog.Outcome = "alone"

const (
	// gatherFor is how long after a turn was heard a round waits for the plans of its shards.
	gatherFor = 300 * time.Millisecond
	// gatherAfter is how long a round waits at least for other plans once one is ready.
	gatherAfter = 50 * time.Millisecond
	// remembered is how many rounds are known after they were closed, so that they are not opened again.
	remembered = 64
)

// gather brings together the plans of one lane that a node writes in a turn. It has files made of the rows of all of
// them, but for plans that have staged files of their own; then one change with all files is offered to the committer.
// Whatever that answers, a plan is done only once this node has found it in the log itself: gather saves commits and
// files, and decides nothing.
type gather struct {
	o gatherOptions

	mu     sync.Mutex
	rounds map[uint64]*round // by the number of their turn
	order  []uint64          // of the rounds, oldest first
	closed bool
	ctx    context.Context // ends with the sink
	cancel context.CancelFunc
	wait   sync.WaitGroup // for offers
}

// gatherLog is the log of a table, as far as gathering needs it: a *deltalog.Log.
type gatherLog interface {
	Landed(ctx context.Context, version int64, c *deltalog.Change) (bool, error)
	Refresh(ctx context.Context) error
	Submit(ctx context.Context, c *deltalog.Change) error
}

// gatherOptions are what a gather works with.
type gatherOptions struct {
	lane, table string
	log         gatherLog
	offer       Offerer                      // nil: every plan is committed by itself
	young       func(*deltalog.Change) error // an error if a file was staged too long ago
	step        func(string) error           // Options.step
	logger      *slog.Logger
	offered     func(deltalog.Outcome) // what became of an offer; OutcomeAlone: of a commit by this node
	patience    time.Duration          // gatherFor, or Options.gatherFor
	// pass, if there is one, makes and commits a change of the plans of a round, and answers their seats. Nothing is
	// offered then.
	pass func(ctx context.Context, seats []*seat)
}

// draft is the change of one plan that only adds rows: with files that are staged, or with the rows.
type draft struct {
	change *deltalog.Change
	rows   unstaged // nil: the files are staged
	bytes  int64    // of its part of a file that was made for several plans, once that is staged

	// In place of a change, if gatherOptions.pass makes that of all plans: a plan, and the context of its Write.
	plan *state.Plan
	ctx  context.Context
}

// unstaged are the rows of one plan of which no file has been staged yet.
type unstaged interface {
	// stage makes files of these rows and of those of other plans of the same lane, uploads them, and returns them with
	// the number of their rows. All of the plans were judged by the same rules. It may be called again: the rows stay.
	stage(ctx context.Context, others []unstaged) (adds []deltalog.Add, rows int64, err error)
}

// errRows says that the files of a change have not as many rows as its plans: the change must not be committed.
var errRows = errors.New("delta: the files of a change have other rows than its plans")

// stage makes the files of drafts that have rows, in common, and adds them to a change. They are not to be used again
// by another change; each draft learns how many bytes are its part, by its rows.
func stage(ctx context.Context, c *deltalog.Change, drafts ...*draft) error {
	var all []unstaged
	want := int64(0)
	for _, d := range drafts {
		if d.rows != nil {
			all, want = append(all, d.rows), want+d.change.Rows
		}
	}
	if len(all) == 0 {
		return nil
	}
	adds, rows, err := all[0].stage(ctx, all[1:])
	if err != nil {
		return err
	}
	// gofail: var bugJoinedUncounted struct{}
	// want = rows
	if rows != want {
		return fmt.Errorf("%w: %d, want %d", errRows, rows, want)
	}
	bytes := int64(0)
	for i := range adds {
		bytes += adds[i].Size
	}
	for _, d := range drafts {
		if d.rows != nil && want > 0 {
			d.bytes = int64(float64(bytes) * float64(d.change.Rows) / float64(want))
		}
	}
	c.Adds = append(c.Adds, adds...)
	return nil
}

// own stages what the draft has as files of its own.
func (d *draft) own(ctx context.Context) error {
	if err := stage(ctx, d.change, d); err != nil {
		return err
	}
	d.rows = nil
	return nil
}

// round is the plans of one turn. What is ready, as its files are staged or its rows are there, is offered together: at
// the end all that is left, once each shard has come and is ready, or is absent; before that, once its time is over,
// what there is, with word that more will come. Plans of shards that were absent and come all the same are gathered for
// a moment. Whether what comes late is committed at once is for the committer to say.
type round struct {
	turn    sinks.Turn
	missing map[uint32]bool // shards led that neither have come nor are absent
	seats   []*seat         // that have come, and have neither left nor been offered
	late    bool            // gatherOptions.patience is over
	ended   bool            // no more will come: the committer is told so with the last of what is being staged
	staging int             // offers that are being staged
	batch   *time.Timer     // runs since a plan is ready; nil: none has become so since the last offer
	due     bool            // gatherAfter is over for these
	timer   *time.Timer     // of patience
}

// seat is the place of one plan in a round. A nil seat is a plan by itself.
type seat struct {
	g     *gather
	r     *round
	shard uint32
	draft *draft     // set once it is ready
	left  bool       // it brings nothing for the round any more
	done  chan error // buffered; errAlone: the plan is to be committed by itself
}

// errAlone says that a plan's change is to be committed by itself.
var errAlone = errors.New("delta: the change is committed by itself")

func newGather(o gatherOptions) *gather {
	g := &gather{o: o, rounds: map[uint64]*round{}}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// close ends the rounds, and waits for offers that are under way.
func (g *gather) close() {
	g.mu.Lock()
	g.closed = true
	for _, r := range g.rounds {
		r.timer.Stop()
		g.look(r)
	}
	g.mu.Unlock()
	g.cancel()
	g.wait.Wait()
}

// Begin implements sinks.Joint.
func (g *gather) Begin(t sinks.Turn, shards []uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.o.offer == nil && g.o.pass == nil || g.closed || g.rounds[t.Number] != nil {
		return
	}
	r := &round{turn: t, missing: map[uint32]bool{}}
	for _, s := range shards {
		r.missing[s] = true
	}
	r.timer = time.AfterFunc(g.o.patience, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		r.late = true
		g.look(r)
	})
	g.rounds[t.Number], g.order = r, append(g.order, t.Number)
	for len(g.order) > remembered && len(g.rounds[g.order[0]].seats) == 0 {
		g.rounds[g.order[0]].timer.Stop()
		delete(g.rounds, g.order[0])
		g.order = g.order[1:]
	}
	g.look(r)
}

// Absent implements sinks.Joint.
func (g *gather) Absent(t sinks.Turn, shard uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.rounds[t.Number]; r != nil {
		delete(r.missing, shard)
		g.look(r)
	}
}

// come gives a plan its seat, nil if the Write has no turn that is known here.
func (g *gather) come(ctx context.Context, shard uint32) *seat {
	t, ok := sinks.TurnOf(ctx)
	if !ok {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.rounds[t.Number]
	if r == nil || g.closed || slices.ContainsFunc(r.seats, func(s *seat) bool { return s.shard == shard }) {
		return nil
	}
	s := &seat{g: g, r: r, shard: shard, done: make(chan error, 1)}
	r.seats = append(r.seats, s)
	delete(r.missing, shard)
	return s
}

// look offers what is ready in a round, if it is all or if that was waited for. The caller holds the lock.
func (g *gather) look(r *round) {
	ready := slices.DeleteFunc(slices.Clone(r.seats), func(s *seat) bool { return s.draft == nil })
	whole := len(r.missing) == 0 && len(ready) == len(r.seats)
	if g.closed {
		g.answer(ready, errAlone)
		r.seats = slices.DeleteFunc(r.seats, func(s *seat) bool { return s.draft != nil })
		return
	}
	if len(ready) > 0 && r.batch == nil {
		var batch *time.Timer
		batch = time.AfterFunc(gatherAfter, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			if r.batch == batch {
				r.due = true
				g.look(r)
			}
		})
		r.batch = batch
	}
	switch {
	case whole && !r.ended:
	case len(ready) > 0 && r.due && r.late:
	default:
		return
	}
	if r.batch != nil {
		r.batch.Stop()
	}
	r.batch, r.due, r.ended = nil, false, whole
	r.seats = slices.DeleteFunc(r.seats, func(s *seat) bool { return s.draft != nil })
	if len(ready) == 0 && r.staging > 0 {
		return // the last of those says it
	}
	r.staging++
	g.wait.Go(func() { g.commit(r, ready) })
}

// staged says that an offer of a round is staged, or could not be, and returns whether others will follow it.
func (g *gather) staged(r *round) (more bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r.staging--
	return !r.ended || r.staging > 0
}

// leave says that the plan brings nothing for its round. Nothing happens if it has.
func (s *seat) leave() {
	if s == nil {
		return
	}
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	if s.draft == nil && !s.left {
		s.left = true
		s.r.seats = slices.DeleteFunc(s.r.seats, func(o *seat) bool { return o == s })
		s.g.look(s.r)
	}
}

// submit hands over the change of a plan, and returns what has become of it: nil once this node has found it in the
// log, errAlone if it is to be committed by itself.
func (s *seat) submit(ctx context.Context, d *draft) error {
	if s == nil {
		return errAlone
	}
	s.g.mu.Lock()
	if s.draft != nil || s.left {
		s.g.mu.Unlock()
		return errAlone
	}
	s.draft = d
	s.g.look(s.r)
	s.g.mu.Unlock()
	select {
	case err := <-s.done:
		return err
	case <-ctx.Done(): // it may still become visible, as after Submit
		return ctx.Err()
	}
}

// join has the plan written by the pass of its round, and returns what has become of it: errAlone if it is to be
// written by itself. The plan is not read any more once it returns.
func (s *seat) join(ctx context.Context, plan *state.Plan) error {
	if s == nil {
		return errAlone
	}
	s.g.mu.Lock()
	s.draft = &draft{plan: plan, ctx: ctx}
	s.g.look(s.r)
	s.g.mu.Unlock()
	select {
	case err := <-s.done:
		return err
	case <-ctx.Done():
	}
	s.g.mu.Lock()
	waits := slices.Contains(s.r.seats, s)
	if waits {
		s.r.seats = slices.DeleteFunc(s.r.seats, func(o *seat) bool { return o == s })
		s.g.look(s.r)
	}
	s.g.mu.Unlock()
	if waits {
		return ctx.Err()
	}
	return <-s.done // the pass is under way, and ends with ctx
}

func (g *gather) answer(seats []*seat, err error) {
	for _, s := range seats {
		s.done <- err
	}
}

// commit has changes of a round committed, and answers their plans.
func (g *gather) commit(r *round, seats []*seat) {
	if g.o.pass != nil {
		g.staged(r)
		if len(seats) > 0 {
			g.o.pass(g.ctx, seats)
		}
		return
	}
	t := r.turn
	o := &deltalog.Offer{Format: deltalog.OfferFormat, Table: g.o.table, Lane: g.o.lane, Turn: t.Number}
	joined := seats[:0:0]
	var alone []*seat
	var drafts []*draft
	for _, s := range seats {
		// Rows that were judged by other rules of the table cannot be in one change.
		if len(joined) > 0 && s.draft.change.Rules != o.Rules {
			alone = append(alone, s)
			continue
		}
		o.Change = join(o.Change, s.draft.change)
		joined, drafts = append(joined, s), append(drafts, s.draft)
	}
	g.answer(alone, errAlone)
	err := stage(g.ctx, &o.Change, drafts...)
	o.More = g.staged(r)
	switch {
	case err == nil && len(joined) > 0:
		g.answer(joined, g.settle(t, o))
		return
	case err != nil:
		g.answer(joined, err)
	}
	if o.Change = (deltalog.Change{}); !o.More {
		_, _ = g.ask(t, o) // nobody is to wait for this node; nothing depends on the answer
	}
}

// ask waits for an answer as long as two turns last, if the Offerer does not give up before: an offer without a token
// is committed with those of the next turn.
func (g *gather) ask(t sinks.Turn, o *deltalog.Offer) (deltalog.Answer, error) {
	ctx, cancel := context.WithTimeout(g.ctx, max(2*t.Every, 2*time.Second))
	defer cancel()
	return g.o.offer(ctx, o)
}

// join adds the change of a plan that only adds files to another one of such changes.
func join(to deltalog.Change, c *deltalog.Change) deltalog.Change {
	return deltalog.Change{Parts: append(to.Parts, c.Parts...), Last: true, Adds: append(to.Adds, c.Adds...),
		ReadVersion: max(to.ReadVersion, c.ReadVersion), Rules: c.Rules, Rows: to.Rows + c.Rows}
}

// settle offers a change, and looks for it in the log; if it is not there, it is committed here, with the same files.
// errAlone says that the plans of the change have to go on one by one, each by its own check: some of them are done, or
// somebody has moved one of them, or the table has other rules.
func (g *gather) settle(t sinks.Turn, o *deltalog.Offer) error {
	if err := g.o.step("offer"); err != nil {
		return err
	}
	answer, err := g.ask(t, o)
	if err != nil {
		g.o.logger.Debug("delta: an offer has no answer", "lane", g.o.lane, "turn", o.Turn, "error", err)
		answer.Outcome = deltalog.OutcomeNo
	}
	switch answer.Outcome {
	case deltalog.OutcomeCommitted, deltalog.OutcomeDone, deltalog.OutcomeSplit, deltalog.OutcomeRebuild:
	default:
		answer.Outcome = deltalog.OutcomeNo
	}
	g.o.offered(answer.Outcome)
	if err := g.o.step("offered"); err != nil {
		return err
	}
	if answer.Outcome == deltalog.OutcomeCommitted {
		// gofail: var bugSharedTrusted struct{}
		// return nil
		landed, err := g.o.log.Landed(g.ctx, answer.Version, &o.Change)
		if landed || err != nil {
			return err
		}
	}
	// From here on the log says what has become of it, whatever the answer was.
	if err := g.o.log.Refresh(g.ctx); err != nil {
		return err
	}
	if err := g.o.young(&o.Change); err != nil {
		return err
	}
	if err = g.o.log.Submit(g.ctx, &o.Change); err == nil {
		g.o.offered(OutcomeAlone)
	}
	_, split := errors.AsType[*deltalog.SplitError](err)
	if split || errors.Is(err, deltalog.ErrRebuild) {
		return errAlone
	}
	return err
}
