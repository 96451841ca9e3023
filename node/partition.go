package node

import (
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/kafka"
	"deckle/state"
)

// partition is where one partition of the shard stands in this run of the intake.
type partition struct {
	id        int32
	next      int64     // the next offset to propose
	applied   int64     // the next offset to apply
	moved     time.Time // when applied last moved, or the run began
	last      int64     // Kafka timestamp of the last applied record, Unix milliseconds; 0 before the first
	end       int64     // last stable offset, as last heard of
	atEnd     time.Time // since when it has been seen at its end; zero if it has not
	seenAtEnd time.Time // the last look that showed it there
	short     int       // looks in a row that showed a log shorter than what has been applied
	ahead     bool      // paused: too far ahead of the shard's clock
	stopped   string    // why it waits for a person
	unkeyed   int       // first records, all without a key
	keyed     bool      // one has had a key
}

const (
	// firstRecords are looked at to tell a producer without keys from a stray record; fewest must have been seen.
	firstRecords = 100
	fewestFirst  = 10
	// shortLooks in a row make a log that is too short a fact.
	shortLooks = 3
)

func partName(p int32) string { return fmt.Sprintf("partition %d", p) }

// isStopped returns why the partition waits for a person in this leadership, "" if it does not.
func (s *shard) isStopped(p int32) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped[partName(p)]
}

// stop ends the reading of one partition; what has been read of it before stays valid.
func (in *intake) stop(p *partition, reason string) {
	if p.stopped != "" {
		return
	}
	p.stopped = reason
	in.setStopped(partName(p.id), reason)
	in.log.Error("partition stopped, a person is needed", "partition", p.id, "offset", p.next, "reason", reason)
	if in.src != nil {
		in.src.Pause(p.id)
	}
}

func (in *intake) stopAll(reason string) {
	for _, id := range in.order {
		in.stop(in.parts[id], reason)
	}
}

// take looks at what a poll brought and keeps the records for fill, whatever else the poll reports: the client will not
// bring them again. An error begins a new run.
func (in *intake) take(c *kafka.Chunk) error {
	if c.Err != nil {
		in.setFailing("source", c.Err)
	}
	for i := range c.Parts {
		part := &c.Parts[i]
		p := in.parts[part.Partition]
		if p == nil || p.stopped != "" {
			continue
		}
		switch {
		case part.Fatal:
			in.n.metrics.sourceErrors.WithLabelValues("fatal").Inc()
			in.stop(p, fmt.Sprintf("Kafka cannot serve offset %d any more: %v. Records between it and what Kafka still has "+
				"are lost to this cluster; nothing has been skipped", p.next, part.Err))
			continue
		case part.Err != nil:
			in.n.metrics.sourceErrors.WithLabelValues("other").Inc()
			return fmt.Errorf("kafka: %s/%d: %w", in.cfg.Topic, part.Partition, part.Err)
		}
		p.end = max(p.end, part.End)
		next := in.taken(p)
		if part.From != next {
			// A range says that all of it has been read: what went astray between source and here must be read again.
			return fmt.Errorf("%w: partition %d: the source handed over everything below %d, taken is everything below %d",
				errResync, p.id, part.From, next)
		}
		if len(part.Records) == 0 {
			continue
		}
		if first := part.Records[0].Offset; first > next && part.LogStart > next {
			in.stop(p, fmt.Sprintf("Kafka's log begins at offset %d, the next one to read is %d: the records between are lost "+
				"to this cluster; nothing has been skipped", part.LogStart, next))
			continue
		}
		if in.cfg.Shards > 1 && !p.keyed && in.withoutKeys(p, part.Records) {
			in.stop(p, "its first records have no key, and there is more than one shard: the events of a session would be "+
				"spread over the shards. Let the producers key records by session_id")
			continue
		}
		in.pending = append(in.pending, *part)
	}
	return nil
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

// withoutKeys looks at the first records of a partition. A few without a key are dead letters; if there is not one with
// a key among many, it is the producer's habit.
func (in *intake) withoutKeys(p *partition, rs []*kgo.Record) bool {
	for _, r := range rs {
		if r.Attrs.IsControl() {
			continue
		}
		if len(r.Key) > 0 || p.unkeyed >= firstRecords {
			p.keyed = len(r.Key) > 0
			return !p.keyed
		}
		p.unkeyed++
	}
	return p.unkeyed >= fewestFirst
}

// look takes a new listing of the topic's ends.
func (in *intake) look(l *kafka.Listing, now time.Time) error {
	if l.Err != nil {
		in.setFailing("source", l.Err)
		return nil
	}
	in.setFailing("source", l.Missing(in.order))
	if !kafka.SameTopic(in.cfg.TopicID, l.Info.ID) {
		in.stopAll(kafka.ErrRecreated.Error())
		return nil
	}
	if in.src == nil && slices.ContainsFunc(in.order, func(p int32) bool { return in.parts[p].stopped == "" }) {
		return fmt.Errorf("%w: the topic can be read again", errResync)
	}
	unread := 0
	for p := int(in.id); p < l.Info.Partitions; p += int(in.cfg.Shards) {
		if in.parts[int32(p)] == nil {
			unread++
		}
	}
	if unread > 0 && (in.listed == nil || in.listed.Info.Partitions != l.Info.Partitions) {
		in.log.Warn("the topic has new partitions that nobody reads", "partitions", unread)
	}
	in.n.metrics.unread.WithLabelValues(in.label()).Set(float64(unread))
	for _, id := range in.order {
		in.parts[id].look(l, now)
		if p := in.parts[id]; p.short >= shortLooks {
			in.stop(p, fmt.Sprintf("Kafka's log ends at offset %d, but records up to %d have been read: the log was cut or "+
				"replaced", l.Ends[id], p.applied))
		}
	}
	return nil
}

// look says what a listing shows of the partition: nothing if it was begun before the last record was applied.
func (p *partition) look(l *kafka.Listing, now time.Time) {
	end, ok := l.Ends[p.id]
	switch {
	case !ok:
		p.atEnd = time.Time{}
	case l.Begun.Before(p.moved):
	case end > p.applied:
		p.end, p.atEnd, p.short = end, time.Time{}, 0
	case end < p.applied:
		p.atEnd, p.short = time.Time{}, p.short+1
	default:
		p.end, p.seenAtEnd, p.short = end, now, 0
		if p.atEnd.IsZero() {
			p.atEnd = l.Begun
		}
	}
}

func (p *partition) isIdle(now time.Time, after, stale time.Duration) bool {
	return p.stopped == "" && !p.ahead && p.next == p.applied && !p.atEnd.IsZero() &&
		now.Sub(p.atEnd) >= after && now.Sub(p.seenAtEnd) <= stale
}

// keepHouse does what is due a few times a second.
func (in *intake) keepHouse() error {
	now := in.n.deps.Now()
	view := in.store.View()
	if l := in.n.watch.Latest(); l != nil && l != in.listed {
		if err := in.look(l, now); err != nil {
			return err
		}
		in.listed = l
	}
	in.judgeAhead(&view)
	in.judgePause(&view)
	in.judgeIdle(now)
	in.measureLag(now)
	full := in.holdsTooMuch(&view)
	in.wantCut = in.wantCut || full
	due := view.TimersDue || view.LiveSessions > 0 && now.Sub(in.lastEntry) >= tickEvery
	if due && !full && in.inFlight == 0 && in.cur.empty() {
		in.tick(now)
	}
	return nil
}

func (in *intake) judgeIdle(now time.Time) {
	in.idle = in.idle[:0:0] // entries in flight keep the old one
	if in.pausedFor == "" {
		for _, id := range in.order {
			if in.parts[id].isIdle(now, in.n.cfg.Kafka.IdleAfter, in.n.watch.Stale()) {
				in.idle = append(in.idle, id)
			}
		}
	}
	switch {
	case len(in.idle) < len(in.order) || len(in.order) == 0:
		in.idleSince = time.Time{}
	case in.idleSince.IsZero():
		in.idleSince = now
	}
}

// judgeAhead pauses partitions that run away from the shard's clock, until the others have followed.
func (in *intake) judgeAhead(view *state.View) {
	if view.Clock == 0 || in.src == nil {
		return
	}
	for _, s := range view.Partitions {
		p := in.parts[s.Partition]
		if p == nil || p.stopped != "" {
			continue
		}
		switch by := s.Watermark - view.Clock; {
		case !p.ahead && by > maxAhead:
			in.log.Info("partition waits for the others", "partition", p.id, "ahead_seconds", by)
			p.ahead = true
			in.src.Pause(p.id)
		case p.ahead && by <= aheadResume:
			p.ahead = false
			in.src.Resume(p.id)
		}
	}
}

func (in *intake) measureLag(now time.Time) {
	var records int64
	var oldest time.Duration
	var ahead []int32
	for _, id := range in.order {
		p := in.parts[id]
		if p.ahead {
			ahead = append(ahead, id)
		}
		if p.end <= p.applied {
			continue
		}
		records += p.end - p.applied
		if p.last > 0 {
			oldest = max(oldest, now.Sub(time.UnixMilli(p.last)))
		}
	}
	in.shard.mu.Lock()
	in.shard.records, in.shard.seconds, in.shard.paused = records, oldest.Seconds(), in.pausedFor
	in.shard.ahead = ahead
	in.shard.mu.Unlock()
}
