package shard

import (
	"strings"
	"testing"

	"deckle/event"
	"deckle/node/config"
	"deckle/schema/level"
	"deckle/state"
)

// A shard is not read where that would show more than its leader's file allows: below the level that knows such rules,
// and by other rules of the same revision, which somebody has changed and forgotten to raise. Where the shard's
// revision is another one, the greater is believed.
func TestWaitsFor(t *testing.T) {
	rules := []config.PrivacyRule{{Field: "a", Action: "drop"}, {Field: "b", Action: "hash"}}
	consent := &config.Consent{Field: "c", Equal: []string{"yes"}, Missing: "suppress"}
	of := func(revision int, privacy []config.PrivacyRule, x *config.Consent) *config.Rules {
		return &config.Rules{Revision: revision, Privacy: privacy, Consent: x,
			DeadLetters: config.DeadLetters{Values: "keep", Details: "types"}}
	}
	for name, x := range map[string]struct {
		file, shard *config.Rules // nil: the shard has no rules yet
		at          level.Level
		want        string // "" if it is read
	}{
		"nothing asked":           {of(1, nil, nil), of(1, nil, nil), level.Guarded, ""},
		"nothing asked, level 2":  {of(1, nil, nil), of(1, nil, nil), level.Real, ""},
		"level 2":                 {of(1, rules, nil), of(1, nil, nil), level.Real, "rules.privacy has rules"},
		"level 2, greater":        {of(2, rules, nil), of(1, nil, nil), level.Real, "level 3"},
		"level 1, consent":        {of(1, nil, consent), nil, level.First, "rules.consent is set, which"},
		"the same":                {of(1, rules, consent), of(1, rules, consent), level.Guarded, ""},
		"none yet":                {of(1, rules, consent), nil, level.Guarded, ""},
		"a rule more":             {of(1, rules, nil), of(1, rules[:1], nil), level.Guarded, "is 1 in both"},
		"a rule less":             {of(1, rules[:1], nil), of(1, rules, nil), level.Guarded, "raise it"},
		"consent":                 {of(1, rules, consent), of(1, rules, nil), level.Guarded, "raise it"},
		"the shard's is greater":  {of(1, rules, nil), of(2, nil, nil), level.Guarded, ""},
		"the file's is, and will": {of(2, rules, nil), of(1, nil, nil), level.Guarded, ""},
	} {
		var present = wantedRules(of(0, nil, nil), event.KeyID{}, x.at)
		if x.shard != nil {
			present = wantedRules(x.shard, event.KeyID{7}, x.at)
			present.Number = 3
		}
		if got := waitsFor(x.file, &present, x.at); (got == "") != (x.want == "") || !strings.Contains(got, x.want) {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
}

// A file with a greater revision and rules that need level 3 comes to a shard of level 2. Its leader must not hand on
// the part of it that the shard can have: under that revision, the other part could not follow once the level rises.
func TestRulesWaitForTheirLevel(t *testing.T) {
	before := &config.Rules{Revision: 1, EventTypes: config.EventTypes{Unknown: "count"},
		DeadLetters: config.DeadLetters{Values: "keep", Details: "types"}}
	present, ok := newRules(before, event.KeyID{}, &state.Rules{}, level.Real)
	if !ok || present.Number != 1 {
		t.Fatalf("the first rules: %+v, %v", present, ok)
	}
	after := *before
	after.Revision, after.Privacy = 2, []config.PrivacyRule{{Field: "a", Action: "drop"}}
	if r, ok := newRules(&after, event.KeyID{}, &present, level.Real); ok {
		t.Errorf("at level 2 it proposes %+v", r)
	}
	r, ok := newRules(&after, event.KeyID{}, &present, level.Guarded)
	if !ok || len(r.Event.Privacy) != 1 || r.Revision != 2 || waitsFor(&after, &r, level.Guarded) != "" {
		t.Errorf("at level 3: %+v, %v", r, ok)
	}
}

// New rules hash with the first key; which others there are is asked by id.
func TestKeys(t *testing.T) {
	var none, keys Keys
	if none.First() != (event.KeyID{}) || none.Key(event.KeyID{}) != nil {
		t.Error("no key is one")
	}
	a, b := []byte("a"), []byte("b")
	if !keys.Add(a) || !keys.Add(b) || keys.Add([]byte("a")) {
		t.Error("a key that stands twice is not told")
	}
	if keys.First() != event.KeyIDOf(a) || string(keys.Key(event.KeyIDOf(b))) != "b" {
		t.Errorf("%+v", keys)
	}
	needed := []event.KeyID{event.KeyIDOf(b), event.KeyIDOf([]byte("c"))}
	if got := keys.lacks(needed); len(got) != 1 || got[0] != needed[1].String() {
		t.Errorf("lacks %v", got)
	}
	c := &config.Rules{Privacy: []config.PrivacyRule{{Field: "x", Action: "drop"}}}
	if r := wantedRules(c, keys.First(), level.Guarded); r.Event.PrivacyKey != (event.KeyID{}) {
		t.Error("rules that do not hash name a key: another first key would make them differ")
	}
}
