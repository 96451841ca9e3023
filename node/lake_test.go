package node

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"deckle/node/condition"
)

func TestBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket{rate: 100, now: time.Now}
		began := time.Now()
		for range 5 {
			if err := b.take(t.Context(), 250); err != nil {
				t.Fatal(err)
			}
		}
		// The fifth waits for what the four before it have taken.
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("1,250 bytes at 100 a second took %v", took)
		}
		time.Sleep(time.Hour)
		began = time.Now()
		if err := b.take(t.Context(), 100); err != nil || time.Since(began) != 0 {
			t.Errorf("after an hour: %v, %v", time.Since(began), err)
		}
		if err := b.take(t.Context(), 100); err != nil || time.Since(began) != time.Second {
			t.Errorf("a quiet hour was saved up: %v, %v", time.Since(began), err)
		}
	})
}

// What fails three times in a row is a condition; once it works, or is another node's, it is none.
func TestLakeFailing(t *testing.T) {
	deps := &Deps{}
	deps.complete()
	l := &lake{deps: deps, list: condition.New("n1", time.Now, deps.Logger)}
	failed := map[string]int{}
	holds := func() bool { return len(l.list.Snapshot()) > 0 }
	for i, step := range []struct {
		err  error
		want bool
	}{{errors.New("x"), false}, {errors.New("x"), false}, {errNotOurs, false}, {errors.New("x"), true}, {nil, false},
		{errors.New("x"), false}} {
		if l.judge(condition.VacuumFailing, "events", failed, step.err); holds() != step.want {
			t.Errorf("step %d: %v", i, l.list.Snapshot())
		}
	}
}
