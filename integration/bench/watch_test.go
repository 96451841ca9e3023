package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"deckle/event"
	"deckle/sim/testworld/objects"
	"deckle/sinks"
	"deckle/sinks/delta"
	"deckle/state"
	"deckle/state/statetest"
)

const commitOf = `{"commitInfo":{"operation":"WRITE"}}
{"txn":{"appId":"c/deckle/1/events","version":7}}
{"txn":{"appId":"c/deckle/0/events","version":3}}
{"add":{"path":"a","size":10,"tags":{"deckle.shard":"1","deckle.from":"6","deckle.to":"7"},` +
	`"stats":"{\"numRecords\":2,\"minValues\":{\"kafka_partition\":1,\"kafka_offset\":2}` +
	`,\"maxValues\":{\"kafka_partition\":1,\"kafka_offset\":3}}"}}
{"add":{"path":"b","size":20,` +
	`"stats":"{\"numRecords\":2,\"minValues\":{\"kafka_partition\":1,\"kafka_offset\":0}` +
	`,\"maxValues\":{\"kafka_partition\":1,\"kafka_offset\":1}}"}}
{"remove":{"path":"c"}}
`

func TestParseCommit(t *testing.T) {
	c, err := parseCommit([]byte(commitOf))
	if err != nil {
		t.Fatal(err)
	}
	if c.txns[txnKey{1, "events"}] != 7 || c.txns[txnKey{0, "events"}] != 3 || c.removes != 1 ||
		len(c.adds) != 2 || c.adds[0].origins[0].To != 7 || c.adds[1].size != 20 {
		t.Fatalf("%+v", c)
	}
}

// TestGroupsOf: a file with rows of several partitions is told apart by its row groups.
func TestGroupsOf(t *testing.T) {
	ctx, mem := context.Background(), objects.NewMem(nil)
	d, err := delta.Open(ctx, delta.Options{Store: mem, ClusterID: "c", Pipeline: "p", Events: true,
		EventSource: func(uint32) sinks.EventSource { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	var batch event.Batch
	for i := range int64(5) {
		it := event.Item{Partition: 3 * int32(i/3), Offset: 10 + i}
		it.Type, it.Timestamp, it.SessionID = event.ArticleView, 1_700_000_000, "s"
		batch.Items = append(batch.Items, it)
	}
	buf := d.Events().Buffer(0)
	if err := buf.Append(&batch, nil); err != nil {
		t.Fatal(err)
	}
	buf.Seal(1, true)
	err = d.Events().Write(ctx, statetest.NewPlan(state.Config{}, state.SinkEvents, 0, 1,
		[]state.EpochInfo{{Epoch: 1, Events: 5}}, statetest.Content{}))
	if err != nil || d.Close() != nil {
		t.Fatal(err)
	}
	data, err := mem.Get(ctx, mem.Keys("events/event_date")[0])
	if err != nil {
		t.Fatal(err)
	}
	groups, err := groupsOf(data)
	if err != nil || len(groups) != 2 || groups[0].rows != 3 || groups[1].rows != 2 ||
		groups[0].lo != (bounds{0, 10}) || groups[0].hi != (bounds{0, 12}) ||
		groups[1].lo != (bounds{3, 13}) || groups[1].hi != (bounds{3, 14}) {
		t.Errorf("%+v, %v", groups, err)
	}
}

func newWatch() *watch { return &watch{next: map[int32]int64{}, ledger: map[uint32][]reached{}} }

func TestDelays(t *testing.T) {
	h, start := newWatch(), time.UnixMilli(1_000_000)
	at := func(ms int64) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	c, err := parseCommit([]byte(commitOf))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.add(c, at(500)); err != nil {
		t.Fatal(err)
	}
	made := [][]int64{nil, {at(0).UnixMilli(), at(100).UnixMilli(), at(200).UnixMilli(), at(300).UnixMilli()}}
	h.ledger[1] = []reached{{6, at(550)}}
	if n, _, err := h.missing(made); n != 4 || err != nil {
		t.Fatalf("%d records are missing (%v): ClickHouse has none", n, err)
	}
	h.ledger[1] = append(h.ledger[1], reached{9, at(700)}) // one plan has several epochs
	if n, _, err := h.missing(made); n != 0 || err != nil {
		t.Fatalf("%d records are missing (%v)", n, err)
	}
	events, click, err := h.delays(made, at(100), at(300)) // the last record is not in the window
	if err != nil || !slices.Equal(events, delays{300, 400}) || !slices.Equal(click, delays{500, 600}) {
		t.Fatalf("%v %v %v", events, click, err)
	}
	if _, _, err := h.delays(made, at(1000), at(2000)); err == nil {
		t.Fatal("a window without records has delays")
	}
}

// TestGaps: the watch refuses commits whose records it cannot know exactly.
func TestGaps(t *testing.T) {
	file := func(partition int32, from, to, rows int64) addedFile {
		return addedFile{rows: rows, lo: bounds{partition, from}, hi: bounds{partition, to}}
	}
	txns := map[txnKey]uint64{{0, "events"}: 1, {1, "events"}: 1}
	two := file(0, 0, 9, 10)
	two.hi.Partition = 1
	for _, x := range []struct {
		why  string
		file addedFile
		txns map[txnKey]uint64
	}{
		{"goes on at", file(0, 5, 9, 5), txns},             // the records before it are missing
		{"cannot be told", file(0, 0, 9, 9), txns},         // one of its records is missing
		{"cannot be told", two, txns},                      // two partitions
		{"no txn", file(0, 0, 9, 10), map[txnKey]uint64{}}, // the epoch is unknown
	} {
		err := newWatch().add(&deltaCommit{txns: x.txns, adds: []addedFile{x.file}}, time.Now())
		if err == nil || !strings.Contains(err.Error(), x.why) {
			t.Errorf("%+v: %v, want %q", x.file, err, x.why)
		}
	}
}

func TestSeconds(t *testing.T) {
	var d delays
	for i := range int64(200) {
		d = append(d, 1000*(i+1))
	}
	if d.seconds(0.5) != 100 || d.seconds(0.99) != 198 || d.seconds(1) != 200 || (delays{7000}).seconds(0.01) != 7 {
		t.Fatal(d.seconds(0.5), d.seconds(0.99), d.seconds(1))
	}
}

func TestSlope(t *testing.T) {
	var s slope
	for x := range 10 {
		s.add(float64(x), 5+3*float64(x))
	}
	if s.get() != 3 || (&slope{}).get() != 0 {
		t.Fatal(s.get())
	}
}

func TestSoakOf(t *testing.T) {
	w := &window{Seconds: 180}
	for i := range int64(180) {
		w.memory = append(w.memory, 1000+10*i)
	}
	f := soakOf(w)
	if len(f.Minutes) != 3 || f.First != w.memory[74] || f.Last != w.memory[164] || f.Ratio <= 1.5 {
		t.Fatalf("%+v", f)
	}
}
