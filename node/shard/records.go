package shard

import (
	"context"
	"errors"
	"fmt"
	"time"

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
	p.stopped, p.failing = reason, nil
	in.cond.setStopped(partName(p.id), reason)
	if in.src != nil {
		in.src.Pause(p.id)
	}
}

// stopFatal stops a partition of which Kafka has not got the next offset, or not of the history that has been read.
func (in *intake) stopFatal(p *partition, err error) {
	if errors.Is(err, kafka.ErrRecreated) {
		in.foreign[p.id] = in.Now()
	}
	in.stop(p, fmt.Sprintf("Kafka cannot serve offset %d any more: %v. Records between it and what Kafka still has "+
		"are lost to this cluster; nothing has been skipped. To give them up: deckle partitions skip --partition %d "+
		"--to OFFSET, the first one to read", in.accepted(p), err, p.id))
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
		if first := part.Records[0].Offset; first > next && part.LogStart > next {
			in.stop(p,
				fmt.Sprintf("Kafka's log begins at offset %d, the next one to read is %d: the records between are "+
					"lost to this cluster; nothing has been skipped. To give them up: deckle partitions skip "+
					"--partition %d --to %d", part.LogStart, next, p.id, part.LogStart))
			continue
		}
		if in.cfg.Shards > 1 && !p.keyed && p.withoutKeys(part.Records) {
			in.stop(p,
				"its first records have no key, and there is more than one shard: the events of a session would be "+
					"spread over the shards. Let the producers key records by session_id; then: deckle partitions "+
					fmt.Sprintf("resume --partition %d", p.id))
			continue
		}
		p.epoch = part.Records[len(part.Records)-1].LeaderEpoch
		in.pending = append(in.pending, *part)
	}
	return nil
}

// accepted is the offset after the last record accepted from the source, pending ones included.
func (in *intake) accepted(p *partition) int64 {
	next := p.next
	for i := range in.pending {
		if part := &in.pending[i]; part.Partition == p.id && len(part.Records) > 0 {
			next = max(next, part.Records[len(part.Records)-1].Offset+1)
		}
	}
	return next
}

// fail pauses a partition that cannot be read for now. What has been accepted of it stays valid; what its source still
// brings is of no use, since it may lie behind what could not be read.
func (in *intake) fail(p *partition, err error) {
	if p.stopped != "" {
		return
	}
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
			in.readAgain(pr.p, now)
		}
	}
	var next *partition
	for _, id := range in.order {
		p := in.parts[id]
		due := p.failing != nil && !now.Before(p.failing.due)
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

// readAgain reads a partition again, whose probe has read it, and those with it that lack the same right. The others
// that fail are tried at once: what was mended may have been theirs, too.
func (in *intake) readAgain(p *partition, now time.Time) {
	lacked := rights.Missing(p.failing.err)
	for _, id := range in.order {
		o := in.parts[id]
		switch {
		case o.failing == nil:
		case o != p && !(lacked && rights.Missing(o.failing.err)):
			o.failing.due = now
		default:
			in.cond.setFailing(partName(o.id), nil)
			in.cond.keep(condition.PartitionPaused, partName(o.id), "")
			o.lastFail, o.failing, o.ahead, o.silent = o.failing, nil, false, time.Time{}
			o.atEnd = time.Time{}
			o.gen++
			in.src.Restart(in.place(o), o.gen)
		}
	}
}

// observeSilence finds a partition that delivers nothing although listings show that there is more.
func (in *intake) observeSilence(p *partition, l *kafka.Listing, now time.Time) {
	end, known := l.Ends[p.id]
	switch {
	case !known || !p.reads() || p.ahead || in.src == nil || in.paused != "" || p.applied != in.accepted(p) ||
		end <= p.applied:
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
}
