package event

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Privacy says what becomes of the values of one field before anything else sees them. What decides about the record as
// a whole (Exclude, Consent, its faults) is judged by the values as they came.
type Privacy struct {
	// Field is a field of the record, of the schema or not. A dot leads into an object, and on the way into every
	// element of a list; a name with a dot counts as well. Every occurrence of a name that stands twice is meant.
	Field  string        `json:"field"`
	Action PrivacyAction `json:"action"`
	// To is what GeneraliseTime leaves of a time: hour, day or month, in UTC.
	To string `json:"to,omitempty"`
}

// PrivacyAction is what is done to a value. null and "" are no value, and stay. A value that the action does not fit is
// dropped, and counted (Decoder.Unfit).
type PrivacyAction string

const (
	// DropValue takes the field away.
	DropValue PrivacyAction = "drop"
	// HashValue puts a text in its place: the first 16 bytes, in hexadecimal digits, of the HMAC-SHA256 of the field, a
	// zero byte and the value as plain text. It fits texts, numbers and truth values. A UUID of event_id counts in
	// lower case, a user 0 is nobody and stays.
	HashValue PrivacyAction = "hash"
	// TruncateIP leaves the network of an address: 24 bits of IPv4 (in IPv6, too, where 6to4 has one), else 48 bits.
	TruncateIP PrivacyAction = "truncate_ip"
	// GeneraliseTime cuts a time of RFC 3339, or a number of seconds, milliseconds, microseconds or nanoseconds since
	// 1970, down to an hour, a day or a month. A number stays one of the same unit; one that is no seconds is no time
	// before 2000.
	GeneraliseTime PrivacyAction = "generalise_time"
)

// What GeneraliseTime may leave of a time.
const (
	toHour  = "hour"
	toDay   = "day"
	toMonth = "month"
)

// Consent says by which field a reader agrees to being counted. A record whose field has none of the values is left out
// and counted in Counts.Unconsented.
type Consent struct {
	Field string   `json:"field"` // as in Exclude
	Equal []string `json:"equal"`
	// Missing says what becomes of a record without a value: suppress, which "" means too, or count.
	Missing string `json:"missing,omitempty"`
}

// What Consent.Missing may be.
const (
	SuppressMissing = "suppress"
	CountMissing    = "count"
)

// MaxPrivacy is the greatest number of privacy rules.
const MaxPrivacy = 64

// KeyID names an HMAC key without telling anything of it: the first 16 bytes of its HMAC-SHA256 of a fixed text.
type KeyID [16]byte

// KeyIDOf returns the id of a key.
func KeyIDOf(key []byte) (id KeyID) {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("deckle hmac id 1"))
	copy(id[:], mac.Sum(nil))
	return id
}

// String returns the id in hexadecimal digits.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id KeyID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *KeyID) UnmarshalText(text []byte) error {
	if len(text) != 2*len(id) {
		return fmt.Errorf("event: id of a key: %d bytes, want %d", len(text), 2*len(id))
	}
	_, err := hex.Decode(id[:], text)
	return err
}

// Hashes says whether a privacy rule needs the key that PrivacyKey names.
func (r *Rules) Hashes() bool {
	for i := range r.Privacy {
		if r.Privacy[i].Action == HashValue {
			return true
		}
	}
	return false
}

// guards says whether the rules look at fields for the sake of persons: then nothing is shown of what cannot be told
// apart by field.
func (r *Rules) guards() bool { return len(r.Privacy) > 0 || r.Consent != nil }

func (r *Rules) checkPrivacy() error {
	if len(r.Privacy) > MaxPrivacy {
		return fmt.Errorf("privacy: %d rules, at most %d", len(r.Privacy), MaxPrivacy)
	}
	if r.guards() && r.Forms < FormsReal {
		return errors.New("privacy, consent: need the forms of level 2")
	}
	for i := range r.Privacy {
		p := &r.Privacy[i]
		if err := p.check(); err != nil {
			return fmt.Errorf("privacy[%d]: %w", i, err)
		}
		for j := range i {
			a, b := p.Field, r.Privacy[j].Field
			if a == b || strings.HasPrefix(a, b+".") || strings.HasPrefix(b, a+".") {
				return fmt.Errorf("privacy[%d]: field: %q overlaps with %q of privacy[%d]", i, a, b, j)
			}
		}
	}
	if r.Hashes() && r.PrivacyKey == (KeyID{}) {
		return errors.New("privacy: hash needs a key (privacy.keys)")
	}
	if r.Consent == nil {
		return nil
	}
	if err := r.Consent.check(); err != nil {
		return fmt.Errorf("consent: %w", err)
	}
	return nil
}

func (p *Privacy) check() error {
	if p.Field == "" || len(p.Field) > maxExcludeText {
		return fmt.Errorf("field: %d bytes, 1 to %d are allowed", len(p.Field), maxExcludeText)
	}
	switch p.Action {
	case DropValue, HashValue, TruncateIP, GeneraliseTime:
	default:
		return fmt.Errorf("action: %q is none of drop, hash, truncate_ip and generalise_time", p.Action)
	}
	switch f := fieldByName(p.Field); {
	case f == fieldTimestamp || f == fieldEventType:
		return fmt.Errorf("field: nothing may be done to %s", p.Field)
	case (f == fieldSessionID || f == fieldEventID) && p.Action != HashValue:
		return fmt.Errorf("action: %s is needed, and may only be hashed", p.Field)
	case f != fieldExtra && p.Action != DropValue && p.Action != HashValue:
		return fmt.Errorf("action: %s may only be dropped or hashed", p.Field)
	}
	switch {
	case p.Action == GeneraliseTime && p.To != toHour && p.To != toDay && p.To != toMonth:
		return fmt.Errorf("to: %q is none of hour, day and month", p.To)
	case p.Action != GeneraliseTime && p.To != "":
		return fmt.Errorf("to: means nothing to %s", p.Action)
	}
	return nil
}

func (c *Consent) check() error {
	switch {
	case c.Field == "" || len(c.Field) > maxExcludeText:
		return fmt.Errorf("field: %d bytes, 1 to %d are allowed", len(c.Field), maxExcludeText)
	case len(c.Equal) == 0 || len(c.Equal) > MaxExcludeValues:
		return fmt.Errorf("equal: %d values, 1 to %d are allowed", len(c.Equal), MaxExcludeValues)
	case c.Missing != "" && c.Missing != SuppressMissing && c.Missing != CountMissing:
		return fmt.Errorf("missing: %q is none of suppress and count", c.Missing)
	}
	for _, v := range c.Equal {
		if v == "" || len(v) > maxExcludeText {
			return fmt.Errorf("equal: a value of %d bytes, 1 to %d are allowed", len(v), maxExcludeText)
		}
	}
	return nil
}

func (c *Consent) equals(o *Consent) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.Field == o.Field && c.Missing == o.Missing && slices.Equal(c.Equal, o.Equal)
}
