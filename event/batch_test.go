package event

import (
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

// oddBatch makes a valid batch of odd values.
func oddBatch(rng *rand.Rand, more ...string) *Batch {
	texts := slices.Concat(oddTexts, more)
	text := func() string { return texts[rng.IntN(len(texts))] }
	few := func() uint64 { return []uint64{0, 1, 41, 81, math.MaxInt64}[rng.IntN(5)] }
	odd := func() int64 {
		return []int64{0, 1, -1, 1795357069, 1795357069123, math.MaxInt64, math.MinInt64, rng.Int64()}[rng.IntN(8)]
	}
	b := &Batch{Nulls: int64(few())}
	partition := int32(-1)
	for range rng.IntN(4) {
		partition += 1 + rng.Int32N(1<<20)*rng.Int32N(2)
		r := Range{Partition: partition, From: rng.Int64N(1 << 40), LeaderEpoch: rng.Int32N(5) - 1}
		offset := r.From
		for range rng.IntN(40) {
			offset += rng.Int64N(3)
			switch rng.IntN(4) {
			case 0:
				rj := Reject{Partition: r.Partition, Offset: offset, KafkaTimestamp: odd(),
					Reason: Reason(1 + rng.IntN(int(numReasons)-1)), Detail: text(), Length: int64(few())}
				rj.Detail = rj.Detail[:min(len(rj.Detail), MaxDetail)]
				rj.SHA256[rng.IntN(32)] = byte(rng.Uint32())
				b.Rejects = append(b.Rejects, rj)
			default:
				it := Item{Partition: r.Partition, Offset: offset, KafkaTimestamp: odd()}
				it.Type = Type(1 + rng.IntN(int(NumTypes)-1))
				it.ID[rng.IntN(16)] = byte(rng.Uint32())
				it.SessionID = text()
				it.SessionID = it.SessionID[:min(len(it.SessionID), MaxSessionID)]
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
				b.Items = append(b.Items, it)
			}
			offset++
		}
		r.To = max(offset, r.From+1)
		b.Ranges = append(b.Ranges, r)
	}
	return b
}

func TestOddBatches(t *testing.T) {
	rng := newRand(t)
	var s BatchScratch
	for range 500 {
		b := oddBatch(rng)
		enc := checkRoundTrip(t, b, &s)
		if again := AppendBatch([]byte("x"), b); string(again) != "x"+string(enc) {
			t.Fatal("encoding a batch twice gives two encodings")
		}
	}
}

// TestManyShapes has more shapes than a batch may hold: the texts beyond the limit are kept as they are.
func TestManyShapes(t *testing.T) {
	b := Batch{Ranges: []Range{{To: 2 * maxShapes}}}
	for i := range 2 * maxShapes {
		b.Items = append(b.Items, Item{Offset: int64(i), Event: Event{SessionID: "s", Type: Search,
			EngagementMetrics: fmt.Sprintf(`{"%x":%d,"a":"b"}`, i, i)}})
	}
	checkRoundTrip(t, &b, new(BatchScratch))
}

// TestShapes shows the shapes and values of some engagement_metrics, for measure 81 and scroll depth 41; I, T, M and S
// stand for the slots.
func TestShapes(t *testing.T) {
	for _, c := range []struct{ text, shape, values string }{
		{`{"scroll_depth": 41, "time_on_page": 81, "done": false}`,
			`{"scroll_depth": S, "time_on_page": M, "done": false}`, ""},
		{`{"scroll_depth": 42, "time_on_page": 80}`, `{"scroll_depth": I, "time_on_page": I}`, "42 80"},
		{`{"playback_position":81,"rate":2.0}`, `{"playback_position":M,"rate":T}`, `"2.0"`},
		{`{"a":"b \" c","d":[1,"e"]}`, `{"a":"T","d":[I,"T"]}`, `1 "b \" c" "e"`},
		{`{"a":-1,"b":01,"c":0}`, `{"a":T,"b":T,"c":I}`, `0 "-1" "01"`},
		{`{"a":9223372036854775807,"b":9223372036854775808}`, `{"a":I,"b":T}`,
			`9223372036854775807 "9223372036854775808"`},
		{"{}", "{}", ""},
	} {
		var k splitter
		if !k.split(c.text, 81, 41) {
			t.Errorf("%s: no shape", c.text)
			continue
		}
		shape := strings.NewReplacer("\x01", "I", "\x02", "T", "\x03", "M", "\x04", "S").Replace(string(k.shape))
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
		var k splitter
		if k.split(text, 81, 41) || len(k.ints)+len(k.tokens) > 0 {
			t.Errorf("%q has a shape", text)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
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
	if err := valid().Check(); err != nil {
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
		"long session id":            func(b *Batch) { b.Items[0].SessionID = strings.Repeat("x", 65) },
		"item of no type":            func(b *Batch) { b.Items[0].Type = 0 },
		"item of an unknown type":    func(b *Batch) { b.Items[0].Type = NumTypes },
		"user id":                    func(b *Batch) { b.Items[0].UserID = 1 << 63 },
		"scroll depth":               func(b *Batch) { b.Items[0].Scroll = 101 },
		"reject behind its range":    func(b *Batch) { b.Rejects[1].Offset = 5 },
		"rejects out of order":       func(b *Batch) { slices.Reverse(b.Rejects) },
		"reject of no range":         func(b *Batch) { b.Rejects[1].Partition = 3 },
		"reject without a reason":    func(b *Batch) { b.Rejects[0].Reason = ReasonNone },
		"reject with no such reason": func(b *Batch) { b.Rejects[0].Reason = numReasons },
		"long detail":                func(b *Batch) { b.Rejects[0].Detail = strings.Repeat("x", 257) },
		"length of a reject":         func(b *Batch) { b.Rejects[0].Length = -1 },
		"too many records":           func(b *Batch) { b.Rejects = make([]Reject, MaxBatchRecords) },
		"too many ranges":            func(b *Batch) { b.Ranges = make([]Range, MaxBatchRanges+1) },
		"too much text":              func(b *Batch) { b.Items[0].City = strings.Repeat("x", MaxBatchBytes) },
	} {
		b := valid()
		if spoil(b); b.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: encoded", name)
				}
			}()
			AppendBatch(nil, b)
		}()
	}
}

// frame puts columns and a tail together as AppendBatch does.
func frame(columns, tail []byte) []byte {
	packed := s2.Encode(nil, columns)
	out := binary.AppendUvarint([]byte{batchVersion}, uint64(len(packed)))
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
	b := Batch{Items: make([]Item, 3), Rejects: make([]Reject, 3), Nulls: 3, Ranges: make([]Range, 3)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := DecodeBatch(enc, &b, &s)
	runtime.ReadMemStats(&after)
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 200<<20 {
		t.Fatalf("%d bytes allocated for %d", allocated, len(enc))
	}
	if err != nil {
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || corrupt.What == "" || corrupt.Offset < 0 {
			t.Fatalf("error %#v", err)
		}
		if len(b.Items)+len(b.Rejects)+len(b.Ranges) > 0 || b.Nulls != 0 {
			t.Fatal("a refused batch is not empty")
		}
		return err
	}
	if err := b.Check(); err != nil {
		t.Fatal(err)
	}
	checkRoundTrip(t, &b, new(BatchScratch))
	return nil
}

// TestDamagedBatch cuts an encoding at every byte and changes every byte of its columns.
func TestDamagedBatch(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	b := oddBatch(rng)
	enc := AppendBatch(nil, b)
	columns, tail := split(t, enc)
	for len(b.Items) < 10 || len(b.Rejects) < 3 || len(b.Ranges) < 2 || len(columns) > 2000 {
		b = oddBatch(rng)
		enc = AppendBatch(nil, b)
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
	other[0]++
	if err := DecodeBatch(other, &got, &s); err == nil || !strings.Contains(err.Error(), "unknown version") {
		t.Fatalf("another version: %v", err)
	}
	if err := DecodeBatch(frame(append(slices.Clone(columns), 0), tail), &got, &s); err == nil {
		t.Fatal("a byte behind the columns is accepted")
	}
	for n := range columns {
		if err := DecodeBatch(frame(columns[:n], tail), &got, &s); err == nil {
			t.Fatalf("the first %d bytes of the columns are accepted", n)
		}
	}
	for i := range columns {
		for _, x := range []byte{1, 0x80, 0xff} {
			damaged := slices.Clone(columns)
			damaged[i] ^= x
			if err := DecodeBatch(frame(damaged, tail), &got, &s); err == nil {
				checkRoundTrip(t, &got, new(BatchScratch)) // a change of a value
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
		return new(batchEncoder).append(nil, &b)
	}
	if err := checkHostile(t, many(Event{})); err != nil {
		t.Fatal(err)
	}
	columns := func(numbers ...uint64) []byte {
		var c []byte
		for _, n := range numbers {
			c = binary.AppendUvarint(c, n)
		}
		return frame(c, nil)
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
		"values of a shape": {frame(slots, ids), "too many values"},
		"items without ids": {columns(1, 0, 0, 0, 1<<20, 0, MaxBatchRecords, 0), "ends early"},
		"decompressed columns": {append([]byte{batchVersion, 6}, binary.AppendUvarint(nil, maxColumns+1)...),
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
	for seeds := 0; seeds < 4; {
		if columns, tail := split(f, AppendBatch(nil, oddBatch(rng))); len(columns) < 2000 {
			f.Add(columns, tail)
			seeds++
		}
	}
	columns, tail := split(f, AppendBatch(nil, sampleBatch(f, 3, 1)))
	f.Add(columns, tail)
	f.Fuzz(func(t *testing.T, columns, tail []byte) {
		_ = checkHostile(t, frame(columns, tail))
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
		checkRoundTrip(t, oddBatch(rand.New(rand.NewPCG(seed, 0)), metrics, text), &s)
	})
}
