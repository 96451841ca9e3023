package deadletter

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

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
		r, _ := s.sourceRecord(plan, letter, value, ok)
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
