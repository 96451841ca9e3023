package tap

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Stage is where in a node a tap looks.
type Stage string

// The stages, in the order in which a record passes them.
const (
	Source  Stage = "source"  // records as Kafka gives them, with the verdict of the rules
	Decoded Stage = "decoded" // events as the rules let them in
	Session Stage = "session" // sessions as they stand after a record was applied
	Row     Stage = "row"     // rows that a sink has taken
	Letter  Stage = "letter"  // dead letters that have been written
)

// Stages are all stages.
var Stages = []Stage{Source, Decoded, Session, Row, Letter}

const (
	MaxTaps = 4                // open at a time
	MaxRate = 200              // lines of one tap in a second
	MaxFor  = 10 * time.Minute // how long a tap may be open, at most

	MinFor = 100 * time.Millisecond // and at least

	room      = 256     // lines that wait for whoever reads
	roomBytes = 8 << 20 // and their bytes, but for one line that is longer
)

// Errors of Open.
var (
	// ErrQuery is wrapped by the error of a query that asks for what there is not.
	ErrQuery = errors.New("tap: not a query")
	// ErrBusy says that MaxTaps are open, or that the node ends.
	ErrBusy = errors.New("no tap can be opened")
)

// Query is what somebody wants to see.
type Query struct {
	Stage Stage
	// Session is the id of the one session that is asked for, as the decoded event has it; "": all. A record that could
	// not be decoded is of no session.
	Session string
	// Partition is the one partition that is asked for; nil: all. Rows are of none.
	Partition *int32
	// Sample asks for every so manieth that fits; 0 is 1.
	Sample int
	// Clear asks for records as they came, whatever the rules show. The caller has looked whether they may.
	Clear bool
}

// Offer is something that passes.
type Offer struct {
	Session   string // "": of none, or of an unknown one
	Partition int32  // NoPartition: of none
	// Line returns the JSON of it, in one line. It is called once for each tap that takes it.
	Line func(clear bool) []byte
}

// NoPartition is the partition of what is of none.
const NoPartition int32 = -1

// Board is where the taps of a node are open. A nil Board has none, ever. It is safe for concurrent use.
type Board struct {
	now func() time.Time

	open   atomic.Pointer[[]*Tap] // never changed, but replaced
	mu     sync.Mutex             // of those who replace it
	closed bool
}

// NewBoard returns a board without taps. now must carry a monotonic reading, or never go back.
func NewBoard(now func() time.Time) *Board {
	b := &Board{now: now}
	b.open.Store(&[]*Tap{})
	return b
}

// Tap is one look at a stage. One goroutine reads it.
type Tap struct {
	board *Board
	query Query
	more  chan struct{} // has room for one: lines wait
	done  chan struct{} // closed when the board is

	mu         sync.Mutex
	lines      [][]byte  // that wait
	size       int       // their bytes
	seen, left int64     // of those that the query asks for, and of its sample
	second     time.Time // when the present second began
	inSecond   int
}

// Open opens a tap, which the caller closes. The error wraps ErrQuery or ErrBusy.
func (b *Board) Open(q Query) (*Tap, error) {
	q.Sample = max(q.Sample, 1)
	if !slices.Contains(Stages, q.Stage) {
		return nil, fmt.Errorf("%w: the stages are %q", ErrQuery, Stages)
	}
	if q.Stage == Row && q.Partition != nil {
		return nil, fmt.Errorf("%w: rows are of no partition", ErrQuery)
	}
	if q.Stage == Letter && q.Session != "" {
		return nil, fmt.Errorf("%w: letters are of no session", ErrQuery)
	}
	t := &Tap{board: b, query: q, more: make(chan struct{}, 1), done: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	open := *b.open.Load()
	switch {
	case b.closed:
		return nil, fmt.Errorf("%w: the node ends", ErrBusy)
	case len(open) >= MaxTaps:
		return nil, fmt.Errorf("%w: %d are open on this node, and no more are", ErrBusy, MaxTaps)
	}
	open = append(slices.Clone(open), t)
	b.open.Store(&open)
	return t, nil
}

// Watched says whether a tap looks at one of the stages.
func (b *Board) Watched(stages ...Stage) bool {
	if b == nil {
		return false
	}
	for _, t := range *b.open.Load() {
		if slices.Contains(stages, t.query.Stage) {
			return true
		}
	}
	return false
}

// Offer gives something that passes a stage to the taps that look at it and have room for it. It does not wait.
func (b *Board) Offer(stage Stage, o *Offer) {
	if b == nil {
		return
	}
	for _, t := range *b.open.Load() {
		if t.query.Stage == stage && t.wants(o) {
			t.put(o.Line(t.query.Clear))
		}
	}
}

// wants says whether a tap is to be given what passes, and counts it.
func (t *Tap) wants(o *Offer) bool {
	q := &t.query
	if q.Session != "" && q.Session != o.Session || q.Partition != nil && *q.Partition != o.Partition {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen++
	if (t.seen-1)%int64(q.Sample) != 0 {
		return false
	}
	if now := t.board.now(); now.Sub(t.second) >= time.Second {
		t.second, t.inSecond = now, 0
	}
	if t.inSecond >= MaxRate || len(t.lines) >= room || t.size >= roomBytes {
		t.left++
		return false
	}
	t.inSecond++
	return true
}

// put gives a tap a line. Others may have taken the room since wants has seen it.
func (t *Tap) put(line []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) >= room || t.size > 0 && t.size+len(line) > roomBytes {
		t.left++
		return
	}
	t.lines, t.size = append(t.lines, line), t.size+len(line)
	select {
	case t.more <- struct{}{}:
	default: // that lines wait is said already
	}
}

// More delivers when lines wait.
func (t *Tap) More() <-chan struct{} { return t.more }

// Take returns the lines that wait: JSON texts, each for itself.
func (t *Tap) Take() [][]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.lines
	t.lines, t.size = nil, 0
	return out
}

// Done is closed when the node ends its taps.
func (t *Tap) Done() <-chan struct{} { return t.done }

// Count returns how much has passed that the query asks for, and how much of its sample the tap was not given, because
// there was too much of it.
func (t *Tap) Count() (seen, left int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen, t.left
}

// Close ends the tap. It may be repeated.
func (t *Tap) Close() {
	b := t.board
	b.mu.Lock()
	defer b.mu.Unlock()
	open := slices.DeleteFunc(slices.Clone(*b.open.Load()), func(o *Tap) bool { return o == t })
	b.open.Store(&open)
}

// Close ends all taps, and lets none be opened any more.
func (b *Board) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.closed = true
	for _, t := range *b.open.Load() {
		close(t.done)
	}
	b.open.Store(&[]*Tap{})
}
