package state

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
)

const (
	defaultMaxTimers = 5000
	// maxVisited is the number of sessions that may be brought to memory before it is checked whether some should leave
	// it.
	maxVisited = 4096
)

// lookup returns the live session of an id, from memory or from Pebble; nil if there is none.
func (s *Store) lookup(sid string) (*session, error) {
	if ss, ok := s.sessions[sid]; ok {
		return ss, nil
	}
	if !s.live.mayHave(sid) {
		return nil, nil
	}
	if _, ok := s.purgedIDs[sid]; ok {
		return nil, nil
	}
	ss, err := s.meta.readLive(s.db, sid)
	if ss == nil || err != nil {
		return nil, err
	}
	s.sessions[ss.id] = ss
	s.evictCandidates = append(s.evictCandidates, ss)
	s.updateMemory(ss)
	return ss, nil
}

// updateMemory corrects the count of memory by what the session's size has changed.
func (s *Store) updateMemory(ss *session) {
	n := ss.size()
	s.memory += n - ss.charged
	ss.charged = n
}

// markChanged marks a session as changed by the entry under way.
func (s *Store) markChanged(ss *session) {
	if len(ss.events) >= s.opts.segmentBytes && s.meta.level() >= level.Real {
		ss.seal()
	}
	before := ss.charged
	s.updateMemory(ss)
	if !ss.changed {
		ss.changed = true
		s.changed = append(s.changed, ss)
	}
	if !ss.dirty {
		ss.dirty = true
		s.dirtyBytes += ss.charged
	} else {
		s.dirtyBytes += ss.charged - before
	}
}

// refuses says for what a batch is refused as a whole. A leader whose replica lags has another list of suppressed
// readers, and could let one in; so the list takes effect at one place of the log.
func (s *Store) refuses(e *BatchEntry) BatchRefusal {
	b := &e.Batch
	// gofail: var bugOldList struct{}
	// b.List = s.meta.Suppress.Number
	switch {
	case e.Level > s.meta.level():
		return BatchByLevel
	case len(b.Ranges) > 0 && b.Rules != s.meta.Rules.Number:
		return BatchByRules
	case len(b.Ranges) > 0 && b.List != s.meta.Suppress.Number:
		return BatchByList
	}
	for _, r := range b.Ranges {
		if p := s.meta.partition(r.Partition); p == nil || p.Next != r.From || r.To <= r.From {
			return BatchByOffsets
		}
	}
	return BatchTaken
}

func (s *Store) applyBatch(e *BatchEntry) (*BatchResult, error) {
	b := &e.Batch
	if why := s.refuses(e); why != BatchTaken {
		return &BatchResult{Rejected: true, Why: why, Next: slices.Clone(s.meta.Partitions)}, nil
	}
	res := &BatchResult{Epoch: s.meta.OpenEpoch}
	now := min(e.Now/1000, math.MaxInt64-maxWatermarkLead)
	sessionOf, n := s.scratch.Sessions()
	s.visited = slices.Grow(s.visited[:0], n)[:n]
	defer clear(s.visited)
	for i := range b.Items {
		it := &b.Items[i]
		verdict, err := s.applyItem(it, &s.visited[sessionOf[i]], now, e.Level >= level.Real)
		if err != nil {
			return nil, err
		}
		switch verdict {
		case counted:
			res.Applied++
		case duplicate:
			res.Duplicates++
			res.Left = append(res.Left, Position{it.Partition, it.Offset})
		default:
			res.Left = append(res.Left, Position{it.Partition, it.Offset})
		}
		s.meta.partition(it.Partition).observeEvent(it, now, s.meta.level())
	}
	s.open.LeftOut = append(s.open.LeftOut, res.Left...)
	for i := range b.Rejects {
		r := &b.Rejects[i]
		s.addLetter(DeadLetter{Reject: *r})
		s.open.LeftOut = append(s.open.LeftOut, Position{r.Partition, r.Offset})
		if s.meta.level() == level.First {
			// A partition that carries only rejects has no event time, and is not idle either. A reject says that time
			// has passed: the partition's watermark follows its Kafka time, less the time for which a session may be
			// silent. So the partition does not stop the shard's clock for ever. From level 2 on, Kafka times do that.
			p := s.meta.partition(r.Partition)
			p.Watermark = max(p.Watermark, min(r.KafkaTimestamp/1000, now)-seconds(s.meta.Config.IdleTimeout))
		}
	}
	s.leaveOutSuppressed(b)
	for i, r := range b.Ranges {
		p := s.meta.partition(r.Partition)
		p.Next, p.LeaderEpoch = r.To, r.LeaderEpoch
		if len(b.Seen) > 0 && b.Seen[i].LastHash != 0 {
			p.LastOffset, p.LastHash = b.Seen[i].LastOffset, b.Seen[i].LastHash
		}
		s.extendOpenRange(r)
	}
	s.open.Events += res.Applied
	s.open.Duplicates += res.Duplicates
	s.meta.Applied += res.Applied
	s.meta.Duplicates += res.Duplicates
	s.meta.Nulls += b.Nulls
	s.addCounts(&b.Counts)
	s.dirtyBytes += int64(16*len(res.Left) + 16*len(b.Rejects))
	for i := range s.meta.Partitions {
		p := &s.meta.Partitions[i]
		p.Idle = slices.Contains(e.Idle, p.Partition)
	}
	if s.meta.level() >= level.Real {
		s.meta.observeKafka(b, now)
		if s.meta.leaveOut(e.Out) {
			s.dirtyBytes++
		}
		s.meta.letIn(b.Ranges)
	}
	if err := s.advanceClock(s.meta.clockTarget(e.Elapsed)); err != nil {
		return nil, err
	}
	res.Clock = s.meta.clock()
	if len(s.evictCandidates) >= maxVisited && s.memory > s.opts.SessionMemoryBytes {
		// Duplicates and late records bring sessions to memory without changing much, so that no checkpoint comes soon.
		s.evict()
	}
	return res, nil
}

// applySkip gives up the offsets of a gap.
func (s *Store) applySkip(g *Gap) *SkipResult {
	next, ok := s.meta.skip(g)
	if !ok {
		return &SkipResult{Rejected: true, Next: next}
	}
	s.open.Gaps = append(s.open.Gaps, *g)
	s.dirtyBytes += int64(100 + len(g.By) + len(g.Reason))
	return &SkipResult{Next: next, Epoch: s.meta.OpenEpoch}
}

// applySkipEvents gives up the raw events of a gap. A closed epoch never changes (I4), so the gap stands in meta until
// the sink of raw events has acknowledged the last epoch that it reaches into, and a plan is read through it.
func (s *Store) applySkipEvents(g *Gap) (*EventsSkipResult, error) {
	p := s.meta.partition(g.Partition)
	if p == nil || s.meta.level() < level.Real || !s.enabled(SinkEvents) {
		return &EventsSkipResult{Rejected: true, From: -1, To: -1}, nil
	}
	from, until, err := s.unacknowledged(g)
	if err != nil {
		return nil, err
	}
	res := &EventsSkipResult{From: from, To: p.Next}
	if g.From < g.To && s.meta.EventGaps[g.Partition].Covers(g.From, g.To) {
		return res, nil // a repetition
	}
	fresh := cutOut(event.Range{Partition: g.Partition, From: g.From, To: g.To}, s.meta.pendingRanges(g.Partition))
	res.Full = len(s.meta.PendingGaps)+len(fresh) > maxPendingGaps
	if g.From >= g.To || g.From < res.From || g.To > res.To || until == 0 || res.Full {
		res.Rejected = true
		return res, nil
	}
	all := slices.Clone(s.meta.PendingGaps) // plans share the former list
	for _, r := range fresh {
		c := *g
		c.From, c.To = r.From, r.To
		res.Offsets += c.To - c.From
		all = append(all, EventsGap{c, until})
		s.meta.EventGaps = noteGap(s.meta.EventGaps, &c)
		s.dirtyBytes += int64(100 + len(g.By) + len(g.Reason))
	}
	slices.SortFunc(all, func(a, b EventsGap) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.From, b.From))
	})
	s.meta.PendingGaps = all
	return res, nil
}

// unacknowledged returns the first offset of a gap's partition that has been applied and that the sink of raw events
// has not acknowledged (the next offset, if there is none), and the last epoch that has such an offset of the gap (0,
// if there is none).
func (s *Store) unacknowledged(g *Gap) (from int64, until uint64, err error) {
	from = math.MaxInt64
	visit := func(e *EpochInfo) {
		for _, r := range e.Ranges {
			if r.Partition == g.Partition {
				from = min(from, r.From)
				if max(r.From, g.From) < min(r.To, g.To) {
					until = e.Epoch
				}
			}
		}
	}
	for epoch := s.meta.Sinks[SinkEvents].Acked + 1; epoch <= s.meta.LastClosed; epoch++ {
		// Every Cut makes a checkpoint, so Pebble has the epochs that are closed.
		e, err := readEpochInfo(s.db, epoch)
		if err != nil {
			return 0, 0, fmt.Errorf("raw events of partition %d: %w", g.Partition, err)
		}
		visit(&e)
	}
	visit(&s.open)
	return min(from, s.meta.partition(g.Partition).Next), until, nil
}

// extendOpenRange adds a range that was applied to those of the open epoch. One that follows a gap is a range of its
// own.
func (s *Store) extendOpenRange(r event.Range) {
	for i := range s.open.Ranges {
		if o := &s.open.Ranges[i]; o.Partition == r.Partition && o.To == r.From {
			o.To, o.LeaderEpoch = r.To, r.LeaderEpoch
			return
		}
	}
	s.open.Ranges = append(s.open.Ranges, r)
}

type verdict uint8

const (
	counted verdict = iota
	duplicate
	deadLetter
)

// applyItem judges one item and folds it into its session. It asks first whether the item is a duplicate, then whether
// it is too late, then whether the session is full. visited is the item's session if an item before it has found that;
// no session leaves the memory during a batch. now is the leader's wall clock, in Unix seconds; keys says that the item
// tells its key.
func (s *Store) applyItem(it *event.Item, visited **session, now int64, keys bool) (verdict, error) {
	ss := *visited
	if ss == nil {
		var err error
		if ss, err = s.lookup(it.SessionID); err != nil {
			return 0, err
		}
		*visited = ss
	}
	if ss != nil && ss.has(it.ID) {
		if keys && ss.key.known {
			s.meta.Keys.compare(&ss.key, ss.origin, it, s.meta.OpenEpoch)
		}
		return duplicate, nil
	}
	if h := s.meta.horizon(); it.Timestamp < h {
		s.rejectItem(it, event.TooLate, s.tooLate(it.Timestamp, h))
		return deadLetter, nil
	}
	end := it.Type == event.SessionEnd
	if ss != nil && (!end && ss.total >= maxCounted || end && ss.ends >= maxSessionEnds) {
		s.rejectItem(it, event.SessionFull, fmt.Sprintf("session has %d events and %d session_ends", ss.total, ss.ends))
		return deadLetter, nil
	}
	if most := s.meta.Rules.MaxSessionBytes; ss != nil && !end && most > 0 && ss.eventBytes() >= most {
		s.rejectItem(it, event.SessionFull, fmt.Sprintf("session has %d events of %d bytes, the limit is %d bytes",
			ss.total, ss.eventBytes(), most))
		s.meta.FullByBytes++
		return deadLetter, nil
	}
	if ss == nil {
		ss = &session{
			id: strings.Clone(it.SessionID), origin: Position{it.Partition, it.Offset},
			originDay: schema.Day(it.Timestamp), status: schema.StatusOpen, last: it.Timestamp,
			touched: untouched, visit: visit{real: s.meta.level() >= level.Real},
			opening: openingOf(it, s.meta.level()),
		}
		if end { // fold sets these with the first counted event
			ss.start, ss.end = it.Timestamp, it.Timestamp
		}
		*visited = ss
		s.sessions[ss.id] = ss
		s.live.add(ss.id)
		s.meta.Live++
		s.meta.Open++
	}
	switch {
	case !keys:
	case ss.key.known:
		s.meta.Keys.compare(&ss.key, ss.origin, it, s.meta.OpenEpoch)
	default:
		ss.key.set(it)
	}
	ss.touched = s.meta.touched(ss.touched, it, now)
	if end {
		s.endSession(ss, it)
	} else {
		s.foldEvent(ss, it)
	}
	s.markChanged(ss)
	return counted, nil
}

// tooLate is the detail of an event before the horizon.
func (s *Store) tooLate(timestamp, horizon int64) string {
	if s.meta.Rules.Event.Letters.Details == event.TypeDetails {
		return fmt.Sprintf("timestamp is before the horizon %d", horizon)
	}
	return fmt.Sprintf("timestamp %d is before the horizon %d", timestamp, horizon)
}

func (s *Store) foldEvent(ss *session, it *event.Item) {
	ss.fold(it, s.valBuf[:0])
	ss.former = ss.former || ss.real && s.meta.Rules.Event.Forms < event.FormsReal
	s.meta.Counted++
	if it.MetricsOmitted {
		s.meta.MetricsOmitted++
	}
	switch {
	case ss.status != schema.StatusOpen:
		s.revise(ss)
		s.setTimer(ss, ss.last+seconds(s.meta.Config.Retention)+1)
	case !ss.closing:
		s.setTimer(ss, s.meta.expiry(ss.last))
	}
}

func (s *Store) endSession(ss *session, it *event.Item) {
	ss.remember(it.ID)
	ss.ends++
	ss.last = max(ss.last, it.Timestamp)
	switch {
	case ss.status == schema.StatusExpired: // a session that ever got its session_end is closed, whatever came first
		ss.status = schema.StatusClosed
		s.revise(ss)
	case ss.status == schema.StatusOpen && !ss.closing:
		ss.closing = true
		s.setTimer(ss, max(s.meta.clock(), it.Timestamp)+seconds(s.meta.Config.Grace))
	}
	if ss.status != schema.StatusOpen {
		s.setTimer(ss, ss.last+seconds(s.meta.Config.Retention)+1)
	}
}

// revise counts a change of a row that was already published as closed. It counts once per epoch, because the row
// changes once per image.
func (s *Store) revise(ss *session) {
	if ss.firstClosed != 0 && ss.revised != s.meta.OpenEpoch {
		ss.revision++
		ss.revised = s.meta.OpenEpoch
	}
}

func (s *Store) rejectItem(it *event.Item, reason event.Reason, detail string) {
	s.addLetter(DeadLetter{Reject: event.Reject{
		Partition: it.Partition, Offset: it.Offset, KafkaTimestamp: it.KafkaTimestamp, Reason: reason, Detail: detail,
	}})
}

func (s *Store) addLetter(l DeadLetter) {
	s.meta.NextSeq++
	l.Seq, l.Epoch = s.meta.NextSeq, s.meta.OpenEpoch
	l.Detail = strings.Clone(l.Detail)
	s.letters = append(s.letters, l)
	s.open.Letters++
	s.meta.DeadLetters[l.Reason]++
	s.dirtyBytes += int64(100 + len(l.Detail) + len(l.Row))
}

// advanceClock moves the clock to target and fires timers on the way, at most Config.MaxTimers of them. If more are
// due, the clock waits at the last one that fired.
func (s *Store) advanceClock(target int64) error {
	s.meta.TimersDue = false
	if target == 0 {
		return nil
	}
	limit := s.meta.Config.MaxTimers
	if limit <= 0 {
		limit = defaultMaxTimers
	}
	reached := int64(0)
	fired, more, err := s.fireDue(timerClose, target/1000, limit, func(ss *session) error {
		reached = ss.deadline
		if ss.closing {
			ss.status = schema.StatusClosed
		} else {
			ss.status = schema.StatusExpired
		}
		s.meta.Open--
		s.setTimer(ss, ss.last+seconds(s.meta.Config.Retention)+1)
		s.markChanged(ss)
		return nil
	})
	if err != nil {
		return err
	}
	if more {
		target = max(s.meta.ClockMillis, min(target, reached*1000))
	}
	s.meta.ClockMillis = max(s.meta.ClockMillis, target)
	s.meta.raiseHorizon()
	_, morePurges, err := s.fireDue(timerPurge, s.meta.horizon()+seconds(s.meta.Config.Retention), limit-fired, s.purge)
	s.meta.TimersDue = more || morePurges
	return err
}

// purge forgets a closed session. It cannot be looked up any more at once, but its last image stays until every sink
// has it.
func (s *Store) purge(ss *session) error {
	delete(s.sessions, ss.id)
	s.purgedIDs[ss.id] = struct{}{}
	s.live.remove(ss.id)
	s.meta.Live--
	ss.purged = true
	if s.meta.Unwritten.some() {
		s.meta.Unwritten.change(ss.rowKey(), func(r *unwrittenRow) { r.Until = s.meta.OpenEpoch })
	}
	s.dirtyBytes += ss.charged
	if ss.storedTimer != 0 {
		s.pendingDeletes[string(appendTimerKey(nil, ss.storedKind, ss.storedTimer, ss.id))] = struct{}{}
		ss.storedTimer = 0
	}
	if ss.changed { // the Cut writes its last image
		s.markChanged(ss)
		return nil
	}
	s.memory -= ss.charged
	s.endPurged(ss)
	return nil
}

// endPurged ends what a purged session still holds: its count on a date of the rollups, its last image, and its
// segments.
func (s *Store) endPurged(ss *session) {
	if ss.rolled.counted {
		s.countLive(ss.rolled.date, -1)
	}
	row := string(appendRowKey(nil, ss.id, ss.origin))
	s.deleteWhenUnneeded(garbageKey{prefixImage, ss.imageEpoch, row}, forever)
	if len(ss.segments) > 0 { // every sink is past the older images, too, once it is past the last one
		s.deleteWhenUnneeded(garbageKey{prefixSegment, ss.imageEpoch, row}, forever)
	}
}

func (s *Store) applyHorizon(horizon int64) error {
	c := s.meta.Config
	if s.meta.ClockMillis > 0 {
		horizon = min(horizon, s.meta.clock()-seconds(c.IdleTimeout+c.Grace))
		s.meta.Forced = max(s.meta.Forced, horizon)
		s.meta.raiseHorizon()
	}
	s.dirtyBytes++
	return s.advanceClock(s.meta.ClockMillis)
}

// leaveOutSuppressed notes the records of suppressed readers: a re-fetch passes them, whatever the list says by then.
// They are not among BatchResult.Left, which has items only.
func (s *Store) leaveOutSuppressed(b *event.Batch) {
	for i := range b.Suppressed {
		r := &b.Suppressed[i]
		s.open.LeftOut = append(s.open.LeftOut, Position{r.Partition, r.Offset})
		if r.By == event.SuppressUser {
			s.meta.RuleCounts.SuppressedUsers++
		} else {
			s.meta.RuleCounts.SuppressedSessions++
		}
	}
	// gofail: var bugSuppressedNotLeft struct{}
	// s.open.LeftOut = s.open.LeftOut[:len(s.open.LeftOut)-len(b.Suppressed)]
	s.open.Suppressed += int64(len(b.Suppressed))
	s.dirtyBytes += int64(16 * len(b.Suppressed))
}
