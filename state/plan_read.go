package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
)

// Plan is a read-only view of one sink's outstanding plan. It is taken at one moment, from a Pebble snapshot, and other
// goroutines may read it while Apply goes on. Its content is a function of the log: every replica reads the same,
// before and after any restart. The caller closes it.
type Plan struct {
	Config Config
	Sink   SinkID
	A, B   uint64 // the range (A, B] of epochs
	// Level is the level of epoch B: a plan that ends before the level was raised writes the rows of the level before.
	Level level.Level
	// Rules are those of epoch B. All epochs of a plan of raw events have the same level and rules.
	Rules Rules
	// Former are the rules of earlier epochs of the plan, ascending; see RulesAt.
	Former []FormerRules
	Epochs []EpochInfo // one for each epoch of the range, ascending
	// EventGaps are the gaps of raw events that their sink had not passed when the plan was opened, also those outside
	// of the plan. One more may come while the plan is outstanding: a plan of raw events that cannot be written is
	// opened anew.
	EventGaps []EventsGap
	// SessionsAcked is the epoch up to which the sessions sink has acknowledged (for SinkRevisions).
	SessionsAcked uint64
	// Reader reads the plan's content. Callers use the plan's own methods.
	Reader PlanReader
}

// PlanReader reads the content of a plan; OpenPlan gives one that reads a snapshot of the store. Its methods are those
// of Plan, and Plan passes itself to them.
type PlanReader interface {
	Sessions(p *Plan, yield func(*schema.SessionRow) error) error
	Rollups(p *Plan, yield func(*schema.RollupRow) error) error
	DeadLetters(p *Plan, yield func(*DeadLetter) error) error
	Close() error
}

// RulesAt returns the rules of an epoch of the plan. They must not be changed.
func (p *Plan) RulesAt(epoch uint64) *Rules {
	for i := range p.Former {
		if epoch <= p.Former[i].Until {
			return &p.Former[i].Rules
		}
	}
	return &p.Rules
}

// Sessions calls yield for every session image of the plan that has a row: for each session, the newest image of epoch
// ≤ B among those of (A, B], ascending by (epoch, session id, origin). The row and what it points to are valid only
// during the call. SinkSessions gets only the sessions whose FirstClosed lies in (A, B]; SinkRevisions only those with
// FirstClosed > 0, FirstClosed ≤ SessionsAcked and Epoch > FirstClosed; SinkClickHouse gets all of them, open ones
// included, and only its rows have Pages. Rows that the sink has refused are left out. Of SinkRevisions' rows Stands is
// known from level 4 on; of a plan that is outstanding for long it may be taken back, but it is never given later.
// During the call the plan must not be read in another way, nor closed.
func (p *Plan) Sessions(yield func(*schema.SessionRow) error) error {
	return p.Reader.Sessions(p, yield)
}

// Rollups calls yield for every rollup key that changed in (A, B], with its newest totals of an epoch ≤ B.
func (p *Plan) Rollups(yield func(*schema.RollupRow) error) error { return p.Reader.Rollups(p, yield) }

// DeadLetters calls yield for every dead letter of the plan, ascending by Seq.
func (p *Plan) DeadLetters(yield func(*DeadLetter) error) error {
	return p.Reader.DeadLetters(p, yield)
}

// Ranges returns the offset ranges of the whole plan, ascending by (partition, from). Those of one partition are
// joined, except where a gap lies between them.
func (p *Plan) Ranges() []event.Range { return joinRanges(p.Epochs) }

// LeftOut returns the offsets of the plan's ranges that are not rows of the events table, ascending by
// (partition, offset).
func (p *Plan) LeftOut() []Position { return joinLeftOut(p.Epochs) }

// Close releases the snapshot.
func (p *Plan) Close() error { return p.Reader.Close() }

// storeReader reads a plan from a snapshot. What the state has deleted since its last checkpoint is still in the
// snapshot, and must be passed over, so that every replica reads the same.
type storeReader struct {
	snap       *pebble.Snapshot
	superseded map[string]uint64 // keys of images in the plan's range that have a newer image in it
	deleted    map[string]struct{}
	refused    map[string]uint64
	standing   bool      // rows of revisions say whether they stand
	unwritten  unwritten // if standing
	image      session   // the image that is being read
	rows       rowBuilder

	plans  *openPlans
	dead   atomic.Bool
	mu     sync.Mutex // held while the snapshot is read or closed
	closed bool
}

// scan reads the snapshot from lower to upper, until the plan is ended.
func (r *storeReader) scan(lower, upper []byte, f func(k, v []byte) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return ErrClosed
	}
	return scan(r.snap, lower, upper, func(k, v []byte) error {
		if r.dead.Load() {
			return ErrClosed
		}
		return f(k, v)
	})
}

func (r *storeReader) skip(key []byte) bool {
	if _, ok := r.deleted[string(key)]; ok {
		return true
	}
	_, ok := r.superseded[string(key)]
	return ok
}

// Sessions implements PlanReader.
func (r *storeReader) Sessions(p *Plan, yield func(*schema.SessionRow) error) error {
	return r.scan(epochPrefix(prefixImage, p.A+1), afterEpoch(prefixImage, p.B), func(k, v []byte) error {
		if r.skip(k) {
			return nil
		}
		ss := &r.image
		if err := ss.view(v); err != nil {
			return fmt.Errorf("image %x: %w", k, err)
		}
		if ss.total == 0 || !p.wants(ss) {
			return nil
		}
		defer r.rows.letGo()
		r.rows.noPages = !p.Sink.reads(ReadsSessions)
		row, err := r.rows.build(ss, p.Config.Shard, r.snap)
		if err != nil {
			return fmt.Errorf("image %x: %w", k, err)
		}
		if len(r.refused) > 0 {
			if until, ok := r.refused[row.Key()]; ok && row.Epoch <= until {
				return nil
			}
		}
		row.Stands = r.standing && r.unwritten.stands(row.Key(), row.FirstClosed)
		return yield(row)
	})
}

// wants says whether a session's image is one of the sink's rows; see Plan.Sessions.
func (p *Plan) wants(ss *session) bool {
	switch {
	case p.Sink.reads(ReadsFirstClosed):
		return ss.firstClosed > p.A && ss.firstClosed <= p.B
	case p.Sink.reads(ReadsRevised):
		return ss.firstClosed > 0 && ss.firstClosed <= p.SessionsAcked && ss.imageEpoch > ss.firstClosed
	default:
		return true
	}
}

// Rollups implements PlanReader.
func (r *storeReader) Rollups(p *Plan, yield func(*schema.RollupRow) error) error {
	return r.scan(epochPrefix(prefixRollupImg, p.A+1), afterEpoch(prefixRollupImg, p.B), func(k, v []byte) error {
		if r.skip(k) {
			return nil
		}
		epoch, key, err := decodeRollupImageKey(k)
		if err != nil {
			return err
		}
		d := decoder{b: v}
		t := decodeTotals(&d)
		if err := d.end(); err != nil {
			return fmt.Errorf("rollup image %x: %w", k, err)
		}
		return yieldRollup(key, t, epoch, yield)
	})
}

func yieldRollup(key string, t totals, epoch uint64, yield func(*schema.RollupRow) error) error {
	date, table, dims, err := decodeRollupKey(key)
	if err != nil {
		return err
	}
	r := schema.RollupRow{Table: table, Date: date, Dims: dims, Epoch: epoch}
	for i := range schema.Measures {
		*schema.Measures[i].At(&r) = t[i]
	}
	return yield(&r)
}

// DeadLetters implements PlanReader.
func (r *storeReader) DeadLetters(p *Plan, yield func(*DeadLetter) error) error {
	return r.scan(epochPrefix(prefixLetter, p.A+1), afterEpoch(prefixLetter, p.B), func(k, v []byte) error {
		var l DeadLetter
		if err := json.Unmarshal(v, &l); err != nil {
			return fmt.Errorf("%w: dead letter %x: %w", ErrCorrupt, k, err)
		}
		return yield(&l)
	})
}

// Close implements PlanReader; a second call does nothing.
func (r *storeReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	r.plans.remove(r)
	return r.snap.Close()
}

// openPlans are the plans that are being read. Pebble cannot be closed while they read it, so Close and Restore end
// them first, and a reader that goes on gets ErrClosed.
type openPlans struct {
	mu     sync.Mutex
	ending bool
	open   map[*storeReader]struct{}
}

func (o *openPlans) closing() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ending
}

func (o *openPlans) add(r *storeReader) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ending {
		return false
	}
	if o.open == nil {
		o.open = map[*storeReader]struct{}{}
	}
	r.plans = o
	o.open[r] = struct{}{}
	return true
}

func (o *openPlans) remove(r *storeReader) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.open, r)
}

// end refuses new plans and closes the open ones. It waits until the row that a reader is at has been dealt with.
// Store.mu must not be held, because a reader may need it for that row.
func (o *openPlans) end() error {
	o.mu.Lock()
	o.ending = true
	open := slices.Collect(maps.Keys(o.open))
	o.mu.Unlock()
	var errs []error
	for _, r := range open {
		r.dead.Store(true)
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

// begin allows plans to be opened again.
func (o *openPlans) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ending = false
}
