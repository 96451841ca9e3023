package kafka

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node/nodetest"
	"deckle/sim/testworld/badbatch"
	"deckle/sinks"
	"deckle/state"
	"deckle/state/statetest"
)

// batches produces a record batch for each of the numbers of records, in partition 0.
func batches(b *nodetest.Broker, sizes ...int) {
	i := 0
	for _, n := range sizes {
		var rs []*kgo.Record
		for range n {
			rs = append(rs, nodetest.Record(0, "s", i))
			i++
		}
		b.Produce(rs...)
	}
}

// offsetsOf reads a plan's events again, and returns the offsets of those that came.
func offsetsOf(t *testing.T, f *Refetch, plan *state.Plan) (got []int64, err error) {
	t.Helper()
	err = f.Events(nodetest.Context(t), plan, func(it *event.Item) error {
		got = append(got, it.Offset)
		return nil
	})
	return got, err
}

// A batch that was read before and cannot be read again is named whole, with the command that gives it up: a fetch from
// within it brings it again and again, so to give up less would not help. What the operator gives up is neither asked
// for nor missed, and the rest comes.
func TestLostBatchIsNamed(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	batches(b, 4, 3, 3)
	if whole, err := clientOf(b).batchAt(nodetest.Context(t), 0, 5); err != nil || whole.From != 4 || whole.To != 7 {
		t.Fatalf("the batch of offset 5: %+v, %v", whole, err)
	}
	for name, damage := range map[string]badbatch.Damage{"flipped bit": badbatch.Flip, "codec": badbatch.Codec,
		"not what its codec says": badbatch.Packed, "version": badbatch.Magic, "no records": badbatch.Garbage} {
		t.Run(name, func(t *testing.T) {
			var broken badbatch.Broken
			broken.Spoil(0, 5, damage)
			f := NewRefetch(clientOf(b, through(b, &broken)...), noKey)
			f.quiet = 100 * time.Millisecond
			for _, from := range []int64{0, 5} {
				plan := planOf(state.Config{}, 10-from, event.Range{From: from, To: 10})
				_, err := offsetsOf(t, f, plan)
				lost, ok := errors.AsType[*LostError](err)
				want := event.Range{From: max(4, from), To: 7}
				if _, stops := errors.AsType[*sinks.StopError](err); !ok || stops ||
					!slices.Equal(lost.Ranges, []event.Range{want}) {
					t.Fatalf("from %d: %v", from, err)
				}
				command := fmt.Sprintf("deckle partitions skip --sink events --partition 0 --from %d --to 7", want.From)
				if !strings.Contains(err.Error(), command) {
					t.Errorf("from %d: the text does not name the command: %v", from, err)
				}
				plan.EventGaps = []state.EventsGap{{Gap: state.Gap{From: want.From, To: want.To}}}
				rest := []int64{0, 1, 2, 3, 7, 8, 9}
				if from > 0 {
					rest = rest[4:]
				}
				if got, err := offsetsOf(t, f, plan); err != nil || !slices.Equal(got, rest) {
					t.Errorf("from %d, given up: %v, %v", from, got, err)
				}
			}
		})
	}
}

// A batch of which the client says nothing, neither a record nor an error, because an answer of the broker has room for
// no other one. Where the range ends with the log, the batch's own end has to be asked for, so that the text names it,
// and not the readable ones behind it.
func TestSilentBatchIsNamed(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	random := rand.NewChaCha8([32]byte{7})
	for i := range 4 {
		r := nodetest.Record(0, "s", i)
		noise := make([]byte, 450_000) // two are more than a fetch asks for
		_, _ = random.Read(noise)
		url := fmt.Sprintf(`"page_url":"%s","brand"`, base64.StdEncoding.EncodeToString(noise))
		r.Value = bytes.Replace(r.Value, []byte(`"brand"`), []byte(url), 1)
		b.Produce(r)
	}
	for _, bad := range []int64{1, 3} { // the last one is where the log ends
		var broken badbatch.Broken
		broken.Spoil(0, bad, badbatch.Garbage)
		f := NewRefetch(clientOf(b, through(b, &broken)...), noKey)
		f.quiet = 100 * time.Millisecond
		plan := planOf(state.Config{}, 4, event.Range{From: 0, To: 4})
		_, err := offsetsOf(t, f, plan)
		lost, ok := errors.AsType[*LostError](err)
		if _, stops := errors.AsType[*sinks.StopError](err); !ok || stops ||
			!slices.Equal(lost.Ranges, []event.Range{{From: bad, To: bad + 1}}) {
			t.Fatalf("%d is silent: %v", bad, err)
		}
		plan.EventGaps = []state.EventsGap{{Gap: state.Gap{From: bad, To: bad + 1}}}
		if got, err := offsetsOf(t, f, plan); err != nil || len(got) != 3 || slices.Contains(got, bad) {
			t.Errorf("%d is given up: %v, %v", bad, got, err)
		}
	}
}

// What lies before the beginning of a log is named by partition; what the plan leaves out within it, or in a partition
// before, is no row that is missed elsewhere.
func TestTrimmedRangesAreNamed(t *testing.T) {
	b := nodetest.NewBroker(t, 2)
	for i := range 20 {
		b.Produce(nodetest.Record(int32(i%2), fmt.Sprint("s", i%2), i))
	}
	for p, to := range map[int32]int64{0: 3, 1: 6} {
		if err := b.DeleteRecords(nodetest.Topic, p, to); err != nil {
			t.Fatal(err)
		}
	}
	f := NewRefetch(clientOf(b), noKey)
	plan := statetest.NewPlan(state.Config{}, state.SinkEvents, 0, 1, []state.EpochInfo{{Epoch: 1, Events: 15,
		Ranges:  []event.Range{{Partition: 0, From: 1, To: 10}, {Partition: 1, From: 0, To: 10}},
		LeftOut: []state.Position{{Offset: 2}, {Offset: 9}, {Partition: 1, Offset: 1}, {Partition: 1, Offset: 7}}}},
		statetest.Content{})
	n := 0
	read := func() error {
		n = 0
		return f.Events(nodetest.Context(t), plan, func(*event.Item) error { n++; return nil })
	}
	err := read()
	lost, ok := errors.AsType[*LostError](err)
	want := []event.Range{{Partition: 0, From: 1, To: 3}, {Partition: 1, From: 0, To: 6}}
	if _, stops := errors.AsType[*sinks.StopError](err); !ok || !stops || !errors.Is(err, errLost) ||
		!slices.Equal(lost.Ranges, want) {
		t.Fatalf("%v", err)
	}
	for _, command := range []string{"--sink events --partition 0 --from 1 --to 3",
		"--sink events --partition 1 --from 0 --to 6"} {
		if !strings.Contains(err.Error(), command) {
			t.Errorf("the text does not name %q: %v", command, err)
		}
	}
	// One of the two is not enough.
	plan.EventGaps = []state.EventsGap{{Gap: state.Gap{From: 1, To: 3}}}
	if err := read(); !errors.Is(err, errLost) {
		t.Fatalf("half of it given up: %v", err)
	}
	// Five rows may be missing of the second (one is left out), and one of the first.
	plan.EventGaps = append(plan.EventGaps, state.EventsGap{Gap: state.Gap{Partition: 1, From: 0, To: 6}})
	if least, most := plan.Rows(); least != 9 || most != 15 {
		t.Fatalf("%d to %d rows", least, most)
	}
	if err := read(); err != nil || n != 9 {
		t.Fatalf("%d rows, %v", n, err)
	}
	// A row more than may be missing is missing.
	plan.Epochs[0].Events++
	if err := read(); err == nil {
		t.Fatal("a row was lost in silence")
	}
}

// What a plan leaves out of a range that was given up whole is passed over with the range, in its partition and before
// the next one. If it were not, what later ranges leave out would come as rows: duplicates, and what is too late.
func TestLeftOutOfAGivenUpRange(t *testing.T) {
	b := nodetest.NewBroker(t, 2)
	for i := range 20 {
		b.Produce(nodetest.Record(int32(i%2), fmt.Sprint("s", i%2), i))
	}
	at := func(partition int32, offset int64) state.Position {
		return state.Position{Partition: partition, Offset: offset}
	}
	for name, c := range map[string]struct {
		ranges          []event.Range
		given           event.Range
		left            []state.Position
		events, missing int64 // of the epoch, and what may be missing of them
		want            []state.Position
	}{
		"the partition before": {
			ranges: []event.Range{{Partition: 0, From: 0, To: 4}, {Partition: 1, From: 0, To: 5}},
			given:  event.Range{Partition: 0, From: 0, To: 4},
			left:   []state.Position{at(0, 1), at(0, 3), at(1, 1), at(1, 4)},
			events: 5, missing: 2,
			want: []state.Position{at(1, 0), at(1, 2), at(1, 3)},
		},
		"the range before": {
			ranges: []event.Range{{Partition: 1, From: 0, To: 3}, {Partition: 1, From: 5, To: 9}},
			given:  event.Range{Partition: 1, From: 0, To: 3},
			left:   []state.Position{at(1, 2), at(1, 6)},
			events: 5, missing: 2,
			want: []state.Position{at(1, 5), at(1, 7), at(1, 8)},
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			plan := statetest.NewPlan(state.Config{}, state.SinkEvents, 0, 1, []state.EpochInfo{{Epoch: 1,
				Events: c.events, Ranges: c.ranges, LeftOut: c.left}}, statetest.Content{})
			plan.EventGaps = []state.EventsGap{{Gap: state.Gap{Partition: c.given.Partition, From: c.given.From,
				To: c.given.To}}}
			if least, most := plan.Rows(); least != c.events-c.missing || most != c.events {
				t.Fatalf("%d to %d rows", least, most)
			}
			var got []state.Position
			err := NewRefetch(clientOf(b), noKey).Events(nodetest.Context(t), plan, func(it *event.Item) error {
				got = append(got, at(it.Partition, it.Offset))
				return nil
			})
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

// A topic of the same name has none of the records: all that the plan still needs is named.
func TestRecreatedTopicIsNamed(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	batches(b, 5)
	plan := planOf(state.Config{TopicID: [16]byte{1}}, 5, event.Range{From: 0, To: 5})
	f := NewRefetch(clientOf(b), noKey)
	none := func(*event.Item) error { return errors.New("a record of another topic") }
	err := f.Events(nodetest.Context(t), plan, none)
	lost, ok := errors.AsType[*LostError](err)
	if !ok || !errors.Is(err, ErrRecreated) || !slices.Equal(lost.Ranges, []event.Range{{From: 0, To: 5}}) {
		t.Fatalf("%v", err)
	}
	plan.EventGaps = []state.EventsGap{{Gap: state.Gap{From: 0, To: 9}}}
	if err := f.Events(nodetest.Context(t), plan, none); err != nil {
		t.Fatalf("given up: %v", err)
	}
}

// A restored log has another record at an offset than was read, and compaction has removed some: both are named.
func TestOtherRecordsAreNamed(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	b.Produce(nodetest.Record(0, "s", 1), &kgo.Record{Partition: 0, Key: []byte("s"), Value: []byte("{")})
	f := NewRefetch(clientOf(b), noKey)
	err := f.Events(nodetest.Context(t), planOf(state.Config{}, 2, event.Range{From: 0, To: 2}),
		func(*event.Item) error { return nil })
	if lost, ok := errors.AsType[*LostError](err); !ok || !slices.Equal(lost.Ranges, []event.Range{{From: 1, To: 2}}) {
		t.Errorf("another record: %v", err)
	}
	var holes []event.Range
	rr := &rangeReading{r: event.Range{From: 2, To: 9}, next: 2, holes: &holes,
		yield: func(*event.Item) error { return nil }}
	for _, offset := range []int64{0, 2, 3, 6, 12} {
		if err := rr.record(&kgo.Record{Offset: offset}); err != nil {
			t.Fatal(err)
		}
	}
	if want := []event.Range{{From: 4, To: 6}, {From: 7, To: 9}}; !slices.Equal(holes, want) || rr.next != 12 {
		t.Errorf("holes %v, next %d", holes, rr.next)
	}
}

// FuzzBatchOf: whatever a broker sends, a batch is found only if it has the offset.
func FuzzBatchOf(f *testing.F) {
	head := make([]byte, headerBytes)
	binary.BigEndian.PutUint64(head, 40)
	binary.BigEndian.PutUint32(head[8:], headerBytes-12)
	binary.BigEndian.PutUint32(head[23:], 2)
	next := slices.Clone(head)
	binary.BigEndian.PutUint64(next, 43)
	f.Add(slices.Concat(head, next), int64(44))
	f.Add(head, int64(42))
	if r, err := batchOf(slices.Concat(head, next), 3, 44); err != nil || r != (event.Range{Partition: 3, From: 43,
		To: 46}) {
		f.Fatalf("%+v, %v", r, err)
	}
	f.Fuzz(func(t *testing.T, b []byte, offset int64) {
		r, err := batchOf(b, 0, offset)
		if err == nil && (offset < r.From || r.To <= offset) {
			t.Fatalf("%+v does not have %d", r, offset)
		}
	})
}

// Kafka's texts end with a full stop, and what to do is told after them: one full stop is enough.
func TestLostErrorIsOneText(t *testing.T) {
	for _, cause := range []error{kerr.OffsetOutOfRange, errors.New("it is gone")} {
		text := (&LostError{Ranges: []event.Range{{From: 3, To: 7}}, Err: cause}).Error()
		if strings.Contains(text, "..") || !strings.Contains(text, ". To write the raw events without them") {
			t.Errorf("the text is %q", text)
		}
	}
}
