package shard

import (
	"context"
	"fmt"
	"slices"
	"time"

	"deckle/event"
	"deckle/node/condition"
	"deckle/node/kafka"
	"deckle/state"
)

// judgeEvery is how often a leader looks for what nothing reports by itself.
const judgeEvery = time.Second

// judge finds, for one leadership, what shows only in figures: partitions that nobody reads, records that wait behind a
// transaction, many dead letters, false timestamps and values, keys that do not keep sessions together, sinks that do
// not follow. One goroutine owns it.
type judge struct {
	*leadership
	rejected rejections
	counted  counts
	keys     keys
	lookups  lookups
	closings []closing
	held     time.Time // since when records wait behind a transaction; zero if they do not
	known    []int32   // partitions shown as unread
}

// closing says when an epoch was seen to be closed.
type closing struct {
	epoch uint64
	at    time.Time
}

// run judges until ctx ends.
func (j *judge) run(ctx context.Context) {
	tick := time.NewTicker(judgeEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		view, now := j.store.View(), j.Now()
		if l := j.Watch.Fresh(); l != nil && kafka.SameTopic(view.Config.TopicID, l.Info.ID) {
			j.unread(unread(&view, l))
			j.transaction(&view, l, now)
		}
		j.cond.keep(condition.RecordsRejected, j.cond.subject(), j.rejected.judge(&view, now))
		times, zeroed := j.counted.judge(&view, now)
		j.cond.keep(condition.KafkaTimesFalse, j.cond.subject(), times)
		j.cond.keep(condition.ValuesZeroed, j.cond.subject(), zeroed)
		j.cond.keep(condition.KeysInDisagreement, j.cond.subject(), j.judgeKeys(&view, now))
		j.behind(&view, now)
	}
}

// judgeKeys says why sessions are not together in one shard; "" if they are, as far as can be seen.
func (j *judge) judgeKeys(view *state.View, now time.Time) string {
	if view.Config.Shards > 1 {
		before, after := j.lookups.looks, &j.lookups.looks
		j.lookups.look(j.store.Changed(lookAmong), func(id string) bool { return j.Elsewhere(j.id, id) }, now)
		j.Metrics.sessionsLooked.WithLabelValues(j.label()).Add(float64(after.sessions - before.sessions))
		j.Metrics.sessionsElsewhere.WithLabelValues(j.label()).Add(float64(after.elsewhere - before.elsewhere))
	}
	p := j.placed.Load()
	if p == nil {
		p = new(placed)
	}
	return j.keys.judge(view, *p, j.lookups.looks, now)
}

// unread shows the partitions that nobody reads. They stay unread until an operator has them added.
func (j *judge) unread(ids []int32) {
	if len(ids) > 0 {
		j.Watch.WantStarts()
	}
	for _, id := range ids {
		if !slices.Contains(j.known, id) {
			j.cond.keep(condition.PartitionUnread, partName(id),
				"it was added to the topic, and nobody reads it before deckle partitions add")
		}
	}
	for _, id := range j.known {
		if !slices.Contains(ids, id) {
			j.cond.keep(condition.PartitionUnread, partName(id), "")
		}
	}
	j.known = ids
	j.Metrics.unread.WithLabelValues(j.label()).Set(float64(len(ids)))
}

// transaction shows records that have waited for long behind an open transaction.
func (j *judge) transaction(view *state.View, l *kafka.Listing, now time.Time) {
	var held int64
	var first int32
	for _, p := range view.Partitions {
		if n := l.Held[p.Partition]; n > 0 {
			if held == 0 {
				first = p.Partition
			}
			held += n
		}
	}
	switch {
	case held == 0:
		j.held = time.Time{}
	case j.held.IsZero():
		j.held = now
	}
	why := ""
	if limit := condition.BehindIntervals * j.Config.Flush.Interval; held > 0 && now.Sub(j.held) >= limit {
		why = fmt.Sprintf("%d records wait behind an open transaction of another producer, in partition %d from "+
			"offset %d on", held, first, l.Ends[first])
	}
	j.cond.keep(condition.TransactionOpen, j.cond.subject(), why)
}

// most closings that are remembered. What was closed after the last of them is as old as the last one at most.
const maxClosings = 4096

// behind shows the sinks that do not have what was closed long ago.
func (j *judge) behind(view *state.View, now time.Time) {
	if n := len(j.closings); view.LastClosed > 0 && n < maxClosings &&
		(n == 0 || j.closings[n-1].epoch < view.LastClosed) {
		j.closings = append(j.closings, closing{view.LastClosed, now})
	}
	least := view.LastClosed
	for _, id := range view.Config.Sinks {
		acked := view.Sinks[id].Acked
		least = min(least, acked)
		every := j.Config.Flush.Interval
		if d := j.Config.Delta; id.Spec().Trails && d != nil {
			every = max(every, d.RevisionInterval)
		}
		why := ""
		i := slices.IndexFunc(j.closings, func(c closing) bool { return c.epoch > acked })
		if i >= 0 && now.Sub(j.closings[i].at) > condition.BehindIntervals*every {
			why = fmt.Sprintf("it has the epochs up to %d of %d; the next one was closed more than %s ago",
				acked, view.LastClosed, now.Sub(j.closings[i].at).Round(time.Second))
		}
		j.cond.keep(condition.SinkBehind, j.cond.of(id.String()), why)
	}
	j.closings = slices.DeleteFunc(j.closings, func(c closing) bool {
		return c.epoch <= least && c.epoch < view.LastClosed
	})
}

// rejections follow how many of the records of the last minutes became dead letters.
type rejections struct {
	window window[letters]
	holds  bool
}

// letters is what had been counted at one time.
type letters struct {
	records int64 // all with a value
	why     map[event.Reason]int64
}

// judge says how many of the last minutes' records were rejected, and most often why; "" if they are few.
func (r *rejections) judge(view *state.View, now time.Time) string {
	s := letters{records: view.Applied + view.Duplicates, why: map[event.Reason]int64{}}
	for reason, n := range view.DeadLetters {
		if reason != event.SinkRejected { // a row, not a record
			s.records += n
			s.why[reason] = n
		}
	}
	first := r.window.begin(s, now)
	var rejected, most int64
	var why event.Reason
	for _, reason := range event.Reasons() {
		n := s.why[reason] - first.why[reason]
		rejected += n
		if n > most {
			most, why = n, reason
		}
	}
	records := s.records - first.records
	if !many(rejected, records, condition.RejectedShare, &r.holds) {
		return ""
	}
	return fmt.Sprintf("%d of the %d records of the last %d minutes became dead letters, %d of them as %s", rejected,
		records, condition.RejectedMinutes, most, why)
}
