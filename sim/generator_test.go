package sim

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var epoch = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// all returns every record of one producer: n, and then those that end the sessions.
func all(t testing.TB, o Options, producer int, n int64) []*Record {
	t.Helper()
	g, err := NewGenerator(o, producer)
	if err != nil {
		t.Fatal(err)
	}
	var recs []*Record
	for {
		if g.Made() == n {
			g.Finish()
		}
		r, ok := g.Next()
		if !ok {
			return recs
		}
		recs = append(recs, r)
	}
}

func faulty(seed uint64) Options {
	return Options{Seed: seed, Start: epoch, Rate: 2000, Sessions: 200,
		Faults: Faults{Duplicates: 0.02, Late: 0.02, OutOfOrder: 0.03,
			Malformed: 0.02, TooLate: 0.01, Odd: 0.05,
			Readers: 0.4, Excluded: 0.002}}
}

func TestSameSeedSameBytes(t *testing.T) {
	a, b := all(t, faulty(7), 0, 22000), all(t, faulty(7), 0, 22000)
	if len(a) != len(b) {
		t.Fatalf("%d and %d records", len(a), len(b))
	}
	for i := range a {
		if !bytes.Equal(a[i].Value, b[i].Value) || !bytes.Equal(a[i].Key, b[i].Key) || !a[i].Time.Equal(b[i].Time) ||
			a[i].Kind != b[i].Kind || a[i].Last != b[i].Last || a[i].Reason != b[i].Reason {
			t.Fatalf("record %d differs:\n%s\n%s", i, a[i].Value, b[i].Value)
		}
	}
}

func TestSeedsAndProducersShareNoSession(t *testing.T) {
	o := faulty(7)
	o.Producers = 2
	seen := map[string]int{}
	for i, recs := range [][]*Record{all(t, o, 0, 3000), all(t, o, 1, 3000), all(t, faulty(8), 0, 3000)} {
		for _, r := range recs {
			if r.SessionID == "" {
				continue
			}
			if j, ok := seen[r.SessionID]; ok && i != j {
				t.Fatalf("session %s is in %d and %d", r.SessionID, i, j)
			}
			seen[r.SessionID] = i
		}
	}
}

// The last record of every session, and no other one, says that it is the last; and each session is ended.
func TestEverySessionEnds(t *testing.T) {
	last, ended := map[string]bool{}, map[string]bool{}
	kinds := map[Kind]int{}
	for _, r := range all(t, faulty(3), 0, 22000) {
		kinds[r.Kind]++
		if r.SessionID == "" {
			if r.Reason == "" || r.Last {
				t.Fatalf("a lone record without reason: %s", r.Value)
			}
			continue
		}
		if last[r.SessionID] {
			t.Fatalf("session %s goes on after its last record with a %v", r.SessionID, r.Kind)
		}
		last[r.SessionID] = r.Last
		ended[r.SessionID] = ended[r.SessionID] || r.Kind == KindEnd
	}
	for id := range last {
		if !last[id] || !ended[id] {
			t.Fatalf("session %s: last %t, ended %t", id, last[id], ended[id])
		}
	}
	for k := range numKinds {
		if kinds[k] == 0 {
			t.Errorf("no record of kind %v", k)
		}
	}
	t.Log(kinds)
}

func TestShares(t *testing.T) {
	const n = 80000
	o := faulty(5)
	o.Faults.Odd = 0
	kinds, types, brandsSeen, reasons := map[Kind]float64{}, map[string]float64{}, map[string]float64{},
		map[string]float64{}
	sessions, events := map[string]bool{}, 0.0
	for _, r := range all(t, o, 0, n) {
		kinds[r.Kind]++
		if r.Reason != "" {
			reasons[r.Reason]++
			continue
		}
		if r.Kind == KindDuplicate {
			continue
		}
		var e struct {
			Type  string `json:"event_type"`
			Brand string `json:"brand"`
		}
		if err := json.Unmarshal(r.Value, &e); err != nil {
			t.Fatal(err)
		}
		if r.Kind == KindEnd {
			sessions[r.SessionID] = true
			continue
		}
		events++
		types[e.Type]++
		brandsSeen[e.Brand]++
	}
	near := func(what string, got, want, tolerance float64) {
		t.Helper()
		if math.Abs(got-want) > tolerance*want {
			t.Errorf("%s: %.4f, want %.4f ± %.0f%%", what, got, want, 100*tolerance)
		}
	}
	for _, w := range Weights {
		near(w.Type, types[w.Type]/events, float64(w.Percent)/100, 0.08)
	}
	for _, b := range brands {
		near(b.name, brandsSeen[b.name]/events, 0.2, 0.1)
	}
	near("events per session", events/float64(len(sessions)), 12, 0.1)
	near("late", kinds[KindLate]/events, o.Faults.Late, 0.15)
	near("out of order", kinds[KindOutOfOrder]/events, o.Faults.OutOfOrder*11/12, 0.15)
	near("duplicates", kinds[KindDuplicate]/(events+kinds[KindEnd]), o.Faults.Duplicates, 0.15)
	near("malformed", kinds[KindMalformed]/n, o.Faults.Malformed, 0.15)
	near("too late", kinds[KindTooLate]/(n-20000), o.Faults.TooLate, 0.15)
	for _, reason := range []string{"malformed", "wrong_type", "missing_field", "bad_timestamp",
		"too_large", "too_late"} {
		if reasons[reason] == 0 {
			t.Errorf("no %s", reason)
		}
	}
}

// Event times stay near the clock: never ahead, and behind by at most the bounds of the package comment.
func TestTimes(t *testing.T) {
	o := faulty(9)
	o.Faults.Odd = 0
	for i, r := range all(t, o, 0, 25000) {
		var e struct {
			Timestamp int64 `json:"timestamp"`
		}
		if r.Kind == KindMalformed || r.Kind == KindExcluded {
			continue
		}
		if err := json.Unmarshal(r.Value, &e); err != nil {
			t.Fatal(err)
		}
		behind := r.Time.Unix() - e.Timestamp
		switch {
		case r.Kind == KindTooLate && (behind < 12*3600 || i < 20000):
			t.Fatalf("record %d is too late by only %d s", i, behind)
		case r.Kind != KindTooLate && (behind < 0 || behind > 2*240+300):
			t.Fatalf("record %d (%v) is %d s behind the clock", i, r.Kind, behind)
		}
	}
}

// The simulator's records have the fields of the publisher's, in the same order and of the same types, for each event
// type.
func TestShapeOfSample(t *testing.T) {
	sample, err := os.ReadFile("../testdata/sample_events.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(sample)) {
		typ, shape := shapeOf(t, []byte(line))
		want[typ] = shape
	}
	o := faulty(1)
	o.Faults = Faults{}
	seen := map[string]bool{}
	for _, r := range all(t, o, 0, 5000) {
		typ, shape := shapeOf(t, r.Value)
		if shape != want[typ] {
			t.Fatalf("%s:\n got %s\nwant %s", typ, shape, want[typ])
		}
		seen[typ] = true
	}
	if len(seen) != len(want) {
		t.Errorf("types %v, the sample has %d", seen, len(want))
	}
}

// shapeOf is the event's type and its fields with their JSON types, two levels deep, in order.
func shapeOf(t *testing.T, text []byte) (typ, shape string) {
	t.Helper()
	var e struct {
		Type string `json:"event_type"`
	}
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	var out []string
	var walk func(path string)
	walk = func(path string) {
		for dec.More() {
			k, err := dec.Token()
			if err != nil {
				t.Fatal(err)
			}
			v, err := dec.Token()
			if err != nil {
				t.Fatal(err)
			}
			name := path + k.(string)
			switch d := v.(type) {
			case json.Delim:
				if d == '{' {
					out = append(out, name+":object")
					walk(name + ".")
				} else {
					out = append(out, name+":array")
					for dec.More() {
						if _, err := dec.Token(); err != nil {
							t.Fatal(err)
						}
					}
				}
				if _, err := dec.Token(); err != nil {
					t.Fatal(err)
				}
			case string:
				out = append(out, name+":text")
			case float64:
				out = append(out, name+":number")
			case bool:
				out = append(out, name+":bool")
			default:
				t.Fatalf("%s: %v", name, v)
			}
		}
	}
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	walk("")
	return e.Type, strings.Join(out, " ")
}

// The naive judge and the generator, two independent pieces, agree on every record.
func TestJudgeAgrees(t *testing.T) {
	reasons, n := map[string]int{}, int64(40000)
	if testing.Short() {
		n = 10000
	}
	for _, r := range all(t, faulty(11), 0, n) {
		_, reason := judge(r.Value, r.Time.UnixMilli(), &PrivateRules{})
		if r.Kind == KindTooLate {
			if reason != "" {
				t.Fatalf("too-late record is %q by itself", reason)
			}
			continue
		}
		if reason != r.Reason {
			t.Fatalf("judged %q, meant %q: %.300s", reason, r.Reason, r.Value)
		}
		reasons[reason]++
	}
	if len(reasons) < 6 {
		t.Errorf("only %v", reasons)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{Rate: -1}, {Sessions: 2, Producers: 3}, {Faults: Faults{Late: 1.5}},
		{Faults: Faults{Malformed: math.NaN()}}, {EventsPerSession: 0.5}} {
		if _, err := NewGenerator(o, 0); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	if got := slices.Collect(func(yield func(int) bool) {
		for i := range 3 {
			g, err := NewGenerator(Options{Sessions: 8, Producers: 3}, i)
			if err != nil {
				t.Fatal(err)
			}
			yield(len(g.slots))
		}
	}); !slices.Equal(got, []int{3, 3, 2}) {
		t.Errorf("sessions are shared %v", got)
	}
}
