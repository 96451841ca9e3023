package shard

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"deckle/event"
	"deckle/node/condition"
	"deckle/state"
)

// counts follow what the rules of level 2 take for none and only count: how many of the records of the last minutes had
// a Kafka timestamp that cannot be true, and how many values that are no number counted as 0, by field.
type counts struct {
	window       window[counted]
	times, zeros bool // the conditions hold
}

// counted is what had been counted at one time.
type counted struct {
	records int64
	times   int64
	zeroed  map[string]int64 // by field
}

// judge returns the texts of both conditions; each is "" if there are few such records.
func (c *counts) judge(view *state.View, now time.Time) (times, zeroed string) {
	s := counted{records(view), view.RuleCounts.KafkaTimes, view.RuleCounts.Zeroed}
	first := c.window.begin(s, now)
	all := s.records - first.records
	const minutes = condition.RejectedMinutes
	if n := s.times - first.times; many(n, all, condition.CountedShare, &c.times) {
		times = fmt.Sprintf("%d of the %d records of the last %d minutes have a Kafka timestamp that is missing or "+
			"cannot be true: the clock of a producer is wrong. They count, but say nothing of when they were sent", n,
			all, minutes)
	}
	var sum int64
	var fields []string
	for field, n := range s.zeroed {
		if n -= first.zeroed[field]; n > 0 {
			sum += n
			fields = append(fields, fmt.Sprintf("%s %d", field, n))
		}
	}
	if slices.Sort(fields); many(sum, all, condition.CountedShare, &c.zeros) {
		zeroed = fmt.Sprintf("in the %d records of the last %d minutes, %d values of engagement_metrics are no "+
			"number and counted as 0 (%s)", all, minutes, sum, strings.Join(fields, ", "))
	}
	return times, zeroed
}

// records is the number of records that the shard has read: of any verdict, also those without a value.
func records(view *state.View) int64 {
	n := view.Applied + view.Duplicates + view.Nulls + view.RuleCounts.LeftOut()
	for reason, letters := range view.DeadLetters {
		if reason != event.SinkRejected { // a row, not a record
			n += letters
		}
	}
	return n
}
