package deadletter

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/state"
	"deckle/state/statetest"
)

// FuzzRecord makes a record from any letter and any original. Kafka must accept the record, its key must name that
// letter and no other, and its headers must say what was cut off.
func FuzzRecord(f *testing.F) {
	f.Add(int32(0), int64(7), uint8(event.Malformed), "because", []byte(`{"x":`), true, true, "s\x000/1")
	f.Add(int32(-1), int64(-1), uint8(event.SinkRejected), "too large", bytes.Repeat([]byte("x"), 70<<10), false, false,
		"s/1\x002/3")
	f.Add(int32(1<<31-1), int64(1<<63-1), uint8(event.TooLate), "\xff\x00", []byte(nil), true, false, "")
	f.Add(int32(5), int64(0), uint8(255), strings.Repeat("d", 300), []byte{0}, false, true, "\x00\x00")
	s := &Sink{opts: Options{Topic: "t", DLQ: "t.dlq"}}
	plan := statetest.NewPlan(state.Config{Shard: 3}, state.SinkDeadLetter, 0, 2,
		[]state.EpochInfo{{Epoch: 2, Clock: 1_795_357_069_123}}, statetest.Content{})
	rs, err := s.redactors(plan)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, partition int32, offset int64, reason uint8, detail string, value []byte, found,
		known bool, rowKey string) {
		l := &state.DeadLetter{Reject: event.Reject{Partition: partition, Offset: offset, Reason: event.Reason(reason),
			Detail: detail, Length: int64(len(value))},
			Epoch: 2, Sink: state.SinkClickHouse, RowKey: rowKey, Row: value}
		if known {
			l.SHA256 = sha256.Sum256(value)
		}
		check := func(r *kgo.Record, key string, limit int, whole bool) map[string]string {
			t.Helper()
			h := map[string]string{}
			for _, kv := range r.Headers {
				if _, twice := h[kv.Key]; twice {
					t.Fatalf("header %s twice", kv.Key)
				}
				h[kv.Key] = string(kv.Value)
			}
			if string(r.Key) != key || r.Topic != "t.dlq" || r.Value == nil || len(r.Value) > limit {
				t.Fatalf("record %q of %d bytes, want %q", r.Key, len(r.Value), key)
			}
			if whole != (h["truncated"] == "" && h["original_lost"] == "" && bytes.Equal(r.Value, value)) {
				t.Fatalf("whole %v: %d bytes of %d, %v", whole, len(r.Value), len(value), h)
			}
			if h["reason"] != event.Reason(reason).String() || h["detail"] != detail ||
				h["rejected_at"] != "2026-11-22T14:17:49.123Z" {
				t.Fatalf("headers %v", h)
			}
			return h
		}
		r, lost := s.sourceRecord(plan, rs, l, value, found)
		h := check(r, fmt.Sprintf("t/%d/%d", partition, offset), maxOriginal, found && len(value) <= maxOriginal)
		if lost == found || found && h["length"] != strconv.Itoa(len(value)) {
			t.Fatalf("found %v, lost %v, %v", found, lost, h)
		}
		check(s.rowRecord(plan, rs, l), "sink/clickhouse/3/2/"+strings.ReplaceAll(rowKey, "\x00", "/"), maxRow,
			len(value) <= maxRow)
	})
}
