// Package nodetest holds what the tests of node and of the packages below it share: a broker inside the process, with
// one topic, and events for it. Only tests import it.
package nodetest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// Topic is the topic of every Broker.
	Topic = "web_clicks"
	// Patience bounds every wait: a machine that does much else must not fail a test.
	Patience = time.Minute
)

// Context returns a context that ends with the test, or after twice Patience.
func Context(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*Patience)
	t.Cleanup(cancel)
	return ctx
}

// Log returns a logger that writes to the test's output if DECKLE_TEST_LOG is set, and nowhere otherwise.
func Log(t *testing.T) *slog.Logger {
	if os.Getenv("DECKLE_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Until waits for a condition, which it looks at often, and fails the test after Patience.
func Until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// Broker is a Kafka broker inside the process, with one topic.
type Broker struct {
	*kfake.Cluster
	Opts []kgo.Opt    // of a client that connects to it
	Adm  *kadm.Client // of Out
	Out  *kgo.Client  // produces, each record to the partition that it names

	T *testing.T
}

// NewBroker starts a broker that ends with the test.
func NewBroker(t *testing.T, partitions int32) *Broker {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, Topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	b := &Broker{Cluster: c, T: t, Opts: []kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...)}}
	b.Out, err = kgo.NewClient(append(b.Opts, kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.DefaultProduceTopic(Topic))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Out.Close)
	b.Adm = kadm.NewClient(b.Out)
	return b
}

// Produce writes records and waits until all are acknowledged. The records of a partition are written in order.
func (b *Broker) Produce(rs ...*kgo.Record) {
	b.T.Helper()
	if err := b.Out.ProduceSync(Context(b.T), rs...).FirstErr(); err != nil {
		b.T.Fatal(err)
	}
}

// Transactional returns what writes records in one transaction, and ends that; its id is tx.
func (b *Broker) Transactional() func(how kgo.TransactionEndTry, rs ...*kgo.Record) {
	b.T.Helper()
	cl, err := kgo.NewClient(append(slices.Clip(b.Opts), kgo.TransactionalID("tx"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(Topic))...)
	if err != nil {
		b.T.Fatal(err)
	}
	b.T.Cleanup(cl.Close)
	return func(how kgo.TransactionEndTry, rs ...*kgo.Record) {
		b.T.Helper()
		ctx := Context(b.T)
		if err := cl.BeginTransaction(); err != nil {
			b.T.Fatal(err)
		}
		if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
			b.T.Fatal(err)
		}
		if err := cl.EndTransaction(ctx, how); err != nil {
			b.T.Fatal(err)
		}
	}
}

// Record makes the record of the i-th event of a session, keyed by the session.
func Record(partition int32, session string, i int) *kgo.Record {
	return &kgo.Record{Partition: partition, Key: []byte(session), Value: EventJSON(session, i, "article_view")}
}

// EventJSON makes the i-th event of a session, now.
func EventJSON(session string, i int, kind string) []byte {
	return EventJSONAt(session, i, kind, time.Now())
}

// EventJSONAt makes the i-th event of a session at a given time.
func EventJSONAt(session string, i int, kind string, at time.Time) []byte {
	v, err := json.Marshal(map[string]any{
		"event_id":   fmt.Sprintf("00000000-0000-4000-8000-%04x%08x", len(session), Hash(session)<<8+uint32(i)),
		"session_id": session, "user_id": 7, "event_type": kind, "timestamp": at.Unix(), "brand": "welt",
		"article_id": fmt.Sprintf("a%d", i),
	})
	if err != nil {
		panic(err)
	}
	return v
}

// Hash spreads session ids over partitions.
func Hash(s string) (h uint32) {
	for _, c := range s {
		h = h*31 + uint32(c)
	}
	return h & 0xffffff
}

// SampleEvents returns the lines of a file of events, e.g. testdata/sample_events.jsonl of the module.
func SampleEvents(t *testing.T, path string) [][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out [][]byte
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		out = append(out, append([]byte(nil), sc.Bytes()...))
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}
