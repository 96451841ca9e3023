package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
	list  *condition.Registry

	missed    map[string]int    // questions without an answer in a row, by node
	committed map[uint32]uint64 // by shard: the greatest commit index that any member told at the last look

	mu   sync.Mutex
	seen look
}

// look is what one round of questions has shown.
type look struct {
	members    []status.Member
	others     []condition.Condition
	canLoseOne *bool
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
	told *told
	err  error // it did not answer
}

// round asks every other node once.
func (m *members) round(ctx context.Context) {
	answers := make([]answer, len(m.names))
	var all sync.WaitGroup
	for i, name := range m.names {
		all.Go(func() {
			if name == m.self {
				answers[i].told = m.tell()
				return
			}
			text, err := m.ask(ctx, name)
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
	for i, name := range m.names {
		a := &answers[i]
		ok := a.err == nil && a.told != nil && m.upToDate(a.told)
		if ok {
			upToDate++
		}
		known = known && (a.err != nil || a.told != nil)
		l.members = append(l.members, status.Member{Node: name, Answers: a.err == nil, UpToDate: ok})
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
	for i, name := range m.names {
		if answers[i].err == nil {
			m.missed[name] = 0
			m.list.Clear(condition.MemberDown, name)
			continue
		}
		if m.missed[name]++; m.missed[name] < missedAnswers {
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

// upToDate says whether a member counts where a majority is needed: it votes in every shard, and has what was committed
// at the last look. One that is catching up does not count, nor does one that is held: it votes, and takes no
// leadership.
func (m *members) upToDate(t *told) bool {
	return t.Shards != nil && !slices.ContainsFunc(t.Shards, func(s standing) bool {
		return !s.Voter || s.Held || s.Last < m.committed[s.Shard]
	})
}

// last is what the last round has shown.
func (m *members) last() look {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen
}
