package shard

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"deckle/event"
	"deckle/node/config"
	"deckle/schema/level"
	"deckle/state"
)

// What differs between the rules of a configuration and those of the shard is named by its key, and which of them hold.
func TestOtherRules(t *testing.T) {
	c := config.Rules{Revision: 3, Clock: config.Clock{Slack: time.Minute, LeaveOut: time.Minute},
		Session:    config.MaxBytes{MaxBytes: 1 << 20, MaxMetricsBytes: 4096},
		EventTypes: config.EventTypes{Unknown: "count"},
		Exclude:    []config.Exclude{{Name: "bots", Field: "browser", Equal: []string{"bot"}}}}
	c.DeadLetters = config.DeadLetters{Values: "masked", Details: "types"}
	key := event.KeyID{1}
	c.Privacy = []config.PrivacyRule{{Field: "user_id", Action: "hash"}}
	c.Consent = &config.Consent{Field: "consent", Equal: []string{"yes"}, Missing: "count"}
	same := wantedRules(&c, key, level.Guarded)
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
		"letters": {func(r *state.Rules) { r.Event.Letters.Details = "values" }, "rules.dead_letters. Those",
			false},
		// Rules of before level 3 say nothing of letters: that is no difference, because they become the same by
		// themselves.
		"no letters":  {func(r *state.Rules) { r.Event.Letters = event.Letters{} }, "", false},
		"forms":       {func(r *state.Rules) { r.Event.Forms++ }, "forms of this version. Those", false},
		"privacy":     {func(r *state.Rules) { r.Event.Privacy = nil }, "other values: rules.privacy. Those", false},
		"another key": {func(r *state.Rules) { r.Event.PrivacyKey[0]++ }, "the first of privacy.keys. Those", false},
		"consent":     {func(r *state.Rules) { r.Event.Consent = nil }, "rules.consent. Those", false},
		"two": {func(r *state.Rules) { r.LeaveOut, r.ClockSlack = 1, 1 }, "slack, rules.clock.leave_out.",
			false},
		"older revision": {func(r *state.Rules) { r.Revision = 2 }, "is 3 in the configuration of this node, " +
			"and 2 in the shard; other values: none. Those of the shard hold until this node leads it", true},
		"newer revision": {func(r *state.Rules) { r.Revision, r.LeaveOut = 4, 1 }, "is 3 in the configuration of " +
			"this node, and 4 in the shard; other values: rules.clock.leave_out. Those of the shard hold", false},
	} {
		present := same
		x.change(&present)
		why, later := OtherRules(&c, key, &present, level.Guarded)
		if (why == "") != (x.want == "") || !strings.Contains(why, x.want) || later != x.later {
			t.Errorf("%s: %q, %v", name, why, later)
		}
	}
}

// A shard of level 2 gets no rules that it cannot have, and is not read while its configuration asks for them. Once it
// has risen, rules that say nothing of letters are replaced without a new revision, and only those: nobody has to edit
// the files of a cluster for an upgrade, and nobody's other change comes along unasked.
func TestLettersComeWithTheLevel(t *testing.T) {
	c := config.Rules{Revision: 3, EventTypes: config.EventTypes{Unknown: "count"},
		DeadLetters: config.DeadLetters{Values: "keep", Details: "types"}}
	before := wantedRules(&c, event.KeyID{}, level.Real)
	before.Number = 1
	if before.Event.Level() != level.Real || waitsFor(&c, &before, level.Real) != "" {
		t.Errorf("at level 2: %+v, waits for %q", before.Event, waitsFor(&c, &before, level.Real))
	}
	after := wantedRules(&c, event.KeyID{}, level.Guarded)
	if after.Event.Level() != level.Guarded || !replaces(&after, &before) {
		t.Errorf("once it has risen: %+v are not proposed", after.Event)
	}
	if why, _ := OtherRules(&c, event.KeyID{}, &before, level.Guarded); why != "" {
		t.Errorf("before they are proposed: %s", why)
	}
	after.Number = 2
	if again := wantedRules(&c, event.KeyID{}, level.Guarded); replaces(&again, &after) {
		t.Error("they are proposed a second time")
	}
	for _, values := range []string{"masked", "none"} {
		c.DeadLetters.Values = values
		if waitsFor(&c, &before, level.Real) == "" || waitsFor(&c, &after, level.Guarded) != "" {
			t.Errorf("%s: at level 2 it waits for %q, at level 3 for %q", values, waitsFor(&c, &before, level.Real),
				waitsFor(&c, &after, level.Guarded))
		}
		if other := wantedRules(&c, event.KeyID{}, level.Guarded); replaces(&other, &after) {
			t.Errorf("%s replaces other letters of the same revision", values)
		}
	}
	c.EventTypes.Unknown = "skip"
	if other := wantedRules(&c, event.KeyID{}, level.Guarded); replaces(&other, &before) {
		t.Error("another change comes along without a new revision")
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
			case f.Kind() == reflect.Struct && f.Field(0).Kind() == reflect.String:
				f.Field(0).SetString("x")
			case f.Kind() == reflect.Array:
				f.Index(0).SetUint(1)
			case f.Kind() == reflect.Pointer:
				f.Set(reflect.New(f.Type().Elem()))
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
