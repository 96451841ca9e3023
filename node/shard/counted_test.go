package shard

import (
	"strings"
	"testing"
	"time"

	"deckle/event"
	"deckle/state"
)

// What is only counted shows nowhere else: a producer whose clock is wrong, and a field that publishers send as text,
// are told with the field, from more than 1 % of all records on, and not each time that the share crosses the limit.
func TestCountedIsTold(t *testing.T) {
	const cannot = " records of the last 5 minutes have a Kafka timestamp that is missing or cannot be true"
	at := time.Unix(1_000_000, 0)
	var c counts
	v := state.View{Applied: 5, DeadLetters: map[event.Reason]int64{event.SinkRejected: 9999}, // rows, no records
		RuleCounts: state.Counted{KafkaTimes: 500, Zeroed: map[string]int64{"ad_revenue": 700}}} // from before
	for i, s := range []struct {
		after          time.Duration
		records, times int64
		pages, revenue int64 // values that counted as 0
		wantTimes      string
		wantZeroed     string
	}{
		{0, 0, 0, 0, 0, "", ""},
		{time.Second, 9, 9, 9, 0, "", ""}, // all, but too few to say so
		{time.Second, 1, 1, 0, 1, "10 of the 10" + cannot,
			"in the 10 records of the last 5 minutes, 10 values of engagement_metrics are no number and counted as 0 " +
				"(ad_revenue 1, time_on_page 9)"},
		{time.Second, 1989, 0, 0, 0, "10 of the 1999" + cannot, "in the 1999 records"}, // 0.5003 %: they hold on
		{time.Second, 1, 0, 0, 0, "", ""},
		{time.Second, 0, 10, 0, 10, "", ""}, // 1 %
		{time.Second, 0, 1, 0, 0, "21 of the 2000" + cannot, ""},
		{time.Second, 0, 0, 1, 0, "21 of the 2000", "in the 2000 records"},
		{4 * time.Minute, 0, 0, 0, 0, "21 of", "in the"},
		{time.Minute + 10*time.Second, 0, 0, 0, 0, "", ""},
	} {
		at = at.Add(s.after)
		// each kind of record is one
		switch i % 3 {
		case 0:
			v.Applied += s.records
		case 1:
			v.Nulls += s.records
		case 2:
			v.RuleCounts.Skipped += s.records
		}
		v.RuleCounts.KafkaTimes += s.times
		v.RuleCounts.Zeroed = map[string]int64{"ad_revenue": v.RuleCounts.Zeroed["ad_revenue"] + s.revenue,
			"time_on_page": v.RuleCounts.Zeroed["time_on_page"] + s.pages}
		times, zeroed := c.judge(&v, at)
		if !strings.HasPrefix(times, s.wantTimes) || s.wantTimes == "" && times != "" {
			t.Errorf("step %d: %q, want %q", i, times, s.wantTimes)
		}
		if !strings.HasPrefix(zeroed, s.wantZeroed) || s.wantZeroed == "" && zeroed != "" {
			t.Errorf("step %d: %q, want %q", i, zeroed, s.wantZeroed)
		}
	}
	for range 1000 {
		at = at.Add(time.Second)
		c.judge(&v, at)
	}
	if n := len(c.window.samples); n > int(rejectedWindow/sampleEvery)+2 {
		t.Errorf("%d samples", n)
	}
}
