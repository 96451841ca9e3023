package shard

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"deckle/event"
	"deckle/node/config"
	"deckle/state"
)

// What differs between the rules of a configuration and those of the shard is named by its key, and which of them hold.
func TestOtherRules(t *testing.T) {
	c := config.Rules{Revision: 3, Clock: config.Clock{Slack: time.Minute, LeaveOut: time.Minute},
		Session:    config.MaxBytes{MaxBytes: 1 << 20, MaxMetricsBytes: 4096},
		EventTypes: config.EventTypes{Unknown: "count"},
		Exclude:    []config.Exclude{{Name: "bots", Field: "browser", Equal: []string{"bot"}}}}
	same := wantedRules(&c)
	same.Number = 7
	for name, x := range map[string]struct {
		change func(r *state.Rules)
		want   string // "" if they are the same
		later  bool
	}{
		"the same":  {func(*state.Rules) {}, "", false},
		"none yet":  {func(r *state.Rules) { *r = state.Rules{} }, "", false},
		"slack":     {func(r *state.Rules) { r.ClockSlack++ }, "other values: rules.clock.slack. Those", false},
		"leave out": {func(r *state.Rules) { r.LeaveOut++ }, "other values: rules.clock.leave_out. Those", false},
		"session":   {func(r *state.Rules) { r.MaxSessionBytes++ }, "session.max_bytes. Those", false},
		"metrics":   {func(r *state.Rules) { r.Event.MaxMetricsBytes++ }, "session.max_metrics_bytes. Those", false},
		"unknown":   {func(r *state.Rules) { r.Event.UnknownTypes = "skip" }, "event_types.unknown. Those", false},
		"exclude":   {func(r *state.Rules) { r.Event.Exclude = nil }, "values: rules.exclude. Those", false},
		"forms":     {func(r *state.Rules) { r.Event.Forms++ }, "forms of this version. Those", false},
		"two":       {func(r *state.Rules) { r.LeaveOut, r.ClockSlack = 1, 1 }, "slack, rules.clock.leave_out.", false},
		"older revision": {func(r *state.Rules) { r.Revision = 2 }, "is 3 in the configuration of this node, " +
			"and 2 in the shard; other values: none. Those of the shard hold until this node leads it", true},
		"newer revision": {func(r *state.Rules) { r.Revision, r.LeaveOut = 4, 1 }, "is 3 in the configuration of " +
			"this node, and 4 in the shard; other values: rules.clock.leave_out. Those of the shard hold", false},
	} {
		present := same
		x.change(&present)
		why, later := OtherRules(&c, &present)
		if (why == "") != (x.want == "") || !strings.Contains(why, x.want) || later != x.later {
			t.Errorf("%s: %q, %v", name, why, later)
		}
	}
}

// Every field of the rules is compared: one that is added later must not be passed over.
func TestOtherRulesCompareAll(t *testing.T) {
	for _, r := range []any{&state.Rules{}, &event.Rules{}} {
		v := reflect.ValueOf(r).Elem()
		for i := range v.NumField() {
			name, f := v.Type().Field(i).Name, v.Field(i)
			switch {
			case name == "Number" || name == "Revision" || name == "Event": // which are looked at apart
				continue
			case f.CanInt():
				f.SetInt(1)
			case f.CanUint():
				f.SetUint(1)
			case f.Kind() == reflect.String:
				f.SetString("x")
			case f.Kind() == reflect.Slice:
				f.Set(reflect.MakeSlice(f.Type(), 1, 1))
			default:
				t.Fatalf("%s: how does one change a %s?", name, f.Kind())
			}
			a, ok := r.(*state.Rules)
			if !ok {
				a = &state.Rules{Event: *r.(*event.Rules)}
			}
			if len(otherKeys(a, &state.Rules{})) != 1 {
				t.Errorf("%s is not compared", name)
			}
			f.SetZero()
		}
	}
}
