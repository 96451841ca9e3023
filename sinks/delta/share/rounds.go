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
	// Wait is how long a round is open after its turn was heard (delta.commit_wait), Revisions how long one of
	// revisions is after its first offer.
	Wait, Revisions time.Duration
	Now             func() time.Time // carries a monotonic reading, or never goes back; default time.Now
	Metrics         *Metrics
}

const (
	// gathering is how long a round is open after its first offer at least: those of one turn come together. While its
	// table has no token, outOfTokens comes on top of that, too.
	gathering = 50 * time.Millisecond
	// outOfTokens is how much longer rounds are while their table has no token.
	outOfTokens = time.Second
	// withdrawnAfter bounds how old an offer may be when it is committed, beyond the time of its round.
	withdrawnAfter = 30 * time.Second
)

// Rounds are the committer's rounds, for all lanes and tables. Its methods are safe for concurrent use.
type Rounds struct {
	o Options

	mu     sync.Mutex
	lanes  map[laneName]*lane
	tokens map[string]*tokens // by table
	turns  [2]heard           // the last turn that was heard, and the last with Revise
	closed bool

	ctx  context.Context // ends with Close
	end  context.CancelFunc
	work sync.WaitGroup
}

// heard is a turn, and when it was heard here.
type heard struct {
	number uint64
	at     time.Time // zero: none was
}

type laneName struct{ table, lane string }

// lane are the rounds of one lane of a table, one after the other.
type lane struct {
	name    laneName
	round   *round            // the open one, nil if none is
	served  bool              // the round of the last turn is closed
	offered map[string]uint64 // for which turn each node has offered last
	held    []*waiting        // for the next round, since there was no token
}

// round is an open round.
type round struct {
	turn   uint64
	offers []*waiting
	until  time.Time
	timer  *time.Timer // closes it
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
	h := heard{t.Number, r.o.Now()}
	r.turns[0] = h
	if t.Revise {
		r.turns[1] = h
	}
	for _, l := range r.lanes {
		if l.name.lane == deltalog.LaneRevisions && !t.Revise {
			continue
		}
		l.served = false
		for n, turn := range l.offered {
			if turn > t.Number { // by a clock that was ahead: it would never be waited for
				delete(l.offered, n)
			}
		}
		if len(l.held) > 0 && l.round == nil {
			r.open(l)
		}
	}
}

// current is the turn to which a lane's rounds belong.
func (r *Rounds) current(l *lane) heard {
	if l.name.lane == deltalog.LaneRevisions {
		return r.turns[1]
	}
	return r.turns[0]
}

// Offer takes an offer of a node, and returns what has become of it once that is known, or once ctx has ended: then the
// offer is withdrawn, unless its commit has begun. An empty offer is answered at once.
func (r *Rounds) Offer(ctx context.Context, from string, o *deltalog.Offer) deltalog.Answer {
	if err := r.check(from, o); err != nil {
		return no(err)
	}
	r.mu.Lock()
	l := r.lane(o)
	l.offered[from] = max(l.offered[from], o.Turn)
	if len(o.Parts) == 0 {
		r.closeIfWhole(l)
		r.mu.Unlock()
		return deltalog.Answer{Outcome: deltalog.OutcomeDone}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := time.AfterFunc(withdrawnAfter+r.longest(l), cancel)
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

// take puts an offer into the open round, opens one with it, commits it at once, or holds it. It is called with mu
// held.
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
	case r.tokensOf(l.name.table).take(r.o.Now()):
		r.o.Metrics.tokens(l.name.table, r.tokensOf(l.name.table).left)
		r.commit(l, []*waiting{w})
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
func (r *Rounds) open(l *lane) {
	now, turn := r.o.Now(), r.current(l)
	l.round = &round{turn: turn.number, offers: l.held, until: now.Add(r.longest(l))}
	l.held = nil
	if l.name.lane != deltalog.LaneRevisions && !turn.at.IsZero() {
		l.round.until = turn.at.Add(r.longest(l))
		if first := now.Add(gathering + r.lacking(l)); first.After(l.round.until) {
			l.round.until = first
		}
	}
	rd := l.round
	rd.timer = time.AfterFunc(rd.until.Sub(now), func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if l.round == rd {
			r.close(l)
		}
	})
	r.closeIfWhole(l)
}

// longest is how long a round of the lane is open at most, from its turn or, of revisions, from its first offer.
func (r *Rounds) longest(l *lane) time.Duration {
	d := r.o.Wait
	if l.name.lane == deltalog.LaneRevisions {
		d = r.o.Revisions
	}
	return d + r.lacking(l)
}

// lacking is how much longer a round waits since its table has no token: whoever comes after it has to wait for the
// next one.
func (r *Rounds) lacking(l *lane) time.Duration {
	if r.tokensOf(l.name.table).has(r.o.Now()) {
		return 0
	}
	return outOfTokens
}

// closeIfWhole closes the open round if nobody is to be waited for. It is called with mu held.
func (r *Rounds) closeIfWhole(l *lane) {
	if l.round != nil && len(r.missing(l)) == 0 {
		r.close(l)
	}
}

// missing are the nodes that lead a shard and have not offered for the turn of the open round, or for a later one.
func (r *Rounds) missing(l *lane) (nodes []string) {
	for shard := range r.o.Peers.Shards() {
		n := r.o.Peers.Leader(shard)
		turn, ok := l.offered[n]
		if n != "" && (!ok || turn < l.round.turn) && !slices.Contains(nodes, n) {
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
	l.served = l.served || rd.turn == r.current(l).number
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
		l = &lane{name: name, offered: map[string]uint64{}}
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
