package deadletter

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// A value of smallestCut bytes or less is not halved any more, but left out.
	smallestCut = 512
	// cutDetail are the bytes of the detail that a letter without a value keeps at first.
	cutDetail = 64
)

// refusesLetter says that the topic did not take a record for what it is, and may take it changed.
func refusesLetter(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) ||
		errors.Is(err, kerr.InvalidRecord) || errors.Is(err, kerr.InvalidTimestamp)
}

// settle produces again what has been refused, one letter at a time, each in a batch of its own: a broker refuses a
// batch as a whole, and the client fails with it whatever else waits for the same partition.
func (w *writing) settle() error {
	w.mu.Lock()
	list := w.refused
	w.refused = nil
	w.mu.Unlock()
	for _, l := range list {
		if err := w.alone(l); err != nil {
			return err
		}
	}
	return nil
}

// alone produces a letter that was refused: first as it is, then ever shorter. One that is refused in its shortest
// form is passed. An error ends the Write.
func (w *writing) alone(l *letter) error {
	client, err := w.s.single()
	if err != nil {
		return err
	}
	if err := w.identify(client); err != nil {
		return err
	}
	restamped := false
	for err = l.err; ; {
		if errors.Is(err, kerr.InvalidTimestamp) && !restamped {
			// The topic bounds timestamps, and the epoch's clock lies outside: rejected_at keeps it.
			restamped = true
			l.rec.Timestamp = w.s.opts.Now()
		}
		rec := &kgo.Record{Topic: l.rec.Topic, Key: l.rec.Key, Value: l.rec.Value, Headers: l.rec.Headers,
			Timestamp: l.rec.Timestamp}
		w.watchdog.Reset(w.s.opts.Timeout)
		stamped := restamped
		switch err = client.ProduceSync(w.ctx, rec).FirstErr(); {
		case err == nil:
			w.took(l)
			return nil
		case w.ctx.Err() != nil:
			return w.ctx.Err()
		case !refusesLetter(err):
			w.failing(l, err)
			return nil
		case errors.Is(err, kerr.InvalidTimestamp) && !stamped:
		case !shorten(l.rec):
			w.undeliverable(l, err)
			return nil
		}
	}
}

// undeliverable passes a letter that the topic takes in no form.
func (w *writing) undeliverable(l *letter, err error) {
	w.s.undeliverable.WithLabelValues(l.reason.String()).Inc()
	w.s.opts.Logger.Error("dead letter cannot be delivered, and is passed", "topic", w.s.opts.DLQ,
		"shard", w.plan.Config.Shard, "position", string(l.rec.Key), "reason", l.reason.String(), "error", err)
	if w.s.opts.Undeliverable != nil {
		w.s.opts.Undeliverable(fmt.Sprintf("topic %s does not take the dead letter of %s (%s), not even without value "+
			"and detail: %v", w.s.opts.DLQ, l.rec.Key, l.reason, err))
	}
}

// shorten makes a letter smaller, and says whether it could: half of the value, again and again; then no value and a
// part of the detail; then nothing but the key and the reason.
func shorten(rec *kgo.Record) bool {
	detail := slices.IndexFunc(rec.Headers, func(h kgo.RecordHeader) bool { return h.Key == "detail" })
	switch {
	case len(rec.Value) > smallestCut:
		rec.Value = rec.Value[:len(rec.Value)/2]
	case len(rec.Value) > 0 || detail >= 0 && len(rec.Headers[detail].Value) > cutDetail:
		rec.Value = []byte{} // not nil: compaction would take it for a deletion
		if detail >= 0 {
			h := &rec.Headers[detail]
			h.Value = h.Value[:min(len(h.Value), cutDetail)]
		}
	case detail >= 0:
		rec.Headers = slices.DeleteFunc(rec.Headers, func(h kgo.RecordHeader) bool {
			return h.Key != "reason" && h.Key != "truncated"
		})
	default:
		return false
	}
	if !slices.ContainsFunc(rec.Headers, func(h kgo.RecordHeader) bool { return h.Key == "truncated" }) {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: "truncated", Value: []byte("true")})
	}
	return true
}

// single returns the client that sends one record at a time. It is made when it is first needed.
func (s *Sink) single() (*kgo.Client, error) {
	s.aloneMu.Lock()
	defer s.aloneMu.Unlock()
	if s.alone != nil {
		return s.alone, nil
	}
	if s.closed {
		return nil, fmt.Errorf("deadletter: %w", kgo.ErrClientClosed)
	}
	client, err := kgo.NewClient(append(s.clientOptions(), kgo.MaxBufferedRecords(1))...)
	if err != nil {
		return nil, fmt.Errorf("deadletter: %w", err)
	}
	s.alone = client
	return client, nil
}

// patience is how long the original of a letter may be unreadable before the letter goes without it: a broker with a
// damaged disk may be mended, or another replica take over.
const patience = 5 * time.Minute

// unread remembers since when originals cannot be read, by shard and partition.
type unread struct {
	mu    sync.Mutex
	since map[unreadKey]time.Time
}

type unreadKey struct {
	shard     uint32
	partition int32
}

// over notes that an original of the partition cannot be read, and says whether that has lasted for too long.
func (u *unread) over(shard uint32, partition int32, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	k := unreadKey{shard, partition}
	began, ok := u.since[k]
	if !ok {
		if u.since == nil {
			u.since = map[unreadKey]time.Time{}
		}
		u.since[k], began = now, now
	}
	return now.Sub(began) >= patience
}

// forget begins anew for a shard whose letters are all written.
func (u *unread) forget(shard uint32) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for k := range u.since {
		if k.shard == shard {
			delete(u.since, k)
		}
	}
}
