package letters

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node/nodetest"
	"deckle/node/status"
	"deckle/sinks/deadletter"
)

const (
	source = nodetest.Topic
	dlq    = source + ".dlq"
)

// world is a broker with a source topic and one of letters.
type world struct {
	*nodetest.Broker
	t     *testing.T
	ctx   context.Context
	judge Judge
	where map[string]string // place of a letter, by key
}

func newWorld(t *testing.T, partitions int32) *world {
	t.Helper()
	w := &world{Broker: nodetest.NewBroker(t, partitions), t: t, ctx: nodetest.Context(t), where: map[string]string{}}
	rules := event.DefaultRules()
	w.judge = Judge{Rules: &rules, Keyed: partitions > 1}
	policy := "compact,delete"
	config := map[string]*string{"cleanup.policy": &policy}
	if _, err := w.Adm.CreateTopic(w.ctx, partitions, 1, config, dlq); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) letters(more ...kgo.Opt) *Letters {
	return New(Options{Kafka: append(slices.Clip(w.Opts), more...), Source: source, Letters: dlq, Now: time.Now,
		Judge: func(int32) (Judge, error) { return w.judge, nil }, Random: rand.Reader, Logger: nodetest.Log(w.t)})
}

// put writes a record into the source topic, and its letter as the sink makes it, unless change makes another one.
func (w *world) put(rec *kgo.Record, reason event.Reason, change ...func(*kgo.Record)) (key string) {
	w.t.Helper()
	w.Produce(rec)
	sum := sha256.Sum256(rec.Value)
	header := func(key, value string) kgo.RecordHeader { return kgo.RecordHeader{Key: key, Value: []byte(value)} }
	key = fmt.Sprintf("%s/%d/%d", source, rec.Partition, rec.Offset)
	l := &kgo.Record{Topic: dlq, Partition: rec.Partition, Key: []byte(key), Value: rec.Value,
		Headers: []kgo.RecordHeader{header("reason", reason.String()), header("detail", "it is so"),
			header("length", strconv.Itoa(len(rec.Value))), header("sha256", hex.EncodeToString(sum[:])),
			header("source_topic", source),
			header("source_timestamp", rec.Timestamp.UTC().Format(deadletter.TimeFormat)),
			header("rejected_at", time.Now().UTC().Format(deadletter.TimeFormat))}}
	for _, c := range change {
		c(l)
	}
	w.Produce(l)
	key = string(l.Key)
	w.where[key] = place(l.Partition, l.Offset)
	return key
}

// without takes headers away and adds others: pairs of name and value.
func without(names string, add ...string) func(*kgo.Record) {
	return func(r *kgo.Record) {
		r.Headers = slices.DeleteFunc(r.Headers, func(h kgo.RecordHeader) bool {
			return slices.Contains(strings.Fields(names), h.Key)
		})
		for i := 0; i < len(add); i += 2 {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: add[i], Value: []byte(add[i+1])})
		}
	}
}

func (w *world) list(q status.LetterQuery) (all []status.Letter) {
	w.t.Helper()
	for {
		page, err := w.letters().List(w.ctx, &q)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, page.Letters...)
		if page.Next == "" {
			return all
		}
		q.Place = page.Next
	}
}

func keysOf(all []status.Letter) (keys []string) {
	for i := range all {
		keys = append(keys, all[i].Key)
	}
	return keys
}

// Letters are listed once each, by the last record of their key, in pages that go on where the one before ended, and as
// they were chosen; what is no letter, and what was deleted, is not.
func TestList(t *testing.T) {
	w := newWorld(t, 2)
	if got := w.list(status.LetterQuery{}); len(got) != 0 {
		t.Fatalf("%+v", got)
	}
	var keys []string
	for i := range 6 {
		r := nodetest.Record(int32(i%2), "s", i)
		keys = append(keys, w.put(r, []event.Reason{event.TooLate, event.WrongType}[i/3]))
	}
	again := &kgo.Record{Topic: dlq, Partition: 0, Key: []byte(keys[0]), Value: []byte("{}"),
		Headers: []kgo.RecordHeader{{Key: "reason", Value: []byte("too_late")}}}
	w.Produce(again, &kgo.Record{Topic: dlq, Partition: 1, Key: []byte(keys[1])}, // a tombstone
		&kgo.Record{Topic: dlq, Partition: 1, Key: []byte("x"), Value: []byte("of somebody else")})
	row := &kgo.Record{Topic: dlq, Partition: 1, Key: []byte("sink/clickhouse/0/7/s/o"), Value: []byte("{}"),
		Headers: []kgo.RecordHeader{{Key: "reason", Value: []byte("sink_rejected")},
			{Key: "sink", Value: []byte("clickhouse")}}}
	w.Produce(row)
	all := w.list(status.LetterQuery{})
	want := []string{keys[2], keys[4], keys[0], keys[3], keys[5], string(row.Key)}
	if got := keysOf(all); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if l := all[0]; l.State != status.LetterOpen || *l.Partition != 0 || *l.Offset != 1 || l.Shown != "whole" ||
		l.Reason != "too_late" || l.Place != w.where[keys[2]] || l.RejectedAt == nil || l.Value != nil {
		t.Errorf("%+v", l)
	}
	if l := all[2]; l.Shown != "truncated" || l.RejectedAt != nil {
		t.Errorf("a letter that went as key and reason: %+v", l)
	}
	one := int32(1)
	for name, c := range map[string]struct {
		q    status.LetterQuery
		want []string
	}{
		"pages of one":     {status.LetterQuery{Limit: 1}, nil},
		"reason":           {status.LetterQuery{Reason: "wrong_type"}, []string{keys[4], keys[3], keys[5]}},
		"partition":        {status.LetterQuery{Partition: &one}, []string{keys[3], keys[5]}},
		"since then":       {status.LetterQuery{From: time.Now().Add(time.Hour)}, nil},
		"until before":     {status.LetterQuery{Until: time.Now().Add(-time.Hour)}, nil},
		"of the last hour": {status.LetterQuery{From: time.Now().Add(-time.Hour)}, want[:0:0]},
		"discarded":        {status.LetterQuery{State: status.LetterDiscarded}, nil},
	} {
		got := keysOf(w.list(c.q))
		switch name {
		case "pages of one":
			// the key that was deleted later, and the one that comes again, show before that is read
			if !slices.Contains(got, keys[5]) || !slices.Contains(got, string(row.Key)) || len(got) < len(want) {
				t.Errorf("%s: %v", name, got)
			}
		case "of the last hour":
			if len(got) != 4 { // all with a time
				t.Errorf("%s: %v", name, got)
			}
		default:
			if !slices.Equal(got, c.want) {
				t.Errorf("%s: %v, want %v", name, got, c.want)
			}
		}
	}
}

// One letter is shown with what it has, as far as the present rules show it and no reader has objected.
func TestShow(t *testing.T) {
	w := newWorld(t, 1)
	key := w.put(nodetest.Record(0, "s", 1), event.TooLate)
	broken := w.put(&kgo.Record{Key: []byte("s"), Value: []byte("\xff{")}, event.Malformed)
	show := func(ref status.LetterRef) *status.Letter {
		t.Helper()
		l, err := w.letters().Show(w.ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	for _, ref := range []status.LetterRef{{Key: key}, {Key: key, Place: w.where[key]}} {
		if l := show(ref); l.Value == nil || !strings.Contains(*l.Value, `"session_id":"s"`) || l.Withheld != "" {
			t.Errorf("%+v", l)
		}
	}
	if l := show(status.LetterRef{Key: broken}); l.Value != nil || string(l.Value64) != "\xff{" {
		t.Errorf("%+v", l)
	}
	for _, ref := range []status.LetterRef{{Key: "x"}, {Key: key, Place: "0/77"}, {Key: key, Place: w.where[broken]},
		{Key: key, Place: "9/0"}, {Key: key, Place: "here"}} {
		if _, err := w.letters().Show(w.ctx, ref); !errors.Is(err, status.ErrRefused) {
			t.Errorf("%+v: %v", ref, err)
		}
	}
	rules := *w.judge.Rules
	rules.Letters.Values = event.MaskValues
	w.judge.Rules = &rules
	if l := show(status.LetterRef{Key: key}); l.Value == nil || strings.Contains(*l.Value, `"s"`) ||
		!strings.Contains(*l.Value, `"session_id":"text of 1 byte"`) || l.Withheld == "" {
		t.Errorf("masked now: %+v", l)
	}
	rules.Letters.Values = event.KeepValues
	salt := event.Salt{1}
	listing, err := event.NewLister(salt).Listing(event.SuppressSession, "s")
	if err != nil {
		t.Fatal(err)
	}
	w.judge.Readers = (&event.Suppression{}).WithSalt(salt).Change(true, []event.ListingKey{listing.Key()})
	if l := show(status.LetterRef{Key: key}); l.Value != nil || l.Withheld == "" {
		t.Errorf("of a suppressed reader: %+v", l)
	}
	if l := show(status.LetterRef{Key: broken}); l.Value64 != nil || l.Withheld == "" {
		t.Errorf("it may be of a suppressed reader: %+v", l)
	}
}

// What compaction or an aborted transaction has left empty up to the end is no reason to wait, and no error.
func TestListToAnEmptyEnd(t *testing.T) {
	w := newWorld(t, 1)
	key := w.put(nodetest.Record(0, "s", 1), event.TooLate)
	cl, err := kgo.NewClient(append(slices.Clip(w.Opts), kgo.TransactionalID("x"), kgo.DefaultProduceTopic(dlq))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(w.ctx, &kgo.Record{Key: []byte("k"), Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if got := keysOf(w.list(status.LetterQuery{})); !slices.Equal(got, []string{key}) {
		t.Errorf("while a transaction is open: %v", got)
	}
	if err := cl.EndTransaction(w.ctx, kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	if got := keysOf(w.list(status.LetterQuery{})); !slices.Equal(got, []string{key}) {
		t.Errorf("%v", got)
	}
}
