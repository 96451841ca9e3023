package kafka

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/event"
	"deckle/node/nodetest"
	"deckle/sim/testworld/badbatch"
	"deckle/sinks"
	"deckle/state"
	"deckle/state/statetest"
)

func planOf(cfg state.Config, events int64, rs ...event.Range) *state.Plan {
	return statetest.NewPlan(cfg, state.SinkEvents, 0, 1, []state.EpochInfo{{Epoch: 1, Ranges: rs, Events: events}},
		statetest.Content{})
}

// A partition that answers nothing for a while is no proof of a loss: the attempt ends, and a later one succeeds.
func TestSilenceIsNotLoss(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	for i := range 10 {
		b.Produce(nodetest.Record(0, "s", i))
	}
	f := NewRefetch(clientOf(b), noKey)
	f.quiet = 20 * time.Millisecond
	ctx := nodetest.Context(t)
	events := func(to int64) (n int64, err error) {
		plan := planOf(state.Config{}, to, event.Range{Partition: 0, From: 0, To: to})
		err = f.Events(ctx, plan, func(*event.Item) error { n++; return nil })
		return n, err
	}
	moved := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: nodetest.Topic, Err: kerr.NotLeaderForPartition,
		Count: -1})
	var stop *sinks.StopError
	for _, to := range []int64{10, 9} { // the range's end is the log's, or is not
		if _, err := events(to); err == nil || errors.As(err, &stop) || errors.Is(err, errLost) {
			t.Errorf("up to %d, silence: %v", to, err)
		}
	}
	if _, err := originalsOf(ctx, f, state.Position{Offset: 4}); !errors.Is(err, errSilent) {
		t.Errorf("one record, silence: %v", err)
	}
	moved.Remove()
	f.quiet = 0
	for _, to := range []int64{10, 9} {
		if n, err := events(to); err != nil || n != to {
			t.Errorf("up to %d, afterwards: %d events, %v", to, n, err)
		}
	}
	if got, err := originalsOf(ctx, f, state.Position{Offset: 4}); err != nil || got[0] == "" {
		t.Errorf("one record, afterwards: %q %v", got, err)
	}
}

// The log's start inside a range loses something only if the count says so.
func TestLogStartInsideARange(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	for i := range 10 {
		b.Produce(nodetest.Record(0, "s", i))
	}
	if err := b.DeleteRecords(nodetest.Topic, 0, 3); err != nil {
		t.Fatal(err)
	}
	f := NewRefetch(clientOf(b), noKey)
	none := func(*event.Item) error { return nil }
	r := event.Range{Partition: 0, From: 2, To: 10}
	if err := f.Events(nodetest.Context(t), planOf(state.Config{}, 7, r), none); err != nil {
		t.Errorf("the record before the start did not count: %v", err)
	}
	var stop *sinks.StopError
	if err := f.Events(nodetest.Context(t), planOf(state.Config{}, 8, r), none); !errors.As(err, &stop) ||
		!errors.Is(err, errLost) {
		t.Errorf("the record before the start counted: %v", err)
	}
	if err := f.Events(nodetest.Context(t), planOf(state.Config{}, 2, event.Range{Partition: 0, From: 0, To: 2}),
		none); !errors.As(err, &stop) {
		t.Errorf("all of the range is before the start: %v", err)
	}
}

// Offsets of a topic that was deleted say nothing about one of the same name.
func TestRefetchKnowsItsTopic(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	for i := range 5 {
		b.Produce(nodetest.Record(0, "s", i))
	}
	ctx := nodetest.Context(t)
	info, err := clientOf(b).Describe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f := NewRefetch(clientOf(b), noKey)
	n := 0
	events := func() error {
		return f.Events(ctx, planOf(state.Config{TopicID: info.ID}, 5, event.Range{Partition: 0, From: 0, To: 5}),
			func(*event.Item) error {
				n++
				return nil
			})
	}
	if err := events(); err != nil || n != 5 {
		t.Fatalf("%d events, %v", n, err)
	}
	info.ID[0]++ // the same offsets, the same number of events, another topic
	var stop *sinks.StopError
	if err := events(); !errors.As(err, &stop) || !errors.Is(err, ErrRecreated) || n != 5 {
		t.Fatalf("another topic: %v, %d events", err, n)
	}
}

// An operator has given up a batch that cannot be read, in the middle of an epoch: the ranges before and behind it are
// read, although each fetch of the first brings the broken batch, too, and what each leaves out is its own.
func TestRefetchAroundAGap(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	for i := range 10 {
		b.Produce(nodetest.Record(0, "s", i))
	}
	for name, damage := range map[string]badbatch.Damage{"flipped bit": badbatch.Flip, "version": badbatch.Magic} {
		var broken badbatch.Broken
		broken.Spoil(0, 4, damage)
		f := NewRefetch(clientOf(b, through(b, &broken)...), noKey)
		plan := statetest.NewPlan(state.Config{}, state.SinkEvents, 0, 1, []state.EpochInfo{{Epoch: 1, Events: 7,
			Ranges:  []event.Range{{From: 0, To: 4}, {From: 5, To: 10}},
			LeftOut: []state.Position{{Offset: 1}, {Offset: 6}},
			Gaps:    []state.Gap{{From: 4, To: 5}}}}, statetest.Content{})
		var got []int64
		if err := f.Events(nodetest.Context(t), plan, func(it *event.Item) error {
			got = append(got, it.Offset)
			return nil
		}); err != nil || !slices.Equal(got, []int64{0, 2, 3, 5, 7, 8, 9}) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// A range with transactions in it has offsets of which no record comes: markers and aborted records. They are no loss:
// neither inside the range, nor at its end, nor where the log ends with them, however the range was cut.
func TestRefetchTransactions(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	transact := b.Transactional()
	for i, how := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
		transact(how, nodetest.Record(0, "s", i))
	}
	// 0 committed, 1 marker, 2 aborted, 3 marker, 4 committed, 5 marker, 6 aborted, 7 marker
	f := NewRefetch(clientOf(b), noKey)
	f.quiet = 50 * time.Millisecond
	for _, c := range []struct {
		from, to int64
		want     []int64
	}{
		{0, 8, []int64{0, 4}}, {0, 7, []int64{0, 4}}, {0, 3, []int64{0}}, {1, 5, []int64{4}}, {5, 8, nil}, {2, 4, nil},
	} {
		var got []int64
		r := event.Range{Partition: 0, From: c.from, To: c.to}
		err := f.Events(nodetest.Context(t), planOf(state.Config{}, int64(len(c.want)), r), func(it *event.Item) error {
			got = append(got, it.Offset)
			return nil
		})
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("from %d to %d: %v, %v; want %v", c.from, c.to, got, err, c.want)
		}
	}
	var lost *LostError
	err := f.Events(nodetest.Context(t), planOf(state.Config{}, 3, event.Range{Partition: 0, From: 0, To: 8}),
		func(*event.Item) error { return nil })
	if !errors.As(err, &lost) || len(lost.Ranges) == 0 || lost.Ranges[0].From != 2 {
		t.Errorf("one more was read before than Kafka has: %v", err)
	}
}

// noKey is for nodes without privacy.keys.
func noKey(event.KeyID) []byte { return nil }

// Raw events of rules that hash are read again with the key of those rules only: another one, or none, would make
// another reader of each, or show who it was.
func TestRefetchNeedsItsKey(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	b.Produce(nodetest.Record(0, "s", 0))
	key := []byte("0123456789abcdef0123456789abcdef")
	plan := planOf(state.Config{}, 1, event.Range{Partition: 0, From: 0, To: 1})
	plan.Rules.Event = event.DefaultRules()
	plan.Rules.Event.Privacy = []event.Privacy{{Field: "session_id", Action: event.HashValue}}
	plan.Rules.Event.PrivacyKey = event.KeyIDOf(key)
	for name, has := range map[string][]byte{"none": nil, "another": key[1:], "it": key} {
		var got string
		f := NewRefetch(clientOf(b), func(event.KeyID) []byte { return has })
		err := f.Events(nodetest.Context(t), plan, func(it *event.Item) error { got = it.SessionID; return nil })
		if name == "it" {
			if err != nil || len(got) != 32 {
				t.Errorf("%s: session %q, %v", name, got, err)
			}
		} else if err == nil || got != "" || !strings.Contains(err.Error(), event.KeyIDOf(key).String()) {
			t.Errorf("%s: session %q, %v", name, got, err)
		}
	}
}
