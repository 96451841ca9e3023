package state

import (
	"encoding/binary"
	"encoding/json"
	"time"

	"deckle/event"
	"deckle/schema/level"
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
	return Rules{ClockSlack: 2 * time.Minute, LeaveOut: 2 * time.Minute, MaxSessionBytes: 8 << 20}
}

// Counted are the totals of what the rules leave out, and of what they take for none, since the shard was created.
type Counted struct {
	Excluded   map[string]int64 `json:",omitempty"` // records, by the name of the rule that left them out
	Skipped    int64            `json:",omitempty"` // records of unknown types (event_types.unknown: skip)
	KafkaTimes int64            `json:",omitempty"` // records whose Kafka timestamp is missing or cannot be true
	Zeroed     map[string]int64 `json:",omitempty"` // values that are no number and count as 0, by field
}

// LeftOut is the number of records that are in no row, no letter and no total, because the rules leave them out.
func (c *Counted) LeftOut() int64 {
	n := c.Skipped
	for _, v := range c.Excluded {
		n += v
	}
	return n
}

func (s *Store) addCounts(c *event.Counts) {
	m := &s.meta.RuleCounts
	for i, n := range c.Excluded {
		if n > 0 && i < len(s.meta.Rules.Event.Exclude) {
			if m.Excluded == nil {
				m.Excluded = map[string]int64{}
			}
			m.Excluded[s.meta.Rules.Event.Exclude[i].Name] += n
		}
	}
	m.Skipped += c.Skipped
	m.KafkaTimes += c.KafkaTimes
	for i, n := range c.Zeroed {
		if n > 0 {
			if m.Zeroed == nil {
				m.Zeroed = map[string]int64{}
			}
			m.Zeroed[event.MetricNames()[i]] += n
		}
	}
}

// FormerRules are rules that were replaced, and the last epoch that they hold for.
type FormerRules struct {
	Rules Rules
	Until uint64
}

// EncodeRules encodes the entry that replaces the rules. It is ignored unless r.Number is one more than the number of
// the present ones, so that a repeated or a late proposal does nothing. nowMillis is the leader's wall clock, as in
// EncodeCut.
func EncodeRules(nowMillis int64, r Rules) []byte {
	b, err := json.Marshal(r)
	if err != nil { // a struct of plain fields always encodes
		panic(err)
	}
	return append(binary.AppendVarint([]byte{kindRules, level.Entry.At(level.Real)}, nowMillis), b...)
}

// applyRules replaces the rules. The open epoch is closed first, exactly as by a Cut, so that an epoch has one set of
// rules, and a re-fetch of its raw events decodes by them.
func (s *Store) applyRules(e entry) (*CutResult, error) {
	if s.meta.level() < level.Real || e.rules.Number != s.meta.Rules.Number+1 {
		return &CutResult{}, nil
	}
	res, err := s.closeEpoch(e.now)
	if err != nil {
		return nil, err
	}
	if last := s.lastFormer(); s.meta.LastClosed > last { // else no epoch was closed under them
		s.meta.FormerRules = append(s.meta.FormerRules, FormerRules{s.meta.Rules, s.meta.LastClosed})
	}
	s.meta.Rules = e.rules
	s.beginEpoch(res.Epoch > 0)
	s.dirtyBytes++
	return res, nil
}

func (s *Store) lastFormer() uint64 {
	if n := len(s.meta.FormerRules); n > 0 {
		return s.meta.FormerRules[n-1].Until
	}
	return 0
}

// rulesOf returns the rules of a closed epoch that some sink has not acknowledged yet.
func (m *meta) rulesOf(epoch uint64) Rules {
	for _, f := range m.FormerRules {
		if epoch <= f.Until {
			return f.Rules
		}
	}
	return m.Rules
}

// boundary returns the last epoch at or after the given one that has the same level and the same rules.
func (m *meta) boundary(epoch uint64) uint64 {
	last := m.LastClosed
	if epoch <= m.LevelEpoch {
		last = min(last, m.LevelEpoch)
	}
	for _, f := range m.FormerRules {
		if epoch <= f.Until {
			return min(last, f.Until)
		}
	}
	return last
}

// dropRules forgets the former rules that no sink needs any more.
func (s *Store) dropRules() {
	acked := s.minAcked()
	for len(s.meta.FormerRules) > 0 && s.meta.FormerRules[0].Until <= acked {
		s.meta.FormerRules = s.meta.FormerRules[1:]
	}
}
