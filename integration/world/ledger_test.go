package world

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/sim"
)

// ledger is what a topic has, or had, by a reader of its own.
type ledger struct {
	*world
	topic string
	made  map[string]*sim.Record // by value
	log   map[int32][]*kgo.Record
	next  map[int32]int64
	gaps  map[int32][]span
	runs  int
}

// span is a range of offsets, to excluded.
type span struct{ from, to int64 }

func newLedger(w *world, topic string) *ledger {
	return &ledger{world: w, topic: topic, made: map[string]*sim.Record{}, log: map[int32][]*kgo.Record{},
		next: map[int32]int64{}, gaps: map[int32][]span{}}
}

// follow reads what was committed since the last time.
func (l *ledger) follow() {
	l.Helper()
	ends := l.ends(l.topic)
	from := map[int32]kgo.Offset{}
	for p, end := range ends {
		if next, begun := l.next[p]; !begun && end > 0 {
			from[p] = kgo.NewOffset().AtStart()
		} else if next < end {
			from[p] = kgo.NewOffset().At(next)
		}
	}
	if len(from) == 0 {
		return
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(l.brokers.Addr(), ",")...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	l.must(err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(l.ctx, 3*time.Minute)
	defer cancel()
	for missing := len(from); missing > 0; {
		fetches := client.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			l.Fatalf("the ledger cannot read %s/%d: %v; it is at %v of %v", e.Topic, e.Partition, e.Err, l.next, ends)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset >= ends[r.Partition] {
				return
			}
			l.next[r.Partition] = r.Offset + 1
			if !r.Attrs.IsControl() {
				l.log[r.Partition] = append(l.log[r.Partition], r)
			}
		})
		missing = 0
		for p := range from {
			if l.next[p] < ends[p] {
				missing++
			}
		}
	}
}

// truth writes what the tables must have by now, of all partitions but some.
func (l *ledger) truth(but ...int32) (path string, dead map[string]string) {
	l.Helper()
	l.follow()
	l.runs++
	path = filepath.Join(l.dir, fmt.Sprintf("truth-%s-%d.jsonl", l.topic, l.runs))
	t, err := sim.CreateTruth(path)
	l.must(err)
	t.Begin(sim.Header{Topic: l.topic, Keyed: true})
	there, applied := map[string]bool{}, map[string]bool{}
	repeated := 0
	for _, p := range slices.Sorted(maps.Keys(l.log)) {
		for _, r := range l.log[p] {
			value := string(r.Value)
			made := l.made[value]
			if made == nil {
				l.Fatalf("%s/%d has at %d a record that nobody has made: %.200q", l.topic, p, r.Offset, value)
			}
			there[value] = true
			if slices.Contains(but, p) || slices.ContainsFunc(l.gaps[p], func(s span) bool {
				return r.Offset >= s.from && r.Offset < s.to
			}) {
				continue
			}
			rec := *made
			// The bytes of a repetition are those of the first record, so that none is known to be the last one: all
			// sessions end with the truth.
			rec.Last = false
			if rec.SessionID != "" { // what is first in its partition counts, whatever was meant to be the repetition
				rec.Kind = sim.KindEvent
				if applied[value] {
					rec.Kind = sim.KindDuplicate
					repeated++
				}
				applied[value] = true
			}
			t.Sent(&rec)
			t.Acked(&rec, p, r.Offset, r.Timestamp.UnixMilli())
		}
	}
	if len(there) != len(l.made) {
		l.Fatalf("%d different records were produced, the topic has %d of them", len(l.made), len(there))
	}
	sum, err := t.Close()
	l.must(err)
	if sum.Mistaken > 0 || sum.Uncertain > 0 {
		l.Fatalf("the truth is not exact: %+v", sum)
	}
	dead = map[string]string{}
	l.must(sim.TruthFile(path).Each(func(line sim.Line) error {
		if d := line.Dead; d != nil {
			dead[fmt.Sprintf("%s/%d/%d", l.topic, d.Partition, d.Offset)] = d.Reason
		}
		return nil
	}))
	l.Logf("the topic has %d different records, %d of them more than once", len(there), repeated)
	return path, dead
}

// equal compares tables and dead letters with the topic.
func (l *ledger) equal(but ...int32) {
	l.Helper()
	path, dead := l.truth(but...)
	l.verify(path)
	l.letters(dead)
}

// letters compares the dead letter topic: each letter at least once, with its reason, and no others.
func (l *ledger) letters(want map[string]string) {
	l.Helper()
	dlq := newLedger(l.world, l.topic+".dlq")
	dlq.follow()
	got := map[string]string{}
	for _, p := range slices.Sorted(maps.Keys(dlq.log)) {
		for _, r := range dlq.log[p] {
			for _, h := range r.Headers {
				if h.Key == "reason" {
					got[string(r.Key)] = string(h.Value)
				}
			}
		}
	}
	if !maps.Equal(got, want) {
		l.Fatalf("%d letters, want %d: %v", len(got), len(want), differing(got, want))
	}
	l.Logf("%d dead letters, each with its reason", len(got))
}

func differing(got, want map[string]string) (all []string) {
	for k, v := range want {
		if got[k] != v {
			all = append(all, fmt.Sprintf("%s: %q, want %q", k, got[k], v))
		}
	}
	for k, v := range got {
		if want[k] == "" {
			all = append(all, fmt.Sprintf("%s: %q, want none", k, v))
		}
	}
	slices.SortFunc(all, cmp.Compare[string])
	return all[:min(len(all), 10)]
}
