package letters

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/sinks/rights"
)

const (
	fetchBytes = 1 << 20 // what a fetch asks for; a broker sends the first batch whole
	mostBytes  = 256 << 20
	// attempts is how often in a row an answer may have nothing: together they outlast a change of leader.
	attempts  = 40
	fetchWait = 250 * time.Millisecond
)

// errNoTopic says that a topic does not exist.
var errNoTopic = errors.New("there is no such topic")

// topic reads the committed records of a topic by single requests. Each answer says how far it reaches, so the end is
// known where compaction has left no record before it: a client that polls says nothing then.
type topic struct {
	cl         *kgo.Client
	name       string
	id         [16]byte
	leaders    map[int32]int32 // by partition; without those that have none
	partitions int32
	replicas   int
	may        int32           // bits of the operations that the account may carry out; 0 or the least number: not told
	ends       map[int32]int64 // where the committed records ended at first; nil until at asks for it
}

// openTopic asks who leads the partitions. It wraps errNoTopic if the topic does not exist.
func openTopic(ctx context.Context, cl *kgo.Client, name string) (*topic, error) {
	t := &topic{cl: cl, name: name}
	return t, t.describe(ctx)
}

func (t *topic) describe(ctx context.Context) error {
	req := kmsg.NewPtrMetadataRequest()
	req.IncludeTopicAuthorizedOperations = true
	asked := kmsg.NewMetadataRequestTopic()
	asked.Topic = &t.name
	req.Topics = append(req.Topics, asked)
	resp, err := req.RequestWith(ctx, t.cl)
	if err == nil && len(resp.Topics) != 1 {
		err = fmt.Errorf("%d topics in the answer", len(resp.Topics))
	}
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		err = errNoTopic
	}
	if err != nil {
		return fmt.Errorf("letters: metadata of %s: %w", t.name, t.mayRead(err))
	}
	got := &resp.Topics[0]
	t.may = got.AuthorizedOperations
	t.id, t.leaders, t.partitions = got.TopicID, map[int32]int32{}, int32(len(got.Partitions))
	for _, p := range got.Partitions {
		t.replicas = max(t.replicas, len(p.Replicas))
		if p.Leader >= 0 {
			t.leaders[p.Partition] = p.Leader
		}
	}
	return nil
}

// lacks returns an error that names a right on the topic, Read or Write, if the brokers say that it is missing. A
// transaction that is refused does not say for which of its topics, and an empty topic is read by nobody.
func (t *topic) lacks(operation string) error {
	bit := map[string]int32{"Read": 1 << 3, "Write": 1 << 4}[operation]
	if t.may == 0 || t.may == math.MinInt32 || t.may&bit != 0 {
		return nil
	}
	return fmt.Errorf("letters: %s: %w", t.name, rights.Explain(kerr.TopicAuthorizationFailed,
		rights.Topic(operation, t.name)))
}

func (t *topic) mayRead(err error) error { return rights.Explain(err, rights.Topic("Read", t.name)) }

// listing is one look at offsets of all partitions.
type listing func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error)

// offsets returns one offset of each partition, or an error if one is not told.
func (t *topic) offsets(ctx context.Context, list listing) (map[int32]int64, error) {
	listed, err := list(ctx, t.name)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("letters: offsets of %s: %w", t.name, t.mayRead(err))
	}
	at := map[int32]int64{}
	for p := range t.partitions {
		o, ok := listed.Lookup(t.name, p)
		if !ok {
			return nil, fmt.Errorf("letters: no broker tells the offsets of %s/%d", t.name, p)
		}
		at[p] = o.Offset
	}
	return at, nil
}

// read hands over the committed records of a partition from one offset on, up to another one, without it, until take
// says that it wants no more. It returns the offset up to which it has come: where everything was read, to itself.
// Values stay valid.
func (t *topic) read(ctx context.Context, partition int32, from, to int64, take func(*kgo.Record) (more bool)) (
	next int64, err error) {
	share, failed := int32(fetchBytes), 0
	for from < to {
		rp, err := t.fetch(ctx, partition, from, share)
		if err == nil {
			err = kerr.ErrorForCode(rp.ErrorCode)
		}
		switch {
		case ctx.Err() != nil:
			return from, ctx.Err()
		case errors.Is(err, kerr.OffsetOutOfRange):
			starts, serr := t.offsets(ctx, kadm.NewClient(t.cl).ListStartOffsets)
			if serr != nil || starts[partition] <= from {
				return from, fmt.Errorf("letters: %s/%d offset %d: %w", t.name, partition, from, cmp.Or(serr, err))
			}
			from = min(starts[partition], to)
			continue
		case err != nil && (rights.Missing(err) || failed >= attempts):
			return from, fmt.Errorf("letters: %s/%d offset %d: %w", t.name, partition, from, t.mayRead(err))
		case err != nil: // a leader that is none any more, or a broker that is away
			failed++
			if err := pause(ctx, fetchWait); err != nil {
				return from, err
			}
			if err := t.describe(ctx); err != nil && failed >= attempts {
				return from, err
			}
			continue
		}
		opts := kgo.ProcessFetchPartitionOpts{KeepControlRecords: true, Offset: from, Topic: t.name,
			Partition: partition, IsolationLevel: kgo.ReadCommitted()}
		inflate, _ := t.cl.OptValue(kgo.WithDecompressor).(kgo.Decompressor)
		fp, next := kgo.ProcessFetchPartition(opts, rp, inflate, nil)
		for _, r := range fp.Records {
			switch {
			case r.Offset >= to:
				return to, nil
			case r.Attrs.IsControl():
			case !take(r):
				return r.Offset + 1, nil
			}
		}
		switch {
		case next > from:
			from, failed = next, 0
		case fp.Err != nil:
			return from, fmt.Errorf("letters: %s/%d offset %d: %w", t.name, partition, from, fp.Err)
		case len(rp.RecordBatches) > 0 && share >= mostBytes:
			return from, fmt.Errorf("letters: %s/%d offset %d: a batch that cannot be read", t.name, partition, from)
		case len(rp.RecordBatches) > 0:
			share *= 2
		default: // it is behind what it has said before, or a transaction is open
			if failed++; failed >= attempts {
				return from, fmt.Errorf("letters: %s/%d gives nothing from offset %d on, although it ends at %d",
					t.name, partition, from, to)
			}
		}
	}
	return to, nil
}

// namedFetch is a fetch that names the topic, for brokers or topics whose id is not known.
type namedFetch struct{ *kmsg.FetchRequest }

// MaxVersion implements kmsg.Request: later versions know topics by their id only.
func (namedFetch) MaxVersion() int16 { return 12 }

func (t *topic) fetch(ctx context.Context, partition int32, at int64, share int32) (
	*kmsg.FetchResponseTopicPartition, error) {
	leader, ok := t.leaders[partition]
	if !ok {
		return nil, kerr.LeaderNotAvailable
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(fetchWait.Milliseconds()), 1, share
	req.IsolationLevel, req.SessionEpoch = 1, -1
	asked := kmsg.NewFetchRequestTopic()
	asked.Topic, asked.TopicID = t.name, t.id
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.CurrentLeaderEpoch, p.FetchOffset, p.PartitionMaxBytes = partition, -1, at, share
	asked.Partitions = append(asked.Partitions, p)
	req.Topics = append(req.Topics, asked)
	var ask kmsg.Request = req
	if t.id == ([16]byte{}) {
		ask = namedFetch{req}
	}
	got, err := t.cl.Broker(int(leader)).Request(ctx, ask)
	if err != nil {
		return nil, err
	}
	resp, ok := got.(*kmsg.FetchResponse)
	if !ok {
		return nil, fmt.Errorf("an answer of type %T", got)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	for i := range resp.Topics {
		parts := resp.Topics[i].Partitions
		if at := slices.IndexFunc(parts, func(rp kmsg.FetchResponseTopicPartition) bool {
			return rp.Partition == partition
		}); at >= 0 {
			return &parts[at], nil
		}
	}
	return nil, kerr.UnknownTopicOrPartition
}

// at returns the record at an offset; nil if there is none any more.
func (t *topic) at(ctx context.Context, partition int32, offset int64) (rec *kgo.Record, err error) {
	if partition < 0 || partition >= t.partitions || offset < 0 {
		return nil, nil
	}
	if t.ends == nil {
		if t.ends, err = t.offsets(ctx, kadm.NewClient(t.cl).ListCommittedOffsets); err != nil {
			return nil, err
		}
	}
	if offset >= t.ends[partition] {
		return nil, nil
	}
	_, err = t.read(ctx, partition, offset, offset+1, func(r *kgo.Record) bool { rec = r; return false })
	return rec, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
