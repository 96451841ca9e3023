package sim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// What is personal in the records of Faults.Private.
const (
	// PrivateField is an object beside the fields of the schema.
	PrivateField = "sim_reader"
	// Planted stands in every value that all rules take away or change: nothing that the cluster keeps or writes may
	// have it.
	Planted = "pl4nt3d"
)

// PrivateRule is a rule about personal data: the field, what is done to it, and what is left of a time.
type PrivateRule struct{ Field, Action, To string }

// PrivateRules are what a cluster must have in rules.privacy for the truth of a record, and the HMAC key that they hash
// with.
type PrivateRules struct {
	Rules []PrivateRule
	Key   string
}

// FirstRules are the rules that a truth rests on, if By has not told it other ones.
func FirstRules() PrivateRules {
	return PrivateRules{Key: PrivateKey(0), Rules: []PrivateRule{{PrivateField + ".email", "hash", ""},
		{PrivateField + ".note", "drop", ""}, {PrivateField + ".ip", "truncate_ip", ""},
		{PrivateField + ".seen", "generalise_time", "day"}, {"metadata." + PrivateField, "drop", ""}}}
}

// PrivateKey returns the n-th HMAC key.
func PrivateKey(n int) string { return fmt.Sprintf("key %d of the simulator, of 32 bytes and more", n) }

// DrawRules returns rules that hash with the given key. Each field has any rule that fits it, or none; what Planted
// stands in is always ruled. intN draws from [0, n).
func DrawRules(key string, intN func(n int) int) PrivateRules {
	draw := func(field string, actions ...string) []PrivateRule {
		action, to, _ := strings.Cut(actions[intN(len(actions))], " ")
		if action == "" {
			return nil
		}
		return []PrivateRule{{field, action, to}}
	}
	r := PrivateRules{Key: key, Rules: []PrivateRule{{PrivateField + ".note", "drop", ""},
		{"metadata." + PrivateField, "drop", ""}}}
	for _, list := range [][]PrivateRule{
		draw(PrivateField+".email", "hash", "hash", "drop"),
		draw(PrivateField+".ip", "", "truncate_ip", "hash", "drop"),
		draw(PrivateField+".seen", "", "generalise_time hour", "generalise_time day", "generalise_time month", "drop"),
		draw(PrivateField+".kept", "", "hash", "drop"), // a number
		draw("country", "", "hash", "drop"),            // of sessions and totals, too
		draw("city", "", "hash", "drop"),
	} {
		r.Rules = append(r.Rules, list...)
	}
	return r
}

// protect does to the fields of a record, in which every value is read, what the rules say.
func (p *PrivateRules) protect(m map[string]any) {
	for _, r := range p.Rules {
		within, path := m, strings.Split(r.Field, ".")
		for _, name := range path[:len(path)-1] {
			within, _ = within[name].(map[string]any) // none: there is nothing to protect
		}
		name := path[len(path)-1]
		value := within[name]
		if value == nil || value == "" {
			continue
		}
		switch text := fmt.Sprint(value); r.Action {
		case "drop":
			delete(within, name)
		case "hash":
			if n, ok := value.(json.Number); ok {
				text = string(n)
			}
			mac := hmac.New(sha256.New, []byte(p.Key))
			fmt.Fprintf(mac, "%s\x00%s", r.Field, text)
			within[name] = hex.EncodeToString(mac.Sum(nil))[:32]
		case "truncate_ip":
			within[name] = text[:strings.LastIndexByte(text, '.')] + ".0"
		case "generalise_time":
			kept := map[string]string{"hour": "2006-01-02T15", "day": "2006-01-02", "month": "2006-01"}[r.To]
			within[name] = text[:len(kept)] + "2006-01-01T00:00:00Z"[len(kept):]
		}
	}
}
