package event

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"deckle/schema/level"
)

// sampleKafkaTimestamp is later than every event of the sample, so that no event is ahead of its record.
const sampleKafkaTimestamp = 1795357042_000 + 86400_000

// sample returns the records of the publisher's sample.
func sample(t testing.TB) [][]byte {
	t.Helper()
	all, err := os.ReadFile("../testdata/sample_events.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimSpace(all), []byte("\n"))
}

// sampleBatch returns n items drawn from the sample as a stream of about 2,000 open sessions would bring them: every
// copy of the sample has its own event, session and article ids.
func sampleBatch(t testing.TB, n int, seed uint64) *Batch {
	t.Helper()
	records := sample(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	const copies = 64 // of 30 sessions each
	type copyState struct {
		next     int
		sessions map[string]string
		articles uint64
	}
	states := make([]copyState, copies)
	for i := range states {
		states[i].sessions = map[string]string{}
		states[i].articles = rng.Uint64()
		states[i].next = rng.IntN(len(records))
	}
	b := &Batch{Ranges: []Range{{Partition: 3, From: 1_000_000, To: 1_000_000 + int64(n), LeaderEpoch: 7}}}
	rules := DefaultRules()
	d := Decoder{Rules: &rules}
	for i := range n {
		c := &states[rng.IntN(copies)]
		record := slices.Clone(records[c.next])
		c.next = (c.next + 1) % len(records)
		for at := 0; ; { // fresh article numbers: "_1234_1795357042"
			k := bytes.Index(record[at:], []byte("_1795357042"))
			if k < 0 {
				break
			}
			at += k
			number := record[at-4 : at]
			h := c.articles
			for _, x := range number {
				h = (h ^ uint64(x)) * 0x100000001b3
			}
			for j := range number {
				if digit(number[j]) {
					number[j] = '0' + byte(h>>(32+8*j))%10
				}
			}
			at++
		}
		var ev Event
		if reason, detail := d.Decode(record, sampleKafkaTimestamp, &ev); reason != ReasonNone {
			t.Fatalf("%s %s: %s", reason, detail, record)
		}
		for j := range ev.ID {
			ev.ID[j] = byte(rng.Uint32())
		}
		session, ok := c.sessions[ev.SessionID]
		if !ok {
			var id ID
			for j := range id {
				id[j] = byte(rng.Uint32())
			}
			session = id.String()
			c.sessions[ev.SessionID] = session
		}
		ev.SessionID = session
		ev.UserID += 1_000_000
		ev.Timestamp = 1795357042 + int64(i)/100 - rng.Int64N(3)
		b.Items = append(b.Items, Item{Event: ev, Partition: 3, Offset: 1_000_000 + int64(i),
			KafkaTimestamp: (1795357042+int64(i)/100)*1000 + int64(i)%100*10, Key: KeySession})
	}
	if n > 0 {
		b.Seen = []Seen{{KafkaTime: b.Items[n-1].KafkaTimestamp, AtHead: true, LastOffset: b.Ranges[0].To - 1,
			LastHash: 0xfedcba9876543210}}
	}
	return b
}

// carried returns the item without what a batch of level l does not carry.
func carried(it Item, l level.Level) Item {
	it.ArticleType, it.Metadata, it.Extra, it.EventID = "", "", "", ""
	if l < level.Real {
		it.Progress, it.Complete, it.MetricsOmitted, it.Key, it.KeyHash = 0, false, false, 0, 0
	} else if it.MetricsOmitted {
		it.EngagementMetrics = ""
	}
	return it
}

func checkRoundTrip(t testing.TB, b *Batch, s *BatchScratch, l level.Level) []byte {
	t.Helper()
	enc := AppendBatch(nil, b, l)
	// A batch that was used before.
	left := Item{Event: Event{ArticleType: "x", Metadata: "x", Extra: "x", Measure: 9, Scroll: 9,
		EngagementMetrics: "x", EventID: "x", UserKey: "x", TypeName: "x", Progress: 9, Complete: true,
		MetricsOmitted: true}, Key: KeyOther, KeyHash: 9}
	got := Batch{Items: slices.Repeat([]Item{left}, len(b.Items)), Rejects: make([]Reject, 100), Nulls: 9, Rules: 9,
		Counts: Counts{Excluded: []int64{9}, Skipped: 9, KafkaTimes: 9, Zeroed: [NumMetrics]int64{9}}}
	if err := DecodeBatch(enc, &got, s); err != nil {
		t.Fatal(err)
	}
	if len(got.Items) != len(b.Items) {
		t.Fatalf("%d items, want %d", len(got.Items), len(b.Items))
	}
	for i := range b.Items {
		if got.Items[i] != carried(b.Items[i], l) {
			t.Fatalf("item %d:\n got %+v\nwant %+v", i, got.Items[i], carried(b.Items[i], l))
		}
	}
	want := *b
	if l < level.Real {
		want.Seen, want.Rules, want.Counts = nil, 0, Counts{}
	}
	if !slices.Equal(got.Ranges, want.Ranges) || !slices.Equal(got.Rejects, want.Rejects) ||
		!slices.Equal(got.Seen, want.Seen) || got.Nulls != want.Nulls || got.Rules != want.Rules ||
		fmt.Sprint(got.Counts) != fmt.Sprint(want.Counts) {
		got.Items, want.Items = nil, nil
		t.Fatalf("beside the items:\n got %+v\nwant %+v", got, want)
	}
	return enc
}

// newRand returns a generator with a seed that the test prints when it fails.
func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

func TestSampleRoundTrip(t *testing.T) {
	var s BatchScratch
	for _, n := range []int{0, 1, 2, 300, 3000} {
		b := sampleBatch(t, n, 1)
		if n == 0 {
			b.Ranges = nil
		}
		first := len(checkRoundTrip(t, b, &s, level.First))
		enc := checkRoundTrip(t, b, &s, level.Real)
		if n > 0 {
			t.Logf("%d events: %.1f bytes per event, %.2f at level 1", n, float64(len(enc))/float64(n),
				float64(first)/float64(n))
		}
		if n >= 300 && (len(enc)/n > 70 || len(enc)-first > first/100) {
			t.Errorf("%d events take %d bytes, and %d at level 1", n, len(enc), first)
		}
	}
}
