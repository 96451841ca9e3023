package state

import (
	"slices"
	"time"

	"deckle/event"
)

// Rules decide verdicts and stored values, and may change while the shard lives: by a Rules entry, from the epoch that
// begins with it. What is fixed for the life of the shard is in Config. The zero value are the rules of v0.1.0.
type Rules struct {
	// Number counts the rules of the shard. 0 are those of level 1, which no entry has set.
	Number uint32
	// Revision is rules.revision of the configuration that they come from. A leader proposes its own only if they have
	// a greater one.
	Revision uint64
	// Event says how records are decoded and judged.
	Event event.Rules
	// ClockSlack is how far the watermark of a partition with slow devices stays behind the live ones, and how near a
	// partition that was left out must have come to the clock to take part in it again.
	ClockSlack time.Duration
	// LeaveOut is how long a partition may deliver nothing before the clock goes on without it.
	LeaveOut time.Duration
	// MaxSessionBytes is the size of a session's encoded events, in its image and in its segments, from which on a
	// further event of it is a dead letter, session_full. 0 is no limit.
	MaxSessionBytes int64 `json:",omitempty"`
}

// DefaultRules are those of a new shard, as far as the configuration does not say otherwise.
func DefaultRules() Rules {
	return Rules{Event: event.DefaultRules(), ClockSlack: 2 * time.Minute, LeaveOut: 2 * time.Minute,
		MaxSessionBytes: 8 << 20}
}

// Counted are the totals of what the rules and the list of suppressed readers leave out, and of what the rules take for
// none, since the shard was created.
type Counted struct {
	Excluded map[string]int64 `json:",omitempty"` // records, by the name of the rule that left them out
	Skipped  int64            `json:",omitempty"` // records of unknown types (event_types.unknown: skip)
	// Unconsented are the records without the consent that the rules ask for (level 3).
	Unconsented int64 `json:",omitempty"`
	// Suppressed are the records of readers on the list, by the id for which they were left out (level 3).
	SuppressedUsers    int64            `json:",omitempty"`
	SuppressedSessions int64            `json:",omitempty"`
	KafkaTimes         int64            `json:",omitempty"` // records whose Kafka timestamp is missing or not true
	Zeroed             map[string]int64 `json:",omitempty"` // values that are no number and count as 0, by field
}

// LeftOut is the number of records that are in no row, no letter and no total, because the rules or the list of
// suppressed readers leave them out.
func (c *Counted) LeftOut() int64 {
	n := c.Skipped + c.Unconsented + c.SuppressedUsers + c.SuppressedSessions
	for _, v := range c.Excluded {
		n += v
	}
	return n
}

// keyIDs returns the keys that the present rules hash with, and former ones whose epochs are not acknowledged by all.
func (m *meta) keyIDs() (ids []event.KeyID) {
	add := func(r *event.Rules) {
		if r.Hashes() && !slices.Contains(ids, r.PrivacyKey) {
			ids = append(ids, r.PrivacyKey)
		}
	}
	add(&m.Rules.Event)
	// gofail: var bugKeyForgotten struct{}
	// return ids
	for i := range m.FormerRules {
		add(&m.FormerRules[i].Rules.Event)
	}
	return ids
}

// FormerRules are rules that were replaced, and the last epoch that they hold for.
type FormerRules struct {
	Rules Rules
	Until uint64
}
