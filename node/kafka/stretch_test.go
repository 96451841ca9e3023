package kafka

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/nodetest"
)

// A stretch begins with the first record of its time and ends before that of the end; of it come the committed records,
// in order, and no markers. What was aborted, and what the log has no more, is left out.
func TestStretches(t *testing.T) {
	b := nodetest.NewBroker(t, 2)
	transact := b.Transactional()
	ctx := nodetest.Context(t)
	began := time.Now().Add(time.Minute).Truncate(time.Second) // later than what brokers say of their markers
	at := func(minute int) *kgo.Record {
		r := nodetest.Record(0, "s", minute)
		r.Timestamp = began.Add(time.Duration(minute) * time.Minute)
		return r
	}
	b.Produce(at(0), at(1), at(2)) // 0 to 2
	for _, how := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		transact(how, at(3), at(4)) // 3, 4, marker 5; 6, 7, marker 8
	}
	b.Produce(at(5)) // 9
	c := clientOf(b)
	nodetest.Until(t, "the markers are there", func() bool {
		s, err := c.Between(ctx, nodetest.Topic, began, began.Add(time.Hour))
		return err == nil && s[0].To == 10
	})
	read := func(from, to int) (s []Stretch, offsets []int64) {
		t.Helper()
		s, err := c.Between(ctx, nodetest.Topic, began.Add(time.Duration(from)*time.Minute),
			began.Add(time.Duration(to)*time.Minute))
		if err == nil {
			err = c.ReadStretches(ctx, nodetest.Topic, s, func(r *kgo.Record) error {
				offsets = append(offsets, r.Offset)
				return nil
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		return s, offsets
	}
	for name, tc := range map[string]struct {
		from, to int
		stretch  Stretch
		offsets  []int64
	}{
		"all":    {-1, 60, Stretch{0, 0, 10, 0}, []int64{0, 1, 2, 6, 7, 9}},
		"middle": {1, 5, Stretch{0, 1, 9, 0}, []int64{1, 2, 6, 7}},
		"ahead":  {50, 60, Stretch{0, 10, 10, 0}, nil},
	} {
		s, offsets := read(tc.from, tc.to)
		if len(s) != 2 || s[0] != tc.stretch || s[1] != (Stretch{Partition: 1}) || !slices.Equal(offsets, tc.offsets) {
			t.Errorf("%s: %v, %v", name, s, offsets)
		}
	}
	if err := b.DeleteRecords(nodetest.Topic, 0, 2); err != nil {
		t.Fatal(err)
	}
	// The log begins with offset 2 now, and so do stretches of its index of times.
	if s, offsets := read(-1, 5); s[0].Start != 2 || s[0].To != 9 || !slices.Equal(offsets, []int64{2, 6, 7}) {
		t.Errorf("%v, %v", s, offsets)
	}
	if s, err := c.Between(ctx, "nothing", began, began.Add(time.Hour)); len(s) > 0 || err != nil {
		t.Errorf("a topic that does not exist: %v, %v", s, err)
	}
	// What yield returns ends it; a log that does not reach as far as it should is silence, and no end.
	s, _ := read(-1, 5)
	stop := fmt.Errorf("enough")
	if err := c.ReadStretches(ctx, nodetest.Topic, s, func(*kgo.Record) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	c.quiet = 50 * time.Millisecond
	s[0].To = 12
	err := c.ReadStretches(ctx, nodetest.Topic, s, func(*kgo.Record) error { return nil })
	if !errors.Is(err, errSilent) {
		t.Errorf("%v", err)
	}
}
