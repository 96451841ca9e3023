package deadletter

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/state"
)

const (
	// maxOriginal is the most bytes of an original that a letter carries.
	maxOriginal = 64 << 10
	// maxRow is the most bytes of a refused row that a letter carries.
	maxRow = state.MaxRefusedRow
	// LetterBytes is the most that a letter takes in its topic, with its headers: what max.message.bytes should allow.
	LetterBytes = maxRow + 16<<10
)

// TimeFormat is RFC 3339 with milliseconds, in UTC.
const TimeFormat = "2006-01-02T15:04:05.000Z07:00"

// headers collects a record's headers in order.
type headers []kgo.RecordHeader

func (h *headers) add(key, value string) {
	*h = append(*h, kgo.RecordHeader{Key: key, Value: []byte(value)})
}

// epochClock returns the clock of the Cut that closed the letter's epoch.
func epochClock(plan *state.Plan, epoch uint64) time.Time {
	for i := range plan.Epochs {
		if plan.Epochs[i].Epoch == epoch {
			return time.UnixMilli(plan.Epochs[i].Clock).UTC()
		}
	}
	return time.UnixMilli(0).UTC()
}

// show adds what a letter shows of a value that is not shown whole. Length and hash would confirm a guess of it.
func (h *headers) show(shown event.Shown, length int64, sum [sha256.Size]byte) {
	if shown != event.ShownWhole {
		h.add("value", shown.String())
		return
	}
	h.add("length", strconv.FormatInt(length, 10))
	h.add("sha256", hex.EncodeToString(sum[:]))
}

// redactors are those of the rules of a plan, by their number.
type redactors map[uint32]*event.Redactor

// redactors returns those of all rules of a plan. An error says that a key is missing with which some of them hash.
func (s *Sink) redactors(plan *state.Plan) (redactors, error) {
	rs := redactors{}
	for i := range plan.Epochs {
		rules := plan.RulesAt(plan.Epochs[i].Epoch)
		if rs[rules.Number] != nil {
			continue
		}
		var key []byte
		if rules.Event.Hashes() {
			if s.opts.PrivacyKey != nil {
				key = s.opts.PrivacyKey(rules.Event.PrivacyKey)
			}
			if event.KeyIDOf(key) != rules.Event.PrivacyKey {
				return nil, fmt.Errorf("deadletter: letters of epoch %d need the privacy key %s", plan.Epochs[i].Epoch,
					rules.Event.PrivacyKey)
			}
		}
		rs[rules.Number] = event.NewRedactor(&rules.Event, key)
	}
	return rs, nil
}

// of returns the one for the letters of an epoch of the plan: a letter shows what the rules of its epoch say, so that
// it is the same whoever writes it.
func (rs redactors) of(plan *state.Plan, epoch uint64) *event.Redactor {
	return rs[plan.RulesAt(epoch).Number]
}

// sourceRecord returns the record of a letter that stands for a source record. lost says that the record goes without
// its original.
func (s *Sink) sourceRecord(plan *state.Plan, rs redactors, l *state.DeadLetter, value []byte, ok bool) (_ *kgo.Record,
	lost bool) {
	sum, length := sha256.Sum256(value), int64(len(value))
	// the state judges what a batch carries, which is not the original, and so knows no hash
	known := l.SHA256 != [sha256.Size]byte{}
	lost = !ok || known && sum != l.SHA256
	if known {
		sum, length = l.SHA256, l.Length
	}
	if lost {
		value = nil
	}
	redactor := rs.of(plan, l.Epoch)
	// gofail: var bugLetterWhole struct{}
	// redactor = event.NewRedactor(&event.Rules{}, nil)
	value, shown := redactor.Value(value)
	if l.Withheld {
		value, shown, lost = nil, event.ShownNone, false
	}
	at := epochClock(plan, l.Epoch)
	var h headers
	h.add("reason", l.Reason.String())
	h.add("detail", l.Detail)
	if known || !lost || shown != event.ShownWhole {
		h.show(shown, length, sum)
	}
	h.add("source_topic", s.opts.Topic)
	h.add("source_partition", strconv.Itoa(int(l.Partition)))
	h.add("source_offset", strconv.FormatInt(l.Offset, 10))
	h.add("source_timestamp", time.UnixMilli(l.KafkaTimestamp).UTC().Format(TimeFormat))
	h.add("rejected_at", at.Format(TimeFormat))
	switch {
	case lost:
		h.add("original_lost", "true")
	case len(value) > maxOriginal:
		value = value[:maxOriginal]
		h.add("truncated", "true")
	}
	return &kgo.Record{
		Topic:     s.opts.DLQ,
		Key:       fmt.Appendf(nil, "%s/%d/%d", s.opts.Topic, l.Partition, l.Offset),
		Value:     append(make([]byte, 0, len(value)), value...), // never nil, and not the source's buffer
		Headers:   h,
		Timestamp: at,
	}, lost
}

// rowRecord returns the record of a row that a sink refused.
func (s *Sink) rowRecord(plan *state.Plan, rs redactors, l *state.DeadLetter) *kgo.Record {
	at := epochClock(plan, l.Epoch)
	row := strings.ReplaceAll(l.RowKey, "\x00", "/")
	value := l.Row
	var h headers
	h.add("reason", l.Reason.String())
	h.add("detail", l.Detail)
	sum, length := sha256.Sum256(value), int64(len(value))
	cut := l.Length > length // the state holds the beginning of the row
	if cut {
		sum, length = l.SHA256, l.Length
	}
	value, shown := rs.of(plan, l.Epoch).Row(value)
	if shown != event.ShownWhole {
		cut = false // what is shown is no part of the row
	}
	h.show(shown, length, sum)
	h.add("source_topic", s.opts.Topic)
	h.add("sink", l.Sink.String())
	h.add("shard", strconv.FormatUint(uint64(plan.Config.Shard), 10))
	h.add("epoch", strconv.FormatUint(l.Epoch, 10))
	h.add("row_key", row)
	h.add("rejected_at", at.Format(TimeFormat))
	if len(value) > maxRow {
		value, cut = value[:maxRow], true
	}
	if cut {
		h.add("truncated", "true")
	}
	return &kgo.Record{
		Topic:     s.opts.DLQ,
		Key:       fmt.Appendf(nil, "sink/%s/%d/%d/%s", l.Sink, plan.Config.Shard, l.Epoch, row),
		Value:     append(make([]byte, 0, len(value)), value...),
		Headers:   h,
		Timestamp: at,
	}
}
