package sim

import (
	"slices"
	"testing"
)

// Who is named by a record, whole or broken.
func TestReadersOf(t *testing.T) {
	u := func(id string) Reader { return Reader{ID: id} }
	s := func(id string) Reader { return Reader{true, id} }
	for value, want := range map[string][]Reader{
		`{"user_id": 27, "session_id": "s"}`:                       {u("27"), s("s")},
		`{"user_id": "27", "session_id": "27"}`:                    {u("27"), s("27")},
		`{"user_id": 2.7e1}`:                                       {u("27")},
		`{"user_id": "27.0"}`:                                      {u("27.0")},
		`{"user_id": 1.5, "session_id": ""}`:                       {u("1.5")},
		`{"user_id": 0, "session_id": null}`:                       nil,
		`{"metadata": {"user_id": 27}}`:                            nil,
		`{"metadata": {"user_id": 27}`:                             {u("27")},
		`{"\u0075ser_id" : 27, "x": nonsense, "user_id": "other"}`: {u("27"), u("other")},
		`{"session_id": "\u0061b"} x`:                              {s("ab")},
		`{"user_id": 27`:                                           nil, // it may go on
		`{"session_id": "ab`:                                       nil,
		`no record`:                                                nil,
	} {
		if got := ReadersOf([]byte(value)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", value, got, want)
		}
	}
}

// A suppressed record counts for nothing, not even as what later ones are duplicates of, and the totals add up.
func TestSuppressedRecordsAreNoOnes(t *testing.T) {
	truth := NewTruth()
	truth.KeepRecords()
	truth.Begin(Header{Keyed: true, Sharded: true})
	const event = `{"event_id":"e","session_id":"s","user_id":7,"event_type":"search","timestamp":1795000000}`
	for i, value := range []string{event, event, event} {
		r := &Record{SessionID: "s", Last: i == 2, Key: []byte("s"), Value: []byte(value)}
		truth.Sent(r)
		truth.Acked(r, 0, int64(i), 1_795_000_000_000)
	}
	truth.Acked(&Record{Kind: KindMalformed, Reason: "no_key", Value: []byte(event)}, 1, 0, 1_795_000_000_000)
	truth.Acked(&Record{Kind: KindMalformed, Reason: "no_key", Value: []byte(event)}, 1, 1, 1_795_000_000_000)
	if _, err := truth.Close(); err != nil {
		t.Fatal(err)
	}
	by, err := truth.By(func(_ int32, offset int64) Held {
		return Held{Suppressed: Readers{{ID: "7"}: offset == 0, {ID: "8"}: true}}
	})
	if err != nil {
		t.Fatal(err)
	}
	sum := by.Summary()
	if sum.Suppressed != 2 || sum.Applied != 1 || sum.Duplicates != 1 || sum.DeadLetters["no_key"] != 1 ||
		sum.Mistaken != 0 || sum.Produced != 5 || len(by.Suppressed()) != 2 {
		t.Errorf("%+v", sum)
	}
}
