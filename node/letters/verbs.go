package letters

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/status"
)

// doTimeout bounds a request as a whole.
const doTimeout = 90 * time.Second

// Do carries out what is asked of letters, all that can be done of it in one transaction. It may be repeated: what was
// done is not done again. The error wraps status.ErrRefused if nothing has changed; any other one says that it is not
// known what has.
func (l *Letters) Do(ctx context.Context, q *status.LetterRequest) (*status.LetterOutcome, error) {
	if len(q.Letters) == 0 || len(q.Letters) > status.MaxReview || q.Op == status.LetterEdit && len(q.Letters) != 1 {
		return nil, fmt.Errorf("%w: one letter for an edit, and else 1 to %d", status.ErrRefused, status.MaxReview)
	}
	ctx, cancel := context.WithTimeout(ctx, doTimeout)
	defer cancel()
	if !q.DryRun {
		done, err := l.enter(q.Asker.Principal)
		if err != nil {
			return nil, err
		}
		defer done()
	}
	r := &reviewing{l: l, q: q}
	out, err := r.run(ctx)
	if err != nil && !errors.Is(err, errUnknown) && !errors.Is(err, status.ErrRefused) {
		err = fmt.Errorf("%w: %w", status.ErrRefused, err) // nothing was committed
	}
	return out, err
}

// enter lets one request of this node in at a time: two of them would fence each other.
func (l *Letters) enter(who string) (done func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy != "" {
		return nil, fmt.Errorf("%w: letters are being reviewed on this node, %s; ask again", status.ErrRefused, l.busy)
	}
	l.busy = fmt.Sprintf("by %s since %s", who, l.o.Now().UTC().Format(time.RFC3339))
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.busy = ""
	}, nil
}

// reviewing is one request.
type reviewing struct {
	l *Letters
	q *status.LetterRequest

	cl      *kgo.Client
	letters *topic
	source  *topic
	request string // in the review records: by it a transaction is known again
	all     []*candidate
	found   *reviews
	out     *status.LetterOutcome
}

func (r *reviewing) run(ctx context.Context) (*status.LetterOutcome, error) {
	var id [8]byte
	if _, err := io.ReadFull(r.l.o.Random, id[:]); err != nil {
		return nil, fmt.Errorf("letters: %w", err)
	}
	r.request = hex.EncodeToString(id[:])
	var err error
	if r.cl, err = r.l.client(); err != nil {
		return nil, err
	}
	defer r.cl.Close()
	if err := r.resolve(ctx); err != nil {
		return nil, err
	}
	if r.q.DryRun {
		return r.dryRun(ctx)
	}
	review, err := ensureReview(ctx, r.cl, r.l.review(), r.letters)
	if err != nil {
		return nil, err
	}
	into := r.letters
	if r.source != nil {
		into = r.source
	}
	if err := errors.Join(into.lacks("Write"), review.lacks("Read"), review.lacks("Write")); err != nil {
		return nil, err
	}
	p, err := r.l.fence(ctx, r.l.review(), r.l.o.Source, r.l.o.Letters)
	if err != nil {
		return nil, err
	}
	defer p.close()
	// gofail: var lettersFenced struct{}

	// Only now: what another one had committed is readable, and no other one can commit any more.
	if err := r.decided(ctx, kadm.NewClient(r.cl).ListEndOffsets); err != nil {
		return nil, err
	}
	records := r.choose(review)
	if len(records) == 0 {
		return r.outcome(), nil
	}
	err = p.commit(ctx, records)
	if errors.Is(err, errUnknown) {
		return r.settle(ctx, err)
	}
	if err != nil {
		return nil, err
	}
	return r.outcome(), nil
}

// resolve finds the letters and works out what would become of them.
func (r *reviewing) resolve(ctx context.Context) (err error) {
	if r.letters, err = openTopic(ctx, r.cl, r.l.o.Letters); err != nil {
		return err
	}
	if r.q.Op != status.LetterPurge {
		if r.source, err = openTopic(ctx, r.cl, r.l.o.Source); err != nil {
			return err
		}
	}
	seen := map[string]bool{}
	for _, ref := range r.q.Letters {
		c := &candidate{ref: ref}
		r.all = append(r.all, c)
		if seen[ref.Key] {
			c.refuse("it is named twice")
			continue
		}
		seen[ref.Key] = true
		if c.letter, err = r.letters.find(ctx, ref); err != nil {
			return err
		}
		if c.letter == nil {
			c.refuse("there is no such letter there any more: list them again")
			continue
		}
		if r.q.Op == status.LetterPurge {
			continue
		}
		if r.q.Op == status.LetterEdit {
			c.value, c.edited = r.q.Value, true
		}
		if err := r.l.prepare(ctx, c, r.source, r.q.Again); err != nil {
			return err
		}
	}
	return nil
}

// decided reads what has been decided about the letters.
func (r *reviewing) decided(ctx context.Context, end listing) (err error) {
	wanted := map[string]bool{}
	for _, c := range r.all {
		wanted[c.ref.Key] = true
	}
	r.found, err = readReviews(ctx, r.cl, r.l.review(), end, func(key string) bool { return wanted[key] })
	return err
}

// already says what was decided about a letter, "" if it may be reviewed.
func (r *reviewing) already(key string) string {
	v, ok := r.found.last[key]
	switch {
	case !ok, v.State == status.LetterOpen, v.State == status.LetterReplayed && r.q.Again,
		v.State == status.LetterReplayed && r.q.Op == status.LetterPurge:
		return ""
	}
	return fmt.Sprintf("%s by %s, %s", v.State, v.By, v.At.UTC().Format(time.RFC3339))
}

func (r *reviewing) dryRun(ctx context.Context) (*status.LetterOutcome, error) {
	if err := r.decided(ctx, kadm.NewClient(r.cl).ListCommittedOffsets); err != nil {
		return nil, err
	}
	r.choose(&topic{partitions: 1})
	return r.outcome(), nil
}

// choose returns the records of one transaction, and notes what becomes of each letter if it is committed.
func (r *reviewing) choose(review *topic) (records []*kgo.Record) {
	r.out = &status.LetterOutcome{DryRun: r.q.DryRun, Letters: []status.LetterResult{}}
	bytes := 0
	for _, c := range r.all {
		res := status.LetterResult{Key: c.ref.Key, Outcome: status.LetterDone}
		switch why := r.already(c.ref.Key); {
		case why != "":
			res.Outcome, res.Why = status.LetterAlready, why
		case c.why != "":
			res.Outcome, res.Why = status.LetterRefused, c.why
		case !r.q.DryRun && bytes+len(c.value) > status.MaxReviewBytes:
			res.Outcome = status.LetterLeft
		default:
			bytes += len(c.value) + len(c.key)
			records = append(records, r.record(c), r.decision(c, review))
		}
		r.out.Letters = append(r.out.Letters, res)
	}
	return records
}

// record is what is produced for a letter beside the decision about it.
func (r *reviewing) record(c *candidate) *kgo.Record {
	if r.q.Op == status.LetterPurge {
		return &kgo.Record{Topic: r.l.o.Letters, Partition: c.letter.rec.Partition, Key: []byte(c.ref.Key)}
	}
	return &kgo.Record{Topic: r.l.o.Source, Partition: *c.letter.Partition, Key: c.key, Value: c.value,
		Headers: append(c.more, kgo.RecordHeader{Key: headerReplay, Value: []byte(c.ref.Key)},
			kgo.RecordHeader{Key: headerCount, Value: []byte(strconv.Itoa(c.count))})}
}

// decision is the record of the review topic.
func (r *reviewing) decision(c *candidate, review *topic) *kgo.Record {
	before := r.found.last[c.ref.Key]
	v := r.decide(before)
	if c.edited && c.letter.SHA256 != "" {
		sum := sha256.Sum256(c.value)
		v.Was, v.SHA256 = c.letter.SHA256, hex.EncodeToString(sum[:])
	}
	v.Edited = c.edited
	value, err := json.Marshal(&v)
	if err != nil { // a struct of plain fields always encodes
		panic(err)
	}
	partition := kgo.StickyKeyPartitioner(nil).ForTopic(r.l.review()).Partition(&kgo.Record{Key: []byte(c.ref.Key)},
		int(max(review.partitions, 1)))
	return &kgo.Record{Topic: r.l.review(), Partition: int32(partition), Key: []byte(c.ref.Key), Value: value}
}

// decide is the decision about a letter, by what was decided before.
func (r *reviewing) decide(before review) review {
	v := review{LetterReview: status.LetterReview{State: status.LetterReplayed, By: r.q.Asker.Principal,
		At: r.l.o.Now().UTC(), Request: r.request, Times: before.Times + 1}, Revision: before.Revision + 1}
	if r.q.Op == status.LetterPurge {
		v.State, v.Times = status.LetterDiscarded, before.Times
	}
	return v
}

func (r *reviewing) outcome() *status.LetterOutcome {
	for _, x := range r.out.Letters {
		switch x.Outcome {
		case status.LetterDone:
			r.out.Done++
		case status.LetterAlready:
			r.out.Already++
		case status.LetterRefused:
			r.out.Refused++
		case status.LetterLeft:
			r.out.Left++
		}
	}
	return r.out
}

// settle finds out whether a transaction was committed whose answer was lost: nobody else's id stands in the reviews,
// and once somebody has fenced it, it is over. Only if that does not succeed it stays unknown.
func (r *reviewing) settle(ctx context.Context, cause error) (*status.LetterOutcome, error) {
	if !fenced(cause) {
		p, err := r.l.fence(ctx, r.l.review())
		if err != nil {
			return nil, fmt.Errorf("%w; and it could not be found out: %w", cause, err)
		}
		p.close()
	}
	if err := r.decided(ctx, kadm.NewClient(r.cl).ListEndOffsets); err != nil {
		return nil, fmt.Errorf("%w; and it could not be found out: %w", cause, err)
	}
	if r.found.requests[r.request] {
		return r.outcome(), nil
	}
	return nil, fmt.Errorf("%w: the transaction was not committed, and nothing has changed; ask again (%s)",
		status.ErrRefused, cause.Error())
}
