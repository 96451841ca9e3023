package shard

import (
	"fmt"
	"slices"
	"time"

	"deckle/node/kafka"
	"deckle/state"
)

const (
	tickEvery   = time.Second // how often the clock is moved on while sessions live
	maxAhead    = 3600        // seconds of event time that a partition may be ahead of the shard's clock
	aheadResume = maxAhead * 9 / 10
)

// maintain does what is due a few times per second.
func (in *intake) maintain() error {
	now := in.Now()
	view := in.store.View()
	if l := in.Watch.Latest(); l != nil && l != in.listed {
		if err := in.observe(l, now); err != nil {
			return err
		}
		in.listed = l
	}
	in.pauseAhead(&view)
	in.decidePause(&view)
	in.findIdle(now)
	in.measureLag(now)
	full := in.holdsTooMuch(&view)
	in.cutDue = in.cutDue || full
	due := view.TimersDue || view.LiveSessions > 0 && now.Sub(in.lastEntry) >= tickEvery
	if due && !full && in.inFlight == 0 && in.cur.empty() {
		in.tick(now)
	}
	return nil
}

// observe takes a new listing of the topic's ends.
func (in *intake) observe(l *kafka.Listing, now time.Time) error {
	if l.Err != nil {
		in.cond.setFailing("source", l.Err)
		return nil
	}
	in.cond.setFailing("source", l.Missing(in.order))
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
	in.Metrics.unread.WithLabelValues(in.label()).Set(float64(unread))
	for _, id := range in.order {
		p := in.parts[id]
		if p.observe(l, now); p.tooShort >= shortListings {
			in.stop(p,
				fmt.Sprintf("Kafka's log ends at offset %d, but records up to %d have been read: the log was cut or "+
					"replaced", l.Ends[id], p.applied))
		}
	}
	return nil
}

// pauseAhead pauses partitions that run away from the shard's clock, until the others have followed.
func (in *intake) pauseAhead(view *state.View) {
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

// findIdle lists the partitions that are idle, and since when all of them are.
func (in *intake) findIdle(now time.Time) {
	in.idle = in.idle[:0:0] // entries in flight keep the old one
	if in.paused == "" {
		for _, id := range in.order {
			if in.parts[id].isIdle(now, in.Config.Kafka.IdleAfter, in.Watch.Stale()) {
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

// measureLag shows how far the shard is behind Kafka, and what it does not read for now.
func (in *intake) measureLag(now time.Time) {
	c := intakeCondition{paused: in.paused}
	var oldest time.Duration
	for _, id := range in.order {
		p := in.parts[id]
		if p.ahead {
			c.ahead = append(c.ahead, id)
		}
		if p.end <= p.applied {
			continue
		}
		c.lagRecords += p.end - p.applied
		if p.last > 0 {
			oldest = max(oldest, now.Sub(time.UnixMilli(p.last)))
		}
	}
	c.lagSeconds = oldest.Seconds()
	in.cond.setIntake(c)
}
