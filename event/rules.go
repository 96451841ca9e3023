package event

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"deckle/schema/level"
)

// Rules say how records are decoded and judged, beyond what never changes. They are part of the state of a shard, so
// that all replicas, and a leader that reads a record again, judge alike. The zero value is what v0.1.0 does, byte for
// byte. Whoever takes rules from outside calls Check.
type Rules struct {
	// Forms is the version of the forms that are accepted for users, ids, times and numbers, of the rule by which JSON
	// is made readable (NormalizeJSON), and of what counts as a Kafka time. They belong together and have one number.
	Forms Forms `json:"forms,omitempty"`
	// UnknownTypes says what becomes of an event whose type is none of docs/schema.md.
	UnknownTypes UnknownTypes `json:"unknown_types,omitempty"`
	// MaxMetricsBytes is the greatest length in bytes of the engagement_metrics that a batch carries to the replicas;
	// of a longer one, Event.MetricsOmitted is set. 0 is no limit.
	MaxMetricsBytes uint32 `json:"max_metrics_bytes,omitempty"`
	// Exclude are the records that are left out, at most MaxExclude rules. The first that a record fits counts it.
	Exclude []Exclude `json:"exclude,omitempty"`
	// Letters say what a dead letter shows of its record. They need level.Guarded, and so does what follows.
	Letters Letters `json:"letters,omitzero"`
	// Privacy is what becomes of the values of fields, at most MaxPrivacy rules. No two may be about the same, nor one
	// about what lies within the field of another.
	Privacy []Privacy `json:"privacy,omitempty"`
	// PrivacyKey names the key that Privacy hashes with; the key itself is never replicated.
	PrivacyKey KeyID `json:"privacy_key,omitzero"`
	// Consent says which records are left out because their reader has not agreed; nil for none.
	Consent *Consent `json:"consent,omitempty"`
}

// Forms is a version of the accepted forms. A later one accepts everything that an earlier one accepts.
type Forms uint8

const (
	// FormsFirst are the forms of v0.1.0.
	FormsFirst Forms = 0
	// FormsReal are those of docs/schema.md: users as numbers, texts or unknown, event ids of any form, session ids of
	// up to MaxSessionID bytes, times as numbers of four units and as RFC 3339, numbers as texts.
	FormsReal Forms = 1
)

// UnknownTypes says what becomes of an event of an unknown type.
type UnknownTypes string

const (
	// RejectUnknown makes it a dead letter, UnknownEventType. The empty text means the same.
	RejectUnknown UnknownTypes = "reject"
	// CountUnknown counts it, as type Other.
	CountUnknown UnknownTypes = "count"
	// SkipUnknown leaves it out and counts it in Counts.Skipped.
	SkipUnknown UnknownTypes = "skip"
)

// Exclude describes records that are left out: those in which the value of Field equals one of Equal, ends with one of
// Suffix, names a host of Hosts or lies in a network of Networks. A record without the field is not left out.
type Exclude struct {
	// Name is what the records are counted under: 1 to 64 bytes, unique.
	Name string `json:"name"`
	// Field is a field of the record, of the schema or not. A dot leads into an object ("metadata.user_agent"). The
	// value is the text, or a number, true or false as it stands in the record. Objects and lists have no value. Of a
	// name that stands twice, the last counts.
	Field  string   `json:"field"`
	Equal  []string `json:"equal,omitempty"`
	Suffix []string `json:"suffix,omitempty"`
	// Hosts are names of hosts. The value is a URL or a host; it fits if its host is one of them or lies below one of
	// them ("staging.example.com" below "example.com"), upper and lower case being the same.
	Hosts []string `json:"hosts,omitempty"`
	// Networks are networks in CIDR notation. The value is an IP address, with or without a port.
	Networks []string `json:"networks,omitempty"`
}

// Limits of Rules.
const (
	// MaxExclude is the greatest number of exclude rules.
	MaxExclude = 64
	// MaxExcludeValues is the greatest number of values of all exclude rules together.
	MaxExcludeValues = 4096
	// maxExcludeText is the greatest length in bytes of a name, a field or a value of an exclude rule.
	maxExcludeText = 256
	maxExcludeName = 64
)

// DefaultRules returns the rules of a new shard that has none of its own, at level.Real.
func DefaultRules() Rules {
	return Rules{Forms: FormsReal, UnknownTypes: CountUnknown, MaxMetricsBytes: 4096}
}

// Check returns an error that names the key if the rules contradict what their fields say, and a *level.TooNewError if
// they have forms that this binary does not know.
func (r *Rules) Check() error {
	if r.Forms > FormsReal {
		return &level.TooNewError{What: fmt.Sprintf("forms %d of the rules", r.Forms)}
	}
	switch r.UnknownTypes {
	case "", RejectUnknown, CountUnknown, SkipUnknown:
	default:
		return fmt.Errorf("event_types.unknown: %q is none of count, reject and skip", r.UnknownTypes)
	}
	if r.Forms == FormsFirst && (r.UnknownTypes == CountUnknown || r.MaxMetricsBytes > 0) {
		return errors.New("event_types.unknown: count, and a limit of engagement_metrics, need the forms of level 2")
	}
	if err := errors.Join(r.Letters.check(), r.checkPrivacy()); err != nil {
		return err
	}
	if len(r.Exclude) > MaxExclude {
		return fmt.Errorf("exclude: %d rules, at most %d", len(r.Exclude), MaxExclude)
	}
	names, values := map[string]bool{}, 0
	for i := range r.Exclude {
		x := &r.Exclude[i]
		if err := x.check(); err != nil {
			return fmt.Errorf("exclude[%d]: %w", i, err)
		}
		if names[x.Name] {
			return fmt.Errorf("exclude[%d]: name: %q stands twice", i, x.Name)
		}
		names[x.Name] = true
		values += len(x.Equal) + len(x.Suffix) + len(x.Hosts) + len(x.Networks)
	}
	if values > MaxExcludeValues {
		return fmt.Errorf("exclude: %d values, at most %d", values, MaxExcludeValues)
	}
	return nil
}

func (x *Exclude) check() error {
	switch {
	case x.Name == "" || len(x.Name) > maxExcludeName:
		return fmt.Errorf("name: %d bytes, 1 to %d are allowed", len(x.Name), maxExcludeName)
	case x.Field == "" || len(x.Field) > maxExcludeText:
		return fmt.Errorf("field: %d bytes, 1 to %d are allowed", len(x.Field), maxExcludeText)
	case len(x.Equal)+len(x.Suffix)+len(x.Hosts)+len(x.Networks) == 0:
		return errors.New("one of equal, suffix, hosts and networks is needed")
	}
	for _, list := range []struct {
		key    string
		values []string
	}{{"suffix", x.Suffix}, {"hosts", x.Hosts}, {"networks", x.Networks}} {
		if slices.Contains(list.values, "") {
			return fmt.Errorf("%s: an empty text", list.key)
		}
	}
	for _, v := range slices.Concat(x.Equal, x.Suffix, x.Hosts) {
		if len(v) > maxExcludeText {
			return fmt.Errorf("a value of %d bytes, at most %d", len(v), maxExcludeText)
		}
	}
	for _, n := range x.Networks {
		if _, err := netip.ParsePrefix(n); err != nil {
			return fmt.Errorf("networks: %q is no network such as 10.0.0.0/8: %w", n, err)
		}
	}
	return nil
}

// Equals says whether the two sets of rules are the same.
func (r *Rules) Equals(o *Rules) bool {
	return r.Forms == o.Forms && r.UnknownTypes == o.UnknownTypes && r.MaxMetricsBytes == o.MaxMetricsBytes &&
		r.Letters == o.Letters && slices.Equal(r.Privacy, o.Privacy) && r.PrivacyKey == o.PrivacyKey &&
		r.Consent.equals(o.Consent) && slices.EqualFunc(r.Exclude, o.Exclude, func(a, b Exclude) bool {
		return a.Name == b.Name && a.Field == b.Field && slices.Equal(a.Equal, b.Equal) &&
			slices.Equal(a.Suffix, b.Suffix) && slices.Equal(a.Hosts, b.Hosts) &&
			slices.Equal(a.Networks, b.Networks)
	})
}
