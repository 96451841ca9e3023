package state

import (
	"math"
	"slices"
	"time"

	"deckle/event"
	"deckle/schema/level"
)

// maxWatermarkLead is the number of seconds by which a watermark may be ahead of the record's Kafka timestamp and
// of the leader's wall clock.
const maxWatermarkLead = 5 * 60

// This file is the shard's time: the watermarks of its partitions, the clock that follows the least of them, and the
// horizon behind it. docs/design.md §3 has the rules and their reasons.

func (m *meta) clock() int64 { return m.ClockMillis / 1000 }

// horizon is the time before which events are too late. At level 1 it is computed: max(clock - retention, forced), or
// the forced one while the clock is unset. From level 2 on it is stored, because it may have to stand still for a
// partition that is left out, and must never fall: a fall would let in events of sessions that are purged, and of dates
// whose totals have left the state.
func (m *meta) horizon() int64 {
	if m.level() >= level.Real {
		return m.Horizon
	}
	if m.ClockMillis == 0 {
		return m.Forced
	}
	return max(m.clock()-seconds(m.Config.Retention), m.Forced)
}

// raiseHorizon moves the stored horizon on: to the least of the clock and the holds of the partitions that are left
// out, less the retention, so that what those still have is not too late when they come back.
func (m *meta) raiseHorizon() {
	if m.level() < level.Real {
		return
	}
	least := int64(math.MinInt64)
	if m.ClockMillis > 0 {
		least = m.clock()
		for i := range m.Partitions {
			p := &m.Partitions[i]
			// gofail: var bugHorizonPasses struct{}
			// continue
			if !p.Out {
				continue
			}
			if p.Hold == 0 { // it was left out before the clock was set: nobody knows what it has
				p.Hold = m.clock()
			}
			least = min(least, p.Hold)
		}
		least -= seconds(m.Config.Retention)
	}
	m.Horizon = max(m.Horizon, least, m.Forced)
}

// expiry is when a session without a session_end expires. A record that comes when that time has passed already, from a
// partition that was left out and catches up, gives its session the same time again by the shard's clock: so what
// arrives late is gathered, and not revised event by event.
func (m *meta) expiry(last int64) int64 {
	after := seconds(m.Config.IdleTimeout + m.Config.Grace)
	if due := last + after; m.level() == level.First || due > m.clock() {
		return due
	}
	return m.clock() + after
}

// heldTime returns the time of an event as far as it is believed, and the record's Kafka time, which is held to the
// leader's wall clock; all in Unix seconds. The event's time is held to 5 minutes after that, so that a client with a
// wrong clock cannot close the sessions of everybody. A Kafka time of none (event.NoKafkaTime) holds nothing.
func heldTime(it *event.Item, now int64, l level.Level) (at, kafka int64) {
	kafka = it.KafkaTimestamp / 1000
	if l >= level.Real && it.KafkaTimestamp == event.NoKafkaTime {
		kafka = now
	}
	kafka = min(kafka, now)
	return min(it.Timestamp, kafka+maxWatermarkLead), kafka
}

// observeEvent moves the watermark by an accepted record, as far as its time is believed (heldTime). now is the
// leader's wall clock, in Unix seconds.
func (p *PartitionStatus) observeEvent(it *event.Item, now int64, l level.Level) {
	at, kafka := heldTime(it, now, l)
	p.Watermark = max(p.Watermark, at)
	if l >= level.Real {
		p.EventWatermark = max(p.EventWatermark, at)
		p.AcceptedKafka = max(p.AcceptedKafka, kafka)
	}
}

// observeKafka moves the watermarks by the Kafka times of the ranges (level 2). A record whose event time is old, or
// that has none, says nevertheless that time has passed, so that a slow device, or a partition of nothing but rejects,
// does not hold up the shard's clock. But history that is written anew has new Kafka times, too, and must not make what
// it holds too late. Three things tell the two apart: the partition is at the head of its log; another one is live,
// which means that its event times keep up with its Kafka times; and no watermark passes the event watermark of a live
// one.
func (m *meta) observeKafka(b *event.Batch, now int64) {
	for i := range b.Seen {
		p := m.partition(b.Ranges[i].Partition)
		at := now
		if k := b.Seen[i].KafkaTime; k != event.NoKafkaTime {
			at = min(k/1000, now)
		}
		p.KafkaWatermark = max(p.KafkaWatermark, at)
	}
	idle, slack := seconds(m.Config.IdleTimeout), seconds(m.Rules.ClockSlack)
	for i := range b.Seen {
		if !b.Seen[i].AtHead {
			continue
		}
		p := m.partition(b.Ranges[i].Partition)
		live, known := int64(0), false // the greatest event watermark of the live others; whether any other has one
		for i := range m.Partitions {
			o := &m.Partitions[i]
			if o.Partition == p.Partition || o.EventWatermark == 0 {
				continue
			}
			known = true
			if o.KafkaWatermark-o.EventWatermark <= idle {
				live = max(live, o.EventWatermark)
			}
		}
		switch {
		case live > 0:
			p.Watermark = max(p.Watermark, min(p.KafkaWatermark, live)-slack)
		case !known && p.KafkaWatermark-p.AcceptedKafka >= seconds(m.Rules.LeaveOut):
			// Nobody in the shard has an event time that could tell, and this one has had no accepted record for a
			// while: a session may be silent for the idle timeout, and no longer.
			p.Watermark = max(p.Watermark, p.KafkaWatermark-idle)
		}
	}
}

// leaveOut takes partitions out of the clock (level 2), and says whether any was in it. Each keeps the horizon where it
// can still deliver.
func (m *meta) leaveOut(partitions []int32) (any bool) {
	for _, id := range partitions {
		p := m.partition(id)
		if p == nil || p.Out {
			continue
		}
		p.Out, p.Hold = true, m.clock()
		if p.Watermark > 0 && m.ClockMillis > 0 {
			p.Hold = min(p.Watermark, m.clock())
		}
		any = true
	}
	return any
}

// letIn lets partitions that deliver again, or are idle, take part in the clock again (level 2): once they have caught
// up with it to within the slack. The clock moves on meanwhile, so a partition that is seconds slower than the others
// would never reach it.
func (m *meta) letIn(ranges []event.Range) {
	for i := range m.Partitions {
		p := &m.Partitions[i]
		if !p.Out {
			continue
		}
		delivers := slices.ContainsFunc(ranges, func(r event.Range) bool { return r.Partition == p.Partition })
		if delivers && p.Watermark > 0 {
			p.Hold = max(p.Hold, min(p.Watermark, m.clock()))
		}
		if p.Idle || delivers && p.Watermark > 0 && p.Watermark >= m.clock()-seconds(m.Rules.ClockSlack) {
			p.Out, p.Hold = false, 0
		}
	}
}

// clockTarget returns how far the partitions let the clock go, in milliseconds: to the least watermark of the
// partitions that are neither idle nor left out. If all of these are idle, the clock goes on by the elapsed time. It
// stays where it is (0 at first) until at least one partition has a time and every other one has a time, or is idle or
// left out. If all partitions are left out, it stands: nobody has shown that time passes.
func (m *meta) clockTarget(elapsed time.Duration) int64 {
	allIdle, blocked, out := true, false, 0
	least, leastAny := int64(math.MaxInt64), int64(math.MaxInt64)
	for _, p := range m.Partitions {
		if p.Watermark > 0 {
			leastAny = min(leastAny, p.Watermark)
		}
		if p.Out {
			out++
			continue
		}
		if p.Idle {
			continue
		}
		allIdle = false
		if p.Watermark == 0 {
			blocked = true
			continue
		}
		least = min(least, p.Watermark)
	}
	now := m.ClockMillis
	switch {
	case blocked || leastAny == math.MaxInt64 || out == len(m.Partitions):
		return now
	case allIdle && now == 0:
		return leastAny * 1000
	case allIdle:
		return now + max(elapsed.Milliseconds(), 0)
	default:
		return max(now, least*1000)
	}
}
