package share

import (
	"testing"
	"testing/synctest"
	"time"

	"deckle/sinks/delta/deltalog"
)

// Those who are late in one turn are committed together, for one token: a round of late offers waits for nodes that
// have said that more will come, and for those that have offered in the turn before.
func TestLateTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b", "c", "a", "b", "c")
		defer w.Close()
		w.turn(1)
		for _, n := range []string{"a", "b", "c"} {
			w.offer(n, 1)
		}
		w.turn(2)
		w.offer("a", 2, 0, 3)
		w.more("b", 2, 1)
		time.Sleep(2 * time.Second)
		w.want("550ms a[0 3] b[1]")
		late := []<-chan deltalog.Answer{w.more("c", 2, 2)}
		time.Sleep(200 * time.Millisecond)
		late = append(late, w.offer("b", 2, 4))
		time.Sleep(200 * time.Millisecond)
		w.want()
		late = append(late, w.offer("c", 2, 5))
		for _, got := range late {
			w.is(got, deltalog.OutcomeCommitted)
		}
		w.want("0s c[2] b[4] c[5]")
		if n := w.tokens["t"].left; n != mostTokens-1 {
			t.Errorf("%v tokens are left", n)
		}
		// It does not wait for ever, nor for a node that has said nothing in the turn before.
		w.turn(3)
		w.tokens["t"].left = mostTokens
		w.offer("a", 3, 0)
		time.Sleep(time.Second)
		b := w.more("b", 3, 1)
		time.Sleep(every)
		w.is(b, deltalog.OutcomeCommitted)
		w.turn(5)
		a := w.offer("a", 5, 0)
		time.Sleep(wait)
		w.is(a, deltalog.OutcomeCommitted)
		w.want("550ms a[0]", "1.55s b[1]", "11.55s a[0]")
	})
}

// What is late for a turn when the next one is heard belongs to neither the one nor the other's round: it takes its
// token at once.
func TestLateUntilTheNextTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		defer w.Close()
		w.turn(1)
		w.offer("b", 1)
		w.offer("a", 1, 0)
		time.Sleep(every - gathering/2)
		b := w.offer("b", 1, 1)
		time.Sleep(gathering / 2)
		w.turn(2)
		w.is(b, deltalog.OutcomeCommitted)
		w.offer("a", 2, 0)
		w.offer("b", 2, 1)
		w.want("0s a[0]", "10s b[1]", "10s a[0] b[1]")
		if n := w.tokens["t"].left; n != mostTokens-1 {
			t.Errorf("%v tokens are left", n)
		}
	})
}

// Without a token a late offer waits for the next round, and rounds are longer. Whatever comes, the commits of a day
// are bounded.
func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b", "c")
		defer w.Close()
		const turns = 8640
		for n := range uint64(turns) {
			w.turn(n)
			w.offer("a", n, 0)
			time.Sleep(8 * time.Second)
			w.offer("b", n, 1)
			time.Sleep(time.Second)
			w.offer("c", n, 2)
			time.Sleep(time.Second)
		}
		if n := len(w.commits); n < turns+600 || n > turns+mostTokens+turns*10/130+1 {
			t.Errorf("%d commits of %d turns", n, turns)
		}
		w.turn(turns)
		w.offer("b", turns)
		time.Sleep(every) // nothing is held any more
		synctest.Wait()
		w.mu.Lock()
		w.commits, w.tokens["t"].left, w.began = nil, 0, time.Now()
		w.mu.Unlock()
		// Few are late for a round that is as long as three quarters of the interval.
		w.turn(turns + 1)
		a, c := w.offer("a", turns+1, 0), w.offer("c", turns+1, 2)
		time.Sleep(7 * time.Second)
		w.is(w.offer("b", turns+1, 1), deltalog.OutcomeCommitted)
		w.is(a, deltalog.OutcomeCommitted)
		w.is(c, deltalog.OutcomeCommitted)
		time.Sleep(3 * time.Second)
		w.want("7s a[0] c[2] b[1]")
		w.mu.Lock()
		w.tokens["t"].left = 0
		w.mu.Unlock()
		w.turn(turns + 2)
		w.offer("a", turns+2, 0)
		w.offer("c", turns+2, 2)
		time.Sleep(9 * time.Second)
		b := w.offer("b", turns+2, 1)
		time.Sleep(time.Second)
		w.turn(turns + 3) // it opens the round of the next turn
		w.offer("a", turns+3, 0)
		w.offer("b", turns+3)
		w.is(w.offer("c", turns+3, 2), deltalog.OutcomeCommitted)
		w.is(b, deltalog.OutcomeCommitted)
		w.mu.Lock()
		if n := len(w.commits); n != 2 || w.commits[1] != "10s b[1] a[0] c[2]" {
			t.Errorf("commits %v", w.commits)
		}
		w.mu.Unlock()
	})
}
