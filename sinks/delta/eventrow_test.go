package delta

import (
	"math"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"deckle/schema/level"
	"deckle/sinks/delta/deltalog"
)

// A Kafka timestamp that no reader of the table could show is written as the nearest one that it can.
func TestKafkaTimestampOutOfRange(t *testing.T) {
	m := newModel(7, 1)
	c, err := codec("none")
	if err != nil {
		t.Fatal(err)
	}
	e := declared.newEventsEncoder(level.First, 0, c)
	for _, ms := range []int64{math.MinInt64, -1, 0, lastMillis, lastMillis + 1, math.MaxInt64} {
		it := m.item(0)
		it.KafkaTimestamp = ms
		if err := e.add(&it, 1); err != nil {
			t.Fatal(err)
		}
		if err := e.flush(); err != nil {
			t.Fatal(err)
		}
	}
	f, err := e.finish(1)
	if err != nil {
		t.Fatal(err)
	}
	want := []int64{0, 0, 0, lastMillis * 1e3, lastMillis * 1e3, lastMillis * 1e3}
	if err := eachRow("k", f.data, eventsTable.file, eventsTable.later, func(r parquet.Row) error {
		if got := r[eventsTable.place("kafka_timestamp")].Int64(); got != want[0] {
			t.Errorf("got %d, want %d", got, want[0])
		}
		want = want[1:]
		return nil
	}); err != nil || len(want) > 0 {
		t.Fatalf("%d rows are missing, %v", len(want), err)
	}
	if stats := deltalog.Stats(f.rows, f.cols); !strings.Contains(stats, `"kafka_timestamp":"1970-01-01T`) ||
		!strings.Contains(stats, `"kafka_timestamp":"9999-12-31T23:59:59.999`) {
		t.Errorf("statistics %s", stats)
	}
}
