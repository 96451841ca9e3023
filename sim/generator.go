package sim

import (
	"container/heap"
	"math/rand/v2"
	"strconv"
	"time"
)

// Generator makes the records of one producer. It does no I/O and is used by one goroutine.
type Generator struct {
	opts     Options
	rng      *rand.Rand
	users    int
	rate     float64 // of this producer, for the clock of a fixed start and the bound of lateness
	slots    []*session
	queue    queue
	sessions map[*Record]*session // of the records that are held or queued
	made     int64
	seq      int64
	first    time.Time
	closing  bool
}

// NewGenerator returns the generator of the given producer (0 … Producers-1) of a run.
func NewGenerator(opts Options, producer int) (*Generator, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, err
	}
	n := opts.Sessions / opts.Producers
	if producer < opts.Sessions%opts.Producers {
		n++
	}
	rate := opts.Rate / float64(opts.Producers)
	return &Generator{
		opts: opts, rng: rand.New(rand.NewPCG(opts.Seed,
			uint64(producer)+1)), users: 20*opts.Sessions + 1000, rate: rate,
		slots: make([]*session, n), sessions: map[*Record]*session{},
	}, nil
}

// Finish makes Next end every live session, return what was held back, and then return nothing more.
func (g *Generator) Finish() { g.closing = true }

// Made returns the number of records given so far.
func (g *Generator) Made() int64 { return g.made }

// Live returns the number of sessions begun and not ended.
func (g *Generator) Live() int {
	n := 0
	for _, s := range g.slots {
		if s != nil {
			n++
		}
	}
	return n
}

// Now returns the clock of the next record.
func (g *Generator) Now() time.Time {
	if g.opts.Start.IsZero() {
		return g.opts.Now()
	}
	rate := g.rate
	if rate == 0 {
		rate = 2000 / float64(g.opts.Producers)
	}
	return g.opts.Start.Add(time.Duration(float64(g.made) / rate * float64(time.Second)))
}

// Next returns the next record; false once everything after Finish has been returned.
func (g *Generator) Next() (*Record, bool) {
	now := g.Now()
	if g.made == 0 {
		g.first = now
	}
	for {
		if len(g.queue) > 0 && (g.queue[0].due <= g.made || g.closing && g.Live() == 0) {
			q := heap.Pop(&g.queue).(queued)
			s := g.sessions[q.rec]
			delete(g.sessions, q.rec)
			s.pending--
			return g.emit(q.rec, s, now), true
		}
		if g.closing {
			rec, s := g.endAny(now)
			if rec == nil {
				return nil, false
			}
			return g.emit(rec, s, now), true
		}
		if rec := g.extra(now); rec != nil {
			return g.emit(rec, nil, now), true
		}
		if rec, s := g.step(now); rec != nil {
			return g.emit(rec, s, now), true
		}
	}
}

// step makes the next record of a random session; nil if that record was held back.
func (g *Generator) step(now time.Time) (*Record, *session) {
	i := g.rng.IntN(len(g.slots))
	s := g.slots[i]
	if s == nil {
		s = newSession(g.rng, g.opts.Seed, g.users, g.opts.EventsPerSession, now.Unix())
		if g.roll(g.opts.Faults.Huge) {
			s.huge, s.left = true, s.left+hugeEvents
		}
		if g.roll(g.opts.Faults.Readers) {
			s.readers(g.rng)
		}
		s.person = g.roll(g.opts.Faults.Private)
		if g.roll(g.opts.Faults.Keys) {
			s.lie = newLie(g.rng)
		}
		g.slots[i] = s
	}
	if s.left == 0 {
		g.slots[i] = nil
		return g.record(s, KindEnd, s.end(g.rng, now.Unix())), s
	}
	s.left--
	f := g.opts.Faults
	fields := s.event(g.rng, now.Unix(), g.roll(f.Odd))
	switch {
	case g.roll(f.Late):
		if g.rng.IntN(3) == 0 {
			// As if from a reader who was offline: older than the other events of the session. A timestamp in
			// milliseconds stays in milliseconds.
			if ts, err := strconv.ParseInt(get(fields, "timestamp"), 10, 64); err == nil && ts < 1e11 {
				set(fields, "timestamp", strconv.FormatInt(ts-int64(g.rng.IntN(300)), 10))
			}
		}
		g.hold(g.record(s, KindLate, fields), s, g.delay(40))
		return nil, nil
	case s.held == nil && s.left > 0 && g.roll(f.OutOfOrder):
		s.held = g.record(s, KindOutOfOrder, fields)
		return nil, nil
	}
	return g.record(s, KindEvent, fields), s
}

// extra sometimes makes a record that becomes a dead letter, as often as its share says.
func (g *Generator) extra(now time.Time) *Record {
	f := g.opts.Faults
	if g.roll(f.Excluded) {
		if s := g.slots[g.rng.IntN(len(g.slots))]; s != nil {
			return &Record{Key: g.key(s), Kind: KindExcluded, Reason: excluded,
				Value: excludedRecord(g.rng, s, now.Unix())}
		}
	}
	if g.roll(f.Doubtful) {
		if s := g.slots[g.rng.IntN(len(g.slots))]; s != nil {
			rec := &Record{Key: g.key(s), Kind: KindMalformed}
			rec.Value, rec.Reason = doubtful(g.rng, s, now.Unix(), g.opts.Sharded && !g.opts.Unkeyed)
			if rec.Reason == "no_key" {
				rec.Key = nil
			}
			return rec
		}
	}
	late := f.TooLate > 0 && g.made >= 20000 && now.Sub(g.first) >= 10*time.Second && g.roll(f.TooLate)
	if !late && !g.roll(f.Malformed) {
		return nil
	}
	s := g.slots[g.rng.IntN(len(g.slots))]
	if s == nil {
		return nil
	}
	rec := &Record{Key: g.key(s)}
	if late {
		rec.Kind, rec.Reason, rec.Value = KindTooLate, "too_late", tooLate(g.rng, s, now.Unix())
	} else {
		rec.Kind = KindMalformed
		rec.Value, rec.Reason = malformed(g.rng, s, now.Unix())
	}
	return rec
}

func (g *Generator) endAny(now time.Time) (*Record, *session) {
	for i, s := range g.slots {
		if s != nil {
			g.slots[i] = nil
			return g.record(s, KindEnd, s.end(g.rng, now.Unix())), s
		}
	}
	return nil, nil
}

func (g *Generator) record(s *session, kind Kind, fields []field) *Record {
	rec := &Record{Key: g.key(s), Value: object(fields), Kind: kind, SessionID: s.id}
	if s.lie.kind != honest && !g.opts.Unkeyed {
		rec.Key, rec.Place = s.lie.key(g.rng, s), rec.Key
	}
	return rec
}

func (g *Generator) key(s *session) []byte {
	if g.opts.Unkeyed {
		return nil
	}
	return []byte(s.id)
}

// emit returns a record. A copy of it may be queued, and the record that it was swapped with comes next.
func (g *Generator) emit(rec *Record, s *session, now time.Time) *Record {
	rec.Time = now
	g.made++
	if s == nil {
		return rec
	}
	if g.roll(g.opts.Faults.KafkaTimes) {
		rec.Time = time.UnixMilli(0)
	}
	if h := s.held; h != nil && h != rec {
		s.held = nil
		g.hold(h, s, 0)
	}
	if rec.Kind != KindDuplicate && g.roll(g.opts.Faults.Duplicates) {
		g.hold(&Record{Key: rec.Key, Value: rec.Value, Kind: KindDuplicate, SessionID: rec.SessionID,
			Place: rec.Place}, s, g.delay(10))
	}
	rec.Last = s.ended && s.pending == 0 && s.held == nil
	return rec
}

// hold queues a record until the given number of other records has been returned.
func (g *Generator) hold(rec *Record, s *session, delay int64) {
	s.pending++
	g.sessions[rec] = s
	g.seq++
	heap.Push(&g.queue, queued{due: g.made + delay, seq: g.seq, rec: rec})
}

// delay draws a distance of up to n events of each live session, at most 4 minutes at the given rate.
func (g *Generator) delay(n int) int64 {
	most := int64(n * len(g.slots))
	if g.rate > 0 {
		most = min(most, int64(g.rate*240))
	}
	return 1 + g.rng.Int64N(max(most, 1))
}

func (g *Generator) roll(share float64) bool { return share > 0 && g.rng.Float64() < share }

type queued struct {
	due, seq int64
	rec      *Record
}

// queue is a heap by (due, seq).
type queue []queued

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].due < q[j].due || q[i].due == q[j].due && q[i].seq < q[j].seq
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(queued)) }
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	old[len(old)-1] = queued{}
	*q = old[:len(old)-1]
	return x
}
