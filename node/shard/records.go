package shard

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"deckle/node/condition"
	"deckle/node/kafka"
	"deckle/node/status"
	"deckle/schema/level"
	"deckle/sinks/rights"
	"deckle/state"
)

const (
	// A partition that cannot be read is tried again after probeFirst, then more and more seldom, down to probeMost.
	probeFirst = time.Second
	probeMost  = time.Minute
	// silentAfter is how long listings must show more than a partition delivers. It outlasts a change of the
	// partition's leader.
	silentAfter = 30 * time.Second
)

// stop ends the reading of one partition; what has been read of it before stays valid.
func (in *intake) stop(p *partition, reason string) {
	if p.stopped != "" {
		return
	}
	p.stopped, p.failing, p.proof.held = reason, nil, nil
	delete(in.halts, p.id) // of another cause
	in.cond.setStopped(partName(p.id), reason)
	if in.src != nil {
		in.src.Pause(p.id)
	}
}

// stopFatal stops a partition of which Kafka has not got the next offset, or not of the history that has been read.
func (in *intake) stopFatal(p *partition, err error) {
	if errors.Is(err, kafka.ErrRecreated) {
		in.foreign[p.id] = in.Now()
		in.stop(p, kafka.ErrRecreated.Error())
		return
	}
	why := strings.TrimSuffix(err.Error(), ".")
	in.halt(p, unchanged, fmt.Sprintf("Kafka cannot serve offset %d any more: %s. Records between it and what Kafka "+
		"still has are lost to this cluster; nothing has been skipped. To give them up: deckle partitions skip "+
		"--partition %d --to OFFSET, the first one to read", in.accepted(p), why, p.id))
}

// stopForeign stops all partitions, since the topic has another id.
func (in *intake) stopForeign() {
	for _, id := range in.order {
		if p := in.parts[id]; p.stopped == "" {
			in.foreign[id] = in.Now()
			in.stop(p, kafka.ErrRecreated.Error())
		}
	}
}

// familiar takes the topic's own id, as seen by a look that began then. What has stopped because of another one, which
// a broker of another cluster may have told, can go on; it returns whether there is any.
func (in *intake) familiar(id [16]byte, begun time.Time) (again bool) {
	for p, since := range in.foreign {
		if id == in.cfg.TopicID && begun.After(since) {
			in.cond.clearStopped(partName(p))
			delete(in.foreign, p)
			again = true
		}
	}
	return again
}

// accept looks at what a poll brought and keeps the records for fill, whatever else the poll reports: the client will
// not bring them again. An error of one partition concerns that partition only; an error of accept begins a new run.
func (in *intake) accept(c *kafka.Chunk) error {
	if c.Err != nil {
		in.cond.setFetching(c.Err)
		in.troubled = in.Now()
		if errors.Is(c.Err, kafka.ErrLargeAnswer) {
			in.failAll(c.Err)
		}
	}
	for i := range c.Parts {
		part := &c.Parts[i]
		p := in.parts[part.Partition]
		if p == nil || !p.reads() || part.Gen != p.gen {
			continue
		}
		switch {
		case part.Fatal:
			in.Metrics.sourceErrors.WithLabelValues("fatal").Inc()
			in.stopFatal(p, part.Err)
			continue
		case part.Err != nil:
			// gofail: var bugErrorPasses struct{}
			// continue
			in.Metrics.sourceErrors.WithLabelValues("other").Inc()
			in.fail(p, part.Err)
			continue
		}
		p.end = max(p.end, part.End)
		next := in.accepted(p)
		if part.From != next {
			// A range says that all of it has been read: what went astray between source and here must be read again.
			return fmt.Errorf("%w: partition %d: the source handed over everything below %d, taken is everything "+
				"below %d",
				errResync, p.id, part.From, next)
		}
		if len(part.Records) == 0 {
			continue
		}
		if !p.proof.covers(part) {
			in.hold(p, part)
			continue
		}
		in.take(p, part)
	}
	return nil
}

// take accepts a part that follows what has been taken before.
func (in *intake) take(p *partition, part *kafka.Part) {
	next := in.taken(p)
	if first := part.Records[0].Offset; first > next && part.LogStart > next {
		in.halt(p, unchanged,
			fmt.Sprintf("Kafka's log begins at offset %d, the next one to read is %d: the records between are "+
				"lost to this cluster; nothing has been skipped. To give them up: deckle partitions skip "+
				"--partition %d --to %d", part.LogStart, next, p.id, part.LogStart))
		return
	}
	if in.cfg.Shards > 1 && !p.keyed && p.withoutKeys(part.Records) {
		in.halt(p, keysAgain,
			"its first records have no key, and there is more than one shard: the events of a session would be "+
				"spread over the shards. Let the producers key records by session_id: it goes on once there is one "+
				"with a key among the next 100, and those without become dead letters. Otherwise: deckle partitions "+
				fmt.Sprintf("skip --partition %d --to OFFSET", p.id))
		return
	}
	p.epoch = part.Records[len(part.Records)-1].LeaderEpoch
	if in.level >= level.Real {
		p.proof.remember(part.Records)
	}
	in.pending = append(in.pending, *part)
}

// accepted is the offset after the last record accepted from the source, pending and held ones included.
func (in *intake) accepted(p *partition) int64 {
	next := in.taken(p)
	if n := len(p.proof.held); n > 0 {
		rs := p.proof.held[n-1].Records
		next = max(next, rs[len(rs)-1].Offset+1)
	}
	return next
}

// taken is the offset after the last record taken from the source, pending ones included.
func (in *intake) taken(p *partition) int64 {
	next := p.next
	for i := range in.pending {
		if part := &in.pending[i]; part.Partition == p.id && len(part.Records) > 0 {
			next = max(next, part.Records[len(part.Records)-1].Offset+1)
		}
	}
	return next
}

// hold keeps a part until the partition's last record has been compared, and fetches no more meanwhile.
func (in *intake) hold(p *partition, part *kafka.Part) {
	if p.proof.held = append(p.proof.held, *part); len(p.proof.held) == 1 && in.src != nil {
		in.src.Pause(p.id)
	}
	in.beginComparing(in.Now())
}

// beginComparing compares the partitions of which that is due: those that this run has not compared yet, those of which
// something is held, and those that failed and may be read again. They are asked for together, once, and each has its
// verdict for itself.
func (in *intake) beginComparing(now time.Time) {
	if in.src == nil || in.compare == nil {
		return
	}
	var known []kafka.Known
	connection := in.src.Connections()
	for _, id := range in.order {
		p := in.parts[id]
		f := &p.proof
		due := f.hash != 0 && !f.asked && p.stopped == ""
		switch {
		case !due:
		case p.failing != nil:
			due = p.failing.compares && !now.Before(p.failing.due)
		default:
			due = !f.given || len(f.held) > 0
		}
		if !due {
			continue
		}
		f.asked, f.from = true, connection
		known = append(known, kafka.Known{Partition: id, Offset: f.offset, Hash: f.hash, Next: in.taken(p)})
	}
	if len(known) > 0 {
		in.startWork(func(ctx context.Context) {
			in.compare(ctx, in.cfg.TopicID, known, func(v kafka.Verdict) { in.verdicts <- v })
		})
	}
}

// compared takes the verdict on one partition.
func (in *intake) compared(v *kafka.Verdict) {
	p := in.parts[v.Partition]
	f := &p.proof
	// gofail: var bugNotCompared struct{}
	// v.Err = nil
	f.asked = false
	if p.stopped != "" {
		return
	}
	if !errors.Is(v.Err, kafka.ErrShort) {
		f.short = 0
	}
	switch {
	case v.Err == nil:
		f.given, f.connection, f.epoch = true, f.from, v.Epoch
		if v.Epoch < 0 { // brokers that do not tell it
			f.epoch = math.MaxInt32
		}
		in.goOn(p)
	case errors.Is(v.Err, kafka.ErrRecreated):
		in.stopFatal(p, v.Err)
	case errors.Is(v.Err, kafka.ErrReplaced):
		in.Metrics.sourceErrors.WithLabelValues("fatal").Inc()
		in.halt(p, unchanged, replacedText(p.id, in.taken(p), v.Err))
	case errors.Is(v.Err, kafka.ErrShort):
		if f.short++; f.short >= shortListings {
			in.Metrics.sourceErrors.WithLabelValues("fatal").Inc()
			in.halt(p, unchanged, shortText(p.id, in.taken(p), v.Err))
			return
		}
		in.failComparing(p, v.Err)
	default:
		in.Metrics.sourceErrors.WithLabelValues("other").Inc()
		in.failComparing(p, v.Err)
	}
}

// failComparing pauses a partition whose last record cannot be compared for now.
func (in *intake) failComparing(p *partition, err error) {
	if p.failing != nil && !p.failing.compares {
		return // it cannot be read at all; once it can, this comes first
	}
	in.fail(p, fmt.Errorf("the last record that was read, at offset %d, cannot be compared with the log, and nothing "+
		"is read before: %w (deckle partitions skip --partition %d --to %d goes on without it)", p.proof.offset, err,
		p.id, in.taken(p)))
	p.failing.compares = true
}

// goOn reads a partition whose log is the one that was read.
func (in *intake) goOn(p *partition) {
	if p.failing != nil {
		if p.failing.compares {
			in.readAgain(p)
		}
		return
	}
	held := p.proof.held
	p.proof.held = nil
	for i := range held {
		if !p.reads() {
			return
		}
		if part := &held[i]; p.proof.covers(part) {
			in.take(p, part)
		} else {
			in.hold(p, part)
		}
	}
	if len(held) > 0 && len(p.proof.held) == 0 && !p.ahead && p.reads() && in.src != nil {
		in.src.Resume(p.id)
	}
}

// compareFirst lets a partition that failed, and that a probe has read, be read again once its last record has been
// compared.
func (in *intake) compareFirst(p *partition, now time.Time) {
	if p.proof.hash == 0 || in.level < level.Real {
		in.readAgain(p)
		return
	}
	p.failing.compares, p.failing.due = true, now
}

// fail pauses a partition that cannot be read for now. What has been accepted of it stays valid; what its source still
// brings is of no use, since it may lie behind what could not be read.
func (in *intake) fail(p *partition, err error) {
	if p.stopped != "" {
		return
	}
	p.proof.held = nil // it is read again
	next := in.accepted(p)
	f := p.failing
	if f == nil {
		f = &failure{at: next, wait: newBackoff(probeFirst, probeMost)}
		if p.lastFail != nil && p.lastFail.at == next { // the probe was wrong
			f.wait = p.lastFail.wait
		}
		p.failing, p.silent = f, time.Time{}
		if in.src != nil {
			in.src.Pause(p.id)
		}
	}
	f.err, f.due = err, in.Now().Add(f.wait.NextBackOff())
	in.cond.setFailing(partName(p.id), fmt.Errorf("offset %d: %w", next, err))
}

// failAll pauses all partitions, where the client does not tell which of them is at fault. The probes find those that
// are not.
func (in *intake) failAll(err error) {
	for _, id := range in.order {
		if p := in.parts[id]; p.failing == nil {
			in.fail(p, err)
		}
	}
}

// retryFailing takes the result of a probe, and begins the next one that is due.
func (in *intake) retryFailing(now time.Time) {
	if pr := in.probe; pr != nil {
		select {
		case <-pr.done:
		default:
			return
		}
		in.probe = nil
		switch {
		case pr.p.failing == nil: // stopped meanwhile
		case pr.fatal:
			in.stopFatal(pr.p, pr.err)
		case pr.err != nil:
			in.fail(pr.p, pr.err)
		default:
			in.readable(pr.p, now)
		}
	}
	var next *partition
	for _, id := range in.order {
		p := in.parts[id]
		due := p.failing != nil && !p.failing.compares && !now.Before(p.failing.due)
		if due && (next == nil || p.failing.due.Before(next.failing.due)) {
			next = p
		}
	}
	if next != nil && in.src != nil {
		in.startProbe(next)
	}
}

func (in *intake) startProbe(p *partition) {
	pr := &probe{p: p, done: make(chan struct{})}
	at := in.place(p)
	in.probe = pr
	in.startWork(func(ctx context.Context) {
		defer close(pr.done)
		pr.fatal, pr.err = in.Kafka.Probe(ctx, in.cfg.TopicID, at)
	})
}

// place is where a partition stands that nothing more is accepted of.
func (in *intake) place(p *partition) state.PartitionStatus {
	return state.PartitionStatus{Partition: p.id, Next: in.accepted(p), LeaderEpoch: p.epoch}
}

// readable is told that a probe has read a partition. So can be read those that lack the same right. The others that
// fail are tried at once: what was mended may have been theirs, too.
func (in *intake) readable(p *partition, now time.Time) {
	lacked := rights.Missing(p.failing.err)
	for _, id := range in.order {
		o := in.parts[id]
		switch {
		case o.failing == nil:
		case o != p && !(lacked && rights.Missing(o.failing.err)):
			o.failing.due = now
		default:
			in.compareFirst(o, now)
		}
	}
}

// readAgain reads a partition again that failed.
func (in *intake) readAgain(p *partition) {
	in.cond.setFailing(partName(p.id), nil)
	in.cond.keep(condition.PartitionPaused, partName(p.id), "")
	p.lastFail, p.failing, p.ahead, p.silent = p.failing, nil, false, time.Time{}
	p.atEnd = time.Time{}
	p.gen++
	in.src.Restart(in.place(p), p.gen)
}

// observeSilence finds a partition that delivers nothing although listings show that there is more.
func (in *intake) observeSilence(p *partition, l *kafka.Listing, now time.Time) {
	end, known := l.Ends[p.id]
	switch {
	case !known || !p.reads() || !p.proof.proven() || p.ahead || in.src == nil || in.paused != "" ||
		p.applied != in.accepted(p) || end <= p.applied:
		p.silent = time.Time{}
	case l.Begun.Before(p.moved):
	case p.silent.IsZero():
		p.silent = now
	case now.Sub(p.silent) >= silentAfter:
		in.Metrics.sourceErrors.WithLabelValues("silent").Inc()
		in.fail(p, fmt.Errorf("%w from offset %d to %d", kafka.ErrSilent, p.applied, end))
	}
}

// obey carries out a command. It returns an error if a new run must begin.
func (in *intake) obey(ctx context.Context, o *order) error {
	defer close(o.done)
	p := in.parts[o.Partition]
	switch {
	case p == nil:
		o.err = refused("partition %d is not one of shard %d", o.Partition, in.id)
		return nil
	case p.reads():
		o.err = refused("partition %d is neither stopped nor failing", p.id)
		return nil
	case o.Resume:
		o.outcome.Next = p.applied
		in.log.Warn("an operator lets a partition be tried again", "partition", p.id, "by", o.By)
		in.letGo(p)
		return errOrdered
	case in.level < level.Real:
		o.err = refused("shard %d has level 1, in which no offset can be given up; it rises once all nodes run this "+
			"version", in.id)
		return nil
	}
	gap := &state.Gap{Partition: p.id, From: o.From, To: o.To, At: in.Now().UnixMilli(), By: o.By, Reason: o.Reason}
	wctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	res, err := in.group.Propose(state.EncodeSkip(gap)).Wait(wctx)
	if err != nil {
		o.err = fmt.Errorf("it is not known whether the offsets were given up, see the status: %w", err)
		return err
	}
	skip, ok := res.Value.(*state.SkipResult)
	if !ok {
		o.err = fmt.Errorf("%w: result %T", errResync, res.Value)
		return o.err
	}
	if skip.Rejected {
		o.err = refused("the next offset of partition %d is %d, not %d", p.id, skip.Next, o.From)
		return nil
	}
	o.outcome = status.Outcome{Next: skip.Next, Skipped: o.To - o.From}
	in.log.Warn("an operator has given up offsets of a partition", "partition", p.id, "from", o.From, "to", o.To,
		"offsets", o.To-o.From, "by", o.By, "reason", o.Reason, "epoch", skip.Epoch)
	in.letGo(p)
	return errOrdered
}

// letGo forgets why a partition is stopped. The next run finds out whether that still holds.
func (in *intake) letGo(p *partition) {
	in.cond.clearStopped(partName(p.id))
	delete(in.foreign, p.id)
	delete(in.halts, p.id)
}

// halt stops a partition, and looks again and again whether it can go on.
func (in *intake) halt(p *partition, by look, reason string) {
	if p.stopped != "" {
		return
	}
	next := in.taken(p)
	h := in.halts[p.id]
	if h == nil || h.at != next { // otherwise the look was wrong, and the next one comes later
		h = &halted{at: next, wait: newBackoff(againFirst, againMost)}
	}
	h.look, h.due = by, in.Now().Add(h.wait.NextBackOff())
	in.stop(p, reason)
	in.halts[p.id] = h
}

// retryStopped takes the result of a look, and begins one at all partitions for which it is due. The error begins a new
// run.
func (in *intake) retryStopped(view *state.View, now time.Time) error {
	if l := in.second; l != nil {
		select {
		case <-l.done:
		default:
			return nil
		}
		in.second = nil
		if goOn := in.looked(l, now); len(goOn) > 0 {
			return fmt.Errorf("%w: partitions %v", errGoesOn, goOn)
		}
	}
	l := &secondLook{done: make(chan struct{})}
	var looks []func(ctx context.Context) error
	for _, s := range view.Partitions {
		p, h := in.parts[s.Partition], in.halts[s.Partition]
		if p == nil || h == nil || p.stopped == "" || now.Before(h.due) || s.Next != in.accepted(p) {
			continue
		}
		by := h.look
		l.parts = append(l.parts, s.Partition)
		looks = append(looks, func(ctx context.Context) error { return by(ctx, in.Kafka, in.cfg.TopicID, s) })
	}
	if len(looks) == 0 {
		return nil
	}
	in.second, l.errs = l, make([]error, len(looks))
	in.startWork(func(ctx context.Context) {
		defer close(l.done)
		var each errgroup.Group
		each.SetLimit(looksAtOnce)
		for i, look := range looks {
			each.Go(func() error {
				l.errs[i] = look(ctx)
				return nil
			})
		}
		_ = each.Wait() // each error belongs to its partition
	})
	return nil
}

// looked takes the results of a look, and returns the partitions that can go on.
func (in *intake) looked(l *secondLook, now time.Time) (goOn []int32) {
	for i, id := range l.parts {
		h := in.halts[id]
		if h == nil || in.parts[id].stopped == "" { // something else has happened to it meanwhile
			continue
		}
		if err := l.errs[i]; err != nil {
			in.log.Debug("a partition stays stopped", "partition", id, "error", err)
			h.due = now.Add(h.wait.NextBackOff())
			continue
		}
		in.log.Info("what has stopped a partition is gone", "partition", id, "offset", h.at)
		in.cond.clearStopped(partName(id))
		goOn = append(goOn, id)
	}
	return goOn
}
