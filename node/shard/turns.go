package shard

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"deckle/sinks"
	"deckle/state"
)

// Turns are the moments at which the shards of a cluster with Delta tables are cut, all together, so that one commit
// of a table has all of them. There is one for each node:
//
//	asked    The node that leads shard 0 asks, itself and the others, at each multiple of the flush interval of its
//	         clock. A turn is obeyed if it comes from that node, as the replica here says, and not less than half an
//	         interval after the last: of two who ask one is heard, and a repeated ask changes nothing.
//	own      If nobody has asked for an interval and half a second, the node takes turns by itself, at once and then
//	         at each multiple of the interval of its own clock, until somebody asks again.
//
// So clocks need not agree while somebody asks. Whoever hears of no turn, or of too many, has its commits alone, and
// loses nothing.
type Turns struct {
	o TurnsOptions

	mu     sync.Mutex
	boards map[uint32]*turnBoard // of the shards that this node leads
	last   sinks.Turn
	at     time.Time // when it was heard; zero: none was
	asked  time.Time // when somebody has asked last, or this node began
}

// TurnsOptions are what Turns need of their node.
type TurnsOptions struct {
	Self string
	// Every is flush.interval, Revise delta.revision_interval.
	Every, Revise time.Duration
	// Place is the node's place among the Nodes of the cluster, 0 to Nodes-1: at another part of Revise than the others
	// it writes revisions.
	Place, Nodes int
	Now          func() time.Time // as Env.Now
	Leader       func() string    // the node that leads shard 0, by the replica here; "" if unknown
	// Joint returns a sink if it is open and writes plans together, else nil. It does not wait.
	Joint func(id state.SinkID) sinks.Joint
	// Heard is told of each turn before a shard is. It may be nil.
	Heard func(t sinks.Turn)
	// Count counts turns, by how they came: "asked" or "own". It may be nil.
	Count func(how string)
}

// silence is how much longer than an interval a node waits for an ask before it takes a turn by itself.
const silence = 500 * time.Millisecond

// NewTurns returns the turns of a node. Nothing happens before Run, except what is heard.
func NewTurns(o TurnsOptions) *Turns {
	return &Turns{o: o, boards: map[uint32]*turnBoard{}, asked: o.Now()}
}

// Run asks for turns, or takes them, until ctx ends. ask asks the other nodes to cut, and does not wait for them.
func (t *Turns) Run(ctx context.Context, ask func(sinks.Turn)) {
	for {
		now := t.o.Now()
		wait, multiple := t.next(now)
		if sleep(ctx, wait) != nil {
			return
		}
		now = t.o.Now()
		leads := t.o.Leader() == t.o.Self
		switch {
		case leads && multiple:
			turn := t.turn(now, multiple)
			if t.begin(turn, "asked", true) {
				ask(turn)
			}
		case !leads && t.silent(now):
			t.begin(t.turn(now, multiple), "own", false)
		}
	}
}

// next is the time until something may be due: the next multiple of the interval, or, if that is earlier, the end of
// the patience with those who should ask.
func (t *Turns) next(now time.Time) (wait time.Duration, multiple bool) {
	wait = t.o.Every - time.Duration(now.UnixNano())%t.o.Every
	t.mu.Lock()
	defer t.mu.Unlock()
	if left := t.asked.Add(t.o.Every + silence).Sub(now); left > 0 && left < wait {
		return left, false
	}
	return wait, true
}

// turn is the turn of a time: of the multiple of the interval that is nearest, or else of the last one.
func (t *Turns) turn(now time.Time, multiple bool) sinks.Turn {
	n := now.UnixNano()
	if multiple { // the clock may have been set a little meanwhile
		n += int64(t.o.Every) / 2
	}
	number := n / int64(t.o.Every)
	return sinks.Turn{Number: uint64(max(number, 0)), Every: t.o.Every}
}

// revises says whether this node writes revisions at a turn: once in Revise, and each node at another time. Compaction
// joins the rows of all shards in the same files, so of the passes of two nodes at once one would be made again.
func (t *Turns) revises(number uint64) bool {
	every, revise := int64(t.o.Every), int64(max(t.o.Revise, 1))
	since := int64(number)*every - revise*int64(t.o.Place)/int64(max(t.o.Nodes, 1))
	return since/revise != (since-every)/revise
}

// silent says whether nobody has asked for so long that the node takes turns by itself.
func (t *Turns) silent(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return now.Sub(t.asked) >= t.o.Every+silence
}

// Hear takes a turn for which a node has asked.
func (t *Turns) Hear(from string, turn sinks.Turn) {
	if from == t.o.Leader() && turn.Every > 0 {
		t.begin(turn, "asked", true)
	}
}

// begin obeys a turn, unless the last one was a moment ago. It does not wait.
func (t *Turns) begin(turn sinks.Turn, how string, asked bool) bool {
	now := t.o.Now()
	t.mu.Lock()
	if asked {
		t.asked = now
	}
	if !t.at.IsZero() && now.Sub(t.at) < turn.Every/2 {
		t.mu.Unlock()
		return false
	}
	turn.Revise = t.revises(turn.Number)
	t.last, t.at = turn, now
	boards := maps.Clone(t.boards)
	t.mu.Unlock()
	if t.o.Count != nil {
		t.o.Count(how)
	}
	if t.o.Heard != nil {
		t.o.Heard(turn)
	}
	ids := jointSinks(turn)
	shards := slices.Sorted(maps.Keys(boards))
	for _, id := range ids {
		if j := t.o.Joint(id); j != nil && len(shards) > 0 {
			j.Begin(turn, shards)
		}
	}
	for _, shard := range shards {
		for _, a := range boards[shard].begin(turn, now, ids) {
			t.absent(a.id, a.turn, shard)
		}
	}
	return true
}

// jointSinks are the sinks whose plans a turn begins.
func jointSinks(t sinks.Turn) (ids []state.SinkID) {
	for id := range state.NumSinks {
		if spec := id.Spec(); spec.Destination == state.ToDelta && (t.Revise || !spec.Trails) {
			ids = append(ids, id)
		}
	}
	return ids
}

// absent says that a shard has nothing to write for a sink in a turn, or does not know when it will.
func (t *Turns) absent(id state.SinkID, turn sinks.Turn, shard uint32) {
	if j := t.o.Joint(id); j != nil {
		j.Absent(turn, shard)
	}
}

// lead makes turns known to a leadership of a shard, until end is called.
func (t *Turns) lead(shard uint32) (b *turnBoard, end func()) {
	b = newTurnBoard()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.boards[shard] = b
	return b, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.boards[shard] == b {
			delete(t.boards, shard)
		}
	}
}
