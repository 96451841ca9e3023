package letters

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node/status"
	"deckle/sinks/deadletter"
)

// letter is a dead letter with what its topic has of it.
type letter struct {
	status.Letter
	rec *kgo.Record
}

// What a letter shows of its value, beside the names that its header value may have.
const (
	shownWhole     = "whole"
	shownTruncated = "truncated"
	shownLost      = "lost"
)

// place names a record of the topic of letters.
func place(partition int32, offset int64) string { return fmt.Sprintf("%d/%d", partition, offset) }

// parsePlace is the inverse of place.
func parsePlace(text string) (partition int32, offset int64, err error) {
	p, o, ok := strings.Cut(text, "/")
	n, err := strconv.ParseInt(p, 10, 32)
	if err == nil {
		offset, err = strconv.ParseInt(o, 10, 64)
	}
	if !ok || err != nil || n < 0 || offset < 0 {
		return 0, 0, fmt.Errorf("%.100q is no place: PARTITION/OFFSET, as a list shows it", text)
	}
	return int32(n), offset, nil
}

// parse reads a record of the topic of letters, by its key where it has gone without headers. It returns nil for one
// that is none: a tombstone, or what somebody else has written.
func parse(rec *kgo.Record) *letter {
	l := &letter{rec: rec, Letter: status.Letter{Key: string(rec.Key), Place: place(rec.Partition, rec.Offset),
		Shown: shownWhole, State: status.LetterOpen}}
	if rec.Value == nil || len(rec.Key) == 0 {
		return nil
	}
	truncated := false
	for _, h := range rec.Headers {
		v := string(h.Value)
		switch h.Key {
		case "reason":
			l.Reason = v
		case "detail":
			l.Detail = v
		case "sink":
			l.Sink = v
		case "row_key":
			l.RowKey = v
		case "length":
			if n, err := strconv.ParseInt(v, 10, 64); err == nil {
				l.Length = &n
			}
		case "sha256":
			l.SHA256 = v
		case "value":
			l.Shown = v
		case "truncated":
			truncated = v == "true"
		case "original_lost":
			l.Shown = shownLost
		case "source_timestamp":
			l.SourceTime = parseTime(v)
		case "rejected_at":
			l.RejectedAt = parseTime(v)
		}
	}
	if truncated && l.Shown == shownWhole {
		l.Shown = shownTruncated
	}
	if l.Shown == shownWhole && (l.SHA256 == "" || !l.intact()) { // it had to go shorter
		l.Shown = shownTruncated
	}
	if l.Reason == "" {
		return nil
	}
	if l.Sink != "" || l.Reason == event.SinkRejected.String() {
		return l
	}
	rest, offset, ok := cutLast(l.Key)
	_, partition, ok2 := cutLast(rest)
	p, err := strconv.ParseInt(partition, 10, 32)
	o, err2 := strconv.ParseInt(offset, 10, 64)
	if ok && ok2 && err == nil && err2 == nil {
		n := int32(p)
		l.Partition, l.Offset = &n, &o
	}
	return l
}

func cutLast(s string) (before, after string, ok bool) {
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// parseTime is nil for what is none, and for a time that was not known.
func parseTime(v string) *time.Time {
	at, err := time.Parse(deadletter.TimeFormat, v)
	if err != nil || at.UnixMilli() <= 0 {
		return nil
	}
	return &at
}

// intact says whether the bytes of the letter are those of which it has the hash.
func (x *letter) intact() bool {
	sum := sha256.Sum256(x.rec.Value)
	return hex.EncodeToString(sum[:]) == x.SHA256
}

// matches says whether a query asks for the letter, whose State is known.
func (x *letter) matches(q *status.LetterQuery) bool {
	switch {
	case !q.From.IsZero() && (x.RejectedAt == nil || x.RejectedAt.Before(q.From)),
		!q.Until.IsZero() && (x.RejectedAt == nil || !x.RejectedAt.Before(q.Until)),
		q.Partition != nil && (x.Partition == nil || *x.Partition != *q.Partition),
		q.Reason != "" && x.Reason != q.Reason,
		q.State != "" && x.State != q.State:
		return false
	}
	return true
}
