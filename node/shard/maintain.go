package shard

import (
	"fmt"
	"slices"
	"time"

	"deckle/node/condition"
	"deckle/node/kafka"
	"deckle/schema/level"
	"deckle/state"
)

const (
	// steadyFor is how long a run must go without an error until fetching counts as working again: a run may fail again
	// and again shortly after it has begun.
	steadyFor   = 10 * time.Second
	tickEvery   = time.Second // how often the clock is moved on while sessions live
	maxAhead    = 3600        // seconds of event time that a partition may be ahead of the shard's clock
	aheadResume = maxAhead * 9 / 10
)

// maintain does what is due a few times per second.
func (in *intake) maintain() error {
	now := in.Now()
	view := in.store.View()
	if len(view.Partitions) != len(in.order) {
		return fmt.Errorf("%w: it has %d instead of %d", errMore, len(view.Partitions), len(in.order))
	}
	if l := in.Watch.Latest(); l != nil && l != in.listed {
		if err := in.observe(l, now); err != nil {
			return err
		}
		in.listed = l
	}
	if err := in.askRise(&view, now); err != nil {
		return err
	}
	if err := in.handOn(&view, now); err != nil {
		return err
	}
	in.showPlaced()
	in.retryFailing(now)
	in.beginComparing(now)
	if err := in.retryStopped(&view, now); err != nil {
		return err
	}
	in.pauseAhead(&view, now)
	in.decidePause(&view)
	in.findIdle(now)
	in.findSilent(&view, now)
	if now.Sub(in.troubled) >= steadyFor {
		in.cond.setFetching(nil)
	}
	in.showSeen()
	full := in.holdsTooMuch(&view)
	in.cutDue = in.cutDue || full
	due := view.TimersDue || view.LiveSessions > 0 && now.Sub(in.lastEntry) >= tickEvery
	if due && !full && in.inFlight == 0 && in.cur.empty() {
		in.tick(now)
	}
	return nil
}

// showPlaced tells what has been seen of where keys are, and lets more be looked at.
func (in *intake) showPlaced() {
	in.placing = placeMost
	last := in.placed.Load()
	if last == nil {
		last = new(placed)
	}
	if in.keys.looked == last.looked {
		return
	}
	in.Metrics.keysLooked.WithLabelValues(in.label()).Add(float64(in.keys.looked - last.looked))
	for by := range kafka.NumPartitioners {
		in.Metrics.keysPlaced.WithLabelValues(in.label(), by.String()).Add(float64(in.keys.by[by] - last.by[by]))
	}
	in.placed.Store(new(in.keys))
}

// observe takes a new listing of the topic's ends.
func (in *intake) observe(l *kafka.Listing, now time.Time) error {
	if l.Err != nil {
		in.cond.setFailing("source", l.Err)
		return nil
	}
	in.showMissing(l)
	if !kafka.SameTopic(in.cfg.TopicID, l.Info.ID) {
		in.stopForeign()
		return nil
	}
	in.sizes = topicSizes(in.cfg.Shards, l.Info.Partitions, int(in.store.Peek().TopicPartitions), in.Created())
	if in.familiar(l.Info.ID, l.Begun) {
		return fmt.Errorf("%w: the topic has the id again that this cluster was created with", errResync)
	}
	reads := func(p int32) bool { return in.parts[p].stopped == "" }
	if in.src == nil && in.waits == "" && slices.ContainsFunc(in.order, reads) {
		return fmt.Errorf("%w: the topic can be read again", errResync)
	}
	for _, id := range in.order {
		p := in.parts[id]
		in.observeSilence(p, l, now)
		if p.observe(l, now); p.tooShort >= shortListings {
			in.halt(p, unchanged,
				fmt.Sprintf("Kafka's log ends at offset %d, but records up to %d have been read: the log was cut or "+
					"replaced. Once it ends at %[2]d or later, what follows can be accepted as it is: deckle "+
					"partitions skip --partition %[3]d --to %[2]d", l.Ends[id], p.applied, id))
		}
	}
	return nil
}

// pauser is the part of a source that stops and begins to fetch a partition.
type pauser interface {
	Pause(partition int32)
	Resume(partition int32)
}

// pauseAhead pauses partitions that run away from the shard's clock, until the others have followed.
func (in *intake) pauseAhead(view *state.View, now time.Time) {
	if in.src != nil {
		in.judgeAhead(view, now, in.src)
	}
}

func (in *intake) judgeAhead(view *state.View, now time.Time, src pauser) {
	near := ""
	if in.level >= level.Real {
		near = in.Near()
	}
	for i := range view.Partitions {
		s := &view.Partitions[i]
		p := in.parts[s.Partition]
		if p == nil || len(p.proof.held) > 0 { // what is held pauses it already
			continue
		}
		why := ""
		if p.reads() {
			why = in.mustWait(p, s, view, near, now)
			switch {
			case why != "" && !p.ahead:
				src.Pause(p.id)
			case why == "" && p.ahead:
				src.Resume(p.id)
			}
		}
		if p.ahead && why == "" { // whatever ended it: until now it was not to deliver anything
			p.followed = now
		}
		p.ahead = why != ""
		in.cond.keep(condition.PartitionPaused, partName(p.id), why)
	}
}

// mustWait says why a partition is not read until the others have followed, "" if it is read. near says what of the
// node's budgets is nearly used up, "" if nothing is.
//
// What a partition takes in ahead of the clock stays in the state until the clock has followed, so the budgets bound
// how far it may run. At a budget the whole intake rests, that of the partition that holds the clock included, and with
// the clock nothing would ever be let go again. So near a budget only those are read that hold the clock. A partition
// at the end of its log does not wait for slow devices of another one: only for a backlog, which ends by itself.
func (in *intake) mustWait(
	p *partition, s *state.PartitionStatus, view *state.View, near string, now time.Time,
) string {
	by := s.Watermark - view.Clock
	hour, some := int64(maxAhead), 2*int64(in.rules.ClockSlack/time.Second)
	if p.ahead { // it ends below where it begins, so that it does not begin and end all the time
		hour, some = aheadResume, some/2
	}
	backlog := in.behindABacklog(view, now)
	switch {
	case view.Clock > 0 && by > hour && backlog:
		return fmt.Sprintf("it is %d s of event time ahead of the shard's clock, and waits for the others", by)
	case near == "" || by <= some || s.Watermark <= in.leastHeld(view):
		return ""
	case !backlog && !p.hasBacklog(now, in.Config.Kafka.IdleAfter):
		return ""
	case view.Clock == 0:
		return "the shard's clock waits for others, and near a budget only those are read: " + near
	}
	return fmt.Sprintf("it is %d s of event time ahead of the shard's clock, and near a budget only those are read "+
		"that hold it: %s", by, near)
}

// behindABacklog says whether the partitions that hold the shard's clock are reading a backlog, which ends by itself.
// From level 2 on a slow device holds nobody up.
func (in *intake) behindABacklog(view *state.View, now time.Time) bool {
	if in.level == level.First {
		return true
	}
	for i := range view.Partitions {
		s := &view.Partitions[i]
		p := in.parts[s.Partition]
		if p == nil || s.Idle || s.Out || p.ahead || s.Watermark > view.Clock {
			continue // it does not hold the clock
		}
		if p.reads() && p.hasBacklog(now, in.Config.Kafka.IdleAfter) {
			return true
		}
	}
	return false
}

// leastHeld is the least watermark of the partitions that the clock waits for: it goes no further than that. The clock
// itself may be behind it, while timers fire.
func (in *intake) leastHeld(view *state.View) int64 {
	least := int64(-1)
	for i := range view.Partitions {
		if s := &view.Partitions[i]; !s.Idle && !s.Out && (least < 0 || s.Watermark < least) {
			least = s.Watermark
		}
	}
	return least
}

// findSilent lists the partitions that the clock shall go on without: those that have delivered nothing for
// Rules.LeaveOut by this leader's monotonic clock, and are not idle. For as long, brokers must have answered for
// another partition: if they do not as a whole, or this intake rests, no partition is at fault. Nor is one that waits
// for the others, or has waited lately: it has delivered nothing meanwhile.
func (in *intake) findSilent(view *state.View, now time.Time) {
	in.out = in.out[:0:0] // entries in flight keep the old one
	after := in.rules.LeaveOut
	if in.level == level.First || after <= 0 || !in.brokersAnswer(now, after) || in.paused != "" ||
		now.Sub(in.unpaused) < after {
		return
	}
	for _, s := range view.Partitions {
		p := in.parts[s.Partition]
		if p == nil || s.Out {
			continue
		}
		since := p.heard()
		waits := p.ahead || now.Sub(p.followed) < after
		silent := now.Sub(since) >= after && !waits && !slices.Contains(in.idle, p.id)
		if s.Watermark == 0 && now.Sub(p.moved) < after && now.Sub(in.began) >= after {
			silent, since = true, now.Add(-2*after) // it delivers nothing that has a time
		}
		if silent && in.heardOther(p.id, since.Add(after)) {
			in.out = append(in.out, p.id)
		}
	}
}

// brokersAnswer says whether brokers have answered, for some partition, for a time without a break.
func (in *intake) brokersAnswer(now time.Time, within time.Duration) bool {
	switch {
	case !in.heardOther(-1, now.Add(-in.Watch.Stale())):
		in.answered = time.Time{}
	case in.answered.IsZero():
		in.answered = now
	}
	return !in.answered.IsZero() && now.Sub(in.answered) >= within
}

// heardOther says whether a broker has answered for another partition at a time or after it.
func (in *intake) heardOther(id int32, at time.Time) bool {
	for other, p := range in.parts {
		if other != id && !p.heard().Before(at) {
			return true
		}
	}
	return false
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
	case !in.restIdle():
		in.idleSince = time.Time{}
	case in.idleSince.IsZero():
		in.idleSince = now
	}
}

// restIdle says whether every partition that the clock waits for is idle, and there is one: time passes then by itself.
func (in *intake) restIdle() bool {
	if len(in.idle) == 0 {
		return false
	}
	out := 0
	for _, s := range in.store.Peek().Partitions {
		if s.Out && !slices.Contains(in.idle, s.Partition) {
			out++
		}
	}
	return len(in.idle)+out == len(in.order)
}

// showMissing shows the partitions whose end no broker tells. If it is all of them, the source as a whole fails.
func (in *intake) showMissing(l *kafka.Listing) {
	missing := map[int32]error{}
	for _, id := range in.order {
		if err := l.Missing(id); err != nil {
			missing[id] = err
		}
	}
	if len(missing) > 0 && len(missing) == len(in.order) {
		in.cond.setFailing(partSource, missing[in.order[0]])
		clear(missing)
	} else {
		in.cond.setFailing(partSource, nil)
	}
	for _, id := range in.order {
		// Why it cannot be read says more than that its end is not known.
		if p := in.parts[id]; p.failing == nil && (missing[id] != nil || p.unlisted) {
			p.unlisted = missing[id] != nil
			in.cond.setFailing(partName(id), missing[id])
		}
	}
}

// showSeen lets the lag be measured against what the fetches have shown, too.
func (in *intake) showSeen() {
	all := make(map[int32]seen, len(in.order))
	for _, id := range in.order {
		p := in.parts[id]
		all[id] = seen{p.end, p.last}
	}
	in.cond.setSeen(all)
}
