package shard

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"deckle/event"
	"deckle/node/config"
	"deckle/schema/level"
	"deckle/state"
)

// CheckRules returns what is wrong with the rules of a configuration, beyond what the configuration itself can tell.
func CheckRules(c *config.Rules) error {
	r := wantedRules(c, event.KeyID{1}, level.Current) // whether there is a key, the configuration tells
	if err := r.Event.Check(); err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	return nil
}

// wantedRules are the rules of the configuration, as far as a shard of that level can have them; key is that of new
// rules that hash.
func wantedRules(c *config.Rules, key event.KeyID, at level.Level) state.Rules {
	r := state.DefaultRules()
	r.Revision = uint64(c.Revision)
	r.ClockSlack, r.LeaveOut = c.Clock.Slack, c.Clock.LeaveOut
	r.MaxSessionBytes, r.Event.MaxMetricsBytes = c.Session.MaxBytes, uint32(c.Session.MaxMetricsBytes)
	r.Event.UnknownTypes = event.UnknownTypes(c.EventTypes.Unknown)
	for _, x := range c.Exclude {
		r.Event.Exclude = append(r.Event.Exclude, event.Exclude(x))
	}
	if at >= level.Guarded {
		withPrivacy(&r.Event, c, key)
	}
	return r
}

// EventRules are the rules by which a new cluster of this configuration would judge records; key is that of rules that
// hash. The rules must have passed CheckRules.
func EventRules(c *config.Rules, key event.KeyID) *event.Rules {
	r := wantedRules(c, key, level.Current)
	return &r.Event
}

// replaces says whether a leader with the wanted rules proposes them: its configuration has a greater revision, or the
// shard has rules of before level.Guarded, which say nothing of letters, and nothing else differs. So a rise of the
// level needs no new revision.
func replaces(wanted, present *state.Rules) bool {
	if present.Number == 0 || wanted.Revision > present.Revision {
		return true
	}
	return wanted.Revision == present.Revision && wanted.Event.Letters != (event.Letters{}) &&
		present.Event.Letters == (event.Letters{}) && len(otherKeys(wanted, withLetters(present, wanted))) == 0
}

// newRules returns the rules that a leader with the configuration proposes to a shard of that level, if it does. Rules
// that differ and are not proposed, OtherRules tells. A leader whose configuration needs a higher level proposes none:
// those that the shard can have would take the revision, and the others could not come after them.
func newRules(c *config.Rules, key event.KeyID, present *state.Rules, at level.Level) (r state.Rules, ok bool) {
	if at < level.Real || at < level.Guarded && waitsFor(c, present, at) != "" {
		return r, false
	}
	r = wantedRules(c, key, at)
	ok = replaces(&r, present)
	r.Number = present.Number + 1
	return r, ok
}

// withLetters returns the present rules of a shard, or, if they were made before there were any about letters, what
// they become by themselves: the same with the letters of the wanted rules.
func withLetters(present, wanted *state.Rules) *state.Rules {
	if present.Event.Letters != (event.Letters{}) {
		return present
	}
	r := *present
	r.Event.Letters = wanted.Event.Letters
	return &r
}

// OtherRules says how the rules of a configuration are other ones than the present ones of a shard of that level; "" if
// they are the same, or the shard has none yet. key is that of new rules that hash. later says that they replace those
// of the shard once a node with this configuration leads it.
func OtherRules(c *config.Rules, key event.KeyID, present *state.Rules, at level.Level) (why string, later bool) {
	wanted := wantedRules(c, key, at)
	keys := otherKeys(&wanted, withLetters(present, &wanted))
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
		{"rules.privacy", slices.Equal(a.Event.Privacy, b.Event.Privacy)},
		{"the first of privacy.keys", a.Event.PrivacyKey == b.Event.PrivacyKey},
		{"rules.consent", (&event.Rules{Consent: a.Event.Consent}).Equals(&event.Rules{Consent: b.Event.Consent})},
		{"rules.dead_letters", a.Event.Letters == b.Event.Letters},
		{"forms of this version", a.Event.Forms == b.Event.Forms},
	} {
		if !x.same {
			keys = append(keys, x.key)
		}
	}
	return keys
}

// withPrivacy adds what the configuration says about personal data to rules of a shard that can have it.
func withPrivacy(r *event.Rules, c *config.Rules, key event.KeyID) {
	r.Letters = event.Letters{Values: event.LetterValues(c.DeadLetters.Values),
		Details: event.LetterDetails(c.DeadLetters.Details)}
	for _, p := range c.Privacy {
		r.Privacy = append(r.Privacy, event.Privacy{Field: p.Field, Action: event.PrivacyAction(p.Action), To: p.To})
	}
	if r.Hashes() {
		r.PrivacyKey = key
	}
	if x := c.Consent; x != nil {
		r.Consent = &event.Consent{Field: x.Field, Equal: x.Equal, Missing: x.Missing}
	}
}

// samePrivacy says whether two sets of rules keep the same back: whether a record read by the one shows no more than by
// the other. With which key they hash makes no difference to that.
func samePrivacy(a, b *event.Rules) bool {
	return slices.Equal(a.Privacy, b.Privacy) &&
		(&event.Rules{Consent: a.Consent}).Equals(&event.Rules{Consent: b.Consent})
}

// waitsFor says for which part of a configuration a shard of that level with those rules must not be read yet; "" if it
// may. Without it, the shard would let through what its configuration says must not be let through. To wait loses
// nothing.
func waitsFor(c *config.Rules, present *state.Rules, at level.Level) string {
	if at < level.Guarded {
		var keys []string
		if c.DeadLetters.Values != string(event.KeepValues) {
			keys = append(keys, "rules.dead_letters.values is "+c.DeadLetters.Values)
		}
		if len(c.Privacy) > 0 {
			keys = append(keys, "rules.privacy has rules")
		}
		if c.Consent != nil {
			keys = append(keys, "rules.consent is set")
		}
		if len(keys) > 0 {
			return fmt.Sprintf("%s, which needs level %d, and the shard has level %d", strings.Join(keys, ", "),
				level.Guarded, at)
		}
		return ""
	}
	wanted := wantedRules(c, event.KeyID{}, at)
	if present.Number == 0 || wanted.Revision != present.Revision || samePrivacy(&wanted.Event, &present.Event) {
		return ""
	}
	return fmt.Sprintf("rules.privacy or rules.consent differ from those of the shard, and rules.revision is %d in "+
		"both: raise it in the files of all nodes", wanted.Revision)
}
