package verify

import (
	"slices"
	"testing"

	"deckle/event"
	"deckle/sim"
	"deckle/sinks/clickhouse"
	"deckle/sinks/delta"
)

// TestTruthHasEveryColumn: what the sinks show is compared, column by column. A column that is missing in the truth is
// missing in sim/columns.go.
func TestTruthHasEveryColumn(t *testing.T) {
	// These follow from when epochs were cut, and not from the records.
	notTruth := []string{"revision", "batch_id", "created_at"}
	for _, c := range []struct {
		table        string
		shown, truth []string
	}{
		{"session_metrics", clickhouse.Columns("session_metrics"), sim.SessionColumns},
		{"page_analytics", clickhouse.Columns("page_analytics"), append([]string{"session_date"}, sim.PageColumns...)},
		{"session_summary", clickhouse.Columns("session_summary"), RollupColumns("session_summary")},
		{"subscription_analytics", clickhouse.Columns("subscription_analytics"),
			RollupColumns("subscription_analytics")},
		{"sessions", delta.Columns("sessions"), sim.SessionColumns},
		{"events", delta.Columns("events"), sim.EventColumns},
	} {
		for _, name := range c.shown {
			if !slices.Contains(notTruth, name) && !slices.Contains(c.truth, name) {
				t.Errorf("%s shows the column %s, of which the truth knows nothing: sim/columns.go", c.table, name)
			}
		}
		for _, name := range c.truth {
			if !slices.Contains(c.shown, name) {
				t.Errorf("the truth has the column %s, which %s does not show", name, c.table)
			}
		}
	}
}

// TestTruthCountsEveryType: an event type that counts is counted by the truth, too.
func TestTruthCountsEveryType(t *testing.T) {
	var counted []string
	for _, typ := range event.Counted {
		counted = append(counted, typ.String())
	}
	truth := slices.Sorted(slices.Values(sim.CountedTypes))
	if slices.Sort(counted); !slices.Equal(counted, truth) {
		t.Errorf("the types %q count, the truth counts %q: sim/columns.go", counted, truth)
	}
}
