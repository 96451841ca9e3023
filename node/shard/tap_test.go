package shard

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node/tap"
	"deckle/state"
)

// A tap shows of a record what its dead letter would, by every verdict; with clear all of it; and nothing of somebody
// on the list of suppressed readers, nor of what may be theirs, either way.
func TestTapSource(t *testing.T) {
	in, _ := newTestIntake(t)
	in.Tap = tap.NewBoard(time.Now)
	open := func(q tap.Query) *tap.Tap {
		x, err := in.Tap.Open(q)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(x.Close)
		return x
	}
	in.rules = state.DefaultRules()
	in.rules.Event.Privacy = []event.Privacy{{Field: "ip", Action: event.DropValue}}
	in.rules.Event.Exclude = []event.Exclude{{Name: "robots", Field: "browser", Equal: []string{"robot"}}}
	in.cur.judgeBy(&in.rules, nil, listOf(t, "7"))
	masked, plain := open(tap.Query{Stage: tap.Source}), open(tap.Query{Stage: tap.Source, Clear: true})
	decoded := open(tap.Query{Stage: tap.Decoded, Session: "s1"})
	if !in.Tap.Watched(tap.Source, tap.Decoded) {
		t.Fatal("nobody looks")
	}
	const rest = `,"event_id":"e","event_type":"search","timestamp":1700000000,"ip":"10.1.1.1"}`
	long := `"` + strings.Repeat("x", event.MaxRecord) + `"`
	records := []struct {
		value         string // "-" is none
		verdict       string
		shown, clears string
	}{
		{`{"session_id":"s1","user_id":8` + rest, "accepted", "rules", "whole"},
		{`{"session_id":"s2","user_id":7` + rest, "suppressed", "none", "none"},
		{`{"session_id":"s1","user_id":8,"browser":"robot"` + rest, "excluded", "rules", "whole"},
		{`{"session_id":"s1","user_id":8,"ip":"10.1.1.1"}`, "missing_field", "rules", "whole"},
		{`{"session_id":"s1","us`, "malformed", "none", "none"}, // it may be of somebody on the list
		{"-", "empty", "none", "whole"},
		{long, "too_large", "none", "none"},
	}
	for i, r := range records {
		rec := &kgo.Record{Partition: 1, Offset: int64(i), Key: []byte("s"),
			Timestamp: time.UnixMilli(1_700_000_000_500)}
		if r.value != "-" {
			rec.Value = []byte(r.value)
		}
		in.cur.add(rec, int64(i), false)
		tapRecord(in.Tap, in.id, &in.rules.Event, in.cur, rec)
	}
	for _, x := range []struct {
		tap  *tap.Tap
		want func(i int) string
	}{
		{masked, func(i int) string { return records[i].shown }},
		{plain, func(i int) string { return records[i].clears }},
	} {
		lines := x.tap.Take()
		if len(lines) != len(records) {
			t.Fatalf("%d lines of %d records", len(lines), len(records))
		}
		for i, text := range lines {
			var l tapSource
			if err := json.Unmarshal(text, &l); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			if l.Partition != 1 || l.Offset != int64(i) || l.Verdict != records[i].verdict || l.Shown != x.want(i) ||
				l.KafkaTime.UnixMilli() != 1_700_000_000_500 {
				t.Errorf("%s: want %s, %s", text[:min(len(text), 200)], records[i].verdict, x.want(i))
			}
			whole := l.Shown == "whole" && records[i].value != "-"
			if strings.Contains(string(text), "10.1.1.1") != whole || whole != (l.Value != nil && l.Key != "") {
				t.Errorf("shown %s: %s", l.Shown, text[:min(len(text), 200)])
			}
			if l.Shown == "none" && (l.Value != nil || l.Key != "" || strings.Contains(string(text), "s1")) {
				t.Errorf("of nothing: %s", text[:min(len(text), 200)])
			}
		}
	}
	lines := decoded.Take()
	if len(lines) != 1 ||
		!strings.Contains(string(lines[0]), `"event":{"event_id":"e","session_id":"s1","user_id":8,`) ||
		!strings.Contains(string(lines[0]), `"timestamp":"2023-11-14T22:13:20Z"`) ||
		strings.Contains(string(lines[0]), "10.1.1.1") || strings.Contains(string(lines[0]), "brand") {
		t.Errorf("%s", lines)
	}
}

// Of a record that the rules leave out nothing is shown if it may be of somebody who has objected, or has not agreed.
func TestTapOfTheLeftOut(t *testing.T) {
	const rest = `,"event_id":"e","event_type":"search","timestamp":1700000000,"ip":"10.1.1.1"}`
	for name, x := range map[string]struct {
		rules func(*event.Rules)
		value string
		shown string
	}{
		"a robot": {func(*event.Rules) {}, `{"session_id":"s9","user_id":8,"browser":"robot"` + rest, "whole"},
		"a robot that may be on the list": {func(*event.Rules) {},
			`{"session_id":"s9","user_id":[7],"browser":"robot"` + rest, "none"},
		"without consent": {func(r *event.Rules) {
			r.Exclude, r.Consent = nil, &event.Consent{Field: "consent", Equal: []string{"yes"}}
		}, `{"session_id":"s9","user_id":8,"consent":"no"` + rest, "none"},
	} {
		for _, clear := range []bool{false, true} {
			in, _ := newTestIntake(t)
			in.Tap = tap.NewBoard(time.Now)
			in.rules = state.DefaultRules()
			in.rules.Event.Exclude = []event.Exclude{{Name: "robots", Field: "browser", Equal: []string{"robot"}}}
			x.rules(&in.rules.Event)
			in.cur.judgeBy(&in.rules, nil, listOf(t, "7"))
			y, err := in.Tap.Open(tap.Query{Stage: tap.Source, Clear: clear})
			if err != nil {
				t.Fatal(err)
			}
			rec := &kgo.Record{Key: []byte("s9"), Value: []byte(x.value)}
			in.cur.add(rec, 0, false)
			tapRecord(in.Tap, in.id, &in.rules.Event, in.cur, rec)
			lines := y.Take()
			if len(lines) != 1 || !strings.Contains(string(lines[0]), `"verdict":"excluded"`) ||
				!strings.Contains(string(lines[0]), `"shown":"`+x.shown+`"`) ||
				strings.Contains(string(lines[0]), "s9") != (x.shown == "whole") {
				t.Errorf("%s, clear %t: %s", name, clear, lines)
			}
		}
	}
}

// Masked values are masked here, too.
func TestTapMasks(t *testing.T) {
	in, _ := newTestIntake(t)
	in.Tap = tap.NewBoard(time.Now)
	in.rules = state.DefaultRules()
	in.rules.Event.Letters.Values = event.MaskValues
	in.cur.judgeBy(&in.rules, nil, new(event.Suppression))
	x, err := in.Tap.Open(tap.Query{Stage: tap.Source})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	rec := &kgo.Record{Key: []byte("secret"), Value: fmt.Appendf(nil, `{"session_id":"secret"}`)}
	in.cur.add(rec, 0, false)
	tapRecord(in.Tap, in.id, &in.rules.Event, in.cur, rec)
	if lines := x.Take(); len(lines) != 1 || strings.Contains(string(lines[0]), "secret") ||
		!strings.Contains(string(lines[0]), `"shown":"masked","value":{"session_id":`) {
		t.Errorf("%s", lines)
	}
}
