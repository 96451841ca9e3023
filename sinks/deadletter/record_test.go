package deadletter

import (
	"crypto/sha256"
	"encoding/hex"
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
	header := func(value []byte, ok bool) (map[string]string, []byte) {
		r, _ := s.sourceRecord(plan, redactors{}, letter, value, ok)
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
	rs := redactors{}
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
