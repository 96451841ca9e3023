package shard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"deckle/event"
	"deckle/node/condition"
	"deckle/node/kafka"
	"deckle/state"
)

// Rejected records become a condition with their most frequent reason, which ends when the window has passed them, and
// not each time that the share crosses the limit.
func TestRejections(t *testing.T) {
	const words = " records of the last 5 minutes became dead letters, "
	at := time.Unix(1_000_000, 0)
	var r rejections
	v := state.View{DeadLetters: map[event.Reason]int64{event.Malformed: 1000}} // from before: not of these minutes
	step := func(d time.Duration, applied, malformed, late, refused int64) string {
		at = at.Add(d)
		v.Applied += applied
		v.DeadLetters = map[event.Reason]int64{event.Malformed: v.DeadLetters[event.Malformed] + malformed,
			event.TooLate:      v.DeadLetters[event.TooLate] + late,
			event.SinkRejected: v.DeadLetters[event.SinkRejected] + refused}
		return r.judge(&v, at)
	}
	for i, c := range []struct {
		after                             time.Duration
		applied, malformed, late, refused int64
		want                              string
	}{
		{0, 0, 0, 0, 0, ""},
		{time.Second, 0, 9, 0, 500, ""}, // all, but too few to say so; refused rows are no records
		{time.Second, 0, 0, 1, 0, "10 of the 10" + words + "9 of them as malformed"},
		{time.Second, 389, 0, 0, 0, "10 of the 399 records"}, // 2.51 %: below the limit, and it holds on
		{time.Second, 1, 0, 0, 0, ""},
		{time.Second, 0, 0, 10, 0, ""}, // 4.98 %
		{time.Second, 0, 0, 2, 0, "22 of the 412" + words + "13 of them as too_late"},
		{4 * time.Minute, 0, 0, 0, 0, "22 of"},
		{time.Minute + 10*time.Second, 0, 0, 0, 0, ""},
	} {
		got := step(c.after, c.applied, c.malformed, c.late, c.refused)
		if !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("step %d: %q, want %q", i, got, c.want)
		}
	}
	for range 1000 {
		step(time.Second, 1, 0, 0, 0)
	}
	if n := len(r.window.samples); n > int(rejectedWindow/sampleEvery)+2 {
		t.Errorf("%d samples", n)
	}
}

// A sink is behind when what was closed ten intervals ago is still missing, however steadily it works; it is not when
// it is slower than the interval and keeps up with that.
func TestSinkBehind(t *testing.T) {
	l := newTestLeadership(t)
	l.Config.Flush.Interval = 10 * time.Second
	j := &judge{leadership: l}
	v := state.View{Config: state.Config{Sinks: []state.SinkID{state.SinkEvents, state.SinkClickHouse}}}
	at := time.Unix(1_000_000, 0)
	holds := func(sink string) bool {
		_, ok := l.cond.now().Get(condition.SinkBehind, sink+" of shard 0")
		return ok
	}
	for epoch := uint64(1); epoch <= 60; epoch++ {
		v.LastClosed = epoch
		v.Sinks[state.SinkEvents].Acked = epoch - 1
		// ClickHouse is nine intervals behind, stands still after epoch 20, and has caught up with epoch 41
		v.Sinks[state.SinkClickHouse].Acked = epoch - min(epoch, 9)
		if epoch > 20 && epoch <= 40 {
			v.Sinks[state.SinkClickHouse].Acked = 11
		}
		for range 10 {
			at = at.Add(time.Second)
			j.behind(&v, at)
		}
		if want := epoch > 21 && epoch <= 40; holds("events") || holds("clickhouse") != want {
			t.Fatalf("epoch %d: events %v, clickhouse %v", epoch, holds("events"), holds("clickhouse"))
		}
	}
	if n := len(j.closings); n > 11 {
		t.Errorf("%d closings are remembered", n)
	}
	for range 24 * 60 { // nothing is closed for long: what is there is not older than it is
		at = at.Add(time.Minute)
		v.Sinks[state.SinkClickHouse].Acked, v.Sinks[state.SinkEvents].Acked = v.LastClosed, v.LastClosed
		j.behind(&v, at)
	}
	v.LastClosed++
	j.behind(&v, at)
	if holds("events") || holds("clickhouse") {
		t.Error("behind with an epoch that was closed just now")
	}
}

// A transaction that is open for long is told, with the partition and offset at which it stands.
func TestOpenTransaction(t *testing.T) {
	l := newTestLeadership(t)
	l.Config.Flush.Interval = 10 * time.Second
	j := &judge{leadership: l}
	v := state.View{Partitions: []state.PartitionStatus{{Partition: 0}, {Partition: 4}}}
	at := time.Unix(1_000_000, 0)
	text := func() string {
		c, _ := l.cond.now().Get(condition.TransactionOpen, "shard 0")
		return c.Text
	}
	look := func(after time.Duration, held int64) string {
		at = at.Add(after)
		j.transaction(&v, &kafka.Listing{Ends: map[int32]int64{0: 9, 4: 17}, Held: map[int32]int64{0: 0, 4: held}}, at)
		return text()
	}
	for i, c := range []struct {
		after time.Duration
		held  int64
		want  bool
	}{
		{0, 5, false}, {99 * time.Second, 7, false}, {time.Second, 8, true}, {time.Second, 0, false},
		{time.Second, 8, false}, {99 * time.Second, 8, false}, {time.Second, 8, true},
	} {
		got := look(c.after, c.held)
		if (got != "") != c.want {
			t.Errorf("step %d: %q", i, got)
		}
	}
	if want := fmt.Sprintf("%d records", 8); !strings.Contains(text(), want) ||
		!strings.Contains(text(), "partition 4 from offset 17") {
		t.Errorf("%q", text())
	}
}
