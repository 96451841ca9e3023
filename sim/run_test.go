package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func broker(t *testing.T, partitions int32) []kgo.Opt {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "web_clicks"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return []kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...)}
}

func run(t *testing.T, ctx context.Context, o Options, truth *Truth) Summary {
	t.Helper()
	s, err := Open(ctx, o, truth)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sum, err := s.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// consume reads the whole topic.
func consume(t *testing.T, opts []kgo.Opt, n int64) []*kgo.Record {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.ConsumeTopics("web_clicks"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var recs []*kgo.Record
	for int64(len(recs)) < n {
		f := c.PollFetches(ctx)
		if err := f.Err(); err != nil {
			t.Fatalf("%d of %d records: %v", len(recs), n, err)
		}
		recs = append(recs, f.Records()...)
	}
	return recs
}

// 20,000 records with every fault through a broker: the numbers of the truth add up, and agree with what a reader of
// the topic counts.
func TestTruthAddsUp(t *testing.T) {
	for _, unkeyed := range []bool{false, true} {
		t.Run(map[bool]string{false: "keyed", true: "unkeyed"}[unkeyed], func(t *testing.T) {
			opts := broker(t, 4)
			o := faulty(21)
			o.Start, o.Rate, o.Events, o.Producers, o.Unkeyed, o.KafkaOpts = time.Time{}, 0, 20000, 2, unkeyed, opts
			if testing.Short() { // the race detector makes each record ten times as dear
				o.Events = 6000
			}
			path := filepath.Join(t.TempDir(), "truth.jsonl")
			truth, err := CreateTruth(path)
			if err != nil {
				t.Fatal(err)
			}
			sum := run(t, t.Context(), o, truth)
			dead := sum.Dead()
			all := sum.Applied + sum.Duplicates + sum.Excluded + dead
			if sum.Produced != all || sum.Produced < o.Events {
				t.Fatalf("produced %d, applied %d + duplicates %d + excluded %d + dead %d", sum.Produced, sum.Applied,
					sum.Duplicates, sum.Excluded, dead)
			}
			if sum.Duplicates == 0 || sum.Excluded == 0 || dead == 0 || sum.Sessions == 0 {
				t.Fatalf("a fault is missing: %+v", sum)
			}
			recs := consume(t, opts, sum.Produced)
			if got := int64(len(recs)); got != sum.Produced {
				t.Fatalf("the topic has %d records, the truth %d", got, sum.Produced)
			}
			checkAgainstTopic(t, TruthFile(path), recs, &sum, unkeyed)
		})
	}
}

// checkAgainstTopic counts in another way: each record is found in exactly one line of the truth.
func checkAgainstTopic(t *testing.T, truth Source, recs []*kgo.Record, sum *Summary, unkeyed bool) {
	t.Helper()
	at := map[Position]*kgo.Record{}
	for _, r := range recs {
		at[Position{r.Partition, r.Offset}] = r
		if (r.Key == nil) != unkeyed {
			t.Fatalf("key %q", r.Key)
		}
	}
	take := func(p Position, what string) *kgo.Record {
		r := at[p]
		if r == nil {
			t.Fatalf("%s at %+v is not in the topic, or in the truth twice", what, p)
		}
		delete(at, p)
		return r
	}
	events, sessions, ids, summed, excluded := int64(0), int64(0), map[string]bool{}, int64(0), int64(0)
	err := truth.Each(func(l Line) error {
		switch {
		case l.Dead != nil:
			take(l.Dead.Position, "dead letter")
		case l.Duplicate != nil:
			take(*l.Duplicate, "duplicate")
		case l.Session != nil:
			s := l.Session
			if ids[s.SessionID] {
				t.Fatalf("session %s twice", s.SessionID)
			}
			ids[s.SessionID] = true
			if s.Status != "closed" || s.TotalEvents != int64(len(s.Events))-1 {
				t.Fatalf("session %s: %s, %d events, %d records", s.SessionID, s.Status, s.TotalEvents, len(s.Events))
			}
			views := int64(0)
			for _, e := range s.Events {
				var v struct {
					Session string `json:"session_id"`
					Type    string `json:"event_type"`
				}
				if err := json.Unmarshal(take(e.Position, "event").Value, &v); err != nil || v.Session != s.SessionID {
					t.Fatalf("record %+v is of session %q, not %q: %v", e.Position, v.Session, s.SessionID, err)
				}
				if v.Type == "article_view" {
					views++
				}
			}
			if views != s.ArticleViews || s.Start > s.End || s.Duration != s.End-s.Start {
				t.Fatalf("session %s: %d views counted, %d in the truth; %d to %d in %d s", s.SessionID, views,
					s.ArticleViews, s.Start, s.End, s.Duration)
			}
			visits := int64(0)
			for _, p := range s.Pages {
				visits += p.Visits
			}
			if visits != s.PagesVisited {
				t.Fatalf("session %s: %d visits, %d pages", s.SessionID, visits, s.PagesVisited)
			}
			sessions, events, summed = sessions+1, events+s.TotalEvents, summed+s.AdRevenueMicros
		case l.Summary != nil:
			if !reflect.DeepEqual(l.Summary, sum) {
				t.Errorf("summary in the file %+v, returned %+v", l.Summary, sum)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for p, r := range at { // what the cluster's rule leaves out is in no line, and counted
		if bytes.Contains(r.Value, []byte(`"`+BotField+`"`)) {
			delete(at, p)
			excluded++
		}
	}
	if len(at) != 0 || excluded != sum.Excluded || events != sum.Events || sessions != sum.Sessions ||
		summed != sum.Sums["ad_revenue_micros"] || summed == 0 {
		t.Errorf("%d records are in no line; %d events, %d sessions, %d micros against %+v", len(at), events, sessions,
			summed, sum)
	}
}

// When the context ends, all sessions are ended; the truth in memory is the same as in the file.
func TestStopByContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := faulty(4)
	acked := 0
	o.Start, o.Rate, o.Sessions, o.KafkaOpts = time.Time{}, 0, 50, broker(t, 2)
	o.OnAck = func(*Record, int32, int64) {
		if acked++; acked == 1000 {
			cancel()
		}
	}
	truth := NewTruth()
	sum := run(t, ctx, o, truth)
	if sum.Sessions == 0 || sum.Produced < 1000 {
		t.Fatalf("%+v", sum)
	}
	n := int64(0)
	if err := truth.Each(func(l Line) error {
		if l.Session != nil {
			n++
			if l.Session.Status != "closed" {
				t.Errorf("session %s is %s", l.Session.SessionID, l.Session.Status)
			}
		}
		return nil
	}); err != nil || n < sum.Sessions {
		t.Fatalf("%d sessions of %d: %v", n, sum.Sessions, err)
	}
}

// A broker that refuses makes the truth inexact, and Run says so.
func TestFailedProduceIsAnError(t *testing.T) {
	o := faulty(4)
	o.Start, o.Rate, o.Events, o.DrainTimeout, o.KafkaOpts = time.Time{}, 0, 100, time.Millisecond, broker(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	truth := NewTruth()
	s, err := Open(t.Context(), o, truth)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.lanes[0].gen.step(epoch) // a session to be ended
	s.lanes[0].client.CloseAllowingRebalance()
	if sum, err := s.Run(ctx); err == nil || sum.Uncertain == 0 {
		t.Fatalf("%+v, %v", sum, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	o := faulty(1)
	o.KafkaOpts, o.Topic = broker(t, 1), "absent"
	if _, err := Open(t.Context(), o, nil); err == nil {
		t.Error("a missing topic was accepted")
	}
}

func TestUnfinishedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "truth.jsonl")
	truth, err := CreateTruth(path)
	if err != nil {
		t.Fatal(err)
	}
	truth.Begin(Header{Topic: "t"})
	r := &Record{SessionID: "s", Value: []byte("{}"), Last: true}
	truth.Sent(r)
	if err := truth.Each(func(Line) error { return nil }); !errors.Is(err, ErrUnfinished) {
		t.Errorf("open truth: %v", err)
	}
	if sum, err := truth.Close(); err != nil || sum.Uncertain != 1 {
		t.Fatalf("%+v %v", sum, err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := TruthFile(path).Each(func(Line) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{1, len(whole) - 1, len(whole) / 2} {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := TruthFile(path).Each(func(Line) error { return nil }); !errors.Is(err, ErrUnfinished) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}
