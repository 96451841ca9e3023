package sim

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

var knownFields = func() map[string]bool {
	m := map[string]bool{"event_id": true, "session_id": true, "user_id": true, "event_type": true, "timestamp": true,
		"engagement_metrics": true, "metadata": true}
	for _, f := range textFields {
		m[f] = true
	}
	return m
}()

// observed is an accepted record as the naive judge reads it.
type observed struct {
	partition int32
	offset    int64
	kafkaTime int64 // Unix milliseconds
	id        string
	session   string
	user      int64
	typ       string
	timestamp int64
	text      map[string]string
	metrics   any // map[string]any or nil
	metadata  any
	extra     map[string]any
}

// tooOld is where the simulator's late records (minutes) and too-late ones (12 h and more) are told apart. The
// retention lies between the two.
const tooOld = 9 * time.Hour

// judge reads a record by the rules of docs/schema.md: the event, or the reason why it is a dead letter. It does not
// know the session, so it never returns session_full.
func judge(value []byte, kafkaMillis int64) (*observed, string) {
	if len(value) > 1<<20 {
		return nil, "too_large"
	}
	if !utf8.Valid(value) {
		return nil, "malformed"
	}
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil || m == nil {
		return nil, "malformed"
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, "malformed"
	}
	for name, v := range m {
		if v == nil || v == "" {
			delete(m, name) // missing, null and "" are the same
		}
	}
	o := &observed{kafkaTime: kafkaMillis, text: map[string]string{}}
	for name, v := range m {
		ok := true
		switch name {
		case "event_id":
			o.id, ok = v.(string)
			ok = ok && len(o.id) == 36
		case "session_id":
			o.session, ok = v.(string)
			ok = ok && len(o.session) <= 64
		case "user_id":
			o.user, ok = integer(v)
			ok = ok && o.user >= 0
		case "timestamp":
			o.timestamp, ok = integer(v)
		case "event_type":
			o.typ, ok = v.(string)
		case "engagement_metrics":
			o.metrics = v
			_, ok = v.(map[string]any)
		case "metadata":
			o.metadata = v
			_, ok = v.(map[string]any)
		default:
			if knownFields[name] {
				o.text[name], ok = v.(string)
			}
		}
		if !ok {
			return nil, "wrong_type"
		}
	}
	for _, name := range []string{"event_id", "session_id", "user_id", "event_type", "timestamp"} {
		if m[name] == nil {
			return nil, "missing_field"
		}
	}
	if !slices.Contains(CountedTypes, o.typ) && o.typ != "session_end" {
		return nil, "unknown_event_type"
	}
	if o.timestamp >= 1e11 {
		o.timestamp /= 1000
	}
	if o.timestamp < time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix() || o.timestamp > kafkaMillis/1000+3600 ||
		o.timestamp > 4294967295 {
		return nil, "bad_timestamp"
	}
	for name, v := range m {
		if !knownFields[name] {
			if o.extra == nil {
				o.extra = map[string]any{}
			}
			o.extra[name] = v
		}
	}
	return o, ""
}

func integer(v any) (int64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	i, err := strconv.ParseInt(string(n), 10, 64)
	return i, err == nil
}

// metric returns the number called name of the event's engagement_metrics, limited to 0…limit; 0 if it is no number.
func (o *observed) metric(name string, limit float64) float64 {
	m, _ := o.metrics.(map[string]any)
	n, ok := m[name].(json.Number)
	if !ok {
		return 0
	}
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil && !math.IsInf(f, 0) {
		return 0
	}
	return max(0, min(f, limit))
}
