package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// DeadLetters say what a dead letter shows of the record that it stands for. They are replicated, like all rules, and
// need level 3.
type DeadLetters struct {
	// Values is keep (the record as it came), masked (its names, and for each value its type and length) or none.
	Values string `yaml:"values" default:"keep" enum:"keep,masked,none"`
	// Details is types (a detail says what a value is) or values (it shows how the value begins).
	Details string `yaml:"details" default:"types" enum:"types,values"`
}

// PrivacyRule says what becomes of the value of a field, before anything else has it. Package event checks what its
// fields say, and docs/schema.md has their rules. It needs level 3.
type PrivacyRule struct {
	Field string `yaml:"field"` // a dot leads into an object
	// Action is drop, hash (needs privacy.keys), truncate_ip or generalise_time.
	Action string `yaml:"action" enum:"drop,hash,truncate_ip,generalise_time"`
	To     string `yaml:"to"` // what generalise_time leaves of a time: hour, day or month
}

// Consent says by which field a reader agrees to being counted. It needs level 3.
type Consent struct {
	Field string   `yaml:"field"` // as in rules.privacy
	Equal []string `yaml:"equal"` // the values that agree
	// Missing says what becomes of a record without a value: suppress or count.
	Missing string `yaml:"missing" default:"suppress" enum:"suppress,count"`
}

// Privacy names the keys of hash. They are never replicated: all nodes have the same files.
type Privacy struct {
	// Keys are the keys of hash. The first is that of new rules; the others are those of rules before, for as long as
	// anything has to be read again by them.
	Keys []KeyFile `yaml:"keys"`
}

// hashAction is the action of a PrivacyRule that needs a key.
const hashAction = "hash"

// dlqRetentionMost is the longest retention of dead letters: ten years, so that its milliseconds are no surprise to
// anybody.
const dlqRetentionMost = 3652 * 24 * time.Hour

func (c *Config) checkDeadLetters(k *checker) {
	k.between("kafka.dlq_retention", c.Kafka.DLQRetention, time.Hour, dlqRetentionMost)
}

func (c *Config) checkPrivacy(k *checker) {
	for i := range c.Rules.Privacy {
		r := &c.Rules.Privacy[i]
		at := fmt.Sprintf("rules.privacy[%d]", i)
		k.need(at+".field", r.Field, "the field of the record that the rule is about")
		if r.Action == hashAction && len(c.Privacy.Keys) == 0 {
			k.add(at+".action", "hash needs a key: openssl rand -hex 32 > FILE, the same on all nodes, and privacy: "+
				"{keys: [{file: FILE}]}")
		}
	}
	if x := c.Rules.Consent; x != nil {
		k.need("rules.consent.field", x.Field, "the field of the record that says whether its reader agrees")
		if len(x.Equal) == 0 {
			k.add("rules.consent.equal", "is missing: list the values that agree")
		}
	}
	for i, f := range c.Privacy.Keys {
		at := fmt.Sprintf("privacy.keys[%d].file", i)
		switch {
		case !k.need(at, f.File, "the file of a key"):
		case slices.Contains(c.Privacy.Keys[:i], f):
			k.add(at, "%s stands twice", f.File)
		case strings.HasPrefix(filepath.Clean(f.File), filepath.Clean(c.DataDir)+string(filepath.Separator)):
			k.add(at, "lies in data_dir: whoever has that folder could try values against its hashes")
		}
	}
}
