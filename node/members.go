package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"deckle/node/condition"
	"deckle/node/status"
	"deckle/raftstore"
)

const (
	// askEvery is how often a node asks the others.
	askEvery = 3 * time.Second
	// missedAnswers in a row make a member one that does not answer: one alone may be lost with a connection.
	missedAnswers = 2
)

// members asks the other nodes for their conditions and for where they stand in each shard, so that every node can say
// how the cluster is.
//
//	every 3 s: Ask each other node, all at once ──► answers ──► conditions of others, up to date?, one more to lose?
type members struct {
	self  string
	names []string // of all nodes, in the order of the configuration
	ask   func(ctx context.Context, node string) (json.RawMessage, error)
	tell  func() *told
	now   func() time.Time
	list  *condition.Registry

	contacts  map[string]*contact // by node
	committed map[uint32]uint64   // by shard: the greatest commit index that any member told at the last look

	mu   sync.Mutex
	seen look
}

// look is what one round of questions has shown.
type look struct {
	members    []status.Member
	others     []condition.Condition
	canLoseOne *bool
	because    string
	lags       map[lagKey]*status.Lag
}

// lagKey says who has told the lag of which shard.
type lagKey struct {
	node  string
	shard uint32
}

// told is what a node tells of itself.
type told struct {
	Conditions []condition.Condition
	Shards     []standing // nil while its groups do not run
	// Lags are of the shards that it leads. A node of an earlier version tells none.
	Lags []ledLag `json:",omitempty"`
	// Figures and Now, the wall clock, are told by every node from this version on.
	Figures *status.Figures `json:",omitempty"`
	Now     time.Time       `json:",omitzero"`
}

// contact is what is known of a member from one question to the next.
type contact struct {
	missed  int       // questions without an answer in a row
	since   time.Time // when it began to answer, or ceased to; zero before the first question
	before  time.Time // what since was before those that are missed now
	clock   *time.Duration
	figures *status.Figures // what it told last
	at      time.Time       // when
}

// take takes what came of a question.
func (c *contact) take(a *answer) {
	switch {
	case a.err != nil:
		if c.missed++; c.missed == 1 {
			c.before, c.since = c.since, a.at
		}
		return
	case c.missed >= missedAnswers || c.missed > 0 && c.before.IsZero() || c.since.IsZero():
		c.since = a.at
	case c.missed > 0: // a lost answer alone is no end
		c.since = c.before
	}
	c.missed = 0
	if a.told != nil && a.told.Figures != nil {
		c.figures, c.at = a.told.Figures, a.at
	}
	if a.told != nil && !a.told.Now.IsZero() && !a.asked.IsZero() {
		c.clock = new(a.told.Now.Sub(a.asked.Add(a.at.Sub(a.asked) / 2)))
	}
}

// ledLag is the lag of a shard, told by its leader. Without Partitions it is too long to be told whole.
type ledLag struct {
	Shard uint32
	Lag   status.Lag
}

// standing is where a node stands in one shard.
type standing struct {
	Shard        uint32
	Voter        bool
	Held         bool
	Last, Commit uint64 // indexes of the log
}

// tellOf makes what a node tells of its own status.
func tellOf(rs *raftstore.Status, list []condition.Condition, lags []ledLag) *told {
	t := &told{Conditions: list, Lags: lags}
	if rs.Ready {
		t.Shards = []standing{}
		for _, g := range rs.Groups {
			t.Shards = append(t.Shards, standing{g.Shard, g.Suffrage == "voter", g.HeldIndex > 0, g.LastIndex,
				g.CommitIndex})
		}
	}
	return t
}

// encode makes it so short that it fits into an answer: without the lags of single partitions, and then with the
// gravest conditions only.
func (t *told) encode() json.RawMessage {
	short := *t
	for whole := true; ; whole = false {
		b, err := json.Marshal(&short)
		switch {
		case err != nil:
			return nil
		case len(b) <= raftstore.MaxTold || !whole && len(short.Conditions) == 0:
			return b
		case !whole:
			short.Conditions = short.Conditions[:len(short.Conditions)/2]
			continue
		}
		short.Lags = slices.Clone(t.Lags)
		for i := range short.Lags {
			short.Lags[i].Lag.Partitions = nil
		}
	}
}

// run asks until ctx ends.
func (m *members) run(ctx context.Context) {
	for {
		m.round(ctx)
		if !wait(ctx, askEvery) {
			return
		}
	}
}

// answer is what came of one question: told is nil if the node answered without telling.
type answer struct {
	told      *told
	err       error     // it did not answer
	asked, at time.Time // when it was asked, and when that was over; asked is zero for this node itself
}

// round asks every other node once.
func (m *members) round(ctx context.Context) {
	answers := make([]answer, len(m.names))
	var all sync.WaitGroup
	for i, name := range m.names {
		all.Go(func() {
			if name == m.self {
				answers[i] = answer{told: m.tell(), at: m.now()}
				return
			}
			asked := m.now()
			text, err := m.ask(ctx, name)
			answers[i].asked, answers[i].at = asked, m.now()
			if errors.Is(err, raftstore.ErrRefused) {
				return
			}
			if answers[i].err = err; err == nil {
				t := new(told)
				if json.Unmarshal(text, t) == nil {
					answers[i].told = t
				}
			}
		})
	}
	all.Wait()
	if ctx.Err() == nil {
		m.judge(answers)
	}
}

// judge takes the answers of one round.
func (m *members) judge(answers []answer) {
	l := look{lags: map[lagKey]*status.Lag{}}
	upToDate := 0
	known := true
	var lacking []string
	for i, name := range m.names {
		a := &answers[i]
		c := m.contacts[name]
		if c == nil {
			c = new(contact)
			m.contacts[name] = c
		}
		c.take(a)
		lacks := m.lacks(a)
		if lacks == "" {
			upToDate++
		} else {
			lacking = append(lacking, "node "+name+" "+lacks)
		}
		known = known && (a.err != nil || a.told != nil)
		l.members = append(l.members, status.Member{Node: name, Answers: a.err == nil, UpToDate: lacks == "",
			Since: c.since, Clock: c.clock, Figures: c.figures, At: c.at})
		if name != m.self && a.told != nil {
			l.others = append(l.others, a.told.Conditions...)
			for _, led := range a.told.Lags {
				l.lags[lagKey{name, led.Shard}] = &led.Lag
			}
		}
	}
	majority := len(m.names)/2 + 1
	can := upToDate > majority
	if known {
		l.canLoseOne = &can
	}
	l.because = because(upToDate, len(m.names), lacking)
	for i, name := range m.names {
		if m.contacts[name].missed == 0 {
			m.list.Clear(condition.MemberDown, name)
			continue
		}
		if m.contacts[name].missed < missedAnswers {
			continue
		}
		severity, word := condition.Failing, "no"
		if can {
			severity, word = condition.Degraded, "yes"
		}
		m.list.Set(condition.MemberDown, name, severity, fmt.Sprintf("it does not answer node %s: %v. Can one more be "+
			"lost: %s (%d of %d members are up to date in every shard, %d are needed)", m.self, answers[i].err, word,
			upToDate, len(m.names), majority), "")
	}
	m.committed = map[uint32]uint64{}
	for _, a := range answers {
		if a.told != nil {
			for _, s := range a.told.Shards {
				m.committed[s.Shard] = max(m.committed[s.Shard], s.Commit)
			}
		}
	}
	slices.SortFunc(l.others, condition.Compare)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = l
}

// because says why one more may be lost, or may not: how many members are up to date, and what the others lack.
func because(upToDate, of int, lacking []string) string {
	if of == 1 {
		return "it is the only node"
	}
	text := fmt.Sprintf("%d of %d members are up to date in every shard, %d are needed", upToDate, of, of/2+1)
	if len(lacking) > 0 {
		text += ": " + strings.Join(lacking, "; ")
	}
	return text
}

// lacks says why a member does not count where a majority is needed, "" if it does: it votes in every shard, and has
// what was committed at the last look. One that is catching up does not count, nor does one that is held: it votes, and
// takes no leadership.
func (m *members) lacks(a *answer) string {
	switch {
	case a.err != nil:
		return "does not answer"
	case a.told == nil:
		return "tells nothing of itself: it is of an earlier version, or no member yet"
	case a.told.Shards == nil:
		return "does not run its shards yet"
	}
	var behind, held, mute []string
	for _, s := range a.told.Shards {
		id := fmt.Sprint(s.Shard)
		switch {
		case !s.Voter:
			mute = append(mute, id)
		case s.Held:
			held = append(held, id)
		case s.Last < m.committed[s.Shard]:
			behind = append(behind, id)
		}
	}
	var lacks []string
	for _, l := range []struct {
		what   string
		shards []string
	}{{"has no vote yet in", mute}, {"is held in", held}, {"has not caught up in", behind}} {
		switch len(l.shards) {
		case 0:
		case 1:
			lacks = append(lacks, l.what+" shard "+l.shards[0])
		default:
			lacks = append(lacks, l.what+" shards "+strings.Join(l.shards, ", "))
		}
	}
	return strings.Join(lacks, ", ")
}

// last is what the last round has shown.
func (m *members) last() look {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen
}
