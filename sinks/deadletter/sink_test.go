package deadletter

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"deckle/event"
	"deckle/sinks"
	"deckle/state"
	"deckle/state/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// originals stands for Kafka's copy of the source.
type originals struct {
	values     map[state.Position][]byte
	unreadable map[state.Position]error
	err        error
	calls      atomic.Int32
}

func (o *originals) Events(context.Context, *state.Plan, func(*event.Item) error) error {
	return errors.New("not for dead letters")
}

func (o *originals) Originals(_ context.Context, at []state.Position,
	yield func(i int, value []byte, ok bool) error) error {
	o.calls.Add(1)
	for i, p := range at {
		if i > 0 && (at[i-1].Partition > p.Partition || at[i-1].Partition == p.Partition &&
			at[i-1].Offset >= p.Offset) {
			return fmt.Errorf("%v after %v", p, at[i-1])
		}
		if o.err != nil {
			return o.err
		}
		if err := o.unreadable[p]; err != nil {
			return err
		}
		v, ok := o.values[p]
		if err := yield(i, v, ok); err != nil {
			return err
		}
	}
	return nil
}

func newCluster(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, []kgo.Opt) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(3), kfake.SeedTopics(2, "web_clicks")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, []kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...)}
}

func openSink(t *testing.T, o *originals, kafka []kgo.Opt, timeout time.Duration) *Sink {
	t.Helper()
	s, err := Open(t.Context(), Options{
		Kafka: kafka, Topic: "web_clicks", Originals: func(uint32) sinks.EventSource { return o }, Timeout: timeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// letter makes a dead letter of a source record, and puts the record where Kafka has it.
func (o *originals) letter(seq uint64, epoch uint64, reason event.Reason, value []byte) state.DeadLetter {
	p := state.Position{Partition: int32(seq % 2), Offset: int64(100 + seq)}
	o.values[p] = value
	return state.DeadLetter{
		Seq: seq, Epoch: epoch,
		Reject: event.Reject{
			Partition: p.Partition, Offset: p.Offset, KafkaTimestamp: 1_700_000_000_123, Reason: reason,
			Detail: "why " + reason.String(),
			Length: int64(len(value)), SHA256: sha256.Sum256(value),
		},
	}
}

func plan(letters ...state.DeadLetter) *state.Plan {
	return statetest.NewPlan(state.Config{Shard: 4, Topic: "web_clicks"}, state.SinkDeadLetter, 6, 8,
		[]state.EpochInfo{{Epoch: 7, Clock: 1_700_000_010_000}, {Epoch: 8, Clock: 1_700_000_020_000}},
		statetest.Content{Letters: letters})
}

// readAll returns every record of the topic up to its present end.
func readAll(t *testing.T, kafka []kgo.Opt) []*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := kgo.NewClient(append(kafka, kgo.ConsumeTopics("web_clicks.dlq"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ends, err := kadm.NewClient(c).ListEndOffsets(ctx, "web_clicks.dlq")
	if err != nil {
		t.Fatal(err)
	}
	var want int64
	ends.Each(func(o kadm.ListedOffset) { want += o.Offset })
	var out []*kgo.Record
	for int64(len(out)) < want {
		f := c.PollFetches(ctx)
		if err := f.Err(); err != nil {
			t.Fatal(err)
		}
		out = append(out, f.Records()...)
	}
	return out
}

func headersOf(r *kgo.Record) map[string]string {
	m := map[string]string{}
	for _, h := range r.Headers {
		m[h.Key] = string(h.Value)
	}
	return m
}

func TestLettersAreProducedOnceByKey(t *testing.T) {
	_, kafka := newCluster(t)
	o := &originals{values: map[state.Position][]byte{}}
	s := openSink(t, o, kafka, 30*time.Second)

	adm, err := kgo.NewClient(kafka...)
	if err != nil {
		t.Fatal(err)
	}
	defer adm.Close()
	topics, err := kadm.NewClient(adm).ListTopics(t.Context(), "web_clicks.dlq")
	if err != nil || len(topics["web_clicks.dlq"].Partitions) != 2 ||
		topics["web_clicks.dlq"].Partitions.NumReplicas() != 3 {
		t.Fatalf("topic %+v, %v: want 2 partitions of 3 replicas", topics, err)
	}
	configs, err := kadm.NewClient(adm).DescribeTopicConfigs(t.Context(), "web_clicks.dlq")
	if err != nil {
		t.Fatal(err)
	}
	// One record per key, and none for ever. The broker's clock decides how old a letter is: those of this test have
	// that of an epoch of 2023.
	for key, want := range map[string]string{"cleanup.policy": "compact,delete", "retention.ms": "2592000000",
		"segment.ms": "86400000", "message.timestamp.type": "LogAppendTime"} {
		got := ""
		for _, c := range configs[0].Configs {
			if c.Key == key {
				got = c.MaybeValue()
			}
		}
		if got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}

	long := bytes.Repeat([]byte("0123456789abcdef"), 5000) // 80,000 bytes
	letters := []state.DeadLetter{
		o.letter(0, 7, event.Malformed, []byte("{")),
		o.letter(1, 7, event.Malformed, nil), // an empty value, which is not a deletion
		o.letter(2, 8, event.TooLarge, long),
		o.letter(3, 8, event.TooLate, []byte("kafka has lost this")),
		o.letter(4, 8, event.NoKey, []byte("kafka has something else there")),
		{Seq: 5, Epoch: 8, Reject: event.Reject{Reason: event.SinkRejected, Detail: "VIOLATED_CONSTRAINT"},
			Sink: state.SinkClickHouse, RowKey: "s1\x000/17", Row: []byte(`{"session_id":"s1"}`)},
	}
	delete(o.values, state.Position{Partition: 1, Offset: 103})
	o.values[state.Position{Partition: 0, Offset: 104}] = []byte("a new generation")
	p := plan(letters...)
	for range 2 { // the second time is a repeat, as another leader would make it
		if err := s.Write(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	records := readAll(t, kafka)
	if len(records) != 2*len(letters) {
		t.Fatalf("%d records, want %d", len(records), 2*len(letters))
	}
	byKey := map[string]*kgo.Record{}
	for _, r := range records {
		if r.Value == nil {
			t.Errorf("%s has a null value: compaction would delete it", r.Key)
		}
		if old := byKey[string(r.Key)]; old != nil {
			if !bytes.Equal(old.Value, r.Value) || !reflect.DeepEqual(old.Headers, r.Headers) ||
				old.Partition != r.Partition {
				t.Errorf("%s differs when repeated:\n%+v\n%+v", r.Key, old, r)
			}
		}
		byKey[string(r.Key)] = r
	}
	hash := func(b []byte) string { h := sha256.Sum256(b); return hex.EncodeToString(h[:]) }
	source := func(reason, partition, offset, length, sum, at string) map[string]string {
		return map[string]string{
			"reason": reason, "detail": "why " + reason, "length": length, "sha256": sum, "source_topic": "web_clicks",
			"source_partition": partition,
			"source_offset":    offset, "source_timestamp": "2023-11-14T22:13:20.123Z", "rejected_at": at,
		}
	}
	with := func(m map[string]string, k string) map[string]string { m[k] = "true"; return m }
	const at7, at8 = "2023-11-14T22:13:30.000Z", "2023-11-14T22:13:40.000Z"
	for _, tc := range []struct {
		key     string
		value   string
		headers map[string]string
	}{
		{"web_clicks/0/100", "{", source("malformed", "0", "100", "1", hash([]byte("{")), at7)},
		{"web_clicks/1/101", "", source("malformed", "1", "101", "0", hash(nil), at7)},
		{"web_clicks/0/102", string(long[:65_536]),
			with(source("too_large", "0", "102", "80000", hash(long), at8), "truncated")},
		{"web_clicks/1/103", "", with(source("too_late", "1", "103", "19", hash([]byte("kafka has lost this")), at8),
			"original_lost")},
		{"web_clicks/0/104", "", with(source("no_key", "0", "104", "30", hash([]byte("kafka has something else there")),
			at8), "original_lost")},
		{"sink/clickhouse/4/8/s1/0/17", `{"session_id":"s1"}`, map[string]string{
			"reason": "sink_rejected", "detail": "VIOLATED_CONSTRAINT", "length": "19",
			"sha256":       hash([]byte(`{"session_id":"s1"}`)),
			"source_topic": "web_clicks", "sink": "clickhouse", "shard": "4", "epoch": "8", "row_key": "s1/0/17",
			"rejected_at": at8,
		}},
	} {
		r := byKey[tc.key]
		if r == nil {
			t.Errorf("%s is missing", tc.key)
			continue
		}
		if string(r.Value) != tc.value {
			t.Errorf("%s: value of %d bytes, want %d", tc.key, len(r.Value), len(tc.value))
		}
		if got := headersOf(r); !reflect.DeepEqual(got, tc.headers) {
			t.Errorf("%s:\n got %v\nwant %v", tc.key, got, tc.headers)
		}
		// A real broker puts its own time in the place of this one: see message.timestamp.type above.
		if got := r.Timestamp.UTC().Format(TimeFormat); got != tc.headers["rejected_at"] {
			t.Errorf("%s: timestamp %s", tc.key, got)
		}
	}
	if len(byKey) != len(letters) {
		t.Errorf("%d keys, want %d", len(byKey), len(letters))
	}
}

// TestManyLettersAreBounded writes more bytes than may be buffered.
func TestManyLettersAreBounded(t *testing.T) {
	_, kafka := newCluster(t)
	o := &originals{values: map[state.Position][]byte{}}
	s, err := Open(t.Context(), Options{Kafka: kafka, Topic: "web_clicks",
		Originals: func(uint32) sinks.EventSource { return o }, BufferedBytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var letters []state.DeadLetter
	for i := range uint64(100) {
		letters = append(letters, o.letter(i, 7, event.Malformed,
			fmt.Appendf(nil, "%d%s", i, strings.Repeat("x", 40_000))))
	}
	if err := s.Write(t.Context(), plan(letters...)); err != nil {
		t.Fatal(err)
	}
	if n := len(readAll(t, kafka)); n != 100 {
		t.Errorf("%d records", n)
	}
}

func TestFailures(t *testing.T) {
	c, kafka := newCluster(t)
	o := &originals{values: map[state.Position][]byte{}}
	s := openSink(t, o, kafka, 500*time.Millisecond)
	p := plan(o.letter(0, 7, event.Malformed, []byte("x")), o.letter(1, 7, event.Malformed, []byte("y")))

	o.err = errors.New("fetch failed")
	if err := s.Write(t.Context(), p); !errors.Is(err, o.err) {
		t.Errorf("an original that cannot be read: %v", err)
	}
	o.err = nil

	f := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "web_clicks.dlq", Err: kerr.NotEnoughReplicas,
		Count: -1})
	err := s.Write(t.Context(), p)
	if err == nil {
		t.Error("no replica acknowledges, and Write returns nil")
	}
	if err != nil && !strings.Contains(err.Error(), "no progress within 500ms") {
		t.Errorf("unavailable: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Write(ctx, p); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	f.Remove()
	if err := s.Write(t.Context(), p); err != nil {
		t.Errorf("after it: %v", err)
	}
	keys := map[string]bool{}
	for _, r := range readAll(t, kafka) {
		keys[string(r.Key)] = true
	}
	if len(keys) != 2 {
		t.Errorf("keys %v", keys)
	}
}

func TestOptions(t *testing.T) {
	o := func(uint32) sinks.EventSource { return nil }
	for _, opts := range []Options{{}, {Topic: "t"}, {Topic: "t", DLQ: "t", Originals: o}} {
		if s, err := Open(t.Context(), opts); err == nil {
			_ = s.Close()
			t.Errorf("%+v is accepted", opts)
		}
	}
}

// TestWindows: letters that come from all partitions in turn are read from Kafka one window at a time.
func TestWindows(t *testing.T) {
	_, kafka := newCluster(t)
	o := &originals{values: map[state.Position][]byte{}}
	letters := make([]state.DeadLetter, 0, 2*windowLetters+10)
	for seq := range uint64(cap(letters)) {
		letters = append(letters, o.letter(seq, 7+seq%2, event.Malformed, fmt.Appendf(nil, "broken %d", seq)))
	}
	s := openSink(t, o, kafka, time.Minute)
	if err := s.Write(t.Context(), plan(letters...)); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range readAll(t, kafka) {
		got[string(r.Key)] = string(r.Value)
	}
	for seq := range letters {
		if v := got[fmt.Sprintf("web_clicks/%d/%d", seq%2, 100+seq)]; v != fmt.Sprint("broken ", seq) {
			t.Fatalf("letter %d: %q", seq, v)
		}
	}
	if len(got) != len(letters) || o.calls.Load() != 3 {
		t.Errorf("%d letters of %d, read in %d windows", len(got), len(letters), o.calls.Load())
	}
}
