package shard

import (
	"cmp"
	"fmt"
	"strings"

	"deckle/event"
	"deckle/node/config"
	"deckle/state"
)

// CheckRules returns what is wrong with the rules of a configuration, beyond what the configuration itself can tell.
func CheckRules(c *config.Rules) error {
	r := wantedRules(c)
	if err := r.Event.Check(); err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	return nil
}

// wantedRules are the rules of the configuration.
func wantedRules(c *config.Rules) state.Rules {
	r := state.DefaultRules()
	r.Revision = uint64(c.Revision)
	r.ClockSlack, r.LeaveOut = c.Clock.Slack, c.Clock.LeaveOut
	r.MaxSessionBytes, r.Event.MaxMetricsBytes = c.Session.MaxBytes, uint32(c.Session.MaxMetricsBytes)
	r.Event.UnknownTypes = event.UnknownTypes(c.EventTypes.Unknown)
	for _, x := range c.Exclude {
		r.Event.Exclude = append(r.Event.Exclude, event.Exclude(x))
	}
	return r
}

// OtherRules says how the rules of a configuration are other ones than the present ones of a shard; "" if they are the
// same, or the shard has none yet. later says that they replace those of the shard once a node with this configuration
// leads it.
func OtherRules(c *config.Rules, present *state.Rules) (why string, later bool) {
	wanted := wantedRules(c)
	keys := otherKeys(&wanted, present)
	if present.Number == 0 || wanted.Revision == present.Revision && len(keys) == 0 {
		return "", false
	}
	why = fmt.Sprintf("rules.revision is %d in the configuration of this node, and %d in the shard; other values: %s",
		wanted.Revision, present.Revision, cmp.Or(strings.Join(keys, ", "), "none"))
	if wanted.Revision > present.Revision {
		return why + ". Those of the shard hold until this node leads it", true
	}
	return why + ". Those of the shard hold", false
}

// otherKeys are the configuration's names of what differs between two sets of rules, whatever their numbers.
func otherKeys(a, b *state.Rules) (keys []string) {
	for _, x := range []struct {
		key  string
		same bool
	}{
		{"rules.clock.slack", a.ClockSlack == b.ClockSlack},
		{"rules.clock.leave_out", a.LeaveOut == b.LeaveOut},
		{"rules.session.max_bytes", a.MaxSessionBytes == b.MaxSessionBytes},
		{"rules.session.max_metrics_bytes", a.Event.MaxMetricsBytes == b.Event.MaxMetricsBytes},
		{"rules.event_types.unknown", a.Event.UnknownTypes == b.Event.UnknownTypes},
		{"rules.exclude", (&event.Rules{Exclude: a.Event.Exclude}).Equals(&event.Rules{Exclude: b.Event.Exclude})},
		{"forms of this version", a.Event.Forms == b.Event.Forms},
	} {
		if !x.same {
			keys = append(keys, x.key)
		}
	}
	return keys
}
