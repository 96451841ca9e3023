package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"deckle/schema/level"
)

// listOf is a list of users and sessions, written as "user 7" and "session s".
func listOf(t testing.TB, ids ...string) *Suppression {
	t.Helper()
	s := new(Suppression).WithSalt(Salt{1, 2, 3})
	l := NewLister(s.Salt)
	for _, id := range ids {
		what, id, _ := strings.Cut(id, " ")
		kind := SuppressUser
		if what == "session" {
			kind = SuppressSession
		}
		x, err := l.Listing(kind, id)
		if err != nil {
			t.Fatal(err)
		}
		s = s.Change(true, []ListingKey{x.Key()})
	}
	return s
}

// TestSuppress shows which records are left out, and of which letters nothing may be shown.
func TestSuppress(t *testing.T) {
	list := listOf(t, "user 27", "user key-1", "session gone", "user 9223372036854775808", `user a"b`)
	const rest = `"event_id":"e1","event_type":"search","timestamp":1795357069`
	ok := func(ids string) string { return "{" + ids + "," + rest + "}" }
	real, first, masked := DefaultRules(), Rules{}, DefaultRules()
	masked.Privacy = []Privacy{{Field: "user_id", Action: DropValue}, {Field: "session_id", Action: HashValue}}
	masked.PrivacyKey = KeyIDOf([]byte("k"))
	for name, c := range map[string]struct {
		record string
		rules  *Rules
		want   string
	}{
		"nobody on it":             {ok(`"session_id":"s","user_id":28`), &real, "none"},
		"user":                     {ok(`"session_id":"s","user_id":27`), &real, "suppressed user"},
		"user as a text":           {ok(`"session_id":"s","user_id":"27"`), &real, "suppressed user"},
		"user with escapes":        {ok(`"session_id":"s","user_id":"\u00327"`), &real, "suppressed user"},
		"user with a quote":        {ok(`"session_id":"s","user_id":"a\"b"`), &real, "suppressed user"},
		"another text":             {ok(`"session_id":"s","user_id":"027"`), &real, "none"},
		"user key":                 {ok(`"session_id":"s","user_id":"key-1"`), &real, "suppressed user"},
		"session":                  {ok(`"session_id":"gone"`), &real, "suppressed session"},
		"session of a user's name": {ok(`"session_id":"27"`), &real, "none"},
		"user of a session's name": {ok(`"session_id":"s","user_id":"gone"`), &real, "none"},
		"both":                     {ok(`"session_id":"gone","user_id":27`), &real, "suppressed user"},
		"nobody known":             {ok(`"session_id":"s","user_id":0`), &real, "none"},
		"before privacy":           {ok(`"session_id":"gone","user_id":1`), &masked, "suppressed session"},
		"before privacy, user":     {ok(`"session_id":"s","user_id":27`), &masked, "suppressed user"},
		"privacy, nobody on it":    {ok(`"session_id":"s","user_id":28`), &masked, "none"},
		"another fault":            {`{"session_id":"s","user_id":27}`, &real, "suppressed user"},
		"another fault, not on it": {`{"session_id":"s","user_id":28}`, &real, "missing_field"},
		"unknown type": {`{"session_id":"s","user_id":27,"event_id":"e","event_type":"x"}`, &real,
			"suppressed user"},
		"text where v0.1.0 has none": {ok(`"session_id":"s","user_id":"27"`), &first, "suppressed user"},
		"fraction of nothing":        {ok(`"session_id":"s","user_id":27.0`), &real, "suppressed user"},
		"exponent":                   {ok(`"session_id":"s","user_id":2.7e1`), &real, "suppressed user"},
		"fraction":                   {ok(`"session_id":"s","user_id":27.5`), &real, "wrong_type, withheld"},
		"negative":                   {ok(`"session_id":"s","user_id":-27`), &real, "wrong_type, withheld"},
		"user above 2^63":            {ok(`"session_id":"s","user_id":9223372036854775808`), &real, "suppressed user"},
		"user in a list":             {ok(`"session_id":"s","user_id":[27]`), &real, "wrong_type, withheld"},
		"session that is a number":   {ok(`"session_id":3,"user_id":28`), &real, "wrong_type, withheld"},
		"long session": {ok(`"session_id":"` + strings.Repeat("s", 256) + `"`), &real,
			"wrong_type, withheld"},
		"fault beside the session": {ok(`"session_id":3,"user_id":27`), &real, "suppressed user"},
		"broken behind the ids":    {`{"session_id":"s","user_id":27,"x":nonsense`, &real, "suppressed user"},
		"broken before the ids":    {`{"x":nonsense,"session_id":"gone","user_id":28}`, &real, "suppressed session"},
		"broken, escaped name":     {`{"x":nonsense,"session\u005fid" : "gone"}`, &real, "suppressed session"},
		"broken, a quote too many": {`{"x":"y","z":"a"b","session_id":"gone","user_id":28}`, &real,
			"suppressed session"},
		"broken, not on it":     {`{"x":nonsense,"session_id":"s","user_id":28}`, &real, "malformed"},
		"broken, one id":        {`{"x":nonsense,"session_id":"s"}`, &real, "malformed, withheld"},
		"broken, within the id": {`{"session_id":"s","user_id":2`, &real, "malformed, withheld"},
		"broken text of the id": {`{"session_id":"s","user_id":"2`, &real, "malformed, withheld"},
		"two records": {ok(`"session_id":"s","user_id":1`) + ok(`"session_id":"s","user_id":27`), &real,
			"suppressed user"},
		"user twice":      {ok(`"session_id":"s","user_id":1,"user_id":27`), &real, "suppressed user"},
		"list of records": {"[" + ok(`"session_id":"s","user_id":27`) + "]", &real, "suppressed user"},
		"bytes":           {"\x00\x00\x00\x00\x07\x02ab", &real, "malformed, withheld"},
		"empty":           {"", &real, "malformed, withheld"},
		"long": {ok(`"x":"` + strings.Repeat("x", MaxRecord) + `","session_id":"s","user_id":27`), &real,
			"suppressed user"},
		"long, not on it": {ok(`"x":"` + strings.Repeat("x", MaxRecord) + `","session_id":"s","user_id":28`), &real,
			"too_large"},
		"long, no id": {strings.Repeat(`"`, MaxRecord+1), &real, "too_large, withheld"},
	} {
		d := Decoder{Rules: c.rules, Key: []byte("k")}
		var ev Event
		d.Suppress(list)
		reason, detail := d.Decode([]byte(c.record), 1_795_357_100_000, &ev)
		got := reason.String()
		if reason == Suppressed {
			got += " " + detail
		} else if d.Withheld() {
			got += ", withheld"
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s (%s)", name, got, c.want, detail)
		}
		d.Suppress(new(Suppression)) // everybody has been taken off
		if reason, _ := d.Decode([]byte(c.record), 1_795_357_100_000, &ev); reason == Suppressed || d.Withheld() {
			t.Errorf("%s: with an empty list: %s, withheld %t", name, reason, d.Withheld())
		}
	}
	quotes := DefaultRules() // which quote in details
	d := Decoder{Rules: &quotes}
	d.Suppress(list)
	var ev Event
	if _, detail := d.Decode([]byte(ok(`"session_id":"s","user_id":{"secret":1}`)), 0, &ev); strings.Contains(detail,
		"secret") {
		t.Errorf("the detail of a record that may be of anybody shows %q", detail)
	}
}

// What suppression costs: nothing if nobody is listed, and no allocation if somebody is.
func TestSuppressAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	rules := DefaultRules()
	d := Decoder{Rules: &rules}
	d.Suppress(listOf(t, "user 27", "session gone"))
	var ev Event
	records := sample(t)
	one := func(record []byte) func() {
		return func() {
			d.Decode(record, sampleKafkaTimestamp, &ev)
			d.Reset()
		}
	}
	listed := []byte(`{"session_id":"s","user_id":27,"event_id":"e1","event_type":"search","timestamp":1795357069}`)
	for _, r := range [][]byte{records[0], listed} {
		if n := testing.AllocsPerRun(100, one(r)); n > 0 {
			t.Errorf("%v allocations for %s", n, r)
		}
	}
}

// TestSuppressionModel compares lists with a map, and a list that was loaded with the one that was changed.
func TestSuppressionModel(t *testing.T) {
	rng := newRand(t)
	model := map[ListingKey]bool{}
	s := new(Suppression).WithSalt(Salt{9})
	for range 300 {
		add := rng.IntN(3) > 0
		var keys []ListingKey
		for range rng.IntN(40) {
			k := ListingKey{rng.Uint64() >> rng.IntN(3), rng.Uint64N(4)}
			if !add {
				k = anyOf(rng, model, k)
			}
			if model[k] != add && !slices.Contains(keys, k) {
				keys = append(keys, k)
			}
		}
		slices.SortFunc(keys, ListingKey.Compare)
		before, was := s, s.Len()
		s = s.Change(add, keys)
		if before.Len() != was || len(keys) > 0 && (s.Number != before.Number+1 || before.Has(keys[0]) == add) {
			t.Fatal("a list has changed, or has kept its number")
		}
		for _, k := range keys {
			if add {
				model[k] = true
			} else {
				delete(model, k)
			}
		}
	}
	var all []ListingKey
	sum := uint64(0)
	for k := range model {
		all, sum = append(all, k), sum+k.Hash
		if !s.Has(k) || s.Has(ListingKey{k.Fast, k.Hash + 7}) || s.withFast(k.Fast)[0].Fast != k.Fast {
			t.Fatalf("%v is not found as it is", k)
		}
	}
	slices.SortFunc(all, ListingKey.Compare)
	for i, k := range all {
		if got, ok := s.At(i); !ok || got != k {
			t.Fatalf("key %d is %v, want %v", i, got, k)
		}
	}
	if _, ok := s.At(len(all)); ok {
		t.Fatal("there is a key behind the last one")
	}
	var b SuppressionLoader
	for _, k := range all {
		if !b.Add(k) || b.Add(k) {
			t.Fatal("the loader refuses a key, or takes it twice")
		}
	}
	loaded := b.List(s.Number, s.Salt)
	if s.Len() != len(model) || s.Sum != sum || loaded.Len() != s.Len() || loaded.Sum != s.Sum ||
		loaded.SaltID != s.SaltID || loaded.Number != s.Number {
		t.Fatalf("%d listings with sum %x, loaded %d with %x, want %d with %x", s.Len(), s.Sum, loaded.Len(),
			loaded.Sum, len(model), sum)
	}
	for p := range s.parts {
		if !slices.Equal(s.parts[p], loaded.parts[p]) {
			t.Fatalf("part %d differs", p)
		}
	}
	if s = s.Change(false, all); s.Len() != 0 || s.Sum != 0 || s.Bytes() != 0 {
		t.Fatalf("emptied: %d, %x, %d bytes", s.Len(), s.Sum, s.Bytes())
	}
}

func anyOf(rng *rand.Rand, m map[ListingKey]bool, none ListingKey) ListingKey {
	n := rng.IntN(len(m) + 1)
	for k := range m {
		if n--; n < 0 {
			return k
		}
	}
	return none
}

// Hashes stand in the log: their form never changes. What cannot be listed is refused with its reason.
func TestListing(t *testing.T) {
	l := NewLister(Salt{1})
	x, err := l.Listing(SuppressUser, "27")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%016x %x", x.Fast, x.Hash[:8]); got != "d9c6d890c2562491 562eb22872ce5827" {
		t.Errorf("listing %s", got)
	}
	other, err := l.Listing(SuppressSession, "27")
	if err != nil || other.Key() == x.Key() {
		t.Errorf("a session has the listing of a user: %v", err)
	}
	for _, c := range []struct {
		kind SuppressKind
		id   string
	}{
		{SuppressUser, ""}, {SuppressUser, "0"}, {SuppressUser, strings.Repeat("x", 256)}, {SuppressSession, "\xff"},
		{3, "x"},
	} {
		if _, err := l.Listing(c.kind, c.id); err == nil {
			t.Errorf("%s %q can be listed", c.kind, c.id)
		}
	}
	if _, err := l.Listing(SuppressSession, "0"); err != nil {
		t.Error(err)
	}
	var back Salt
	text, err := json.Marshal(Salt{7, 31: 9})
	if err := errors.Join(err, json.Unmarshal(text, &back)); err != nil || back != (Salt{7, 31: 9}) {
		t.Errorf("%s: %v", text, err)
	}
}

// FuzzSuppress decodes anything with a list of one user and one session. A record that is accepted without a list is
// left out if it is of one of them, and else is the same event. One that is refused is left out, is withheld, or has
// the ids of others, wherever a tolerant reader finds them.
func FuzzSuppress(f *testing.F) {
	for _, s := range []string{
		`{"session_id":"gone","user_id":28`, `{"user_id":27.0,"session_id":"s"}`, `{`, `"user_id":`,
		`{"x":1}{"user_id" :"27"}`,
		`{"event_id":"e","session_id":"s","user_id":27,"event_type":"search","timestamp":1}`,
		`{"event_id":"e","session_id":"s","user_id":28,"event_type":"search","timestamp":1795357069}`,
		`"\"user_id\":\"27","user_id":27`, `{"user\u005fid":27,"user_id":"\ud800"`,
	} {
		f.Add([]byte(s))
	}
	list := listOf(f, "user 27", "session gone")
	f.Fuzz(func(t *testing.T, record []byte) {
		rules := DefaultRules()
		with, without := Decoder{Rules: &rules}, Decoder{Rules: &rules}
		with.Suppress(list)
		var a, b Event
		const at = 1_795_357_100_000
		reason, _ := with.Decode(bytes.Clone(record), at, &a)
		plain, _ := without.Decode(record, at, &b)
		if plain == ReasonNone {
			listed := b.UserID == 27 || b.SessionID == "gone"
			if listed != (reason == Suppressed) || !listed && (reason != ReasonNone || a != b) || with.Withheld() {
				t.Fatalf("%s: %s, of %d in %q", record, reason, b.UserID, b.SessionID)
			}
			return
		}
		if reason != plain && reason != Suppressed {
			t.Fatalf("%s: %s, without a list %s", record, reason, plain)
		}
		var fields struct {
			User    any `json:"user_id"`
			Session any `json:"session_id"`
		}
		if reason == Suppressed || with.Withheld() || json.Unmarshal(record, &fields) != nil {
			return
		}
		if u := fmt.Sprint(fields.User); u == "27" || fields.Session == "gone" {
			t.Fatalf("%s: the letter shows it: %s", record, reason)
		}
	})
}

// A batch without a list costs three bytes more than one of level 2 in its columns, and no byte per record.
func TestBatchOfNoList(t *testing.T) {
	b := sampleBatch(t, 300, 1)
	columns := func(l level.Level) int {
		c, _ := split(t, AppendBatch(nil, b, l))
		return len(c)
	}
	if more := columns(level.Guarded) - columns(level.Real); more != 3 {
		t.Errorf("%d bytes more", more)
	}
}

// A batch that is decoded into the memory of another one has nothing of that one: a reject that is withheld makes none
// of the next batch's so.
func TestRejectsOfReusedMemory(t *testing.T) {
	batch := func(withheld bool) *Batch {
		r := Reject{Partition: 1, Offset: 5, Reason: Malformed, Withheld: withheld}
		if !withheld {
			r.Length, r.SHA256 = 990, [sha]byte{1}
		}
		return &Batch{Ranges: []Range{{Partition: 1, From: 5, To: 6}}, Rejects: []Reject{r}, Rules: 1, List: 1}
	}
	var b Batch
	var scratch BatchScratch
	for _, withheld := range []bool{true, false, true} {
		want := batch(withheld)
		want.Seen = []Seen{{}}
		b.Reset()
		if err := DecodeBatch(AppendBatch(nil, want, level.Guarded), &b, &scratch); err != nil {
			t.Fatal(err)
		}
		if b.Rejects[0] != want.Rejects[0] {
			t.Errorf("%+v, want %+v", b.Rejects[0], want.Rejects[0])
		}
	}
}
