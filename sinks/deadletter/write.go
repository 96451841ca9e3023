package deadletter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/sinks"
	"deckle/sinks/rights"
	"deckle/state"
)

// windowLetters are read from Kafka together, in Kafka's order and not in the order in which they were judged, because
// a plan's letters come from all of the shard's partitions in turn.
const windowLetters = 4096

// letter is one record on its way.
type letter struct {
	rec    *kgo.Record
	reason event.Reason
	err    error // why the topic has not taken it
}

// writing is one Write of a plan.
type writing struct {
	s         *Sink
	ctx       context.Context
	cancel    context.CancelCauseFunc // ends the Write
	plan      *state.Plan
	source    sinks.EventSource
	watchdog  *time.Timer
	redactors redactors
	inflight  sync.WaitGroup
	// identified says that the client has its producer id.
	identified bool

	mu      sync.Mutex
	refused []*letter // not taken for themselves, or for what was beside them in a batch
	failed  error     // why the first of the others was not produced
}

// Write produces every dead letter of the plan and waits for all acknowledgements. A letter that the topic does not
// take as it is goes shorter; one that it does not take at all is counted, told and passed.
func (s *Sink) Write(ctx context.Context, plan *state.Plan) error {
	start := s.opts.Now()
	if err := s.ensureTopic(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(s.opts.Timeout, func() {
		cancel(fmt.Errorf("deadletter: no progress within %s: %s takes no letters", s.opts.Timeout, s.opts.DLQ))
	})
	defer watchdog.Stop()
	redactors, err := s.redactors(plan)
	if err != nil {
		return err
	}
	w := &writing{s: s, ctx: ctx, cancel: cancel, plan: plan, source: s.opts.Originals(plan.Config.Shard),
		watchdog: watchdog, redactors: redactors}
	if err = w.all(); err != nil {
		cancel(err)
	}
	w.inflight.Wait()
	if err == nil && ctx.Err() == nil {
		err = w.settle()
	}
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err == nil:
		err = w.failure()
	}
	if err != nil {
		s.topicOK.Store(!errors.Is(err, kerr.UnknownTopicOrPartition))
		return err
	}
	// gofail: var deadLettersProduced struct{}
	s.unread.forget(plan.Config.Shard)
	s.seconds.Observe(s.opts.Now().Sub(start).Seconds())
	return nil
}

// all hands every letter of the plan to the client.
func (w *writing) all() error {
	window := make([]state.DeadLetter, 0, windowLetters)
	err := w.plan.DeadLetters(func(l *state.DeadLetter) error {
		if l.Reason == event.SinkRejected {
			return w.produce(w.s.rowRecord(w.plan, w.redactors, l), l.Reason)
		}
		if window = append(window, *l); len(window) < windowLetters {
			return nil
		}
		err := w.window(window)
		window = window[:0]
		return err
	})
	if err != nil {
		return err
	}
	return w.window(window)
}

// failure is why the plan has to be written again although this Write was not ended, nil if it has not.
func (w *writing) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// note keeps an error that concerns one letter: the others are produced, and then the plan is written again.
func (w *writing) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = cmp.Or(w.failed, err)
}

// produce hands a record to the client. The letters that have been refused meanwhile are dealt with first, so that no
// more wait in memory than may be unacknowledged.
func (w *writing) produce(rec *kgo.Record, reason event.Reason) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	if !w.identified {
		if err := w.identify(w.s.client); err != nil {
			return err
		}
		w.identified = true
	}
	if err := w.settle(); err != nil {
		return err
	}
	w.watchdog.Reset(w.s.opts.Timeout)
	w.inflight.Add(1)
	l := &letter{rec: rec, reason: reason}
	w.s.client.Produce(w.ctx, rec, func(_ *kgo.Record, err error) {
		defer w.inflight.Done()
		if err == nil {
			w.took(l)
			return
		}
		// gofail: var bugLetterHoldsOthers struct{}
		// w.cancel(err)
		// return
		if !refusesLetter(err) {
			w.failing(l, err)
			return
		}
		l.err = err
		w.mu.Lock()
		defer w.mu.Unlock()
		w.refused = append(w.refused, l)
	})
	return nil
}

// identify asks for the producer id. The client would ask with the first letter, while it holds a mutex that the
// letters to every other broker wait for. In virtual time (sim/cluster), such a wait never ends.
func (w *writing) identify(client *kgo.Client) error {
	if _, _, err := client.ProducerID(w.ctx); err != nil {
		err = rights.Explain(err, rights.Topic("Write", w.s.opts.DLQ), rights.Cluster("IdempotentWrite"))
		return fmt.Errorf("deadletter: producer id: %w", cmp.Or(context.Cause(w.ctx), err))
	}
	return nil
}

// took counts a letter that is acknowledged.
func (w *writing) took(l *letter) {
	w.watchdog.Reset(w.s.opts.Timeout)
	w.s.letters.WithLabelValues(l.reason.String()).Inc()
	w.s.bytes.Add(float64(len(l.rec.Value)))
	sinks.Wrote(w.ctx, 1, int64(len(l.rec.Value)))
}

// failing takes an error of a letter that says nothing of the letter itself. It ends the Write if every other letter
// would meet it, too.
func (w *writing) failing(l *letter, err error) {
	err = rights.Explain(err, rights.Topic("Write", w.s.opts.DLQ), rights.Cluster("IdempotentWrite"))
	err = fmt.Errorf("deadletter: produce %q to %s: %w", l.rec.Key, w.s.opts.DLQ, err)
	if rights.Missing(err) || errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kgo.ErrClientClosed) {
		w.cancel(err)
		return
	}
	w.note(err)
}

// window produces letters that stand for source records. If the original of one cannot be read for now, the letters of
// the other partitions are produced all the same.
func (w *writing) window(letters []state.DeadLetter) error {
	slices.SortFunc(letters, func(a, b state.DeadLetter) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	for len(letters) > 0 {
		n, err := w.originals(letters)
		if err != nil || n == len(letters) {
			return err
		}
		letters = letters[n:]
	}
	return nil
}

// originals produces the first letters of a window, and returns how many it has dealt with. An error ends the Write.
func (w *writing) originals(letters []state.DeadLetter) (n int, err error) {
	at := make([]state.Position, len(letters))
	for i := range letters {
		at[i] = state.Position{Partition: letters[i].Partition, Offset: letters[i].Offset}
	}
	var produced error
	err = w.source.Originals(w.ctx, at, func(i int, value []byte, ok bool) error {
		n = i + 1
		produced = w.sourceLetter(&letters[i], value, ok)
		return produced
	})
	switch {
	case err == nil:
		return len(letters), nil
	case produced != nil:
		return n, produced
	case w.ctx.Err() != nil:
		return n, context.Cause(w.ctx)
	case n >= len(letters):
		return n, fmt.Errorf("deadletter: read originals of %s: %w", w.s.opts.Topic, err)
	}
	first := &letters[n]
	err = fmt.Errorf("deadletter: read the original %s/%d/%d: %w", w.s.opts.Topic, first.Partition, first.Offset, err)
	var unreadable *sinks.UnreadableError
	if errors.As(err, &unreadable) && w.s.unread.over(w.plan.Config.Shard, first.Partition, w.s.opts.Now()) {
		w.s.opts.Logger.Warn("the original of a dead letter cannot be read", "shard", w.plan.Config.Shard,
			"partition", first.Partition, "offset", first.Offset, "error", err)
		return n + 1, w.sourceLetter(first, nil, false)
	}
	w.note(err)
	w.watchdog.Reset(w.s.opts.Timeout) // to find out that a partition cannot be read is progress, too
	for n < len(letters) && letters[n].Partition == first.Partition {
		n++
	}
	return n, nil
}

// sourceLetter produces the letter of a source record.
func (w *writing) sourceLetter(l *state.DeadLetter, value []byte, ok bool) error {
	rec, lost := w.s.sourceRecord(w.plan, w.redactors, l, value, ok)
	if lost {
		w.s.lost.Inc()
		w.s.opts.Logger.Warn("dead letter goes without its original", "shard", w.plan.Config.Shard, "epoch", l.Epoch,
			"partition", l.Partition, "offset", l.Offset, "found", ok)
	}
	return w.produce(rec, l.Reason)
}
