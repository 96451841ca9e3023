package event

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"

	"deckle/schema/level"
)

// oddTexts are texts that dictionaries, shapes and page URLs may treat wrongly.
var oddTexts = []string{
	"", "a", "ab", "b", `"`, `\`, "\x00", "\x01", "\x02", "\x03", "\x04", "\xff", "é", "{", "{}", "null", "0", "00",
	"01", "-", "-0", "1.5", "1e5", "41", "9223372036854775807", "9223372036854775808", "18446744073709551615",
	`{"scroll_depth": 41, "time_on_page": 81, "read_progress": 4, "is_article_complete": false}`,
	`{"scroll_depth": 7, "time_on_page": 8}`, `{"time_on_page":0,"scroll_depth":0}`, `{"time_on_page" : 81}`,
	`{"time_on_page":81,"time_on_page":81,"scroll_depth":41}`, `{"time_on_page":{"scroll_depth":41}}`,
	`{"ad_revenue": 2.31, "s": "x\"y", "k\"ey": "\u0001"}`, `{"a":"` + "\x01" + `"}`, `{"` + "\x02" + `":1}`,
	`{"a":[1,2,[3,"4"]],"b":-1.5e+3,"c":01}`, `{"a": "unfinished`, `{"a":1e}`, `{"a":"b\`,
	"[" + strings.Repeat("1,", 100) + "1]", `{"a":"` + strings.Repeat("x", 5000) + `"}`, strings.Repeat("1", 30),
	"https://welt.com/x/41", "DB3D32D7-986F-463A-B7DB-92734198DD82", "db3d32d7-986f-463a-b7db-92734198dd82",
}

// oddBatch makes a batch of odd values that is valid at level l.
func oddBatch(rng *rand.Rand, l level.Level, more ...string) *Batch {
	texts := slices.Concat(oddTexts, more)
	text := func() string { return texts[rng.IntN(len(texts))] }
	few := func() uint64 { return []uint64{0, 1, 41, 81, math.MaxInt64}[rng.IntN(5)] }
	odd := func() int64 {
		return []int64{0, 1, -1, 1795357069, 1795357069123, math.MaxInt64, math.MinInt64, rng.Int64()}[rng.IntN(8)]
	}
	b := &Batch{Nulls: int64(few())}
	real := l >= level.Real
	if real {
		b.Rules, b.Counts = rng.Uint32()>>rng.IntN(33), Counts{Skipped: int64(few()), KafkaTimes: int64(few())}
		if l >= level.Guarded {
			b.Counts.Unconsented = int64(few())
			b.List = few()
		}
		b.Counts.Zeroed[rng.IntN(NumMetrics)] = int64(few())
		for range rng.IntN(3) {
			b.Counts.Excluded = append(b.Counts.Excluded, int64(few()))
		}
	}
	partition := int32(-1)
	for range rng.IntN(4) {
		partition += 1 + rng.Int32N(1<<20)*rng.Int32N(2)
		r := Range{Partition: partition, From: rng.Int64N(1 << 40), LeaderEpoch: rng.Int32N(5) - 1}
		offset := r.From
		for range rng.IntN(40) {
			offset += rng.Int64N(3)
			switch n := rng.IntN(4); {
			case n == 1 && l >= level.Guarded && rng.IntN(3) == 0:
				b.Suppressed = append(b.Suppressed, SuppressedRecord{Partition: r.Partition, Offset: offset,
					By: SuppressUser + SuppressKind(rng.IntN(2))})
			case n == 0:
				rj := Reject{Partition: r.Partition, Offset: offset, KafkaTimestamp: odd(),
					Reason: Reason(1 + rng.IntN(int(numReasons)-1)), Detail: text(), Length: int64(few())}
				rj.Detail = rj.Detail[:min(len(rj.Detail), MaxDetail)]
				rj.SHA256[rng.IntN(32)] = byte(rng.Uint32())
				if l >= level.Guarded && rng.IntN(3) == 0 {
					rj.Withheld, rj.Length, rj.SHA256 = true, 0, [32]byte{}
				}
				b.Rejects = append(b.Rejects, rj)
			default:
				it := Item{Partition: r.Partition, Offset: offset, KafkaTimestamp: odd()}
				it.Type = Type(1 + rng.IntN(int(SessionEnd)))
				it.ID[rng.IntN(16)] = byte(rng.Uint32())
				it.SessionID = text()
				limit := FirstMaxSessionID
				if real {
					limit = MaxSessionID
				}
				it.SessionID = it.SessionID[:min(len(it.SessionID), limit)]
				if it.SessionID == "" {
					it.SessionID = "s"
				}
				it.UserID, it.Timestamp = few(), odd()
				for _, f := range textColumns {
					if rng.IntN(2) == 0 {
						*it.text(f) = text()
					}
				}
				if rng.IntN(3) == 0 {
					it.PageURL += it.ArticleID
				}
				it.ArticleType, it.Metadata, it.Extra = text(), text(), text()
				it.EngagementMetrics = text()
				it.Measure, it.Scroll = few(), uint8(rng.IntN(101))
				if rng.IntN(8) == 0 {
					it.Measure = math.MaxUint64
				}
				if real {
					oddReal(rng, &it, text)
				}
				b.Items = append(b.Items, it)
			}
			offset++
		}
		r.To = max(offset, r.From+1)
		b.Ranges = append(b.Ranges, r)
		if real {
			s := Seen{KafkaTime: odd(), AtHead: rng.IntN(2) == 0}
			if rng.IntN(2) == 0 {
				s.LastOffset, s.LastHash = r.From+rng.Int64N(r.To-r.From), max(rng.Uint64(), 1)
			}
			b.Seen = append(b.Seen, s)
		}
	}
	return b
}

// oddReal gives an item odd values that level.Real can carry.
func oddReal(rng *rand.Rand, it *Item, text func() string) {
	if rng.IntN(3) == 0 {
		if it.UserKey = text(); it.UserKey != "" {
			it.UserKey = it.UserKey[:min(len(it.UserKey), MaxUserKey)]
			it.UserID = UserHash(it.UserKey)
		}
	}
	if rng.IntN(3) == 0 {
		it.Type, it.TypeName = Other, "x"+text()
		it.TypeName = it.TypeName[:min(len(it.TypeName), MaxTypeName)]
	}
	if it.Key = KeyClass(rng.IntN(int(numKeyClasses))); it.Key == KeyOther {
		it.KeyHash = rng.Uint32()
	}
	it.Progress, it.Complete = uint8(rng.IntN(101)), rng.IntN(2) == 0
	it.MetricsOmitted, it.EventID = rng.IntN(9) == 0, text()
}

var levels = []level.Level{level.First, level.Real, level.Guarded}

func TestOddBatches(t *testing.T) {
	rng := newRand(t)
	var s BatchScratch
	for range 500 {
		for _, l := range levels {
			b := oddBatch(rng, l)
			enc := checkRoundTrip(t, b, &s, l)
			if again := AppendBatch([]byte("x"), b, l); string(again) != "x"+string(enc) {
				t.Fatal("encoding a batch twice gives two encodings")
			}
		}
	}
}

// TestSessions holds the numbers of sessions, by which the state finds a session once per batch, to the items' ids.
func TestSessions(t *testing.T) {
	var s BatchScratch
	var b Batch
	for _, n := range []int{300, 10} {
		if err := DecodeBatch(AppendBatch(nil, sampleBatch(t, n, 1), level.Current), &b, &s); err != nil {
			t.Fatal(err)
		}
		of, sessions := s.Sessions()
		ids := make([]string, sessions)
		for i := range b.Items {
			id := &ids[of[i]]
			if *id == "" {
				*id = b.Items[i].SessionID
			}
			if *id != b.Items[i].SessionID {
				t.Fatalf("item %d of session %q has the number of session %q", i, b.Items[i].SessionID, *id)
			}
		}
		if len(of) != n || slices.Contains(ids, "") {
			t.Fatalf("%d of %d items, sessions %q", len(of), n, ids)
		}
	}
	empty := Batch{Ranges: []Range{{To: 1}}}
	if err := DecodeBatch(AppendBatch(nil, &empty, level.Current), &b, &s); err != nil {
		t.Fatal(err)
	}
	if of, sessions := s.Sessions(); len(of) != 0 || sessions != 0 {
		t.Fatalf("a batch without items has %d numbers, %d sessions", len(of), sessions)
	}
}

// TestFirstBatch: a batch of level 1 is what v0.1.0 wrote, byte for byte. (The hash is of its encoding.)
func TestFirstBatch(t *testing.T) {
	h := sha256.New()
	for _, n := range []int{1, 300} {
		h.Write(AppendBatch(nil, sampleBatch(t, n, 7), level.First))
	}
	rng := rand.New(rand.NewPCG(4, 2))
	for range 20 {
		h.Write(AppendBatch(nil, oddBatch(rng, level.First), level.First))
	}
	if got := fmt.Sprintf("%x", h.Sum(nil)[:8]); got != firstBatchHash {
		t.Errorf("%s, want %s", got, firstBatchHash)
	}
}

const firstBatchHash = "6450c84478fddef2"

// TestManyShapes has more shapes than a batch may hold: the texts beyond the limit are kept as they are.
func TestManyShapes(t *testing.T) {
	b := Batch{Ranges: []Range{{To: 2 * maxShapes}}}
	for i := range 2 * maxShapes {
		b.Items = append(b.Items, Item{Offset: int64(i), Event: Event{SessionID: "s", Type: Search,
			EngagementMetrics: fmt.Sprintf(`{"%x":%d,"a":"b"}`, i, i)}})
	}
	for _, l := range levels {
		checkRoundTrip(t, &b, new(BatchScratch), l)
	}
}

// TestShapes shows the shapes and values of some engagement_metrics, for measure 81, scroll depth 41 and read progress
// 50; I, T, M, S and P stand for the slots.
func TestShapes(t *testing.T) {
	it := Item{Event: Event{Measure: 81, Scroll: 41, Progress: 50}}
	for _, c := range []struct{ text, shape, values string }{
		{`{"scroll_depth": 41, "time_on_page": 81, "done": false}`,
			`{"scroll_depth": S, "time_on_page": M, "done": false}`, ""},
		{`{"scroll_depth": 42, "time_on_page": 80}`, `{"scroll_depth": I, "time_on_page": I}`, "42 80"},
		{`{"playback_position":81,"rate":2.0}`, `{"playback_position":M,"rate":T}`, `"2.0"`},
		{`{"a":"b \" c","d":[1,"e"]}`, `{"a":"T","d":[I,"T"]}`, `1 "b \" c" "e"`},
		{`{"a":-1,"b":01,"c":0}`, `{"a":T,"b":T,"c":I}`, `0 "-1" "01"`},
		{`{"a":9223372036854775807,"b":9223372036854775808}`, `{"a":I,"b":T}`,
			`9223372036854775807 "9223372036854775808"`},
		{`{"read_progress":50,"scroll_depth":50}`, `{"read_progress":P,"scroll_depth":I}`, "50"},
		{"{}", "{}", ""},
	} {
		k := splitter{slots: slotProgress}
		if !k.split(c.text, &it) {
			t.Errorf("%s: no shape", c.text)
			continue
		}
		slots := strings.NewReplacer("\x01", "I", "\x02", "T", "\x03", "M", "\x04", "S", "\x05", "P")
		shape := slots.Replace(string(k.shape))
		values := strings.Trim(fmt.Sprint(k.ints), "[]")
		for _, token := range k.tokens {
			values += ` "` + token + `"`
		}
		if values = strings.TrimSpace(values); shape != c.shape || values != c.values {
			t.Errorf("%s:\n got %s, %s\nwant %s, %s", c.text, shape, values, c.shape, c.values)
		}
	}
	for _, text := range []string{`{"a": "x`, "{\x01}", `{"` + "\x04" + `":1}`, `"` + `\`,
		strings.Repeat("[", maxShapeText+1), "[" + strings.Repeat("1,", maxSlots) + "1]"} {
		k := splitter{slots: slotProgress}
		if k.split(text, &it) || len(k.ints)+len(k.tokens) > 0 {
			t.Errorf("%q has a shape", text)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for _, l := range levels {
		testCheckRefuses(t, l)
	}
}

func testCheckRefuses(t *testing.T, l level.Level) {
	valid := func() *Batch {
		return &Batch{
			Ranges: []Range{{Partition: 1, From: 10, To: 20, LeaderEpoch: -1}, {Partition: 2, From: 0, To: 5}},
			Items: []Item{
				{Event: Event{SessionID: "s", Type: Search}, Partition: 1, Offset: 10},
				{Event: Event{SessionID: "s", Type: Search}, Partition: 2, Offset: 4},
			},
			Rejects: []Reject{{Partition: 1, Offset: 19, Reason: Malformed}, {Partition: 2, Offset: 0, Reason: NoKey}},
		}
	}
	if err := valid().Check(l); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(b *Batch){
		"ranges out of order":        func(b *Batch) { slices.Reverse(b.Ranges) },
		"partition twice":            func(b *Batch) { b.Ranges[1].Partition = 1 },
		"negative partition":         func(b *Batch) { b.Ranges[0].Partition = -1 },
		"empty range":                func(b *Batch) { b.Ranges[0].To = 10 },
		"negative offset":            func(b *Batch) { b.Ranges[1].From = -1 },
		"leader epoch":               func(b *Batch) { b.Ranges[1].LeaderEpoch = -2 },
		"nulls":                      func(b *Batch) { b.Nulls = -1 },
		"item before its range":      func(b *Batch) { b.Items[0].Offset = 9 },
		"item behind its range":      func(b *Batch) { b.Items[0].Offset = 20 },
		"item of no range":           func(b *Batch) { b.Items[1].Partition = 3 },
		"items out of order":         func(b *Batch) { slices.Reverse(b.Items) },
		"item twice":                 func(b *Batch) { b.Items[1] = b.Items[0] },
		"item without a session":     func(b *Batch) { b.Items[0].SessionID = "" },
		"long session id":            func(b *Batch) { b.Items[0].SessionID = strings.Repeat("x", 256) },
		"item of no type":            func(b *Batch) { b.Items[0].Type = 0 },
		"item of an unknown type":    func(b *Batch) { b.Items[0].Type = NumTypes },
		"user id":                    func(b *Batch) { b.Items[0].UserID = 1 << 63 },
		"user id of another key":     func(b *Batch) { b.Items[0].UserID, b.Items[0].UserKey = 1<<63, "k" },
		"key without its user id":    func(b *Batch) { b.Items[0].UserKey = "k" },
		"other type without a name":  func(b *Batch) { b.Items[0].Type = Other },
		"counts":                     func(b *Batch) { b.Counts.Skipped = -1 },
		"excluded":                   func(b *Batch) { b.Counts.Excluded = []int64{1, -1} },
		"zeroed":                     func(b *Batch) { b.Counts.Zeroed[2] = -1 },
		"too many exclude rules":     func(b *Batch) { b.Counts.Excluded = make([]int64, MaxExclude+1) },
		"last record before":         func(b *Batch) { b.Seen = []Seen{{LastHash: 1, LastOffset: 9}, {}} },
		"last record behind":         func(b *Batch) { b.Seen = []Seen{{LastHash: 1, LastOffset: 20}, {}} },
		"last record without a hash": func(b *Batch) { b.Seen = []Seen{{LastOffset: 12}, {}} },
		"one range not seen":         func(b *Batch) { b.Seen = make([]Seen, 1) },
		"scroll depth":               func(b *Batch) { b.Items[0].Scroll = 101 },
		"reject behind its range":    func(b *Batch) { b.Rejects[1].Offset = 5 },
		"rejects out of order":       func(b *Batch) { slices.Reverse(b.Rejects) },
		"reject of no range":         func(b *Batch) { b.Rejects[1].Partition = 3 },
		"reject without a reason":    func(b *Batch) { b.Rejects[0].Reason = ReasonNone },
		"reject with no such reason": func(b *Batch) { b.Rejects[0].Reason = numReasons },
		"long detail":                func(b *Batch) { b.Rejects[0].Detail = strings.Repeat("x", 257) },
		"length of a reject":         func(b *Batch) { b.Rejects[0].Length = -1 },
		"suppressed in no range":     func(b *Batch) { b.Suppressed = []SuppressedRecord{{3, 1, SuppressUser}} },
		"suppressed before a range":  func(b *Batch) { b.Suppressed = []SuppressedRecord{{1, 9, SuppressUser}} },
		"suppressed behind a range":  func(b *Batch) { b.Suppressed = []SuppressedRecord{{1, 20, SuppressUser}} },
		"suppressed by nothing":      func(b *Batch) { b.Suppressed = []SuppressedRecord{{1, 11, 0}} },
		"suppressed item":            func(b *Batch) { b.Suppressed = []SuppressedRecord{{2, 4, SuppressSession}} },
		"suppressed reject":          func(b *Batch) { b.Suppressed = []SuppressedRecord{{1, 19, SuppressSession}} },
		"suppressed twice": func(b *Batch) {
			b.Suppressed = []SuppressedRecord{{1, 11, SuppressUser}, {1, 11, SuppressSession}}
		},
		"withheld, with a length": func(b *Batch) { b.Rejects[0].Withheld, b.Rejects[0].Length = true, 1 },
		"withheld, with a hash": func(b *Batch) {
			b.Rejects[0].Withheld, b.Rejects[0].SHA256 = true, [32]byte{1}
		},
		"too many records": func(b *Batch) { b.Rejects = make([]Reject, MaxBatchRecords) },
		"too many ranges":  func(b *Batch) { b.Ranges = make([]Range, MaxBatchRanges+1) },
		"too much text":    func(b *Batch) { b.Items[0].City = strings.Repeat("x", MaxBatchBytes) },
	} {
		b := valid()
		if spoil(b); b.Check(l) == nil {
			t.Errorf("%s: accepted", name)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: encoded", name)
				}
			}()
			AppendBatch(nil, b, l)
		}()
	}
	for name, spoil := range map[string]func(it *Item){ // what only level.Real carries
		"long session id": func(it *Item) { it.SessionID = strings.Repeat("x", 65) },
		"user key":        func(it *Item) { it.UserKey, it.UserID = "k", UserHash("k") },
		"other type":      func(it *Item) { it.Type, it.TypeName = Other, "x" },
	} {
		b := valid()
		if spoil(&b.Items[0]); (b.Check(l) == nil) != (l >= level.Real) {
			t.Errorf("%s at level %d: %v", name, l, b.Check(l))
		}
	}
	for name, spoil := range map[string]func(b *Batch){ // what only level.Guarded carries
		"suppressed": func(b *Batch) { b.Suppressed = []SuppressedRecord{{1, 11, SuppressUser}, {2, 1, SuppressUser}} },
		"list":       func(b *Batch) { b.List = 1 },
		"withheld":   func(b *Batch) { b.Rejects[0].Withheld = true },
	} {
		b := valid()
		if spoil(b); (b.Check(l) == nil) != (l >= level.Guarded) {
			t.Errorf("%s at level %d: %v", name, l, b.Check(l))
		}
	}
	for name, spoil := range map[string]func(it *Item){
		"read progress":  func(it *Item) { it.Progress = 101 },
		"class of a key": func(it *Item) { it.Key = numKeyClasses },
		"hash of no key": func(it *Item) { it.KeyHash = 1 },
		"long user key": func(it *Item) {
			it.UserKey = strings.Repeat("k", 256)
			it.UserID = UserHash(it.UserKey)
		},
		"long name of a type":  func(it *Item) { it.Type, it.TypeName = Other, strings.Repeat("k", 65) },
		"name of a known type": func(it *Item) { it.TypeName = "search" },
	} {
		b := valid()
		if spoil(&b.Items[0]); l >= level.Real && b.Check(l) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// frame puts columns and a tail together as AppendBatch does at level l.
func frame(columns, tail []byte, l level.Level) []byte {
	packed := s2.Encode(nil, columns)
	out := binary.AppendUvarint([]byte{level.Batch.At(l)}, uint64(len(packed)))
	return append(append(out, packed...), tail...)
}

// split is the inverse of frame.
func split(t testing.TB, enc []byte) (columns, tail []byte) {
	t.Helper()
	size, n := binary.Uvarint(enc[1:])
	columns, err := s2.Decode(nil, enc[1+n:1+n+int(size)])
	if err != nil {
		t.Fatal(err)
	}
	return columns, enc[1+n+int(size):]
}

// checkHostile decodes any bytes: what is accepted must be valid and survive a round trip, and memory stays bounded.
func checkHostile(t *testing.T, enc []byte) error {
	t.Helper()
	var s BatchScratch
	b := Batch{Items: make([]Item, 3), Rejects: make([]Reject, 3), Nulls: 3, Ranges: make([]Range, 3),
		Seen: make([]Seen, 3)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := DecodeBatch(enc, &b, &s)
	runtime.ReadMemStats(&after)
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 200<<20 {
		t.Fatalf("%d bytes allocated for %d", allocated, len(enc))
	}
	if err != nil {
		var corrupt *CorruptError
		var tooNew *level.TooNewError
		if isNew := errors.As(err, &tooNew); isNew != (len(enc) > 0 && enc[0] > batchGuarded) ||
			!isNew && (!errors.As(err, &corrupt) || corrupt.What == "" || corrupt.Offset < 0) {
			t.Fatalf("error %#v", err)
		}
		if len(b.Items)+len(b.Rejects)+len(b.Ranges) > 0 || b.Nulls != 0 {
			t.Fatal("a refused batch is not empty")
		}
		return err
	}
	l := levelOf(enc)
	if err := b.Check(l); err != nil {
		t.Fatal(err)
	}
	checkRoundTrip(t, &b, new(BatchScratch), l)
	return nil
}

// levelOf is the level at which an encoding was written.
func levelOf(enc []byte) level.Level {
	return level.Batch.Since(enc[0])
}

// TestDamagedBatch cuts an encoding at every byte and changes every byte of its columns.
func TestDamagedBatch(t *testing.T) {
	for _, l := range levels {
		testDamagedBatch(t, l)
	}
}

func testDamagedBatch(t *testing.T, l level.Level) {
	rng := rand.New(rand.NewPCG(1, 2))
	b := oddBatch(rng, l)
	enc := AppendBatch(nil, b, l)
	columns, tail := split(t, enc)
	for len(b.Items) < 10 || len(b.Rejects) < 3 || len(b.Ranges) < 2 || len(columns) > 2000 {
		b = oddBatch(rng, l)
		enc = AppendBatch(nil, b, l)
		columns, tail = split(t, enc)
	}
	var s BatchScratch
	var got Batch
	for n := range enc {
		if err := DecodeBatch(enc[:n], &got, &s); err == nil {
			t.Fatalf("the first %d of %d bytes are accepted", n, len(enc))
		}
	}
	if err := DecodeBatch(append(slices.Clone(enc), 0), &got, &s); err == nil {
		t.Fatal("a byte behind the end is accepted")
	}
	other := slices.Clone(enc)
	other[0] = 0
	if err := DecodeBatch(other, &got, &s); err == nil || !strings.Contains(err.Error(), "unknown version") {
		t.Fatalf("version 0: %v", err)
	}
	other[0] = level.Batch.Newest() + 1
	var tooNew *level.TooNewError
	if err := DecodeBatch(other, &got, &s); !errors.As(err, &tooNew) {
		t.Fatalf("a newer version: %v", err)
	}
	if err := DecodeBatch(frame(append(slices.Clone(columns), 0), tail, l), &got, &s); err == nil {
		t.Fatal("a byte behind the columns is accepted")
	}
	for n := range columns {
		if err := DecodeBatch(frame(columns[:n], tail, l), &got, &s); err == nil {
			t.Fatalf("the first %d bytes of the columns are accepted", n)
		}
	}
	for i := range columns {
		for _, x := range []byte{1, 0x80, 0xff} {
			damaged := slices.Clone(columns)
			damaged[i] ^= x
			if err := DecodeBatch(frame(damaged, tail, l), &got, &s); err == nil {
				checkRoundTrip(t, &got, new(BatchScratch), l) // a change of a value
			}
		}
	}
}

// TestHostileBatches are small inputs that mean, or claim to mean, large batches.
func TestHostileBatches(t *testing.T) {
	many := func(ev Event) []byte { // the encoding that AppendBatch would write if it did not check
		b := Batch{Ranges: []Range{{From: 0, To: MaxBatchRecords}}}
		ev.SessionID, ev.Type = "s", Search
		for i := range MaxBatchRecords {
			b.Items = append(b.Items, Item{Event: ev, Offset: int64(i)})
		}
		return new(batchEncoder).append(nil, &b, batchFirst)
	}
	if err := checkHostile(t, many(Event{})); err != nil {
		t.Fatal(err)
	}
	columns := func(numbers ...uint64) []byte {
		var c []byte
		for _, n := range numbers {
			c = binary.AppendUvarint(c, n)
		}
		return frame(c, nil, level.First)
	}
	long := strings.Repeat(" ", 4000)
	// One shape of 1,000 tokens for every item: the columns of many(Event{}) end with one empty shape and no token.
	slots, ids := split(t, many(Event{}))
	slots = binary.AppendUvarint(slots[:len(slots)-2], 1000)
	slots = append(append(slots, strings.Repeat("\x02", 1000)...), 1, 0)
	for name, c := range map[string]struct {
		enc  []byte
		want string
	}{
		"texts":            {many(Event{City: long}), "bytes of text"},
		"tokens":           {many(Event{EngagementMetrics: long + long}), "bytes of text"},
		"shapes":           {many(Event{EngagementMetrics: long + "1"}), "MaxBatchBytes"},
		"page URLs":        {many(Event{PageURL: long + "1", ArticleID: "1"}), "MaxBatchBytes"},
		"count of ranges":  {columns(1 << 40), "number of ranges"},
		"count of items":   {columns(1, 0, 0, 0, 5, 0, 1<<40, 0), "number of items"},
		"count of rejects": {columns(1, 0, 0, 0, 5, 0, 0, 1<<40), "number of rejects"},
		"items of two ranges": {columns(2, 0, 0, 0, 5, 0, MaxBatchRecords, 0, 0, 0, 5, 0, 1, 0),
			"(byte of the columns 16)"},
		"values of a shape": {frame(slots, ids, level.First), "too many values"},
		"items without ids": {columns(1, 0, 0, 0, 1<<20, 0, MaxBatchRecords, 0), "ends early"},
		"decompressed columns": {append([]byte{batchFirst, 6}, binary.AppendUvarint(nil, maxColumns+1)...),
			"decompressed"},
	} {
		if c.want == "decompressed" {
			c.enc = append(c.enc, 0, 0, 0)
		}
		if err := checkHostile(t, c.enc); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func FuzzDecodeBatch(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, l := range levels {
		for seeds := 0; seeds < 4; {
			if columns, tail := split(f, AppendBatch(nil, oddBatch(rng, l), l)); len(columns) < 2000 {
				f.Add(columns, tail)
				seeds++
			}
		}
		columns, tail := split(f, AppendBatch(nil, sampleBatch(f, 3, 1), l))
		f.Add(columns, tail)
	}
	f.Fuzz(func(t *testing.T, columns, tail []byte) {
		for _, l := range levels {
			_ = checkHostile(t, frame(columns, tail, l))
		}
		_ = checkHostile(t, columns) // as a frame of its own
	})
}

func FuzzBatchRoundTrip(f *testing.F) {
	f.Add(uint64(1), `{"scroll_depth": 41, "time_on_page": 81}`, "b")
	f.Add(uint64(2), `{"a":-1.5e3,"b":"\"","c":[{"d":null}]}`, "é")
	var s BatchScratch
	f.Fuzz(func(t *testing.T, seed uint64, metrics, text string) {
		if len(metrics)+len(text) > 10_000 {
			return
		}
		for _, l := range levels {
			checkRoundTrip(t, oddBatch(rand.New(rand.NewPCG(seed, 0)), l, metrics, text), &s, l)
		}
	})
}
