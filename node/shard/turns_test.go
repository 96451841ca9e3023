package shard

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/node/config"
	"deckle/raftstore"
	"deckle/sinks"
	"deckle/state"
)

// jointSink notes what it is told of turns.
type jointSink struct {
	sinks.Joint
	id  state.SinkID
	mu  *sync.Mutex
	all *[]string
}

func (j *jointSink) Begin(t sinks.Turn, shards []uint32) { j.note("begin %d for %v", t.Number, shards) }
func (j *jointSink) Absent(t sinks.Turn, shard uint32)   { j.note("absent %d of %d", shard, t.Number) }
func (j *jointSink) note(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	*j.all = append(*j.all, j.id.String()+": "+fmt.Sprintf(format, args...))
}

// turnNode is a node of which only the turns run.
type turnNode struct {
	*Turns
	mu     sync.Mutex
	heard  []string // "how number after"
	told   []string // of joint sinks
	leader string
	asked  []sinks.Turn
}

const flushEvery = 10 * time.Second

func newTurnNode(t *testing.T, self, leader string, every, off time.Duration) *turnNode {
	n := &turnNode{leader: leader}
	began := time.Now()
	how := ""
	n.Turns = NewTurns(TurnsOptions{Self: self, Every: every, Revise: 6 * every,
		Now: func() time.Time { return time.Now().Add(off) },
		Leader: func() string {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.leader
		},
		Joint: func(id state.SinkID) sinks.Joint { return &jointSink{id: id, mu: &n.mu, all: &n.told} },
		Count: func(h string) {
			n.mu.Lock()
			defer n.mu.Unlock()
			how = h
		},
		Heard: func(t sinks.Turn) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.heard = append(n.heard, fmt.Sprintf("%s %d after %v", how, t.Number, time.Since(began)))
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	ask := func(t sinks.Turn) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.asked = append(n.asked, t)
	}
	go func() { defer close(done); n.Run(ctx, ask) }()
	t.Cleanup(func() { cancel(); <-done })
	return n
}

// want fails the test unless these are the turns that were heard since the last call.
func (n *turnNode) want(t *testing.T, turns ...string) {
	t.Helper()
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.heard, turns) {
		t.Errorf("turns\n%s, want\n%s", strings.Join(n.heard, "\n"), strings.Join(turns, "\n"))
	}
	n.heard = nil
}

// asks returns the turns that it has asked for.
func (n *turnNode) asks() []sinks.Turn {
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.asked)
}

func number(at time.Time) uint64 { return uint64(at.UnixNano() / int64(flushEvery)) }

// The leader of shard 0 asks at each multiple of the interval of its clock, and once in a while for revisions. The
// others obey it and nobody else, whatever their clocks say, and take turns by themselves when nobody asks.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(3 * time.Second) // now is no multiple of the interval
		const off = time.Hour + 4*time.Second
		a, b := newTurnNode(t, "a", "a", flushEvery, 0), newTurnNode(t, "b", "a", flushEvery, off)
		c := newTurnNode(t, "c", "", flushEvery, -time.Hour)
		first := number(time.Now()) + 1
		for i := range uint64(3) {
			time.Sleep(7 * time.Second)
			asked := a.asks()
			if len(asked) != int(i)+1 {
				t.Fatalf("asked %d times", len(asked))
			}
			turn := asked[i]
			b.Hear("a", turn)
			b.Hear("a", turn) // the ask is repeated
			b.Hear("c", turn) // c does not lead shard 0
			time.Sleep(3 * time.Second)
		}
		a.want(t, fmt.Sprintf("asked %d after 7s", first), fmt.Sprintf("asked %d after 17s", first+1),
			fmt.Sprintf("asked %d after 27s", first+2))
		b.want(t, fmt.Sprintf("asked %d after 7s", first), fmt.Sprintf("asked %d after 17s", first+1),
			fmt.Sprintf("asked %d after 27s", first+2))
		// c hears nothing: after 10.5 s it takes one by itself, and not again a moment later at its multiple.
		own := number(time.Now().Add(-time.Hour)) - 2
		c.want(t, fmt.Sprintf("own %d after 10.5s", own), fmt.Sprintf("own %d after 17s", own+1),
			fmt.Sprintf("own %d after 27s", own+2))
		// Now b hears nothing more, and then a again.
		time.Sleep(15 * time.Second)
		own = number(time.Now().Add(off))
		b.want(t, fmt.Sprintf("own %d after 37.5s", own-1), fmt.Sprintf("own %d after 43s", own))
		time.Sleep(6 * time.Second)
		turn := a.asks()[4]
		b.Hear("a", turn)
		b.want(t, fmt.Sprintf("asked %d after 51s", turn.Number))
		time.Sleep(10 * time.Second)
		b.want(t)
		time.Sleep(12 * flushEvery)
		asked := a.asks()
		for _, turn := range asked {
			if turn.Every != flushEvery {
				t.Errorf("%+v", turn)
			}
		}
	})
}

// Each node writes revisions once in Revise, and no two at the same turn, if there are enough turns in it.
func TestRevisionsFollowOneAnother(t *testing.T) {
	for _, tc := range []struct {
		nodes int
		every time.Duration // Revise
		want  string        // by turn, how many nodes write revisions
	}{
		{1, 6 * flushEvery, "1 0 0 0 0 0 1 0 0 0 0 0 1"},
		{3, 6 * flushEvery, "1 0 1 0 1 0 1 0 1 0 1 0 1"},
		{3, 12 * flushEvery, "1 0 0 0 1 0 0 0 1 0 0 0 1"},
		{3, 3 * flushEvery / 2, "2 2 2 2 2 2 2 2 2 2 2 2 2"}, // two of three turns, each
		{3, flushEvery / 10, "3 3 3 3 3 3 3 3 3 3 3 3 3"},
	} {
		var got []string
		for number := range uint64(13) {
			n := 0
			for place := range tc.nodes {
				turns := NewTurns(TurnsOptions{Every: flushEvery, Revise: tc.every, Now: time.Now, Place: place,
					Nodes: tc.nodes})
				if turns.revises(number + 12_000) {
					n++
				}
			}
			got = append(got, fmt.Sprint(n))
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%d nodes, each %v: %s, want %s", tc.nodes, tc.every, s, tc.want)
		}
	}
}

// Of two who ask, the one is heard whom the replica here names; one whose interval differs is obeyed.
func TestTwoAskers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTurnNode(t, "b", "a", flushEvery, 0)
		ask := func(from string, number uint64, every time.Duration) {
			b.Hear(from, sinks.Turn{Number: number, Every: every})
		}
		ask("a", 1, flushEvery)
		ask("c", 2, flushEvery)
		b.want(t, "asked 1 after 0s")
		b.mu.Lock()
		b.leader = "c"
		b.mu.Unlock()
		time.Sleep(4 * time.Second)
		ask("c", 2, flushEvery) // too soon
		b.want(t)
		time.Sleep(2 * time.Second)
		ask("a", 2, flushEvery) // it leads shard 0 no more
		ask("c", 3, flushEvery)
		b.want(t, "asked 3 after 6s")
		for i := range uint64(4) {
			time.Sleep(time.Second)
			ask("c", 10+i, 2*time.Second)
		}
		b.want(t, "asked 10 after 7s", "asked 11 after 8s", "asked 12 after 9s", "asked 13 after 10s")
		ask("c", 14, 0)
		b.want(t)
	})
}

// A turn begins for the flushers that wait for one; of the others it is said that they will not write. It is taken when
// the cut is answered: of an intake that runs whenever that is, and else after a second at the latest.
func TestTurnBoard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTurnNode(t, "a", "b", time.Hour, 0)
		one, end := n.lead(1)
		two, end2 := n.lead(2)
		one.enter(state.SinkEvents)
		two.enter(state.SinkEvents)
		two.enter(state.SinkSessions)
		n.o.Revise = time.Hour
		turn := sinks.Turn{Number: 5, Every: time.Hour, Revise: true}
		n.Hear("b", turn)
		want := []string{"events: begin 5 for [1 2]", "sessions: begin 5 for [1 2]", "revisions: begin 5 for [1 2]",
			"sessions: absent 1 of 5", "revisions: absent 1 of 5", "revisions: absent 2 of 5"}
		if !slices.Equal(n.told, want) {
			t.Errorf("told\n%s", strings.Join(n.told, "\n"))
		}
		take := func(b *turnBoard, id state.SinkID) string {
			got := b.take(id, time.Now())
			return fmt.Sprint(got.turn.Number, got.taken, got.wait)
		}
		stop := one.run()
		for _, s := range []struct {
			what string
			b    *turnBoard
			id   state.SinkID
			do   func()
			want string
		}{
			{"one whose intake does not run", two, state.SinkEvents, func() {}, "5 false 1s"},
			{"a moment before a second", two, state.SinkEvents, func() { time.Sleep(cutWithin - 1) }, "5 false 1ns"},
			{"without a cut", two, state.SinkEvents, func() { time.Sleep(time.Nanosecond) }, "5 true 0s"},
			{"before the cut", one, state.SinkEvents, func() { time.Sleep(2 * time.Second) }, "5 false 0s"},
			{"one that will not take it", one, state.SinkSessions, func() {}, "0 false 0s"},
			{"the cut of another turn", one, state.SinkEvents, func() { one.answer(4, 7) }, "5 false 0s"},
			{"after the cut", one, state.SinkEvents, func() { one.answer(5, 7) }, "5 true 0s"},
			{"again", one, state.SinkEvents, func() {}, "0 false 0s"},
		} {
			s.do()
			if got := take(s.b, s.id); got != s.want {
				t.Errorf("%s: %s, want %s", s.what, got, s.want)
			}
		}
		if left, ok := two.leave(state.SinkSessions); !ok || left != turn {
			t.Errorf("left %+v, %v", left, ok)
		}
		if due := <-one.due; due != 5 {
			t.Errorf("the intake is to cut for %d", due)
		}
		// What its cut has closed is written late in the turn by who was at something else.
		if late, ok := one.late(state.SinkSessions, 6); !ok || late != turn {
			t.Errorf("late in %+v, %v", late, ok)
		}
		if late, ok := one.late(state.SinkSessions, 7); ok {
			t.Errorf("late in %+v, though all is written", late)
		}
		if _, ok := one.late(state.SinkRevisions, 6); ok {
			t.Error("a pass of revisions begins without a turn of its own")
		}
		if _, ok := two.late(state.SinkSessions, 0); ok {
			t.Error("late without an answer")
		}
		// A cut that a run of the intake has not answered is the next one's; one that is answered is not.
		stop()
		one.run()()
		if len(one.due) > 0 {
			t.Error("the intake is to cut twice")
		}
		<-two.due
		stop = two.run()
		if due := <-two.due; due != 5 {
			t.Errorf("the next run is to cut for %d", due)
		}
		stop()
		// A turn that has begun for a flusher and is followed by the next one is given up.
		n.told = nil
		time.Sleep(40 * time.Minute)
		n.Hear("b", sinks.Turn{Number: 6, Every: time.Hour})
		time.Sleep(40 * time.Minute)
		n.Hear("b", sinks.Turn{Number: 7, Every: time.Hour})
		if !slices.Contains(n.told, "events: absent 1 of 6") || slices.Contains(n.told, "events: absent 1 of 7") {
			t.Errorf("told %v", n.told)
		}
		end()
		end2()
		n.told = nil
		time.Sleep(40 * time.Minute)
		n.Hear("b", sinks.Turn{Number: 8, Every: time.Hour})
		if len(n.told) > 0 {
			t.Errorf("told of no shard: %v", n.told)
		}
	})
}

// written is a store of one shard whose epochs 1 to n are closed, with events in each.
func written(t *testing.T, n, events int) *state.Store {
	t.Helper()
	store, err := state.Open(t.Context(), state.Options{FS: vfs.NewMem(), Dir: "shard"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	apply := applier(t, store)
	apply(state.EncodeConfig(state.Config{
		ClusterID: "c", Pipeline: "p", Shards: 1, Topic: "t", Partitions: []int32{0}, Starts: []int64{0},
		Sinks:       []state.SinkID{state.SinkEvents, state.SinkSessions, state.SinkClickHouse},
		IdleTimeout: 30 * time.Minute, Grace: 30 * time.Second, Retention: 6 * time.Hour, MaxTimers: 5000,
	}))
	for range n {
		closeEpoch(t, store, events)
	}
	return store
}

func applier(t *testing.T, store *state.Store) func(entry []byte) any {
	return func(entry []byte) any {
		t.Helper()
		res, err := store.Apply(store.View().Index+1, 1, entry)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
}

// closeEpoch closes one more epoch, with events.
func closeEpoch(t *testing.T, store *state.Store, events int) {
	t.Helper()
	const t0 = 1_767_225_600
	v := store.View()
	next := v.Partitions[0].Next
	b := &state.BatchEntry{Now: t0 * 1000}
	b.Batch.Ranges = []event.Range{{Partition: 0, From: next, To: next + int64(events)}}
	for i := range events {
		b.Batch.Items = append(b.Batch.Items, event.Item{Offset: next + int64(i), KafkaTimestamp: t0 * 1000,
			Event: event.Event{ID: event.ID{byte(next), byte(i)}, SessionID: fmt.Sprint(next, "-", i), Timestamp: t0,
				Type: event.ArticleView, Brand: "bild"}})
	}
	apply := applier(t, store)
	apply(state.AppendBatch(nil, b))
	if res, ok := apply(state.EncodeCut(t0*1000, v.LastClosed, v.LastChecksum)).(*state.CutResult); !ok ||
		res.Epoch != v.LastClosed+1 {
		t.Fatalf("%+v", res)
	}
}

// A plan of a Delta table begins with a turn, but for what has waited for a leader, is outstanding, or is too much. One
// of another destination begins at once.
func TestPlansBeginWithTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTurnNode(t, "a", "b", time.Hour, 0)
		l := newTestLeadership(t)
		l.Config.Flush.MaxEvents = 2
		l.Turns, l.arrivals, l.store = n.Turns, newEpochArrivals(), written(t, 1, 3)
		l.epochs.note(1)
		var end func()
		l.turns, end = n.lead(0)
		defer end()
		apply := applier(t, l.store)
		ack := func(id state.SinkID, b uint64) {
			apply(state.EncodePlan(id, b))
			apply(state.EncodeAck(id, b))
		}
		await := func(f *flusher) <-chan string {
			got := make(chan string, 1)
			go func() {
				if err := f.await(t.Context()); err != nil {
					got <- err.Error()
				} else if f.turn == nil {
					got <- "alone"
				} else {
					got <- fmt.Sprint("turn ", f.turn.Number)
					f.turn = nil
				}
			}()
			return got
		}
		is := func(what string, got <-chan string, want string) {
			t.Helper()
			synctest.Wait()
			select {
			case is := <-got:
				if is != want {
					t.Errorf("%s: %s, want %q", what, is, want)
				}
			default:
				if want != "" {
					t.Errorf("%s: it waits, want %q", what, want)
				}
			}
		}
		hear := func(number uint64) {
			time.Sleep(40 * time.Minute)
			n.Hear("b", sinks.Turn{Number: number, Every: time.Hour})
		}
		stop := l.turns.run()
		f, clicks := newFlusher(l, state.SinkSessions), newFlusher(l, state.SinkClickHouse)
		is("the first plan of a leadership", await(f), "alone")
		f.began = true
		got := await(f)
		is("a further one", got, "")
		is("ClickHouse's", await(clicks), "alone")
		hear(1)
		is("before the cut is answered", got, "")
		closeEpoch(t, l.store, 1)
		l.epochs.note(2)
		is("while it is noted", got, "")
		l.turns.answer(1, 2)
		is("after the cut", got, "turn 1")
		ack(state.SinkSessions, 2)

		// A leadership that begins while a turn is under way waits for its cut, too.
		next := newFlusher(l, state.SinkEvents)
		l.turns.enter(state.SinkEvents)
		hear(10)
		got = await(next)
		is("the first plan, in a turn", got, "")
		l.turns.answer(10, 2)
		is("the first plan, after the cut", got, "turn 10")

		got = await(f)
		n.told = nil
		hear(2)
		l.turns.answer(2, 2)
		is("of a shard that closed nothing", got, "")
		if want := []string{"events: begin 2 for [0]", "sessions: begin 2 for [0]", "events: absent 0 of 2",
			"sessions: absent 0 of 2"}; !slices.Equal(n.told, want) {
			t.Errorf("told %v", n.told)
		}
		closeEpoch(t, l.store, 1) // closed early
		l.epochs.note(3)
		is("of an epoch that was closed early", got, "")
		stop()
		hear(3) // the intake does not run: no answer
		is("without an answer", got, "")
		time.Sleep(cutWithin)
		is("a second later", got, "turn 3")
		ack(state.SinkSessions, 3)

		got = await(f)
		for e := uint64(4); e <= 8; e++ {
			is(fmt.Sprint("with less than much at ", e), got, "")
			closeEpoch(t, l.store, 2)
			l.epochs.note(e)
		}
		is("with much", got, "alone")
		apply(state.EncodePlan(state.SinkSessions, 8))
		is("what is outstanding", await(f), "alone")
		ack(state.SinkSessions, 8)

		// What a cut closes is written as soon as it has, however late that is: it never waits for the next turn.
		stop = l.turns.run()
		got = await(f)
		hear(20)
		time.Sleep(10 * time.Minute)
		is("while the intake has not cut", got, "")
		closeEpoch(t, l.store, 1)
		l.epochs.note(9)
		l.turns.answer(20, 9)
		is("after a late cut", got, "turn 20")
		hear(21) // it writes meanwhile
		ack(state.SinkSessions, 9)
		got = await(f)
		closeEpoch(t, l.store, 1)
		l.epochs.note(10)
		is("of a turn that has not cut yet", got, "")
		l.turns.answer(21, 10)
		is("what was cut while it wrote", got, "turn 21")
		ack(state.SinkSessions, 10)
		got = await(f)
		closeEpoch(t, l.store, 1)
		l.epochs.note(11)
		is("what was closed since the turn", got, "")
		stop() // the intake falls before it has cut
		hear(22)
		time.Sleep(cutWithin)
		is("of a shard whose intake has fallen", got, "turn 22")
		ack(state.SinkSessions, 11)
		got = await(f)
		l.turns.run()
		closeEpoch(t, l.store, 1)
		l.epochs.note(12)
		is("what the next run has not cut", got, "")
		l.turns.answer(<-l.turns.due, 12)
		is("what the next run cuts", got, "turn 22")
		ack(state.SinkSessions, 12)

		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.await(ctx) }()
		synctest.Wait()
		n.told = nil
		hear(4)
		cancel()
		<-ended
		if !slices.Contains(n.told, "sessions: absent 0 of 4") {
			t.Errorf("a leadership that ends in a turn: told %v", n.told)
		}
	})
}

// The intake cuts when a turn is due, and answers it when the epoch is noted, or at once where nothing has changed.
func TestIntakeAnswersTurns(t *testing.T) {
	in, _ := newTestIntake(t)
	in.Config = &config.Config{}
	in.Config.Flush.MaxEvents = 10
	in.Config.Limits.InFlightEntries = 1
	in.turns = newTurnBoard()
	answered := func(number uint64) bool {
		in.turns.mu.Lock()
		defer in.turns.mu.Unlock()
		return in.turns.answered && in.turns.turn.Number == number
	}
	due := func(number uint64) {
		in.turns.begin(sinks.Turn{Number: number}, time.Now(), nil)
		n := <-in.turns.due
		in.cutDue, in.turn = true, &n
	}
	due(1)
	in.propose()
	if !answered(1) {
		t.Error("nothing to close: no answer")
	}
	due(2)
	in.cutPending, in.dirty = true, true // of another cut
	in.propose()
	if answered(2) || in.turn == nil {
		t.Error("answered by another cut")
	}
	in.turnSent, in.turn = in.turn, nil
	in.inFlight = 1
	nothing := raftstore.Result{Value: &state.CutResult{}}
	if err := in.handle(&result{proposal: proposal{kind: entryCut}, res: nothing}); err != nil {
		t.Fatal(err)
	}
	if !answered(2) || in.turnSent != nil {
		t.Error("not answered by its cut")
	}
}
