package node

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/event"
	"deckle/node/shard"
	"deckle/node/status"
	"deckle/state"
)

// What rules leave out is in no row and in no letter, so the metrics are where it shows: also rules that have left out
// nothing yet, and those that were replaced.
func TestMetricsOfWhatIsOnlyCounted(t *testing.T) {
	view := state.View{
		Rules: state.Rules{Event: event.Rules{Exclude: []event.Exclude{{Name: "bots"}, {Name: "office"}}}},
		RuleCounts: state.Counted{Excluded: map[string]int64{"bots": 4, "former": 1}, Skipped: 2, KafkaTimes: 3,
			Zeroed: map[string]int64{"ad_revenue": 5}, Unconsented: 6, SuppressedUsers: 8, SuppressedSessions: 9},
		Keys:        state.KeyCounts{Keys: 7, Partitions: 1},
		DeadLetters: map[event.Reason]int64{event.TooLate: 10},
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(statusCollector{
		status: func() status.Node { return status.Node{Shards: []status.Shard{{Shard: 2, State: view}}} },
		shards: func() []*shard.Shard { return nil }})
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"deckle_state_excluded_total bots 2": 4, "deckle_state_excluded_total office 2": 0,
		"deckle_state_excluded_total former 2": 1, "deckle_state_types_skipped_total 2": 2,
		"deckle_state_kafka_times_false_total 2": 3, "deckle_state_values_zeroed_total ad_revenue 2": 5,
		"deckle_state_suppressed_total consent 2": 6, "deckle_state_suppressed_total user 2": 8,
		"deckle_state_suppressed_total session 2":    9,
		"deckle_state_dead_letters_total too_late 2": 10, "deckle_state_dead_letters_total sink_rejected 2": 0,
		"deckle_state_keys_differ_total 2 key": 7, "deckle_state_keys_differ_total 2 partition": 1,
	} {
		if n, ok := got[name]; !ok || n != want {
			t.Errorf("%s is %v (there: %t), want %v", name, n, ok, want)
		}
	}
}
