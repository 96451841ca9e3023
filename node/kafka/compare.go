package kafka

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
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/event"
)

const (
	// compareQuiet bounds a comparison: a broker that has not answered by then says nothing.
	compareQuiet = 10 * time.Second
	// compareTries is how often a comparison asks again where a broker does not know the partition, or not yet.
	compareTries = 6
	comparePause = 50 * time.Millisecond // before the second try; twice as long each time
	// A comparison's fetch has compareBytes at most, and one batch on top; of a partition compareShare at first.
	compareBytes = 8 << 20
	compareShare = 128 << 10
	// mostScanned bounds how much is looked through behind the record that is compared.
	mostScanned = 16 << 20
	// poorAnswers in a row say that the log ends where it does, or that compaction has left nothing: the leader of a
	// moment may not know yet how far it is.
	poorAnswers = 3
)

var (
	// ErrReplaced says that the log of a partition is another one than the one that was read: another record stands at
	// an offset, or one where there was none. Records that were read are lost, and their offsets belong to others: the
	// broker was restored from a backup, or an unclean leader was elected.
	ErrReplaced = errors.New("the log is not the one that was read")
	// ErrShort says that the log of a partition ends before the records that were read. Shortly after a change of the
	// partition's leader this may pass; otherwise it is as ErrReplaced.
	ErrShort = errors.New("Kafka's log ends before the records that were read")

	errEmpty   = errors.New("the broker gives nothing, although its log goes on")
	errGarbage = errors.New("a record batch that was read before cannot be decoded any more")
)

// Known is what is known of the log of a partition as it was read.
type Known struct {
	Partition int32
	Offset    int64  // of the last record that was read and is no transaction marker
	Hash      uint64 // its event.HashRecord
	Next      int64  // everything below it was read: between Offset and it stood no committed record
}

// Verdict is what a comparison has found of one partition.
type Verdict struct {
	Partition int32
	// Err is nil if nothing disproves that the log is the one that was read. It wraps ErrReplaced or ErrShort if
	// something does, ErrRecreated if the topic is another one; any other error says that the partition cannot be read
	// for now.
	Err error
	// Epoch is the partition's leader epoch while it was compared, -1 if unknown: records up to it follow what was
	// compared.
	Epoch int32
	// Same says more than that Err is nil: the record has been found, unchanged, and so has been all up to the next
	// offset. It is false where retention or compaction has removed any of it, or where there was too much to look at.
	Same bool
}

// Compare reads the known records of partitions again, and tells of each partition once whether its log still is the
// one that was read. Each leader is asked for all of its partitions in one request, and none waits for another one.
// What retention or compaction has removed proves nothing. topicID is the id of the topic that was read, zero if
// unknown. Compare returns after the last verdict, within about ten seconds; tell may be called by several goroutines
// at once.
func (c *Client) Compare(ctx context.Context, topicID [16]byte, known []Known, tell func(Verdict)) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.quiet, compareQuiet))
	defer cancel()
	all := make([]*comparing, len(known))
	for i, k := range known {
		all[i] = &comparing{Known: k, at: k.Offset, share: compareShare, epoch: -1}
	}
	m := &comparison{c: c, topicID: topicID, tell: tell}
	m.run(ctx, all, c.led.Load())
}

// comparison is one call of Compare.
type comparison struct {
	c       *Client
	topicID [16]byte
	tell    func(Verdict)
}

// comparing is where the comparison of one partition stands.
type comparing struct {
	Known
	at      int64 // the next offset to look at
	seen    int64 // all from Offset up to it has been looked at
	found   bool  // what stands at Offset, if anything, is known
	same    bool  // it is the record
	epoch   int32 // of the leader
	share   int32 // bytes to ask for
	scanned int   // bytes
	poor    int   // answers in a row that had nothing, or not all that was read
	err     error // why it is asked again
	over    bool  // its verdict has been told
}

func (m *comparison) end(r *comparing, err error) {
	r.over = true
	same := err == nil && r.same && r.seen >= r.Next
	m.tell(Verdict{Partition: r.Partition, Err: err, Epoch: r.epoch, Same: same})
}

// leaders says who leads the partitions of the topic.
type leaders struct {
	id [16]byte // of the topic
	of map[int32]leader
}

type leader struct{ node, epoch int32 }

// run compares partitions until each has its verdict. led says who leads them, as was heard before; nil if unknown.
// Those of several leaders part, so that none waits for another one.
func (m *comparison) run(ctx context.Context, all []*comparing, led *leaders) {
	pause := comparePause
	for try := 1; ; try++ {
		if led == nil {
			led = m.askLeaders(ctx, all)
		}
		switch by := m.byLeader(all, led); {
		case len(by) > 1:
			var each sync.WaitGroup
			for _, parts := range by {
				each.Go(func() { m.run(ctx, parts, led) })
			}
			each.Wait()
			return
		case len(by) == 1:
			for node, parts := range by {
				all = m.ask(ctx, node, led.id, parts)
			}
		}
		all = slices.DeleteFunc(all, func(r *comparing) bool { return r.over })
		if len(all) == 0 {
			return
		}
		if try >= compareTries || sleep(ctx, pause) != nil {
			for _, r := range all {
				m.end(r, m.unread(r, cmp.Or(r.err, ctx.Err()), 0))
			}
			return
		}
		led, pause = nil, 2*pause
	}
}

// unread says why a partition cannot be compared. packed is TooLargeError.Packed.
func (m *comparison) unread(r *comparing, err error, packed int64) error {
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("its leader does not answer: %w", err)
	}
	return fmt.Errorf("kafka: partition %d, offset %d: %w", r.Partition, r.at, m.c.explain(err, packed))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// askLeaders asks who leads the partitions; nil if that is not told.
func (m *comparison) askLeaders(ctx context.Context, all []*comparing) *leaders {
	if _, err := m.c.Describe(ctx); err != nil {
		for _, r := range all {
			r.err = err
		}
		return nil
	}
	return m.c.led.Load()
}

// byLeader returns the partitions by the node that leads them. Those that nobody leads are under -1, unless they are
// the only ones: then there is nobody to ask.
func (m *comparison) byLeader(all []*comparing, led *leaders) map[int32][]*comparing {
	if led == nil {
		return nil
	}
	if !SameTopic(m.topicID, led.id) {
		for _, r := range all {
			m.end(r, ErrRecreated)
		}
		return nil
	}
	by := map[int32][]*comparing{}
	for _, r := range all {
		l, ok := led.of[r.Partition]
		if !ok {
			l, r.err = leader{-1, -1}, kerr.LeaderNotAvailable
		}
		r.epoch = l.epoch
		by[l.node] = append(by[l.node], r)
	}
	if len(by) == 1 {
		delete(by, -1)
	}
	return by
}

// ask fetches from one broker until it has told all that it can tell, and returns the partitions that must be asked for
// again, perhaps of another broker.
func (m *comparison) ask(ctx context.Context, node int32, id [16]byte, parts []*comparing) (again []*comparing) {
	for len(parts) > 0 {
		answers, throttled, err := m.fetch(ctx, node, id, parts)
		if err != nil {
			for _, r := range parts {
				r.err = err
			}
			return append(again, parts...)
		}
		limited := false // by the bytes of the request: somebody got some
		for _, rp := range answers {
			limited = limited || len(rp.RecordBatches) > 0
		}
		var outside, left []*comparing
		for _, r := range parts {
			rp := answers[r.Partition]
			switch err := m.look(r, rp, limited, throttled); {
			case r.over:
			case errors.Is(err, kerr.OffsetOutOfRange):
				outside = append(outside, r)
			case err != nil:
				r.err = err
				again = append(again, r)
			default:
				left = append(left, r)
			}
		}
		if len(outside) > 0 {
			more, lost := m.outside(ctx, outside)
			left, again = append(left, more...), append(again, lost...)
		}
		// Those that got nothing come first: the first one gets a whole batch, however large.
		slices.SortStableFunc(left, func(a, b *comparing) int { return cmp.Compare(a.scanned, b.scanned) })
		parts = left
	}
	return again
}

// namedFetch is a fetch that names the topic, for brokers or topics whose id is not known.
type namedFetch struct{ *kmsg.FetchRequest }

// MaxVersion implements kmsg.Request: later versions know topics by their id only.
func (namedFetch) MaxVersion() int16 { return 12 }

// fetch asks one broker for what stands at the offsets. The isolation is that of the reading, so that the answer says
// which transactions were aborted.
func (m *comparison) fetch(ctx context.Context, node int32, id [16]byte, parts []*comparing) (
	answers map[int32]*kmsg.FetchResponseTopicPartition, throttled bool, err error) {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.IsolationLevel = 0, 1, compareBytes, 1
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = m.c.topic, id
	for _, r := range parts {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.CurrentLeaderEpoch, p.FetchOffset, p.PartitionMaxBytes = r.Partition, r.epoch, r.at, r.share
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	var ask kmsg.Request = req
	if id == ([16]byte{}) {
		ask = namedFetch{req}
	}
	got, err := m.c.admin.Broker(int(node)).Request(ctx, ask)
	if err != nil {
		return nil, false, err
	}
	resp, ok := got.(*kmsg.FetchResponse)
	if !ok {
		return nil, false, fmt.Errorf("%w: an answer of type %T", ErrSilent, got)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, false, err
	}
	// A topic that was made anew has no partition in the answer, or an error in each.
	answers = map[int32]*kmsg.FetchResponseTopicPartition{}
	for i := range resp.Topics { // one topic was asked for
		for j := range resp.Topics[i].Partitions {
			rp := &resp.Topics[i].Partitions[j]
			answers[rp.Partition] = rp
		}
	}
	return answers, resp.ThrottleMillis > 0, nil
}

// look takes one answer; rp is nil if there is none. An error says that the partition must be asked for again, after a
// while and perhaps of another broker; nil, unless its verdict has been told, that it can be asked for at once.
func (m *comparison) look(r *comparing, rp *kmsg.FetchResponseTopicPartition, limited, throttled bool) error {
	if rp == nil {
		if limited {
			return nil
		}
		return errEmpty
	}
	switch err := kerr.ErrorForCode(rp.ErrorCode); {
	case err == nil:
	case errors.Is(err, kerr.OffsetOutOfRange), kerr.IsRetriable(err):
		return err
	default:
		m.end(r, m.unread(r, err, 0))
		return nil
	}
	got := len(rp.RecordBatches)
	r.scanned += got
	next, err := m.judge(r, rp)
	switch {
	case errors.Is(err, ErrReplaced):
		m.end(r, err)
	case rp.LastStableOffset < r.Next:
		err := fmt.Errorf("%w: it ends at offset %d", ErrShort, rp.LastStableOffset)
		if r.poor++; r.poor < poorAnswers {
			return err
		}
		m.end(r, err)
	case r.found && r.Next <= r.Offset+1, r.found && err == nil && (next >= r.Next || r.scanned >= mostScanned):
		m.end(r, nil)
	case err != nil:
		m.end(r, m.unread(r, err, int64(got)))
	case next > r.at:
		r.at, r.poor = next, 0
	case got > 0 && got < int(r.share): // a whole batch, and nothing of it
		m.end(r, m.unread(r, errGarbage, 0))
	case got > 0 || limited:
		r.share = min(r.share, 1<<29) * 2
	case throttled:
		return errEmpty
	default:
		if r.poor++; r.poor < poorAnswers {
			return errEmpty
		}
		m.end(r, nil)
	}
	return nil
}

// judge looks at the records of an answer. It returns the offset up to which they have been looked at, and an error
// that wraps ErrReplaced, or says why the rest cannot be read.
func (m *comparison) judge(r *comparing, rp *kmsg.FetchResponseTopicPartition) (next int64, err error) {
	opts := kgo.ProcessFetchPartitionOpts{KeepControlRecords: true, Offset: r.at, Topic: m.c.topic,
		Partition: r.Partition, IsolationLevel: kgo.ReadUncommitted()}
	fp, next := kgo.ProcessFetchPartition(opts, rp, m.c.decompressor(), nil)
	for _, rec := range fp.Records {
		if r.found || rec.Offset < r.Offset {
			continue
		}
		r.found = true
		if rec.Offset > r.Offset {
			break // retention or compaction has removed it
		}
		switch {
		case rec.Attrs.IsControl():
			return next, fmt.Errorf("%w: a transaction marker stands at offset %d, where a record was", ErrReplaced,
				r.Offset)
		case event.HashRecord(rec.Offset, rec.Key, rec.Value) != r.Hash:
			return next, fmt.Errorf("%w: another record stands at offset %d than the one that was read there",
				ErrReplaced, r.Offset)
		}
		r.same = true
	}
	r.seen = max(r.seen, next)
	r.found = r.found || fp.Err == nil && next > r.Offset
	if r.Next <= r.Offset+1 {
		return next, fp.Err
	}
	// Between the record and the next offset there were markers, aborted records, or none.
	opts.IsolationLevel = kgo.ReadCommitted()
	committed, _ := kgo.ProcessFetchPartition(opts, rp, m.c.decompressor(), nil)
	for _, rec := range committed.Records {
		if rec.Offset > r.Offset && rec.Offset < r.Next && !rec.Attrs.IsControl() {
			return next, fmt.Errorf("%w: a record stands at offset %d, where none was when it was read", ErrReplaced,
				rec.Offset)
		}
	}
	return next, fp.Err
}

// outside looks where the log of partitions begins and ends that are asked for offsets that it does not have. It
// returns those that can be looked at from a later offset on, and those that must be asked for again.
func (m *comparison) outside(ctx context.Context, parts []*comparing) (more, again []*comparing) {
	l := m.c.listAll(ctx, time.Now, true)
	for _, r := range parts {
		start, known := l.Starts[r.Partition]
		end, ended := l.Ends[r.Partition]
		switch {
		case !known || !ended:
			r.err = cmp.Or(l.Err, l.errs[r.Partition], errNoOffset)
			again = append(again, r)
		case end < r.Next:
			m.end(r, fmt.Errorf("%w: it ends at offset %d", ErrShort, end))
		case start >= r.Next: // retention has removed all that is known
			m.end(r, nil)
		case start > r.at:
			r.at, r.found, r.same = start, r.found || start > r.Offset, false
			more = append(more, r)
		default: // it has changed meanwhile
			r.err = kerr.OffsetOutOfRange
			again = append(again, r)
		}
	}
	return more, again
}

// decompressor inflates batches up to kafka.max_batch_bytes.
func (c *Client) decompressor() kgo.Decompressor {
	d, _ := c.admin.OptValue(kgo.WithDecompressor).(kgo.Decompressor)
	return d
}
