package shard

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/schema/level"
	"deckle/state"
)

func listOf(t *testing.T, users ...string) *event.Suppression {
	t.Helper()
	s := new(event.Suppression).WithSalt(event.Salt{1})
	l := event.NewLister(s.Salt)
	for _, u := range users {
		x, err := l.Listing(event.SuppressUser, u)
		if err != nil {
			t.Fatal(err)
		}
		s = s.Change(true, []event.ListingKey{x.Key()})
	}
	return s
}

// What a leader makes of the records of somebody on the list: neither an item nor a reject, whatever is wrong with
// them, also without a key. What may be of anybody is a reject that shows nothing.
func TestSuppressedRecordsAreLeftOut(t *testing.T) {
	rules := state.DefaultRules()
	rules.Number = 3
	list := listOf(t, "7")
	const rest = `,"event_id":"e","event_type":"search","timestamp":1700000000`
	records := []struct {
		key, value string
		want       string
	}{
		{"s", `{"session_id":"s","user_id":8` + rest + `}`, "item"},
		{"s", `{"session_id":"s","user_id":7` + rest + `}`, "suppressed"},
		{"s", `{"session_id":"s","user_id":7` + rest, "suppressed"},
		{"s", `{"session_id":"s","user_id":"7"}`, "suppressed"},
		{"", `{"session_id":"s","user_id":7` + rest + `}`, "suppressed"},
		{"", `{"session_id":"s","user_id":8` + rest + `}`, "no_key"},
		{"", `{"session_id":"s","us`, "no_key withheld"},
		{"s", `{"session_id":"s","us`, "malformed withheld"},
		{"s", `{"session_id":"s","user_id":8}`, "missing_field"},
	}
	var buf batchBuf
	for _, on := range []bool{true, false, true} { // the buffer is used again, also with nobody on the list
		want := map[int64]string{}
		if on {
			buf.judgeBy(&rules, nil, list)
		} else {
			buf.judgeBy(&rules, nil, new(event.Suppression))
		}
		for i, r := range records {
			if want[int64(i)] = r.want; !on {
				want[int64(i)] = strings.TrimSuffix(r.want, " withheld")
			}
			buf.add(&kgo.Record{Partition: 1, Offset: int64(i), Key: []byte(r.key), Value: []byte(r.value),
				Timestamp: time.Unix(1_700_000_000, 0)}, 0, true)
		}
		if !on {
			want[1], want[2], want[3], want[4] = "item", "malformed", "missing_field", "no_key"
		}
		b := buf.finish()
		if err := b.Check(level.Current); err != nil {
			t.Fatal(err)
		}
		got := map[int64]string{}
		for _, it := range b.Items {
			got[it.Offset] = "item"
		}
		for _, s := range b.Suppressed {
			got[s.Offset] = "suppressed"
		}
		for _, r := range b.Rejects {
			if got[r.Offset] = r.Reason.String(); r.Withheld {
				got[r.Offset] += " withheld"
			} else if r.SHA256 != sha256.Sum256([]byte(records[r.Offset].value)) {
				t.Errorf("offset %d has no hash", r.Offset)
			}
		}
		for i := range records {
			if got[int64(i)] != want[int64(i)] {
				t.Errorf("list %t: offset %d is %q, want %q", on, i, got[int64(i)], want[int64(i)])
			}
		}
		if on != (b.List == list.Number) {
			t.Errorf("the batch names list %d", b.List)
		}
		buf.reset()
	}
}

// A keyless record of somebody without consent is no letter either.
func TestConsentBeforeNoKey(t *testing.T) {
	rules := state.DefaultRules()
	rules.Event.Consent = &event.Consent{Field: "ok", Equal: []string{"yes"}}
	var buf batchBuf
	buf.judgeBy(&rules, nil, new(event.Suppression))
	for i, ok := range []string{"no", "yes"} {
		buf.add(&kgo.Record{Offset: int64(i), Value: fmt.Appendf(nil, `{"session_id":"s","event_id":"e","event_type":`+
			`"search","timestamp":1700000000,"ok":%q,"engagement_metrics":{"scroll_depth":"x"}}`, ok)}, 0, true)
	}
	b := buf.finish()
	if len(b.Rejects) != 1 || b.Rejects[0].Offset != 1 || b.Rejects[0].Reason != event.NoKey || len(b.Items) > 0 ||
		b.Counts.Unconsented != 1 || b.Counts.Zeroed != [event.NumMetrics]int64{} {
		t.Errorf("rejects %+v, counts %+v", b.Rejects, b.Counts)
	}
}

// A refused batch says what is true of it, and only another list is judged again at once.
func TestWhyABatchWasRefused(t *testing.T) {
	in, _ := newTestIntake(t)
	next := []state.PartitionStatus{{Partition: 4, Next: 9}}
	for why, want := range map[state.BatchRefusal]error{
		state.BatchByList: errRelisted, state.BatchByOffsets: errResync, state.BatchByRules: errResync,
		state.BatchByLevel: errResync,
	} {
		err := in.resync(&state.BatchResult{Rejected: true, Why: why, Next: next})
		shows := strings.Contains(err.Error(), "offsets")
		if !errors.Is(err, want) || shows != (why == state.BatchByOffsets) {
			t.Errorf("%d: %v", why, err)
		}
	}
}

// Buffers that were in flight when the list changed judge by the new one when they are used again.
func TestBuffersFollowTheList(t *testing.T) {
	in, _ := newTestIntake(t)
	in.level, in.rules, in.list = level.Guarded, state.DefaultRules(), new(event.Suppression)
	in.cur = in.newBuf()
	flying := in.newBuf()
	list := listOf(t, "7")
	in.relist(list)
	if in.cur.list != list.Number || len(in.spare) > 0 {
		t.Fatalf("the buffer judges by list %d", in.cur.list)
	}
	in.spare = append(in.spare, flying)
	in.nextBuf()
	if in.cur != flying || in.cur.list != list.Number || !in.cur.dec.AsksReaders() {
		t.Errorf("a buffer that was in flight judges by list %d", in.cur.list)
	}
}

// A change for which nobody waits any more is not made: the same has been asked again meanwhile, or the opposite.
func TestChangeOfTheListThatNobodyWaitsFor(t *testing.T) {
	in, _ := newTestIntake(t)
	in.cur = in.newBuf()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := &listOrder{gone: ctx.Done(), done: make(chan struct{})}
	if err := in.obeyList(t.Context(), o); err != nil || !errors.Is(o.err, context.Canceled) { // there is no group
		t.Errorf("%v, %v", err, o.err)
	}
}
