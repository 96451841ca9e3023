package shard

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"deckle/node/config"
	"deckle/raftstore"
	"deckle/sinks"
	"deckle/state"
)

// Where nodes share commits, a plan to ClickHouse begins with the shard's own cut for it, but for what does not wait
// for that: the first of a leadership, what is outstanding, too much, and what an intake that does not run never cuts.
func TestClickHousePlansBeginWithCutsOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLeadership(t)
		l.Config.Flush.MaxEvents, l.Config.Flush.Interval = 2, 10*time.Second
		l.turns, l.apart, l.arrivals, l.store = newTurnBoard(), true, newEpochArrivals(), written(t, 1, 3)
		l.epochs.note(1)
		f := newFlusher(l, state.SinkClickHouse)
		apply := applier(t, l.store)
		ack := func(b uint64) {
			apply(state.EncodePlan(state.SinkClickHouse, b))
			apply(state.EncodeAck(state.SinkClickHouse, b))
		}
		in := &intake{leadership: l}
		noted := func(epoch uint64) {
			closeEpoch(t, l.store, 1)
			in.prevCut.epoch = epoch
			l.epochs.note(epoch)
		}
		await := func() <-chan error {
			got := make(chan error, 1)
			go func() { got <- f.await(t.Context()) }()
			return got
		}
		is := func(what string, got <-chan error, want bool) {
			t.Helper()
			synctest.Wait()
			select {
			case err := <-got:
				if !want || err != nil {
					t.Errorf("%s: it goes, %v", what, err)
				}
			default:
				if want {
					t.Errorf("%s: it waits", what)
				}
			}
		}
		is("the first plan of a leadership", await(), true)
		f.began = true
		got := await()
		noted(2) // by a turn of the cluster
		is("after a turn", got, false)
		due := true
		in.answerApart(&due) // nothing was to close: what the turn has closed is due
		is("after its own cut", got, true)
		if ack(2); due {
			t.Error("the cut is answered twice")
		}
		got = await()
		noted(3)
		time.Sleep(l.Config.Flush.Interval)
		is("an interval without a cut", got, false)
		time.Sleep(silence)
		is("after it, as the intake does not run", got, true)
		ack(3)
		due = true
		in.answerApart(&due) // while it writes
		noted(4)
		in.answerApart(&due)
		is("of a cut that is written", await(), false)
		due = true
		in.answerApart(&due)
		is("late", await(), true)
		ack(4)
		got = await()
		for e := uint64(5); e <= 13; e++ {
			is(fmt.Sprint("with less than much, at ", e), got, false)
			noted(e)
		}
		is("with much", got, true)
		apply(state.EncodePlan(state.SinkClickHouse, 5))
		is("what is outstanding", await(), true)
	})
}

// The intake cuts for ClickHouse besides the turns, and raw events of both epochs go on in one buffer unless the cut is
// a turn's, too.
func TestIntakeCutsApart(t *testing.T) {
	in, _ := newTestIntake(t)
	in.Config = &config.Config{}
	in.Config.Flush.MaxEvents, in.Config.Limits.InFlightEntries = 10, 1
	in.turns, in.apart, in.arrivals = newTurnBoard(), true, newEpochArrivals()
	buf := &sealNote{}
	in.buffer.buf = buf
	in.cutDue, in.apartDue = true, true
	in.prevCut.epoch = 4
	in.propose()
	if in.apartDue || in.cutApart.Load() != 4 {
		t.Errorf("nothing to close: answered with %d", in.cutApart.Load())
	}
	in.cutDue, in.apartDue, in.cutPending, in.dirty = true, true, true, true // another cut is in flight
	in.propose()
	if !in.apartDue {
		t.Error("answered by another cut")
	}
	closed := func(epoch uint64) {
		t.Helper()
		in.inFlight = 1
		r := raftstore.Result{Value: &state.CutResult{Epoch: epoch}}
		if err := in.handle(&result{proposal: proposal{kind: entryCut}, res: r}); err != nil {
			t.Fatal(err)
		}
	}
	closed(5)
	in.apartSent, in.apartDue = true, false // as propose does it
	if closed(6); in.cutApart.Load() != 6 || in.apartSent {
		t.Errorf("answered with %d", in.cutApart.Load())
	}
	n := uint64(1)
	in.apartSent, in.turnSent = true, &n
	if closed(7); in.cutApart.Load() != 7 {
		t.Errorf("both: answered with %d", in.cutApart.Load())
	}
	in.cutPending, in.cutDue, in.dirty, in.turn = false, true, false, &n
	if in.propose(); in.turn != nil {
		t.Error("a turn that closes nothing is not answered")
	}
	if got := fmt.Sprint(buf.sealed); got != "[5 6+ 7 finish finish]" {
		t.Errorf("sealed %s", got)
	}
}

// sealNote is a buffer of events that notes what is sealed, with a + where it goes on.
type sealNote struct {
	sinks.EventsBuffer // not called
	sealed             []string
}

func (b *sealNote) Finish() { b.sealed = append(b.sealed, "finish") }

func (b *sealNote) Seal(epoch uint64, _, goesOn bool) {
	what := fmt.Sprint(epoch)
	if goesOn {
		what += "+"
	}
	b.sealed = append(b.sealed, what)
}

// No cut for ClickHouse meets a turn, which is at the multiples of the interval, or that of another shard in its node's
// part of it.
func TestCutsApart(t *testing.T) {
	for _, every := range []time.Duration{time.Second, 10 * time.Second} {
		at := map[time.Duration]bool{}
		for node := range 3 {
			cfg := &config.Config{Node: fmt.Sprint(node)}
			cfg.Flush.Interval = every
			for n := range 3 {
				cfg.Cluster.Nodes = append(cfg.Cluster.Nodes, config.Node{Name: fmt.Sprint(n)})
			}
			for _, shard := range []uint32{uint32(node), uint32(node + 3)} {
				now := time.Unix(1_000_000, 0).Add(every / 7)
				next := now.Add(untilApart(now, cfg, shard))
				phase := time.Duration(next.UnixNano()) % every
				if least := every / 12; phase < least-time.Millisecond || phase > every-least+time.Millisecond {
					t.Errorf("every %v: shard %d is cut %v after a turn", every, shard, phase)
				}
				at[phase] = true
			}
		}
		if want := map[time.Duration]int{time.Second: 3, 10 * time.Second: 6}[every]; len(at) != want {
			t.Errorf("every %v: cuts at %v, want %d", every, at, want)
		}
	}
}
