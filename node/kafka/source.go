package kafka

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/state"
)

const (
	// fetchWait is how long a broker may hold a fetch for which it has nothing, where the first record ends the wait.
	fetchWait = 500 * time.Millisecond
	// heldWait is how long an error waits for records that were fetched with it.
	heldWait = 50 * time.Millisecond
)

// Source reads some partitions from given offsets. It lives as long as one run of a shard's intake.
type Source struct {
	c      *Client
	cl     *kgo.Client
	over   *Handover // used by the polling goroutine only
	fetch  *fetchSize
	conns  *connections
	out    chan Chunk
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu   sync.Mutex
	anew []restart // for the polling goroutine to do before its next poll
	wake context.CancelFunc
}

// restart is a partition to be read again.
type restart struct {
	p   state.PartitionStatus
	gen uint32
}

// OpenSource starts to fetch. topicID is the id of the topic that the offsets belong to, zero if unknown; next holds
// the partitions and the offsets to begin with. fetchBytes bounds one fetch per broker, memory the inflated fetches
// that the client holds at a time. The source ends with ctx or Close.
func (c *Client) OpenSource(ctx context.Context, topicID [16]byte, next []state.PartitionStatus,
	fetchBytes, memory int64) (*Source, error) {
	from := map[int32]kgo.Offset{}
	for _, p := range next {
		// The stored epoch lets the client ask the broker first whether its log still has that history.
		from[p.Partition] = kgo.NewOffset().At(p.Next).WithEpoch(p.LeaderEpoch)
	}
	fetch, conns := newFetchSize(fetchBytes, memory), newConnections()
	ctx, cancel := context.WithCancel(ctx)
	cl, err := c.reader(from, fetch.bytes(), kgo.FetchMinBytes(gatherBytes), kgo.FetchMaxWait(gatherWait),
		kgo.WithHooks(fetch, conns, newPace(ctx)))
	if err != nil {
		cancel()
		return nil, err
	}
	s := &Source{c: c, cl: cl, over: NewHandover(c.topic, topicID, next), fetch: fetch, conns: conns,
		out: make(chan Chunk), cancel: cancel, wake: func() {}}
	s.over.came = conns.came
	s.over.explain = func(partition int32, err error) error {
		return c.explain(err, fetch.unread(partition))
	}
	s.done.Go(func() { s.poll(ctx) })
	return s, nil
}

// Connections is the number of connections to brokers that the source has made so far; see Part.Connection.
func (s *Source) Connections() uint64 { return s.conns.number() }

// Chunks hands over one chunk at a time: while nobody takes it, nothing more is polled, and the client stops fetching.
func (s *Source) Chunks() <-chan Chunk { return s.out }

func (s *Source) poll(ctx context.Context) {
	for {
		pctx, cancel := context.WithCancel(ctx)
		if s.over.holds() { // what follows has been fetched already, if there is anything
			pctx, cancel = context.WithTimeout(ctx, heldWait)
		}
		s.begin(cancel)
		fetches := s.cl.PollRecords(pctx, pollRecords)
		cancel()
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		s.fetch.adapt(s.cl)
		c := s.over.Chunk(fetches)
		if len(c.Parts) == 0 && c.Err == nil { // woken, or nothing but what is dropped
			continue
		}
		select {
		case s.out <- c:
		case <-ctx.Done():
			return
		}
		if c.Err != nil { // the client has backed off already; this only keeps a broken one from spinning
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return
			}
		}
	}
}

// begin sets anew what shall be read again; wake ends the poll that follows. Nothing that was polled before can come
// after it: one goroutine does both.
func (s *Source) begin(wake context.CancelFunc) {
	s.mu.Lock()
	anew := s.anew
	s.anew, s.wake = nil, wake
	s.mu.Unlock()
	if len(anew) == 0 {
		return
	}
	offsets := map[int32]kgo.EpochOffset{}
	for _, r := range anew {
		s.over.restart(r.p.Partition, r.p.Next, r.gen)
		offsets[r.p.Partition] = kgo.EpochOffset{Epoch: r.p.LeaderEpoch, Offset: r.p.Next}
	}
	s.cl.SetOffsets(map[string]map[int32]kgo.EpochOffset{s.c.topic: offsets})
}

// Pause stops fetching a partition until Resume or Restart. Chunks may still bring records that have been fetched
// before.
func (s *Source) Pause(partition int32) {
	s.cl.PauseFetchPartitions(map[string][]int32{s.c.topic: {partition}})
}

// Resume fetches a paused partition again.
func (s *Source) Resume(partition int32) {
	s.cl.ResumeFetchPartitions(map[string][]int32{s.c.topic: {partition}})
}

// Restart reads a partition again from where p stands, paused or not. Its parts have the generation gen from then on;
// parts of an earlier one may still come, and are of no use. p must stand where the last record handed over says, or
// where OpenSource began: the client silently passes over a partition that it has not begun to read yet, and begins it
// where OpenSource said. All its fetches begin anew, which costs what it has fetched and nobody has polled yet.
func (s *Source) Restart(p state.PartitionStatus, gen uint32) {
	s.Resume(p.Partition) // what it may bring before it is set anew is dropped
	s.mu.Lock()
	defer s.mu.Unlock()
	s.anew = append(s.anew, restart{p, gen})
	s.wake()
}

// Close ends the source and its client.
func (s *Source) Close() {
	s.cancel()
	s.done.Wait()
	s.cl.Close()
}
