package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/raftstore"
	"deckle/state"
)

const (
	linger       = 50 * time.Millisecond  // an entry waits so long for more records
	housekeeping = 250 * time.Millisecond // idleness, pauses, ticks, lag
	tickEvery    = time.Second            // the clock is moved on so often while sessions live
	maxAhead     = 3600                   // seconds of event time that a partition may be ahead of the shard's clock
	aheadResume  = maxAhead * 9 / 10
)

// errResync asks for a new beginning from the applied offsets.
var errResync = errors.New("node: entry was not applied as proposed")

type entryKind uint8

const (
	entryBatch entryKind = iota
	entryTick
	entryCut
	entryHorizon
)

// flight is an entry that has been proposed and has no result yet.
type flight struct {
	kind     entryKind
	buf      *batchBuf
	future   *raftstore.Future
	proposed time.Time
}

type landing struct {
	flight
	res raftstore.Result
	err error
}

// intake is one run of a leader's way from Kafka to Raft, from offsets that are known to be applied. One goroutine owns
// all of it.
type intake struct {
	*leader
	cfg   state.Config
	src   *kafka.Source // nil when there is nothing to read
	parts map[int32]*partition
	order []int32 // ascending

	cur     *batchBuf
	spare   []*batchBuf
	pending []kafka.Part // taken from the source, not yet in cur
	ratio   float64      // bytes of an entry a byte of values, as learnt

	flights  chan flight
	landings chan landing
	inFlight int
	cutAloft bool
	wantCut  bool
	dirty    bool  // something has been proposed since the last cut
	events   int64 // proposed since the last cut
	prevCut  struct{ epoch, checksum uint64 }

	lastEntry time.Time
	idleSince time.Time // since when all partitions are idle; zero if not
	idle      []int32   // ascending
	pausedFor string
	listed    *kafka.Listing // the last one looked at
	forced    time.Time      // when the horizon was last forced up
}

// session reads, proposes and cuts until ctx ends or something has to begin anew.
func (l *leader) session(ctx context.Context) error {
	if err := l.group.Barrier(ctx); err != nil {
		return err
	}
	l.n.awaitEventsSink(ctx)
	view := l.store.View()
	in := l.newIntake(&view)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); in.land(ctx) }()
	defer func() { cancel(); <-done }()
	if err := in.open(ctx, &view); err != nil {
		return err
	}
	if in.src != nil {
		defer in.src.Close()
	}
	l.kick()
	l.setWaiting("")
	return in.run(ctx)
}

func (l *leader) newIntake(view *state.View) *intake {
	now := l.n.deps.Now()
	in := &intake{
		leader: l, cfg: view.Config, parts: map[int32]*partition{}, cur: &batchBuf{}, ratio: 0.3,
		flights: make(chan flight, l.limit()+4), landings: make(chan landing, l.limit()+4),
		dirty: true, events: view.OpenEvents, lastEntry: now,
	}
	in.prevCut.epoch, in.prevCut.checksum = view.LastClosed, view.LastChecksum
	for _, p := range view.Partitions {
		in.parts[p.Partition] = &partition{id: p.Partition, next: p.Next, applied: p.Next, moved: now}
		in.order = append(in.order, p.Partition)
	}
	slices.Sort(in.order)
	// What this leadership has not seen cannot be in its buffer, unless there was nothing to see.
	l.sealed.Store(view.LastClosed)
	l.bufWhole = view.OpenEvents == 0
	if l.buf != nil {
		l.buf.Discard()
		l.buf = nil
	}
	in.openBuffer()
	return in
}

// openBuffer asks for a buffer of raw events where there is none. It is called where an epoch begins.
func (in *intake) openBuffer() {
	if in.buf == nil && slices.Contains(in.cfg.Sinks, state.SinkEvents) {
		if s := in.n.eventsSink(); s != nil {
			in.buf = s.Buffer(in.id)
		}
	}
}

// open checks the topic and starts to fetch.
func (in *intake) open(ctx context.Context, view *state.View) error {
	if len(in.order) == 0 {
		return nil
	}
	dctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	info, err := in.n.kafka.Describe(dctx)
	cancel()
	if err != nil {
		// The topic's absence is no reason to keep what is in the state from the sinks: run without a source for now, until
		// a look at the topic succeeds.
		in.setFailing("source", err)
		return nil
	} else if !kafka.SameTopic(in.cfg.TopicID, info.ID) {
		in.stopAll(kafka.ErrRecreated.Error())
	}
	next := slices.DeleteFunc(slices.Clone(view.Partitions), func(p state.PartitionStatus) bool {
		return in.isStopped(p.Partition) != ""
	})
	for _, p := range in.order {
		in.parts[p].stopped = in.isStopped(p)
	}
	if len(next) == 0 {
		return nil
	}
	fetch := in.n.cfg.Kafka.FetchMaxBytes / int64(max(in.n.cfg.Cluster.Shards, 1))
	in.src, err = in.n.kafka.OpenSource(ctx, in.cfg.TopicID, next, max(fetch, 1<<20))
	return err
}

// land waits for the results in the order of the proposals.
func (in *intake) land(ctx context.Context) {
	for {
		select {
		case f := <-in.flights:
			res, err := f.future.Wait(ctx)
			in.landings <- landing{f, res, err} // has room for all that may be in flight
		case <-ctx.Done():
			return
		}
	}
}

func (in *intake) run(ctx context.Context) error {
	house := time.NewTicker(housekeeping)
	defer house.Stop()
	cut := time.NewTimer(in.untilCut())
	defer cut.Stop()
	lingering := time.NewTimer(time.Hour)
	defer lingering.Stop()
	for {
		if in.pausedFor == "" {
			in.fill()
		}
		in.propose()
		var chunks <-chan kafka.Chunk
		if in.src != nil && in.pausedFor == "" && len(in.pending) == 0 {
			chunks = in.src.Chunks()
		}
		if !in.cur.empty() && in.inFlight < in.limit() {
			lingering.Reset(max(in.cur.began.Add(linger).Sub(in.n.deps.Now()), time.Millisecond))
		}
		select {
		case c := <-chunks:
			if err := in.take(&c); err != nil {
				return err
			}
		case r := <-in.landings:
			if err := in.landed(&r); err != nil {
				return err
			}
		case <-lingering.C:
		case <-cut.C:
			in.wantCut = true
			cut.Reset(in.untilCut())
		case <-house.C:
			if err := in.keepHouse(); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// untilCut is the time to the shard's next cut. Nodes take turns within the interval, so that their commits do not meet
// and stores and machines are busy evenly. A node cuts its shards together, so that one Delta commit has all of them, or,
// where its turn is long, in two halves: what the first writes to ClickHouse does not wait for what the second does.
func (in *intake) untilCut() time.Duration {
	nodes, every := in.n.cfg.Cluster.Nodes, in.n.cfg.Flush.Interval
	node := slices.IndexFunc(nodes, func(c config.Node) bool { return c.Name == in.n.cfg.Node })
	turn, of := cutTurn(every, node, len(nodes), in.id)
	return untilTurn(in.n.deps.Now(), every, turn, of)
}

// halfTurn is how long half of a node's turn must be for its shards to be cut in two halves.
const halfTurn = time.Second

// cutTurn is the shard's turn on a node, and how many there are. A shard is at home on node shard % nodes, so that each
// node has both halves where all are at home.
func cutTurn(every time.Duration, node, nodes int, shard uint32) (turn, of int) {
	if every/time.Duration(2*nodes) < halfTurn {
		return node, nodes
	}
	return 2*node + int(shard)/nodes%2, 2 * nodes
}

// untilTurn is the time to the next multiple of every plus the turn's part of it.
func untilTurn(now time.Time, every time.Duration, turn, of int) time.Duration {
	phase := every * time.Duration(turn) / time.Duration(of)
	return max(now.Add(-phase).Truncate(every).Add(every+phase).Sub(now), time.Millisecond)
}

// limit is how many entries may be in flight; a cut, a tick and a forced horizon may come on top.
func (l *leader) limit() int { return max(l.n.cfg.Limits.InFlightEntries, 1) }

func (in *intake) full() bool {
	return in.cur.count >= maxEntryItems || float64(in.cur.raw)*in.ratio >= float64(in.n.cfg.Limits.EntryBytes)
}

// fill decodes pending records into the current batch until that is full.
func (in *intake) fill() {
	began := in.n.deps.Now()
	took := false
	for len(in.pending) > 0 && !in.full() {
		part := &in.pending[0]
		p := in.parts[part.Partition]
		for len(part.Records) > 0 && !in.full() && p.stopped == "" {
			r := part.Records[0]
			part.Records[0], part.Records = nil, part.Records[1:]
			if r.Offset < p.next {
				continue // the client's position is ours; a record from before it has been applied
			}
			if in.cur.empty() {
				in.cur.began = began
			}
			if reason := in.cur.add(r, p.next, in.cfg.Shards > 1); reason != 0 {
				in.n.metrics.rejects.WithLabelValues(reason.String()).Inc()
			}
			p.next, took = r.Offset+1, true
		}
		if len(part.Records) == 0 || p.stopped != "" {
			in.pending = in.pending[1:]
		}
	}
	if took {
		in.cur.decode += in.n.deps.Now().Sub(began)
	}
}

// propose sends what is due: the batch when it is full or has waited long enough, then a cut.
func (in *intake) propose() {
	limit := in.limit()
	now := in.n.deps.Now()
	cut := in.wantCut || in.events >= in.n.cfg.Flush.MaxEvents
	if !in.cur.empty() && in.inFlight < limit && (cut || in.full() || now.Sub(in.cur.began) >= linger) {
		in.proposeBatch(now)
	}
	if !cut || in.cutAloft || in.inFlight > limit { // a cut may be one more than the limit
		return
	}
	in.wantCut = false
	if in.refused.Swap(false) || in.dirty {
		in.dirty, in.events, in.cutAloft = false, 0, true
		in.send(entryCut, nil, state.EncodeCut(now.UnixMilli(), in.prevCut.epoch, in.prevCut.checksum), now)
	}
}

func (in *intake) proposeBatch(now time.Time) {
	buf := in.cur
	batch := buf.finish()
	entry := state.AppendBatch(make([]byte, 0, int(float64(buf.raw)*in.ratio*1.2)+1024), in.stamp(now, buf))
	if buf.raw > 0 {
		in.ratio += (min(float64(len(entry))/float64(buf.raw), 2) - in.ratio) / 8
	}
	m, shard := in.n.metrics, in.label()
	m.records.WithLabelValues(shard).Add(float64(buf.count))
	m.bytes.WithLabelValues(shard).Add(float64(buf.raw))
	m.nulls.WithLabelValues(shard).Add(float64(buf.nulls))
	m.decode.Observe(buf.decode.Seconds())
	m.entryEvents.Observe(float64(len(batch.Items)))
	m.entryBytes.Observe(float64(len(entry)))
	in.events += int64(len(batch.Items) + len(batch.Rejects))
	in.send(entryBatch, buf, entry, now)
	in.cur = &batchBuf{}
	if n := len(in.spare); n > 0 {
		in.cur, in.spare = in.spare[n-1], in.spare[:n-1]
	}
}

// stamp makes the entry of a batch, or of a tick if buf is nil.
func (in *intake) stamp(now time.Time, buf *batchBuf) *state.BatchEntry {
	e := &state.BatchEntry{Now: now.UnixMilli(), Idle: in.idle}
	if buf != nil {
		e.Batch = buf.batch
		e.Idle = slices.DeleteFunc(slices.Clone(in.idle), func(p int32) bool {
			return slices.ContainsFunc(buf.parts, func(b *bufPart) bool { return b.rng.Partition == p })
		})
	}
	if !in.idleSince.IsZero() {
		// Only time in which nothing was expected moves the clock.
		e.Elapsed = min(now.Sub(in.lastEntry), now.Sub(in.idleSince))
	}
	in.lastEntry, in.dirty = now, true
	return e
}

func (in *intake) tick(now time.Time) {
	in.send(entryTick, nil, state.AppendBatch(nil, in.stamp(now, nil)), now)
}

func (in *intake) send(kind entryKind, buf *batchBuf, entry []byte, now time.Time) {
	in.inFlight++
	in.flights <- flight{kind: kind, buf: buf, future: in.group.Propose(entry), proposed: now}
}

// landed takes one result.
func (in *intake) landed(r *landing) error {
	in.inFlight--
	if r.err != nil {
		return r.err
	}
	now := in.n.deps.Now()
	in.n.metrics.commit.Observe(now.Sub(r.proposed).Seconds())
	switch res := r.res.Value.(type) {
	case *state.BatchResult:
		if res.Rejected {
			return fmt.Errorf("%w: the state is at other offsets: %v", errResync, res.Next)
		}
		if r.buf != nil {
			in.applied(r.buf, res, now)
		}
		if in.behind && r.buf != nil && in.caughtUp() {
			// What had to wait for a leader is not kept waiting for the end of the interval, too.
			in.behind, in.wantCut = false, true
		}
	case *state.CutResult:
		in.cutAloft = false
		in.closed(res)
	case nil:
		if r.kind != entryHorizon {
			return fmt.Errorf("%w: it had no result", errResync)
		}
	default:
		return fmt.Errorf("%w: result %T", errResync, r.res.Value)
	}
	return nil
}

// caughtUp says whether everything has been applied that the last fetches have shown to be there.
func (in *intake) caughtUp() bool {
	for _, p := range in.parts {
		if p.stopped == "" && p.applied < p.end {
			return false
		}
	}
	return true
}

// applied takes a batch's verdicts.
func (in *intake) applied(buf *batchBuf, res *state.BatchResult, now time.Time) {
	in.n.metrics.duplicates.WithLabelValues(in.label()).Add(float64(res.Duplicates))
	if in.buf != nil {
		if err := in.buf.Append(&buf.batch, res.Left); err != nil {
			in.log.Warn("events are not buffered, the epoch will be fetched again", "epoch", res.Epoch, "error", err)
			in.bufWhole = false
		}
	} else {
		in.bufWhole = false
	}
	in.pipe.apply(buf.counted(res.Left))
	for _, b := range buf.parts {
		p := in.parts[b.rng.Partition]
		p.applied, p.moved, p.atEnd = b.rng.To, now, time.Time{}
		if b.last > 0 {
			p.last = b.last
		}
	}
	buf.reset()
	in.spare = append(in.spare, buf)
}

// closed takes a cut's result.
func (in *intake) closed(res *state.CutResult) {
	if res.Epoch == 0 {
		return
	}
	if in.buf != nil {
		in.buf.Seal(res.Epoch, in.bufWhole)
	}
	in.bufWhole = true
	in.openBuffer()
	in.prevCut.epoch, in.prevCut.checksum = res.Epoch, res.Checksum
	in.pipe.cut(res.Epoch, res.Events)
	in.sealed.Store(res.Epoch)
	in.n.metrics.cuts.WithLabelValues(in.label()).Inc()
	in.log.Debug("epoch closed", "epoch", res.Epoch, "sessions", res.Sessions, "events", res.Events)
	// gofail: var nodeCutApplied struct{}
	in.kick()
}
