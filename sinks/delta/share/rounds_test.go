package share

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
)

const (
	every = 10 * time.Second
	wait  = 550 * time.Millisecond
)

// world is a cluster of which one node's rounds are tested: who leads what, and what has been handed to the log.
type world struct {
	t *testing.T
	*Rounds
	self    string
	began   time.Time
	mu      sync.Mutex
	leaders []string
	commits []string                    // of the log: "time: what"
	lag     time.Duration               // of the log
	fails   map[string]deltalog.Outcome // by what
}

func newWorld(t *testing.T, leaders ...string) *world {
	w := &world{t: t, self: "a", began: time.Now(), leaders: leaders, fails: map[string]deltalog.Outcome{}}
	w.Rounds = New(Options{Peers: w, Wait: wait,
		Log: func(table string) Log {
			if table == "elsewhere" {
				return nil
			}
			return w
		},
		Check: func(o *deltalog.Offer, leads func(uint32) bool) error {
			for _, p := range o.Parts {
				var s uint32
				if _, err := fmt.Sscanf(p.AppID, "c/p/%d/", &s); err != nil || !leads(s) {
					return errors.New("no part of it")
				}
			}
			return nil
		}})
	return w
}

func (w *world) Self() string   { return w.self }
func (w *world) Shards() uint32 { return uint32(len(w.leaders)) }
func (w *world) Leader(shard uint32) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leaders[shard]
}

func (w *world) lead(leaders ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leaders = leaders
}

// SubmitAll notes a commit, and what was in it.
func (w *world) SubmitAll(_ context.Context, changes []deltalog.Submission) (all []deltalog.Answer) {
	time.Sleep(w.lag)
	w.mu.Lock()
	defer w.mu.Unlock()
	var in []string
	for _, c := range changes {
		what := c.Change.Operation
		switch {
		case isClosed(c.Withdrawn):
			all = append(all, no(errors.New("withdrawn")))
			continue
		case w.fails[what] != "":
			all = append(all, deltalog.Answer{Outcome: w.fails[what]})
			continue
		}
		in = append(in, what)
		all = append(all, deltalog.Answer{Outcome: deltalog.OutcomeCommitted, Version: int64(len(w.commits) + 1)})
	}
	w.commits = append(w.commits, fmt.Sprintf("%v %s", time.Since(w.began), strings.Join(in, " ")))
	return all
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// offer makes an offer of a node for shards, in the background.
func (w *world) offer(from string, turn uint64, shards ...uint32) <-chan deltalog.Answer {
	return w.offerIn(context.Background(), deltalog.LaneEvents, from, turn, shards...)
}

// more makes an offer of a node that will make others.
func (w *world) more(from string, turn uint64, shards ...uint32) <-chan deltalog.Answer {
	o := w.made(deltalog.LaneEvents, from, turn, shards...)
	o.More = true
	return w.send(context.Background(), from, o)
}

func (w *world) offerIn(
	ctx context.Context, lane, from string, turn uint64, shards ...uint32,
) <-chan deltalog.Answer {
	return w.send(ctx, from, w.made(lane, from, turn, shards...))
}

func (w *world) made(lane, from string, turn uint64, shards ...uint32) *deltalog.Offer {
	o := &deltalog.Offer{Format: deltalog.OfferFormat, Table: "t", Lane: lane, Turn: turn}
	for _, s := range shards {
		o.Parts = append(o.Parts, deltalog.Part{AppID: fmt.Sprintf("c/p/%d/%s", s, lane), Version: int64(turn)})
	}
	o.Operation = fmt.Sprint(from, shards)
	return o
}

func (w *world) send(ctx context.Context, from string, o *deltalog.Offer) <-chan deltalog.Answer {
	got := make(chan deltalog.Answer, 1)
	go func() { got <- w.Offer(ctx, from, o) }()
	synctest.Wait()
	return got
}

func (w *world) turn(n uint64) { w.Heard(sinks.Turn{Number: n, Every: every}) }

// want fails the test unless these are the commits since the last call.
func (w *world) want(commits ...string) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.commits, commits) {
		w.t.Errorf("commits\n%s, want\n%s", strings.Join(w.commits, "\n"), strings.Join(commits, "\n"))
	}
	w.commits, w.began = nil, time.Now()
}

func (w *world) is(got <-chan deltalog.Answer, want deltalog.Outcome) {
	w.t.Helper()
	synctest.Wait()
	select {
	case a := <-got:
		if a.Outcome != want {
			w.t.Errorf("answer %+v, want %s", a, want)
		}
	default:
		w.t.Errorf("no answer, want %s", want)
	}
}

// The offers of one turn are one commit, at once when nobody is missing.
func TestInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b", "c", "a")
		defer w.Close()
		w.turn(1)
		time.Sleep(100 * time.Millisecond)
		a, b := w.offer("a", 1, 0, 3), w.offer("b", 1, 1)
		time.Sleep(100 * time.Millisecond)
		w.want()
		c := w.offer("c", 1, 2)
		w.want("0s a[0 3] b[1] c[2]")
		for _, got := range []<-chan deltalog.Answer{a, b, c} {
			w.is(got, deltalog.OutcomeCommitted)
		}
		// A node that has nothing says so, and is not waited for; a turn without anything is no commit.
		w.turn(2)
		w.is(w.offer("b", 2), deltalog.OutcomeDone)
		w.is(w.offer("c", 2), deltalog.OutcomeDone)
		w.is(w.offer("a", 2, 0), deltalog.OutcomeCommitted)
		w.want("0s a[0]")
		w.turn(3)
		for _, n := range []string{"a", "b", "c"} {
			w.is(w.offer(n, 3), deltalog.OutcomeDone)
		}
		time.Sleep(every)
		w.want()
		// One that leads nothing is not waited for, one that leads on by what is known here is.
		w.lead("a", "a", "c", "a")
		w.turn(4)
		a = w.offer("a", 4, 0, 1)
		time.Sleep(10 * time.Millisecond)
		w.lead("a", "a", "", "a")
		w.is(w.offer("a", 4), deltalog.OutcomeDone)
		w.is(a, deltalog.OutcomeCommitted)
		w.want("10ms a[0 1]")
	})
}

// A round ends 550 ms after its turn was heard, or 50 ms after its first offer. Who is late is committed a moment
// later, for a token.
func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b", "c")
		defer w.Close()
		w.turn(1)
		time.Sleep(wait / 2)
		a := w.offer("a", 1, 0)
		time.Sleep(wait / 2)
		w.is(a, deltalog.OutcomeCommitted)
		w.want("550ms a[0]")
		time.Sleep(time.Second)
		b := w.offer("b", 1, 1)
		time.Sleep(gathering)
		w.is(b, deltalog.OutcomeCommitted)
		w.want("1.05s b[1]")
		if n := w.tokens["t"].left; n != mostTokens-1 {
			t.Errorf("%v tokens are left", n)
		}
		if n := testutil.ToFloat64(w.o.Metrics.lates.WithLabelValues("t", "c")); n != 2 {
			t.Errorf("node c was late %v times", n)
		}
		// All are late: they still meet.
		w.turn(2)
		time.Sleep(time.Second)
		a = w.offer("a", 2, 0)
		time.Sleep(gathering / 2)
		b = w.offer("b", 2, 1)
		time.Sleep(gathering / 2)
		w.is(a, deltalog.OutcomeCommitted)
		w.is(b, deltalog.OutcomeCommitted)
		w.want("1.05s a[0] b[1]")
		// A node that has not heard of the turn and offers for the one before joins the round, and is waited for.
		w.turn(3)
		b = w.offer("b", 2, 1)
		a, c := w.offer("a", 3, 0), w.offer("c", 3, 2)
		w.want()
		w.is(w.offer("b", 3), deltalog.OutcomeDone)
		for _, got := range []<-chan deltalog.Answer{a, b, c} {
			w.is(got, deltalog.OutcomeCommitted)
		}
		w.want("0s b[1] a[0] c[2]")
		// What a node offers of a turn later than the rest of it takes nothing away.
		w.lead("a", "b", "c", "b")
		w.turn(4)
		b = w.offer("b", 4, 1)
		later := w.offer("b", 4, 3)
		w.offer("a", 4, 0)
		w.is(w.offer("c", 4, 2), deltalog.OutcomeCommitted)
		w.is(b, deltalog.OutcomeCommitted)
		w.is(later, deltalog.OutcomeCommitted)
		w.want("0s b[1] b[3] a[0] c[2]")
	})
}

// A node may offer the same twice, and what nobody waits for is withdrawn.
func TestWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b", "c")
		defer w.Close()
		w.turn(1)
		first := w.offer("b", 1, 1)
		again := w.offer("b", 1, 1)
		w.is(first, deltalog.OutcomeNo)
		ctx, gone := context.WithCancel(t.Context())
		c := w.offerIn(ctx, deltalog.LaneEvents, "c", 1, 2)
		gone()
		w.is(c, deltalog.OutcomeNo)
		time.Sleep(wait)
		w.is(again, deltalog.OutcomeCommitted)
		w.want("550ms b[1]")
		// A round of which everything was withdrawn is none, and takes nothing.
		w.turn(2)
		ctx, gone = context.WithCancel(t.Context())
		w.offerIn(ctx, deltalog.LaneEvents, "c", 2, 2)
		gone()
		time.Sleep(wait)
		w.want()
		c = w.offer("c", 2, 2)
		time.Sleep(gathering)
		w.is(c, deltalog.OutcomeCommitted)
		w.want("50ms c[2]")
		// The log is slow: an offer is withdrawn after a while, and the log is told.
		w.turn(3)
		w.lag = time.Hour
		c = w.offer("c", 3, 2)
		time.Sleep(wait + withdrawnAfter)
		w.is(c, deltalog.OutcomeNo)
		time.Sleep(time.Hour)
		w.want(fmt.Sprintf("%v ", time.Hour+wait))
		// A node that ends answers all.
		w.lag = 0
		w.turn(4)
		c = w.offer("c", 4, 2)
		w.Close()
		w.is(c, deltalog.OutcomeNo)
		w.is(w.offer("c", 4, 2), deltalog.OutcomeNo)
		w.want()
	})
}

// Lanes do not wait for each other.
func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		defer w.Close()
		w.turn(1)
		r := w.offerIn(t.Context(), deltalog.LaneSessions, "b", 1, 1)
		w.offer("a", 1, 0)
		w.offer("b", 1, 1)
		w.want("0s a[0] b[1]")
		time.Sleep(wait)
		w.is(r, deltalog.OutcomeCommitted)
		w.want(fmt.Sprintf("%v b[1]", wait))
		late := w.offerIn(t.Context(), deltalog.LaneSessions, "a", 1, 0)
		time.Sleep(gathering)
		w.is(late, deltalog.OutcomeCommitted)
		if n := w.tokens["t"].left; n >= mostTokens {
			t.Errorf("%v tokens are left", n)
		}
	})
}

// The number of a turn by another clock does not decide what is committed when: one that is an hour ahead is not taken
// for the future.
func TestClocksAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		defer w.Close()
		w.turn(10)
		w.offer("b", 999, 1)
		w.is(w.offer("a", 10, 0), deltalog.OutcomeCommitted)
		w.want("0s b[1] a[0]")
		w.turn(11)
		a := w.offer("a", 11, 0)
		w.want() // b is waited for again
		w.is(w.offer("b", 11, 1), deltalog.OutcomeCommitted)
		w.is(a, deltalog.OutcomeCommitted)
		w.want("0s a[0] b[1]")
		if n := w.tokens["t"].left; n != mostTokens {
			t.Errorf("%v tokens are left", n)
		}
	})
}

// What becomes of each change is said of its offer. Offers that lie are not taken.
func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b", "c", "d")
		defer w.Close()
		w.fails["b[1]"], w.fails["c[2]"] = deltalog.OutcomeSplit, deltalog.OutcomeRebuild
		w.fails["d[3]"] = deltalog.OutcomeNo
		w.turn(1)
		a, b, c, d := w.offer("a", 1, 0), w.offer("b", 1, 1), w.offer("c", 1, 2), w.offer("d", 1, 3)
		w.is(a, deltalog.OutcomeCommitted)
		w.is(b, deltalog.OutcomeSplit)
		w.is(c, deltalog.OutcomeRebuild)
		w.is(d, deltalog.OutcomeNo)
		w.want("0s a[0]")
		w.turn(2)
		part := func(id string) deltalog.Change { return deltalog.Change{Parts: []deltalog.Part{{AppID: id}}} }
		for name, o := range map[string]*deltalog.Offer{
			"another's shard":   {Table: "t", Lane: "events", Turn: 2, Change: part("c/p/2/events")},
			"no part":           {Table: "t", Lane: "events", Turn: 2, Change: part("x")},
			"a table elsewhere": {Table: "elsewhere", Lane: "events", Turn: 2, Change: part("c/p/1/events")},
		} {
			if a := w.Offer(t.Context(), "b", o); a.Outcome != deltalog.OutcomeNo || a.Error == "" {
				t.Errorf("%s: %+v", name, a)
			}
		}
		w.lead("b", "b", "c", "d")
		w.is(w.offer("b", 2, 1), deltalog.OutcomeNo) // this node is not the committer any more
		w.lead("", "b", "c", "d")
		w.is(w.offer("b", 2, 1), deltalog.OutcomeNo)
		time.Sleep(every)
		w.want()
	})
}

// Two committers: each commits what it is given, and knows nothing of the other; the log decides.
func TestTwoCommitters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, other := newWorld(t, "a", "b"), newWorld(t, "b", "b")
		other.self = "b"
		defer w.Close()
		defer other.Close()
		w.turn(1)
		other.turn(1)
		got, twice := w.offer("b", 1, 1), other.offer("b", 1, 1)
		time.Sleep(wait)
		w.is(got, deltalog.OutcomeCommitted)
		other.is(twice, deltalog.OutcomeCommitted)
	})
}

// The client waits as long as there is hope, and less after it has waited in vain.
func TestClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		defer w.Close()
		var silent bool
		var sent int
		send := func(ctx context.Context, node string, what json.RawMessage) (json.RawMessage, error) {
			sent++
			if silent {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return Serve(ctx, "b", what, w.Rounds, func(string, sinks.Turn) {}), nil
		}
		peers := &world{t: t, self: "b", leaders: []string{"a", "b"}}
		c := NewClient(peers, nil, send)
		offer := func() (deltalog.Answer, time.Duration) {
			began := time.Now()
			a := c.Offer(t.Context(), &deltalog.Offer{Format: deltalog.OfferFormat, Table: "t", Lane: "events", Turn: 1,
				Change: deltalog.Change{Parts: []deltalog.Part{{AppID: "c/p/1/events"}}}}, every)
			return a, time.Since(began)
		}
		w.turn(1)
		if a, took := offer(); a.Outcome != deltalog.OutcomeCommitted || a.Version != 1 || took != wait {
			t.Errorf("%+v after %v", a, took)
		}
		silent = true
		for _, patience := range []time.Duration{every, shortPatience, shortPatience} {
			a, took := offer()
			if a.Outcome != deltalog.OutcomeNo || a.Error != errPatience.Error() || took != patience {
				t.Errorf("%+v after %v, want %v", a, took, patience)
			}
		}
		silent = false
		if a, _ := offer(); a.Outcome != deltalog.OutcomeCommitted {
			t.Errorf("%+v", a)
		}
		silent = true
		time.AfterFunc(time.Second, func() { peers.lead("", "b") })
		if a, took := offer(); a.Outcome != deltalog.OutcomeNo || took > time.Second+lookEvery {
			t.Errorf("no leader any more: %+v after %v", a, took)
		}
		sent = 0
		if a, took := offer(); a.Outcome != deltalog.OutcomeNo || took != 0 || sent != 0 {
			t.Errorf("no leader: %+v after %v", a, took)
		}
		peers.lead("a", "b")
		if a := c.Offer(t.Context(), &deltalog.Offer{Change: deltalog.Change{Operation: strings.Repeat("x",
			deltalog.MaxOffer)}}, every); a.Outcome != deltalog.OutcomeNo || sent != 0 {
			t.Errorf("a large offer: %+v", a)
		}
	})
}

// An ask reaches every node, and what is neither an ask nor an offer is answered.
func TestAskAndServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		defer w.Close()
		var mu sync.Mutex
		got := map[string]sinks.Turn{}
		send := func(ctx context.Context, node string, what json.RawMessage) (json.RawMessage, error) {
			if node == "c" {
				return nil, errors.New("away")
			}
			return Serve(ctx, "a", what, w.Rounds, func(from string, t sinks.Turn) {
				mu.Lock()
				defer mu.Unlock()
				got[from+" asks "+node] = t
			}), nil
		}
		turn := sinks.Turn{Number: 7, Every: every}
		if err := Ask(t.Context(), send, "b", turn); err != nil {
			t.Error(err)
		}
		if err := Ask(t.Context(), send, "c", turn); err == nil || !strings.Contains(err.Error(), "c was not asked") {
			t.Errorf("%v", err)
		}
		if len(got) != 1 || got["a asks b"] != turn {
			t.Errorf("%+v", got)
		}
		for _, what := range []string{`{}`, `[]`, `{"Offer":{}}`, `{"Turn":null}`, ``} {
			var a deltalog.Answer
			b := Serve(t.Context(), "b", json.RawMessage(what), w.Rounds, nil)
			if err := json.Unmarshal(b, &a); err != nil || a.Outcome != deltalog.OutcomeNo || a.Error == "" {
				t.Errorf("%s: %s", what, b)
			}
		}
	})
}
