package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"deckle/node/condition"
	"deckle/node/kafka"
	"deckle/state"
)

// stands is the state's view of the partitions of newComparisons, when everything that was taken has been applied.
func (c *comparisons) stands() *state.View {
	view := &state.View{}
	for _, id := range c.order {
		view.Partitions = append(view.Partitions, state.PartitionStatus{Partition: id, Next: c.parts[id].next})
	}
	return view
}

// A partition that has stopped is looked at again after a while, then more and more seldom, with all others that are
// due. It goes on when the look finds no cause any more, and not before; what else has stopped stays stopped.
func TestStoppedPartitionIsLookedAtAgain(t *testing.T) {
	c := newComparisons(t)
	var mu sync.Mutex // partitions are looked at side by side
	var looked []int32
	mended := map[int32]bool{}
	by := func(_ context.Context, _ *kafka.Client, _ [16]byte, at state.PartitionStatus) error {
		mu.Lock()
		defer mu.Unlock()
		looked = append(looked, at.Partition)
		if !mended[at.Partition] {
			return errors.New("nothing has changed")
		}
		return nil
	}
	for id, p := range c.parts {
		c.halt(p, by, fmt.Sprint("for a reason: ", id))
	}
	step := func(after time.Duration) error {
		t.Helper()
		looked, c.now = nil, c.now.Add(after)
		err := c.retryStopped(c.stands(), c.now)
		slices.Sort(looked)
		return err
	}
	if err := step(againFirst / 10); err != nil || looked != nil {
		t.Errorf("at once: %v, looked at %v", err, looked)
	}
	behind := c.stands()
	behind.Partitions[0].Next, behind.Partitions[1].Next = 9, 9
	if err := c.retryStopped(behind, c.now.Add(time.Hour)); err != nil || looked != nil {
		t.Errorf("what was taken is not applied yet: %v, looked at %v", err, looked)
	}
	if err := step(2 * againFirst); err != nil || !slices.Equal(looked, []int32{0, 1}) {
		t.Errorf("after a while: %v, looked at %v", err, looked)
	}
	if err := step(0); err != nil || looked != nil {
		t.Errorf("in vain: %v, looked at %v", err, looked)
	}
	for range 30 {
		_ = step(2 * againMost)
	}
	if d := c.halts[0].due.Sub(c.now); d > 2*againMost {
		t.Errorf("the next look is in %v", d)
	}
	mended[1] = true
	_ = step(2 * againMost)
	if err := step(0); !errors.Is(err, errGoesOn) {
		t.Errorf("partition 1 has been mended: %v", err)
	}
	one, other := c.condition(condition.PartitionStopped, 1), c.condition(condition.PartitionStopped, 0)
	if one != "" || other != "for a reason: 0" {
		t.Errorf("shown are %q and %q", one, other)
	}
}

// A look that was wrong is no reason to begin with short pauses again; a partition that has got on is.
func TestLookThatWasWrong(t *testing.T) {
	c := newComparisons(t)
	p := c.parts[0]
	by := func(context.Context, *kafka.Client, [16]byte, state.PartitionStatus) error { return nil }
	for range 20 {
		c.halt(p, by, "again")
		p.stopped = ""
	}
	if d := c.halts[0].due.Sub(c.now); d < againMost/2 {
		t.Errorf("stopped 20 times at one offset: the next look is in %v", d)
	}
	p.next++
	c.halt(p, by, "again")
	if d := c.halts[0].due.Sub(c.now); d > 2*againFirst {
		t.Errorf("at another offset the next look is in %v", d)
	}
}

// Each cause has its own look, which an earlier cause of the same partition does not lend: keys prove nothing about a
// log that was replaced, and nothing is known of another topic.
func TestEachCauseHasItsLook(t *testing.T) {
	replaced := fmt.Errorf("%w: another record stands at offset 9", kafka.ErrReplaced)
	for _, cause := range []struct {
		name  string
		stops func(c *comparisons)
		looks bool
	}{
		{"another record", func(c *comparisons) { c.comes(0, 0, 3, 10); c.answer(0, replaced) }, true},
		{"another topic", func(c *comparisons) { c.stopFatal(c.parts[0], kafka.ErrRecreated) }, false},
		{"all of another topic", func(c *comparisons) { c.stopForeign() }, false},
	} {
		c := newComparisons(t)
		p, keys := c.parts[0], 0
		c.halt(p, func(context.Context, *kafka.Client, [16]byte, state.PartitionStatus) error {
			keys++
			return nil
		}, "no keys")
		p.stopped = ""
		c.cond.clearStopped(partName(0))
		cause.stops(c)
		if p.stopped == "" || (c.halts[0] != nil) != cause.looks {
			t.Errorf("%s: stopped for %q, looked at: %v", cause.name, p.stopped, c.halts[0] != nil)
		}
		// The log is still the other one: nothing is known of it in this state, so nothing proves anything.
		for range 5 {
			c.now = c.now.Add(time.Hour)
			if err := c.retryStopped(c.stands(), c.now); err != nil {
				t.Errorf("%s: %v", cause.name, err)
			}
		}
		if keys > 0 || c.condition(condition.PartitionStopped, 0) == "" {
			t.Errorf("%s: looked %d times for keys, shown is %q", cause.name, keys,
				c.condition(condition.PartitionStopped, 0))
		}
	}
}

// Kafka's texts end with a full stop, and what to do is told after them: one full stop is enough.
func TestTextOfWhatKafkaCannotServe(t *testing.T) {
	c := newComparisons(t)
	c.stopFatal(c.parts[0], kerr.OffsetOutOfRange)
	text := c.condition(condition.PartitionStopped, 0)
	if strings.Contains(text, "..") || !strings.Contains(text, "skip") {
		t.Errorf("the text is %q", text)
	}
}
