package shard

import (
	"context"
	"fmt"
	"slices"
	"time"

	"deckle/event"
	"deckle/node/tap"
	"deckle/raftstore"
	"deckle/schema/level"
	"deckle/state"
)

// entryKind is what an entry of the intake is.
type entryKind uint8

const (
	entryBatch entryKind = iota
	entryTick
	entryCut
	entryHorizon
)

// proposal is an entry that has been proposed and has no result yet.
type proposal struct {
	kind     entryKind
	buf      *batchBuf // of a batch
	future   *raftstore.Future
	proposed time.Time
}

// result is a proposal and what came of it.
type result struct {
	proposal
	res raftstore.Result
	err error
}

// full says that the current batch is as large as an entry shall be.
func (in *intake) full() bool {
	return in.cur.count >= maxEntryItems || float64(in.cur.raw)*in.ratio >= float64(in.present().Limits.EntryBytes)
}

// fill decodes pending records into the current batch until that is full.
func (in *intake) fill() {
	began := in.Now()
	took, tapped := false, in.Tap.Watched(tap.Source, tap.Decoded)
	for len(in.pending) > 0 && !in.full() {
		part := &in.pending[0]
		p := in.parts[part.Partition]
		for len(part.Records) > 0 && !in.full() {
			r := part.Records[0]
			part.Records[0], part.Records = nil, part.Records[1:]
			if r.Offset < p.next {
				continue // the client's position is ours; a record from before it has been applied
			}
			if in.cur.empty() {
				in.cur.began = began
			}
			if reason := in.cur.add(r, p.next, in.cfg.Shards > 1); reason != 0 {
				in.Metrics.rejects.WithLabelValues(reason.String()).Inc()
			}
			if tapped {
				tapRecord(in.Tap, in.id, &in.rules.Event, in.cur, r)
			}
			if in.placing > 0 && len(in.sizes) > 0 {
				in.placing--
				in.keys.look(r, in.sizes)
			}
			p.next, took = r.Offset+1, true
		}
		if len(part.Records) == 0 {
			in.pending = in.pending[1:]
		}
	}
	if took {
		in.cur.decode += in.Now().Sub(began)
	}
}

// propose sends what is due: the batch when it is full or has waited long enough, then a cut.
func (in *intake) propose() {
	limit := in.entriesInFlight()
	now := in.Now()
	cut := in.cutDue || in.events >= in.present().Flush.MaxEvents
	if !in.cur.empty() && in.inFlight < limit && (cut || in.full() || now.Sub(in.cur.began) >= linger) {
		in.proposeBatch(now)
	}
	if !cut || in.cutPending || in.inFlight > limit { // a cut may be one more than the limit
		return
	}
	in.cutDue = false
	if in.refused.Swap(false) || in.dirty {
		in.dirty, in.events, in.cutPending = false, 0, true
		in.turnSent, in.turn = in.turn, nil
		in.send(entryCut, nil, state.EncodeCut(now.UnixMilli(), in.prevCut.epoch, in.prevCut.checksum), now)
		return
	}
	in.answerTurn(&in.turn) // there is nothing to close
}

// answerTurn says that the cut for a turn, if there is one, has been answered.
func (in *intake) answerTurn(turn **uint64) {
	if *turn != nil {
		in.turns.answer(**turn, in.prevCut.epoch)
		*turn = nil
	}
}

func (in *intake) proposeBatch(now time.Time) {
	buf := in.cur
	batch := buf.finish()
	entry := state.AppendBatch(make([]byte, 0, int(float64(buf.raw)*in.ratio*1.2)+1024), in.stamp(now, buf))
	if buf.raw > 0 {
		in.ratio += (min(float64(len(entry))/float64(buf.raw), 2) - in.ratio) / 8
	}
	m, shard := in.Metrics, in.label()
	m.records.WithLabelValues(shard).Add(float64(buf.count))
	m.bytes.WithLabelValues(shard).Add(float64(buf.raw))
	m.nulls.WithLabelValues(shard).Add(float64(buf.nulls))
	m.decode.Observe(buf.decode.Seconds())
	for i, n := range buf.dec.Unfit() {
		if n > 0 {
			m.unfit.WithLabelValues(in.rules.Event.Privacy[i].Field).Add(float64(n))
		}
	}
	m.entryEvents.Observe(float64(len(batch.Items)))
	m.entryBytes.Observe(float64(len(entry)))
	in.events += int64(len(batch.Items) + len(batch.Rejects) + len(batch.Suppressed))
	in.send(entryBatch, buf, entry, now)
	in.nextBuf()
}

// nextBuf takes an empty buffer in place of the current one.
func (in *intake) nextBuf() {
	n := len(in.spare)
	if n == 0 {
		in.cur = in.newBuf()
		return
	}
	in.cur, in.spare = in.spare[n-1], in.spare[:n-1]
	if in.level >= level.Real && in.cur.list != in.list.Number { // it was in flight when the list changed
		in.judge(in.cur)
	}
}

// newBuf returns a buffer that judges by the rules of this run.
func (in *intake) newBuf() *batchBuf {
	b := new(batchBuf)
	if in.level >= level.Real {
		in.judge(b)
	}
	return b
}

func (in *intake) judge(b *batchBuf) {
	b.judgeBy(&in.rules, in.Keys.Key(in.rules.Event.PrivacyKey), in.list)
}

// relist judges by another list of suppressed readers from here on. Nothing may be in the current buffer.
func (in *intake) relist(list *event.Suppression) {
	in.list = list
	in.cur, in.spare = in.newBuf(), nil
}

// stamp makes the entry of a batch, or of a tick if buf is nil.
func (in *intake) stamp(now time.Time, buf *batchBuf) *state.BatchEntry {
	e := &state.BatchEntry{Now: now.UnixMilli(), Idle: in.idle, Level: in.level}
	if in.level >= level.Real {
		e.Out = in.out
	}
	if buf != nil {
		for i := range buf.batch.Seen {
			r := &buf.batch.Ranges[i]
			p := in.parts[r.Partition]
			if r.To >= p.end {
				p.head = now
			}
			buf.batch.Seen[i].AtHead = p.atHead(now, in.Config.Kafka.IdleAfter)
		}
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

// tick proposes an entry without records, which moves the clock and lets timers fire.
func (in *intake) tick(now time.Time) {
	in.send(entryTick, nil, state.AppendBatch(nil, in.stamp(now, nil)), now)
}

func (in *intake) send(kind entryKind, buf *batchBuf, entry []byte, now time.Time) {
	in.inFlight++
	in.proposed <- proposal{kind: kind, buf: buf, future: in.group.Propose(entry), proposed: now}
}

// awaitResults waits for the results in the order of the proposals, until ctx ends.
func (in *intake) awaitResults(ctx context.Context) {
	for {
		select {
		case p := <-in.proposed:
			res, err := p.future.Wait(ctx)
			in.results <- result{p, res, err} // has room for all that may be in flight
		case <-ctx.Done():
			return
		}
	}
}

// handle takes one result.
func (in *intake) handle(r *result) error {
	in.inFlight--
	if r.err != nil {
		return r.err
	}
	now := in.Now()
	in.Metrics.commit.Observe(now.Sub(r.proposed).Seconds())
	switch res := r.res.Value.(type) {
	case *state.BatchResult:
		if res.Rejected {
			return in.resync(res)
		}
		if r.buf != nil {
			in.applied(r.buf, res, now)
		}
		if in.backlog && r.buf != nil && in.caughtUp() {
			// What had to wait for a leader need not wait for the end of the interval, too.
			in.backlog, in.cutDue = false, true
		}
	case *state.CutResult:
		in.cutPending = false
		in.closed(res)
		in.answerTurn(&in.turnSent) // after the epoch is noted
	case nil:
		if r.kind != entryHorizon {
			return fmt.Errorf("%w: it had no result", errResync)
		}
	default:
		return fmt.Errorf("%w: result %T", errResync, r.res.Value)
	}
	return nil
}

// resync is the error that begins a new run after a batch was refused.
func (in *intake) resync(res *state.BatchResult) error {
	switch res.Why {
	case state.BatchByList:
		return fmt.Errorf("%w: %s", errRelisted, res.Why)
	case state.BatchByOffsets:
		return fmt.Errorf("%w: %s: %v", errResync, res.Why, res.Next)
	}
	return fmt.Errorf("%w: %s", errResync, res.Why)
}

// caughtUp says whether everything has been applied that the last fetches have shown to be there.
func (in *intake) caughtUp() bool {
	for _, p := range in.parts {
		if p.reads() && p.applied < p.end {
			return false
		}
	}
	return true
}

// applied takes the state's verdicts on a batch.
func (in *intake) applied(buf *batchBuf, res *state.BatchResult, now time.Time) {
	in.Metrics.duplicates.WithLabelValues(in.label()).Add(float64(res.Duplicates))
	if err := in.buffer.append(&buf.batch, res.Left); err != nil {
		in.log.Warn("events are not buffered, the epoch will be fetched again", "epoch", res.Epoch, "error", err)
	}
	in.arrivals.add(buf.counted(res.Left))
	if in.Tap.Watched(tap.Session) {
		tapSessions(in.Tap, in.id, in.store, buf, res.Left)
	}
	for _, b := range buf.parts {
		p := in.parts[b.rng.Partition]
		p.applied, p.moved, p.atEnd, p.silent = b.rng.To, now, time.Time{}, time.Time{}
		if b.last > 0 {
			p.last = b.last
		}
	}
	buf.reset()
	in.spare = append(in.spare, buf)
}

// closed takes the result of a cut, and notes the epoch that it has closed.
func (in *intake) closed(res *state.CutResult) {
	if res.Epoch == 0 {
		return
	}
	in.buffer.seal(res.Epoch)
	in.openBuffer()
	in.prevCut.epoch, in.prevCut.checksum = res.Epoch, res.Checksum
	in.arrivals.close(res.Epoch, res.Events)
	in.Metrics.cuts.WithLabelValues(in.label()).Inc()
	in.log.Debug("epoch closed", "epoch", res.Epoch, "sessions", res.Sessions, "events", res.Events)
	in.cuts.note(res.Epoch, in.Now())
	// gofail: var nodeCutApplied struct{}
	in.epochs.note(res.Epoch)
}

// proposeList proposes a change of the list and waits for what the state says.
func proposeList(ctx context.Context, g *raftstore.Group, entry []byte) (*state.SuppressResult, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	res, err := g.Propose(entry).Wait(ctx)
	if err != nil {
		return nil, err
	}
	r, ok := res.Value.(*state.SuppressResult)
	if !ok {
		return nil, fmt.Errorf("%w: a change of the list returned %T", errResync, res.Value)
	}
	return r, nil
}

// obeyList changes the list behind everything that is in flight, so that no batch is refused and nothing has to be read
// again. What has been decoded is proposed before; what has not, is judged by the new list.
func (in *intake) obeyList(ctx context.Context, o *listOrder) error {
	defer close(o.done)
	if o.err = in.flushDecoded(ctx); o.err != nil {
		return o.err
	}
	select {
	case <-o.gone: // who has asked may have gone past this intake since, also for the opposite
		o.err = context.Canceled
		return nil
	default:
	}
	if o.res, o.err = proposeList(ctx, in.group, o.entry); o.err != nil {
		return o.err
	}
	in.relist(in.store.Suppression())
	return nil
}

// flushDecoded proposes the current buffer, once there is room for it.
func (in *intake) flushDecoded(ctx context.Context) error {
	if in.cur.empty() {
		return nil
	}
	for in.inFlight >= in.entriesInFlight() {
		select {
		case r := <-in.results:
			if err := in.handle(&r); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	in.proposeBatch(in.Now())
	return nil
}
