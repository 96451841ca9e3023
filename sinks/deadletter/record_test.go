package deadletter

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/state"
	"deckle/state/statetest"
)

// TestVerdictsOfTheState: the state judges too_late and session_full by what a batch carries, which is not the
// original. The letter must still carry the original's bytes, length and hash.
func TestVerdictsOfTheState(t *testing.T) {
	s := &Sink{opts: Options{Topic: "t", DLQ: "t.dlq"}}
	plan := statetest.NewPlan(state.Config{}, state.SinkDeadLetter, 0, 1, []state.EpochInfo{{Epoch: 1, Clock: 5}},
		statetest.Content{})
	letter := &state.DeadLetter{Reject: event.Reject{Partition: 1, Offset: 7, Reason: event.TooLate, Detail: "late"},
		Epoch: 1}
	rs, err := s.redactors(plan)
	if err != nil {
		t.Fatal(err)
	}
	header := func(value []byte, ok bool) (map[string]string, []byte) {
		r, _ := s.sourceRecord(plan, rs, letter, value, ok)
		h := map[string]string{}
		for _, kv := range r.Headers {
			h[kv.Key] = string(kv.Value)
		}
		return h, r.Value
	}
	value := []byte(`{"event_id":"x"}`)
	sum := sha256.Sum256(value)
	h, got := header(value, true)
	if string(got) != string(value) || h["length"] != "16" || h["sha256"] != hex.EncodeToString(sum[:]) ||
		h["original_lost"] != "" {
		t.Fatalf("letter %q with %v", got, h)
	}
	h, got = header(nil, false)
	if len(got) != 0 || h["original_lost"] != "true" || h["sha256"] != "" || h["length"] != "" {
		t.Fatalf("letter whose original is lost: %q with %v", got, h)
	}
}

// A letter that is withheld shows nothing of its record, whatever the rules say, and is not lost.
func TestWithheldLetterShowsNothing(t *testing.T) {
	s := &Sink{opts: Options{Topic: "t", DLQ: "t.dlq"}}
	plan := statetest.NewPlan(state.Config{}, state.SinkDeadLetter, 0, 1, []state.EpochInfo{{Epoch: 1, Clock: 5}},
		statetest.Content{})
	letter := &state.DeadLetter{Reject: event.Reject{Reason: event.Malformed, Withheld: true}, Epoch: 1}
	rs, err := s.redactors(plan)
	if err != nil {
		t.Fatal(err)
	}
	for _, ok := range []bool{true, false} {
		r, lost := s.sourceRecord(plan, rs, letter, []byte(`{"user_id":7`), ok)
		h := map[string]string{}
		for _, kv := range r.Headers {
			h[kv.Key] = string(kv.Value)
		}
		if len(r.Value) > 0 || h["value"] != "none" || h["length"] != "" || h["sha256"] != "" ||
			h["original_lost"] != "" || lost {
			t.Errorf("letter %q with %v, lost %t", r.Value, h, lost)
		}
	}
}

// A letter shows what the rules of its own epoch let it show, whatever rules hold by now: it is the same whoever writes
// it. What is not shown is not confirmed by a hash either.
func TestLettersFollowTheRulesOfTheirEpoch(t *testing.T) {
	s := &Sink{opts: Options{Topic: "t", DLQ: "t.dlq"}}
	plan := statetest.NewPlan(state.Config{}, state.SinkDeadLetter, 0, 4,
		[]state.EpochInfo{{Epoch: 1}, {Epoch: 2}, {Epoch: 3}, {Epoch: 4}}, statetest.Content{})
	rules := func(number uint32, values event.LetterValues) state.Rules {
		return state.Rules{Number: number, Event: event.Rules{Letters: event.Letters{Values: values}}}
	}
	plan.Former = []state.FormerRules{{Rules: rules(1, ""), Until: 1}, {Rules: rules(2, event.MaskValues), Until: 3}}
	plan.Rules = rules(3, event.NoValues)
	rs, err := s.redactors(plan)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		epoch        uint64
		value        string
		found        bool
		want, header string
	}{
		{4, `{"name":"secret"}`, true, "", "none"},
		{1, `{"name":"secret"}`, true, `{"name":"secret"}`, ""},
		{2, `{"name":"secret"}`, true, `{"name":"text of 6 bytes"}`, "masked"},
		{3, `{"name":"secret"}`, true, `{"name":"text of 6 bytes"}`, "masked"},
		{3, `{"name":"secret"`, true, "", "none"},
		{3, `{"name":"secret"}`, false, "", "none"},
		{4, `{"name":"secret"}`, false, "", "none"},
		{1, `{"name":"secret"}`, false, "", ""},
	} {
		for _, known := range []bool{true, false} {
			l := &state.DeadLetter{Epoch: c.epoch,
				Reject: event.Reject{Offset: 7, Reason: event.WrongType, Length: int64(len(c.value))},
				RowKey: "s\x000/1", Row: []byte(c.value)}
			if known {
				l.SHA256 = sha256.Sum256([]byte(c.value))
			}
			source, lost := s.sourceRecord(plan, rs, l, []byte(c.value), c.found)
			row := s.rowRecord(plan, rs, l)
			if !c.found { // a row is in the state, and so never lost
				row = source
			}
			for _, r := range []*kgo.Record{source, row} {
				h := headersOf(r)
				if string(r.Value) != c.want || r.Value == nil || h["value"] != c.header || lost == c.found {
					t.Errorf("epoch %d, %s: %q with %v, lost %v", c.epoch, c.value, r.Value, h, lost)
				}
				confirms := h["sha256"] != "" || h["length"] != ""
				if confirms != (c.header == "" && (known || c.found)) {
					t.Errorf("epoch %d, %s: headers %v", c.epoch, c.value, h)
				}
			}
		}
	}
}

// Letters of rules by field have what the rules leave of a record. Without the key that they hash with no letter is
// written, since another key would make another hash of it, and none would let it through.
func TestLettersHaveWhatTheRulesLeave(t *testing.T) {
	key := []byte("a key of this test, of many bytes")
	plan := statetest.NewPlan(state.Config{}, state.SinkDeadLetter, 0, 1, []state.EpochInfo{{Epoch: 1}},
		statetest.Content{})
	plan.Rules.Event = event.Rules{Forms: event.FormsReal, PrivacyKey: event.KeyIDOf(key), Privacy: []event.Privacy{
		{Field: "metadata.email", Action: event.DropValue}, {Field: "session_id", Action: event.HashValue}}}
	s := &Sink{opts: Options{Topic: "t", DLQ: "t.dlq"}}
	if _, err := s.redactors(plan); err == nil || !strings.Contains(err.Error(), event.KeyIDOf(key).String()) {
		t.Fatalf("without a key: %v", err)
	}
	s.opts.PrivacyKey = func(event.KeyID) []byte { return []byte("another key") }
	if _, err := s.redactors(plan); err == nil {
		t.Fatal("another key is taken")
	}
	s.opts.PrivacyKey = func(event.KeyID) []byte { return key }
	rs, err := s.redactors(plan)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("session_id\x00s"))
	hash := hex.EncodeToString(mac.Sum(nil)[:16])
	for value, want := range map[string][2]string{
		`{"session_id":"s","metadata":{"email":"a@b.example","x":1}}`: {
			`{"session_id":"` + hash + `","metadata":{"x":1}}`, "rules"},
		`{"metadata":{"x":1}}`: {`{"metadata":{"x":1}}`, ""},
		`{"session_id":"s"`:    {"", "none"},
	} {
		r, _ := s.sourceRecord(plan, rs, &state.DeadLetter{Epoch: 1}, []byte(value), true)
		h := headersOf(r)
		if string(r.Value) != want[0] || h["value"] != want[1] || (h["sha256"] == "") != (want[1] != "") {
			t.Errorf("%s: %s with %v", value, r.Value, h)
		}
	}
}
