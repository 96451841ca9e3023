package shard

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"deckle/event"
	"deckle/node/condition"
	"deckle/node/config"
	"deckle/schema/level"
	"deckle/state"
)

// Keys are the HMAC keys that a node's configuration has, by their ids. The zero value has none.
type Keys struct {
	first event.KeyID
	byID  map[event.KeyID][]byte
}

// Add adds a key, which must not change any more; the first one is that of new rules. It says whether the key is new.
func (k *Keys) Add(key []byte) bool {
	id := event.KeyIDOf(key)
	if k.byID == nil {
		k.first, k.byID = id, map[event.KeyID][]byte{}
	}
	if k.byID[id] != nil {
		return false
	}
	k.byID[id] = key
	return true
}

// Key returns the key of an id, nil if there is none.
func (k Keys) Key(id event.KeyID) []byte { return k.byID[id] }

// First is the id of the first key, zero if there is none.
func (k Keys) First() event.KeyID { return k.first }

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

// lacks returns the ids of the keys that a shard needs and the node does not have.
func (k Keys) lacks(needed []event.KeyID) (ids []string) {
	for _, id := range needed {
		if k.byID[id] == nil {
			ids = append(ids, id.String())
		}
	}
	return ids
}

// privacyWaits shows, and returns, why the shard must not be read for now; "" if it may be read: its level or its rules
// are not what this node's configuration asks for, or this node lacks a key.
func (l *leadership) privacyWaits(view *state.View, low *risen) string {
	why := waitsFor(&l.Config.Rules, &view.Rules, view.Level)
	if why != "" && view.Level < level.Guarded {
		switch most := level.Level(l.Config.Cluster.MaxLevel); {
		case low.why != "":
			why += "; " + low.why
		case most > 0 && most < level.Guarded:
			why += fmt.Sprintf(": cluster.max_level of this node is %d", most)
		}
	}
	l.cond.keep(condition.PrivacyWaits, l.cond.subject(), why)
	lacks := l.Keys.lacks(view.KeyIDs)
	l.keyless = len(lacks) > 0
	missing := ""
	if l.keyless {
		missing = "no file of privacy.keys has the key " + strings.Join(lacks, ", nor the key ")
	}
	l.cond.keep(condition.PrivacyKeyMissing, l.cond.subject(), missing)
	if why == "" {
		why = missing
	}
	return why
}

// handOnEvery is how often a leader without a key offers its shard to another node, which may have it.
const handOnEvery = time.Minute

// handOn offers the shard to the other nodes in turn while this one lacks a key. All may lack it: so not more often. It
// ends the run once the key is not needed any more.
func (in *intake) handOn(view *state.View, now time.Time) error {
	if !in.keyless {
		return nil
	}
	if len(in.Keys.lacks(view.KeyIDs)) == 0 {
		return errRise
	}
	nodes := in.Config.Cluster.Nodes
	if len(nodes) < 2 || now.Sub(in.handed) < handOnEvery {
		return nil
	}
	in.handed = now
	self := slices.IndexFunc(nodes, func(n config.Node) bool { return n.Name == in.Config.Node })
	in.startWork(func(ctx context.Context) { // which ends with this run, and so with the leadership
		ctx, cancel := context.WithTimeout(ctx, handOnEvery)
		defer cancel()
		for i := 1; i < len(nodes) && ctx.Err() == nil; i++ {
			name := nodes[(self+i)%len(nodes)].Name
			in.log.Warn("a key is missing here: the shard is offered to another node", "node", name)
			if err := in.group.TransferLeadership(ctx, name); err == nil {
				return
			}
		}
	})
	return nil
}
