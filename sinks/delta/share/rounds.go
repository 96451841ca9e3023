package share

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
)

// Log is the log of a table, as far as rounds need it: a *deltalog.Log.
type Log interface {
	SubmitAll(ctx context.Context, group []deltalog.Submission) []deltalog.Answer
}

// Peers says who leads what, by the replicas of this node.
type Peers interface {
	Self() string                   // this node's name
	Shards() uint32                 // of the cluster
	Leader(shard uint32) (n string) // the name of the node that leads a shard, "" if none is known
}

// Options of Rounds. All fields but Now and Metrics are required.
type Options struct {
	Peers Peers
	// Log returns the log of a table, nil if the table is not open here, or unknown.
	Log func(table string) Log
	// Check returns why an offer of a node that leads these shards is not taken (deltalog.Offer.Check).
	Check func(o *deltalog.Offer, leads func(shard uint32) bool) error
	// Wait is how long a round is open after its turn was heard (delta.commit_wait).
	Wait    time.Duration
	Now     func() time.Time // carries a monotonic reading, or never goes back; default time.Now
	Metrics *Metrics
}

const (
	// gathering is how long a round is open after its first offer at least: those of one turn come together.
	gathering = 50 * time.Millisecond
	// mostPatience bounds, with three quarters of an interval, how long after its turn a round waits for anybody.
	mostPatience = 10 * time.Second
	// withdrawnAfter bounds how old an offer may be when it is committed, beyond the time of its round.
	withdrawnAfter = 30 * time.Second
)

// Rounds are the committer's rounds, for all lanes and tables. Its methods are safe for concurrent use.
type Rounds struct {
	o Options

	mu     sync.Mutex
	lanes  map[laneName]*lane
	tokens map[string]*tokens // by table
	turn   heard              // the last one that was heard
	closed bool

	ctx  context.Context // ends with Close
	end  context.CancelFunc
	work sync.WaitGroup
}

// heard is a turn, and when it was heard here.
type heard struct {
	number uint64
	every  time.Duration
	at     time.Time // zero: none was
}

type laneName struct{ table, lane string }

// lane are the rounds of one lane of a table, one after the other.
type lane struct {
	name   laneName
	round  *round          // the open one, nil if none is
	served bool            // the first round of the last turn is closed
	last   map[string]said // what each node has offered last
	held   []*waiting      // for the next turn, since there was no token
}

// said is what a node has said of its last offer.
type said struct {
	turn uint64
	more bool // others will follow
}

// round is an open round.
type round struct {
	turn   uint64
	late   bool // it takes a token: the first one of the turn is closed
	offers []*waiting
	// longest is when it waits for nobody any more.
	longest time.Time
	waited  bool        // its first time is over: it waits only for nodes that are at work
	timer   *time.Timer // of what it waits for
}

// waiting is an offer without an answer.
type waiting struct {
	ctx    context.Context
	from   string
	turn   uint64
	change *deltalog.Change
	answer chan deltalog.Answer // has room for one
	taken  time.Time
}

// New returns rounds that nobody has offered anything to.
func New(o Options) *Rounds {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	r := &Rounds{o: o, lanes: map[laneName]*lane{}, tokens: map[string]*tokens{}}
	r.ctx, r.end = context.WithCancel(context.Background())
	return r
}

// Heard says that a turn was heard by this node. The rounds that follow belong to it.
func (r *Rounds) Heard(t sinks.Turn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn = heard{t.Number, t.Every, r.o.Now()}
	for _, l := range r.lanes {
		if l.round != nil && l.round.late { // what follows is of the next turn, which has a commit of its own
			r.close(l)
		}
		l.served = false
		for n, s := range l.last {
			if s.turn > t.Number { // by a clock that was ahead: it would never be waited for
				delete(l.last, n)
			}
		}
		if len(l.held) > 0 && l.round == nil {
			r.open(l)
		}
	}
}

// Offer takes an offer of a node, and returns what has become of it once that is known, or once ctx has ended: then the
// offer is withdrawn, unless its commit has begun. An empty offer is answered at once.
func (r *Rounds) Offer(ctx context.Context, from string, o *deltalog.Offer) deltalog.Answer {
	if err := r.check(from, o); err != nil {
		return no(err)
	}
	r.mu.Lock()
	l := r.lane(o)
	if s := l.last[from]; o.Turn >= s.turn {
		l.last[from] = said{o.Turn, o.More}
	}
	if len(o.Parts) == 0 {
		r.closeIfWhole(l)
		r.mu.Unlock()
		return deltalog.Answer{Outcome: deltalog.OutcomeDone}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := time.AfterFunc(withdrawnAfter+r.o.Wait+r.patience(l), cancel)
	defer stop.Stop()
	w := &waiting{ctx: ctx, from: from, turn: o.Turn, change: &o.Change, answer: make(chan deltalog.Answer, 1),
		taken: r.o.Now()}
	err := r.take(l, w)
	r.mu.Unlock()
	if err != nil {
		return no(err)
	}
	// gofail: var deltaOfferTaken struct{}
	select {
	case a := <-w.answer:
		return a
	case <-ctx.Done():
		r.withdraw(l, w)
		return no(context.Cause(ctx))
	}
}

// take puts an offer into the open round, opens one with it, or holds it. It is called with mu held.
func (r *Rounds) take(l *lane, w *waiting) error {
	if r.closed {
		return errClosed
	}
	if l.round != nil {
		if i := slices.IndexFunc(l.round.offers, w.alike); i >= 0 { // the node has given the former one up
			l.round.offers[i].answer <- no(errNewer)
			l.round.offers = slices.Delete(l.round.offers, i, i+1)
		}
		l.round.offers = append(l.round.offers, w)
		r.closeIfWhole(l)
		return nil
	}
	if i := slices.IndexFunc(l.held, w.alike); i >= 0 {
		l.held[i].answer <- no(errNewer)
		l.held[i] = w
		return nil
	}
	switch {
	case !l.served:
		l.held = append(l.held, w)
		r.open(l)
	case r.tokensOf(l.name.table).has(r.o.Now()):
		l.held = append(l.held, w)
		r.open(l)
	default:
		l.held = append(l.held, w)
	}
	return nil
}

// alike reports whether two offers are the same one, made twice. Of one turn a node may have several, as some of its
// shards may be late; they have no part in common.
func (w *waiting) alike(o *waiting) bool {
	return o.from == w.from && o.turn == w.turn &&
		slices.ContainsFunc(o.change.Parts, func(p deltalog.Part) bool {
			return slices.ContainsFunc(w.change.Parts, func(q deltalog.Part) bool { return p.AppID == q.AppID })
		})
}

var (
	errNewer  = errors.New("share: the node has made a newer offer for the turn")
	errClosed = errors.New("share: this node ends")
)

// open opens a round with the offers that are held. It is called with mu held, where no round is open.
//
//	first  for commit_wait from the turn, or until every node has offered all that it will
//	late   a moment, since nobody says of a shard that was at something else when it will come
//
// After that both wait for nodes that are at work, until longest.
func (r *Rounds) open(l *lane) {
	now, turn := r.o.Now(), r.turn
	rd := &round{turn: turn.number, late: l.served, offers: l.held}
	l.round, l.held = rd, nil
	var until time.Time
	switch patience := r.patience(l); {
	case rd.late:
		until, rd.longest = now.Add(gathering+patience/4), now.Add(r.o.Wait+patience)
	default:
		from := turn.at
		if from.IsZero() {
			from = now
		}
		until, rd.longest = from.Add(r.o.Wait), from.Add(r.o.Wait+patience)
		if first := now.Add(gathering); first.After(until) {
			until = first
		}
	}
	if rd.longest.Before(until) {
		rd.longest = until
	}
	rd.timer = time.AfterFunc(until.Sub(now), func() { r.over(l, rd) })
	r.closeIfWhole(l)
}

// over ends a round whose time is over, or lets it wait for nodes that are at work: those that have offered a part of
// this turn, or all of the last one.
func (r *Rounds) over(l *lane, rd *round) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.round != rd {
		return
	}
	now, turn := r.o.Now(), rd.turn
	works := slices.ContainsFunc(r.missing(l), func(n string) bool {
		s, ok := l.last[n]
		return ok && s.turn+1 >= turn
	})
	if rd.waited = true; works && now.Before(rd.longest) {
		rd.timer.Reset(rd.longest.Sub(now))
		return
	}
	r.close(l)
}

// patience is how much longer than for commit_wait a round waits for nodes that are at work. The fewer tokens its table
// has, the longer that is: so tokens go where a little patience does not help, and hardly ever run out.
func (r *Rounds) patience(l *lane) time.Duration {
	spent := 1 - r.tokensOf(l.name.table).now(r.o.Now())/mostTokens
	most := max(min(r.turn.every*3/4, mostPatience)-r.o.Wait, 0)
	return time.Duration(spent * spent * float64(most))
}

// closeIfWhole closes the open round if nobody is to be waited for. It is called with mu held.
func (r *Rounds) closeIfWhole(l *lane) {
	if l.round != nil && (!l.round.late || l.round.waited) && len(r.missing(l)) == 0 {
		r.close(l)
	}
}

// missing are the nodes that lead a shard and have not offered all for the turn of the open round, or for a later one.
func (r *Rounds) missing(l *lane) (nodes []string) {
	for shard := range r.o.Peers.Shards() {
		n := r.o.Peers.Leader(shard)
		s, ok := l.last[n]
		if n != "" && (!ok || s.turn < l.round.turn || s.more) && !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// close ends the open round and commits what it has. It is called with mu held.
func (r *Rounds) close(l *lane) {
	rd := l.round
	for _, n := range r.missing(l) {
		r.o.Metrics.late(l.name.table, n)
	}
	rd.timer.Stop()
	l.round = nil
	if rd.late && !r.tokensOf(l.name.table).take(r.o.Now()) {
		l.held = rd.offers // another lane of the table has taken the last one
		return
	}
	l.served = l.served || rd.turn == r.turn.number
	r.o.Metrics.tokens(l.name.table, r.tokensOf(l.name.table).now(r.o.Now()))
	r.commit(l, rd.offers)
}

// commit puts offers into the log, in the background, and answers them. It is called with mu held.
func (r *Rounds) commit(l *lane, offers []*waiting) {
	if len(offers) == 0 {
		return
	}
	log, now := r.o.Log(l.name.table), r.o.Now()
	all := make([]deltalog.Submission, len(offers))
	nodes := map[string]bool{}
	first := now
	for i, w := range offers {
		all[i] = deltalog.Submission{Change: w.change, Withdrawn: w.ctx.Done()}
		nodes[w.from] = true
		if w.taken.Before(first) {
			first = w.taken
		}
	}
	r.o.Metrics.round(l.name.table, len(nodes), now.Sub(first))
	r.work.Go(func() {
		if log == nil {
			for _, w := range offers {
				w.answer <- no(errNotOpen)
			}
			return
		}
		// gofail: var bugSharedWord struct{}
		// for _, w := range offers {
		// 	w.answer <- deltalog.Answer{Outcome: deltalog.OutcomeCommitted}
		// }
		// return
		for i, a := range log.SubmitAll(r.ctx, all) {
			offers[i].answer <- a
		}
		// gofail: var deltaSharedPut struct{}
	})
}

var errNotOpen = errors.New("share: the table is not open here")

// withdraw takes an offer out of its round, if that is still open. A round that nobody waits for ends.
func (r *Rounds) withdraw(l *lane, w *waiting) {
	r.mu.Lock()
	defer r.mu.Unlock()
	same := func(o *waiting) bool { return o == w }
	l.held = slices.DeleteFunc(l.held, same)
	if l.round != nil {
		l.round.offers = slices.DeleteFunc(l.round.offers, same)
		if len(l.round.offers) == 0 {
			l.round.timer.Stop()
			l.round = nil
		}
	}
}

// check returns why an offer is not taken.
func (r *Rounds) check(from string, o *deltalog.Offer) error {
	if leads := r.o.Peers.Leader(0); leads != r.o.Peers.Self() {
		return fmt.Errorf("share: node %s is not the committer, %q is", r.o.Peers.Self(), leads)
	}
	if r.o.Log(o.Table) == nil {
		return errNotOpen
	}
	if err := r.o.Check(o, func(shard uint32) bool { return r.o.Peers.Leader(shard) == from }); err != nil {
		return fmt.Errorf("share: node %s: %w", from, err)
	}
	return nil
}

func (r *Rounds) lane(o *deltalog.Offer) *lane {
	name := laneName{o.Table, o.Lane}
	l := r.lanes[name]
	if l == nil {
		l = &lane{name: name, last: map[string]said{}}
		r.lanes[name] = l
	}
	return l
}

func (r *Rounds) tokensOf(table string) *tokens {
	t := r.tokens[table]
	if t == nil {
		t = newTokens(r.o.Now())
		r.tokens[table] = t
	}
	return t
}

// Close answers what waits with "no", takes nothing any more, and waits for the commits that have begun: the log gives
// them an answer at once.
func (r *Rounds) Close() {
	r.mu.Lock()
	r.closed = true
	for _, l := range r.lanes {
		offers := l.held
		if l.round != nil {
			l.round.timer.Stop()
			offers = append(offers, l.round.offers...)
		}
		l.round, l.held = nil, nil
		for _, w := range offers {
			w.answer <- no(errClosed)
		}
	}
	r.mu.Unlock()
	r.end()
	r.work.Wait()
}

// no is the answer to an offer that this node does not commit.
func no(why error) deltalog.Answer {
	return deltalog.Answer{Outcome: deltalog.OutcomeNo, Error: why.Error()}
}
