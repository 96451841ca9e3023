package event

import (
	"fmt"
	"strings"
	"testing"
)

func TestRecordLimit(t *testing.T) {
	var d Decoder
	for _, c := range []struct {
		size int
		want Reason
	}{{MaxRecord, ReasonNone}, {MaxRecord + 1, TooLarge}} {
		record := fillIn(t, `{<valid>,"metadata":{"a":""}}`)
		record = record[:len(record)-3] + strings.Repeat("x", c.size-len(record)) + record[len(record)-3:]
		var ev Event
		reason, detail := d.Decode([]byte(record), sampleKafkaTimestamp, &ev)
		if len(record) != c.size || reason != c.want {
			t.Errorf("%d bytes: %s %s, want %s", len(record), reason, detail, c.want)
		}
	}
}

// TestTextsLiveUntilReset decodes far more escaped texts than one chunk of memory holds, of all sizes, and only then
// looks at them.
func TestTextsLiveUntilReset(t *testing.T) {
	var d Decoder
	for round := range 3 {
		events := make([]Event, 3000)
		for i := range events {
			record := fillIn(t, fmt.Sprintf(`{<valid>,"brand":"\u00fc%d-%d","city":"\t%s","x":%d}`, round, i,
				strings.Repeat("y", i*37%1000+i%500/499*arenaChunk), i))
			if reason, detail := d.Decode([]byte(record), sampleKafkaTimestamp, &events[i]); reason != ReasonNone {
				t.Fatal(reason, detail)
			}
		}
		for i, ev := range events {
			if ev.Brand != fmt.Sprintf("ü%d-%d", round, i) || ev.Extra != fmt.Sprintf(`{"x":%d}`, i) ||
				ev.City != "\t"+strings.Repeat("y", i*37%1000+i%500/499*arenaChunk) {
				t.Fatalf("round %d, event %d: %q %.20q %s", round, i, ev.Brand, ev.City, ev.Extra)
			}
		}
		d.Reset()
	}
	if n := len(d.arena.chunks); n > 2*arenaRetain {
		t.Errorf("%d chunks are kept", n)
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	records := sample(t)
	escaped := []byte(fillIn(t, `{<valid>,"brand":"\u00fc","x":1}`))
	var d Decoder
	var ev Event
	if n := testing.AllocsPerRun(3, func() {
		for _, r := range records {
			d.Decode(r, sampleKafkaTimestamp, &ev)
			d.Decode(escaped, sampleKafkaTimestamp, &ev)
		}
		d.Reset()
	}); n > 0 {
		t.Errorf("%.0f allocations for %d records", n, len(records))
	}
}

func TestNames(t *testing.T) {
	for ty := ArticleView; ty <= SessionEnd; ty++ {
		if got, ok := ParseType(ty.String()); !ok || got != ty || !ty.Valid() {
			t.Errorf("%s is %s", ty, got)
		}
	}
	for _, s := range []string{"invalid", "other", "", "search ", "Search", "type(3)"} {
		if got, ok := ParseType(s); ok || got.Valid() {
			t.Errorf("%q is %s", s, got)
		}
	}
	if n := len(Reasons()); n != 10 || Reasons()[0] != Malformed || Reasons()[n-1] != SinkRejected {
		t.Errorf("reasons %v", Reasons())
	}
	for f := range fields {
		name := fields[f].name
		if fieldByName(name) != field(f) || schema[f] != name {
			t.Errorf("field %d is %s", f, name)
		}
	}
}

func TestID(t *testing.T) {
	const lower = "0123abcd-4567-89ef-a0b1-c2d3e4f50617"
	want := ID{0x01, 0x23, 0xab, 0xcd, 0x45, 0x67, 0x89, 0xef, 0xa0, 0xb1, 0xc2, 0xd3, 0xe4, 0xf5, 0x06, 0x17}
	for _, s := range []string{lower, strings.ToUpper(lower)} {
		if id, ok := ParseID(s); !ok || id != want || id.String() != lower {
			t.Errorf("%s is %s", s, id)
		}
	}
	for i := range lower { // any other byte at any place
		for _, c := range []string{"", "g", "-", "0-", "\x00", "/", ":", "@", "`", "é"} {
			s := lower[:i] + c + lower[i+1:]
			if _, ok := ParseID(s); ok && s != lower {
				t.Errorf("%q is an id", s)
			}
		}
	}
}

// TestClone spoils the record, and the decoder's memory, after the clone was made.
func TestClone(t *testing.T) {
	var d Decoder
	var ev Event
	record := []byte(fillIn(t, `{<valid>,"brand":"b","city":"\u00fc","metadata":{"a":1},`+
		`"engagement_metrics":{"b":2},"x":3}`))
	if reason, detail := d.Decode(record, sampleKafkaTimestamp, &ev); reason != ReasonNone {
		t.Fatal(reason, detail)
	}
	clone := ev.clone()
	clear(record)
	clear(d.arena.chunks[0])
	want := "ok\nBrand: \"b\"\nCity: \"ü\"\nEngagementMetrics: {\"b\":2}\nMetadata: {\"a\":1}\nExtra: {\"x\":3}"
	if got := show(&clone); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if n := testing.AllocsPerRun(10, func() { _ = ev.clone() }); n > 1 {
		t.Errorf("%.0f allocations", n)
	}
}
