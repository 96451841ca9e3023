package tap

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

func offer(session string, partition int32, text string) *Offer {
	return &Offer{Session: session, Partition: partition, Line: func(clear bool) []byte {
		return fmt.Appendf(nil, "%s clear=%t", text, clear)
	}}
}

func drain(t *Tap) (out []string) {
	for _, l := range t.Take() {
		out = append(out, string(l))
	}
	return out
}

func mustOpen(t *testing.T, b *Board, q Query) *Tap {
	t.Helper()
	tap, err := b.Open(q)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tap.Close)
	return tap
}

// Each tap is given what its query asks for, and nothing else.
func TestQuery(t *testing.T) {
	b := NewBoard(time.Now)
	one := int32(1)
	all := mustOpen(t, b, Query{Stage: Decoded})
	session := mustOpen(t, b, Query{Stage: Decoded, Session: "s2"})
	part := mustOpen(t, b, Query{Stage: Decoded, Partition: &one, Clear: true})
	third := mustOpen(t, b, Query{Stage: Decoded, Sample: 3})
	for i := range 7 {
		b.Offer(Decoded, offer(fmt.Sprintf("s%d", i), int32(i%2), fmt.Sprint(i)))
		b.Offer(Source, offer("s2", 1, "of another stage"))
	}
	for _, c := range []struct {
		tap        *Tap
		want       string
		seen, left int64
	}{
		{all, "[0 clear=false 1 clear=false 2 clear=false 3 clear=false 4 clear=false 5 clear=false " +
			"6 clear=false]", 7, 0},
		{session, "[2 clear=false]", 1, 0},
		{part, "[1 clear=true 3 clear=true 5 clear=true]", 3, 0},
		{third, "[0 clear=false 3 clear=false 6 clear=false]", 7, 0},
	} {
		if got := fmt.Sprint(drain(c.tap)); got != c.want {
			t.Errorf("%+v: %s, want %s", c.tap.query, got, c.want)
		}
		if seen, left := c.tap.Count(); seen != c.seen || left != c.left {
			t.Errorf("%+v: seen %d, left %d", c.tap.query, seen, left)
		}
	}
}

func TestRefusedQueries(t *testing.T) {
	b := NewBoard(time.Now)
	one := int32(1)
	for _, q := range []Query{{}, {Stage: "pebble"}, {Stage: Row, Partition: &one}, {Stage: Letter, Session: "s"}} {
		if _, err := b.Open(q); !errors.Is(err, ErrQuery) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

// A tap that nobody reads, and one that is offered too much in a second, are given no more; it is counted.
func TestTooMuch(t *testing.T) {
	now := time.Unix(0, 0)
	b := NewBoard(func() time.Time { return now })
	tap := mustOpen(t, b, Query{Stage: Source})
	for range MaxRate + 50 {
		b.Offer(Source, offer("", 0, "x"))
	}
	if n := len(drain(tap)); n != MaxRate {
		t.Errorf("%d lines in a second", n)
	}
	if seen, left := tap.Count(); seen != MaxRate+50 || left != 50 {
		t.Errorf("seen %d, left %d", seen, left)
	}
	for range 10 { // seconds in which nobody reads
		now = now.Add(time.Second)
		for range MaxRate {
			b.Offer(Source, offer("", 0, "y"))
		}
	}
	if n := len(drain(tap)); n != room {
		t.Errorf("%d lines waited", n)
	}
	if _, left := tap.Count(); left != 50+10*MaxRate-room {
		t.Errorf("left %d", left)
	}
}

// Few lines wait if they are long; one that is longer than all may be waits alone.
func TestLongLines(t *testing.T) {
	b := NewBoard(time.Now)
	tap := mustOpen(t, b, Query{Stage: Source})
	give := func(size int) {
		b.Offer(Source, &Offer{Line: func(bool) []byte { return make([]byte, size) }})
	}
	for range 5 {
		give(roomBytes / 3)
	}
	<-tap.More()
	if got := tap.Take(); len(got) != 3 {
		t.Errorf("%d lines of a third wait", len(got))
	}
	give(2 * roomBytes)
	give(1)
	if got := tap.Take(); len(got) != 1 {
		t.Errorf("%d lines wait", len(got))
	}
	if seen, left := tap.Count(); seen != 7 || left != 3 {
		t.Errorf("seen %d, left %d", seen, left)
	}
}

// A board has room for few, says so, and has room again once one is closed.
func TestFewTaps(t *testing.T) {
	var none *Board
	none.Offer(Source, offer("", 0, "x"))
	if none.Watched(Source) {
		t.Error("no board is watched")
	}
	b := NewBoard(time.Now)
	var taps []*Tap
	for range MaxTaps {
		taps = append(taps, mustOpen(t, b, Query{Stage: Row}))
	}
	if _, err := b.Open(Query{Stage: Row}); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	if b.Watched(Source, Letter) || !b.Watched(Source, Row) {
		t.Error("watched is another stage")
	}
	taps[0].Close()
	taps[0].Close()
	last := mustOpen(t, b, Query{Stage: Row})
	b.Close()
	b.Close()
	select {
	case <-last.Done():
	default:
		t.Error("the node has ended, and the tap has not")
	}
	if _, err := b.Open(Query{Stage: Row}); !errors.Is(err, ErrBusy) {
		t.Errorf("after the end: %v", err)
	}
	if b.Watched(Row) {
		t.Error("watched after the end")
	}
	last.Close()
}

// Whoever offers, opens, reads and closes does it at once.
func TestConcurrent(t *testing.T) {
	b := NewBoard(time.Now)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for range 500 {
				b.Offer(Source, offer("", int32(i), "x"))
			}
		})
	}
	for range 3 {
		all.Go(func() {
			for range 20 {
				tap, err := b.Open(Query{Stage: Source})
				if err != nil {
					t.Error(err)
					return
				}
				drain(tap)
				if seen, left := tap.Count(); left > seen {
					t.Errorf("seen %d, left %d", seen, left)
				}
				tap.Close()
			}
		})
	}
	all.Wait()
}
