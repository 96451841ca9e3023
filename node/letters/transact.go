package letters

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/sinks/rights"
)

const (
	// transactionTimeout is after how long a broker ends a transaction whose producer is gone. The intake reads up to
	// an open transaction, and waits for it.
	transactionTimeout = 10 * time.Second
	// endTimeout is the default of Letters.patience: it bounds the end of a transaction that has failed.
	endTimeout = 5 * time.Second
)

var (
	// errOthers says that somebody else has begun to review, who comes first then. Nothing has changed.
	errOthers = errors.New("another node has begun to review letters meanwhile, which ends this: nothing of it has " +
		"changed; ask again")
	// errUnknown says that it is not known whether a transaction was committed.
	errUnknown = errors.New("it is not known whether the transaction was committed")
)

// producer is a client under the transactional id of the letters. It makes one transaction: a client that goes on after
// an error may have got a new epoch in between, and a transaction that is committed under it would be a part of one.
type producer struct {
	cl    *kgo.Client
	names []string // of the topics that it writes to
	id    string

	patience time.Duration // for the end of a transaction that has failed
}

// fence returns the one producer that may commit: whoever had the transactional id before cannot any more, and what
// they had committed is readable.
func (l *Letters) fence(ctx context.Context, names ...string) (*producer, error) {
	id := TransactionalID(l.o.Letters)
	cl, err := l.client(kgo.TransactionalID(id), kgo.TransactionTimeout(transactionTimeout),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RecordDeliveryTimeout(2*transactionTimeout))
	if err != nil {
		return nil, err
	}
	p := &producer{cl: cl, names: names, id: id, patience: l.patience}
	if _, _, err := cl.ProducerID(ctx); err != nil {
		cl.Close()
		return nil, fmt.Errorf("letters: producer id of %q: %w", id, p.explain(err))
	}
	return p, nil
}

func (p *producer) explain(err error) error {
	needs := []rights.Right{rights.TransactionalID("Write", p.id)}
	for _, name := range p.names {
		needs = append(needs, rights.Topic("Write", name))
	}
	return rights.Explain(err, needs...)
}

// fenced says that somebody else has the transactional id now.
func fenced(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch) ||
		errors.Is(err, kerr.TransactionalIDNotFound) || errors.Is(err, kerr.InvalidProducerIDMapping)
}

// commit writes all records, or none. The error wraps errOthers if somebody else comes first, and errUnknown if it is
// not known what came of it.
func (p *producer) commit(ctx context.Context, records []*kgo.Record) error {
	if err := p.cl.BeginTransaction(); err != nil {
		return fmt.Errorf("letters: begin: %w", err)
	}
	id, epoch, err := p.cl.ProducerID(ctx)
	if err == nil {
		err = p.produce(ctx, records)
	}
	// gofail: var lettersProduced struct{}

	if err == nil {
		// A client that has met an error may have begun anew by itself: the transaction lacks what came before.
		var nowID int64
		var nowEpoch int16
		if nowID, nowEpoch, err = p.cl.ProducerID(ctx); err == nil && (nowID != id || nowEpoch != epoch) {
			err = errors.New("the producer began anew within the transaction")
		}
	}
	if err != nil {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.patience)
		defer cancel()
		if p.cl.AbortBufferedRecords(end) == nil { // else it ends after transactionTimeout
			_ = p.cl.EndTransaction(end, kgo.TryAbort)
		}
		if fenced(err) {
			return fmt.Errorf("letters: %w: %w", errOthers, err)
		}
		return fmt.Errorf("letters: produce: %w", p.explain(err))
	}
	err = p.cl.EndTransaction(ctx, kgo.TryCommit)
	// gofail: var lettersCommitted struct{}

	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.OperationNotAttempted):
		return fmt.Errorf("letters: commit: %w", err)
	}
	return fmt.Errorf("letters: %w: %w", errUnknown, err)
}

// produce waits until all records are acknowledged or have failed, or ctx ends: the client itself goes on waiting for
// what a broker may have, whatever its context. The error is that of a record which has failed for itself, if there is
// one, and names the right on its topic that is missing.
func (p *producer) produce(ctx context.Context, records []*kgo.Record) (failed error) {
	type result struct {
		topic string
		err   error
	}
	results := make(chan result, len(records))
	for _, r := range records {
		p.cl.Produce(ctx, r, func(_ *kgo.Record, err error) { results <- result{r.Topic, err} })
	}
	for range records {
		select {
		case r := <-results:
			if r.err != nil && (failed == nil || errors.Is(failed, kerr.OperationNotAttempted)) {
				failed = rights.Explain(r.err, rights.Topic("Write", r.topic))
			}
		case <-ctx.Done():
			return cmp.Or(failed, ctx.Err())
		}
	}
	return failed
}

func (p *producer) close() { p.cl.Close() }
