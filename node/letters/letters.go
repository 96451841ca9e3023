package letters

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node/status"
)

// ReviewSuffix is what the name of the review topic has behind that of the topic of letters.
const ReviewSuffix = ".review"

// TransactionalID is the transactional id of those who review the letters of a topic. It is one for each review topic,
// whichever node or cluster writes there, since what it protects is that topic.
func TransactionalID(letters string) string { return "deckle/" + letters + ReviewSuffix }

// Options say where letters are, and by what they are judged.
type Options struct {
	Kafka   []kgo.Opt // of every client: brokers, TLS, SASL, log
	Source  string    // the source topic
	Letters string    // the topic of letters
	// Judge returns what the records of a source partition are judged by now. An error says why that is not known here.
	Judge  func(partition int32) (Judge, error)
	Now    func() time.Time
	Random io.Reader
	Logger *slog.Logger
}

// Judge is what the shard of a partition judges records by.
type Judge struct {
	Rules   *event.Rules
	Key     []byte             // the HMAC key of the rules, if they hash; nil if it is not here
	Readers *event.Suppression // the list of suppressed readers; nil if there is none
	Horizon int64              // Unix seconds: an event before it is too late
	Keyed   bool               // a record without a key is a letter
	TopicID [16]byte           // of the topic that the shard reads; zero if it is not known
	Sizes   []int32            // numbers of partitions that the topic has had, as far as they are known
}

// Letters reads the dead letters of a topic, and carries out what is decided about them. It is safe for concurrent use.
type Letters struct {
	o        Options
	patience time.Duration // for the end of a transaction that has failed

	mu   sync.Mutex
	busy string // who is reviewing, and since when; "" if nobody is
}

// New returns a Letters. It connects to nothing.
func New(o Options) *Letters { return &Letters{o: o, patience: endTimeout} }

func (l *Letters) review() string { return l.o.Letters + ReviewSuffix }

// client returns a client for one request; the caller closes it.
func (l *Letters) client(more ...kgo.Opt) (*kgo.Client, error) {
	cl, err := kgo.NewClient(append(append([]kgo.Opt{}, l.o.Kafka...), more...)...)
	if err != nil {
		return nil, fmt.Errorf("letters: %w", err)
	}
	return cl, nil
}

// slack is how much later than its time of rejection the brokers may say that a letter has come, and earlier, since
// they are different clocks.
const slack = time.Hour

// List returns the letters that a query asks for, as far as one page reaches. They have no values.
func (l *Letters) List(ctx context.Context, q *status.LetterQuery) (*status.LetterPage, error) {
	cl, err := l.client()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	page, err := l.page(ctx, cl, q)
	if err != nil {
		return nil, err
	}
	found, err := readReviews(ctx, cl, l.review(), kadm.NewClient(cl).ListCommittedOffsets, func(key string) bool {
		return page.byKey[key] != nil
	})
	if err != nil {
		return nil, err
	}
	out := &status.LetterPage{Letters: []status.Letter{}, Read: page.read, Next: page.next}
	for _, x := range page.letters {
		if x == nil {
			continue
		}
		x.reviewed(found)
		if x.matches(q) {
			out.Letters = append(out.Letters, x.Letter)
		}
	}
	return out, nil
}

func (x *letter) reviewed(found *reviews) {
	if v, ok := found.last[x.Key]; ok {
		x.State, x.Review = v.State, &v.LetterReview
	}
}

// page is a part of the topic of letters.
type page struct {
	letters []*letter // nil for one that comes later again, or was deleted later
	byKey   map[string]*letter
	index   map[string]int
	read    int
	next    string
}

func (p *page) drop(key string) {
	if i, ok := p.index[key]; ok {
		p.letters[i] = nil
		delete(p.index, key)
		delete(p.byKey, key)
	}
}

// page reads on from a query's place, partition by partition, all but what the state of its letters would exclude.
func (l *Letters) page(ctx context.Context, cl *kgo.Client, q *status.LetterQuery) (*page, error) {
	out := &page{byKey: map[string]*letter{}, index: map[string]int{}}
	t, err := openTopic(ctx, cl, l.o.Letters)
	if errors.Is(err, errNoTopic) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	adm := kadm.NewClient(cl)
	begin := listing(adm.ListStartOffsets)
	if !q.From.IsZero() {
		begin = func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
			return adm.ListOffsetsAfterMilli(ctx, q.From.Add(-slack).UnixMilli(), topics...)
		}
	}
	starts, err := t.offsets(ctx, begin)
	if err != nil {
		return nil, err
	}
	ends, err := t.offsets(ctx, adm.ListCommittedOffsets)
	if err != nil {
		return nil, err
	}
	first, at := int32(0), int64(0)
	if q.Place != "" {
		if first, at, err = parsePlace(q.Place); err != nil {
			return nil, fmt.Errorf("%w: %w", status.ErrRefused, err)
		}
	}
	most, bytes := q.Limit, 0
	if most <= 0 || most > status.MaxLetters {
		most = status.MaxLetters
	}
	whole := *q
	whole.State = "" // it is not known yet
	for p := first; p < t.partitions; p++ {
		from := starts[p]
		if p == first {
			from = max(from, at)
		}
		next, err := t.read(ctx, p, from, ends[p], func(r *kgo.Record) bool {
			out.read++
			bytes += len(r.Value) + len(r.Key)
			out.drop(string(r.Key)) // compaction has not come there yet
			if x := parse(r); x != nil && x.matches(&whole) {
				x.rec = nil
				out.index[x.Key], out.byKey[x.Key] = len(out.letters), x
				out.letters = append(out.letters, x)
			}
			return len(out.byKey) < most && bytes < status.MaxLettersBytes
		})
		if err != nil {
			return nil, err
		}
		if next < ends[p] {
			out.next = place(p, next)
			return out, nil
		}
		if len(out.byKey) >= most || bytes >= status.MaxLettersBytes {
			if p+1 < t.partitions {
				out.next = place(p+1, 0)
			}
			return out, nil
		}
	}
	return out, nil
}

// Show returns one letter with what it shows, as far as the present rules show it, too. The error wraps
// status.ErrRefused if there is no such letter.
func (l *Letters) Show(ctx context.Context, ref status.LetterRef) (*status.Letter, error) {
	cl, err := l.client()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	t, err := openTopic(ctx, cl, l.o.Letters)
	if err != nil && !errors.Is(err, errNoTopic) {
		return nil, err
	}
	var x *letter
	if err == nil {
		if x, err = t.find(ctx, ref); err != nil {
			return nil, err
		}
	}
	if x == nil {
		return nil, fmt.Errorf("%w: there is no letter %.300q", status.ErrRefused, ref.Key)
	}
	found, err := readReviews(ctx, cl, l.review(), kadm.NewClient(cl).ListCommittedOffsets,
		func(key string) bool { return key == x.Key })
	if err != nil {
		return nil, err
	}
	x.reviewed(found)
	l.show(x)
	return &x.Letter, nil
}

// show gives the letter its value. Rules that came after the letter hold here, too: who may not be seen any more is
// not shown.
func (l *Letters) show(x *letter) {
	value := x.rec.Value
	if x.Partition == nil { // a row was made of what rules have let in, and is of no partition
		x.value(value)
		return
	}
	j, err := l.o.Judge(*x.Partition)
	if err == nil {
		err = j.usable()
	}
	if err != nil {
		x.Withheld = fmt.Sprintf("what may be shown is not known: %v", err)
		return
	}
	if x.Shown == shownWhole || x.Shown == shownTruncated {
		var ev event.Event
		dec := event.Decoder{Rules: j.Rules, Key: j.Key}
		dec.Suppress(j.Readers)
		reason, _ := dec.Decode(value, l.o.Now().UnixMilli(), &ev)
		if reason == event.Suppressed || reason != event.ReasonNone && dec.Withheld() {
			x.Withheld = "it may be of a reader who has objected (deckle suppress)"
			return
		}
		shown, how := event.NewRedactor(j.Rules, j.Key).Value(value)
		if how != event.ShownWhole {
			x.Withheld = "the present rules (rules.dead_letters, rules.privacy) show no more of it"
		}
		value = shown
	}
	x.value(value)
}

func (x *letter) value(value []byte) {
	switch {
	case len(value) == 0:
	case utf8.Valid(value):
		text := string(value)
		x.Value = &text
	default:
		x.Value64 = value
	}
}

// usable says why records cannot be judged here.
func (j *Judge) usable() error {
	if j.Rules.Hashes() && event.KeyIDOf(j.Key) != j.Rules.PrivacyKey {
		return fmt.Errorf("the rules hash with the key %s, and no file of privacy.keys has it", j.Rules.PrivacyKey)
	}
	return nil
}

// find returns a letter; nil if there is none under its key. Without a place it reads the partition that keys are
// hashed to, or, if the topic has more partitions than it had, all.
func (t *topic) find(ctx context.Context, ref status.LetterRef) (found *letter, err error) {
	if ref.Place != "" {
		p, offset, err := parsePlace(ref.Place)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", status.ErrRefused, err)
		}
		rec, err := t.at(ctx, p, offset)
		if err != nil || rec == nil || string(rec.Key) != ref.Key {
			return nil, err
		}
		return parse(rec), nil
	}
	adm := kadm.NewClient(t.cl)
	starts, err := t.offsets(ctx, adm.ListStartOffsets)
	if err != nil {
		return nil, err
	}
	ends, err := t.offsets(ctx, adm.ListCommittedOffsets)
	if err != nil {
		return nil, err
	}
	hashed := int32(kgo.StickyKeyPartitioner(nil).ForTopic(t.name).Partition(&kgo.Record{Key: []byte(ref.Key)},
		int(t.partitions)))
	for i := range t.partitions {
		p := (hashed + i) % t.partitions
		last := (*kgo.Record)(nil)
		if _, err := t.read(ctx, p, starts[p], ends[p], func(r *kgo.Record) bool {
			if string(r.Key) == ref.Key {
				last = r
			}
			return true
		}); err != nil {
			return nil, err
		}
		if last != nil {
			return parse(last), nil // nil for a tombstone
		}
	}
	return nil, nil
}
