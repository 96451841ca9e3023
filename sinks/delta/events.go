package delta

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/parquet-go/parquet-go/compress"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
	"deckle/state"
)

// Events is the sink of raw events. It implements sinks.EventsSink.
type Events struct {
	writer
	*gather
	pool *pool
	once sync.Once

	mu      sync.Mutex
	buffers map[uint32]*eventsBuffer // the newest of each shard
}

func newEvents(log *deltalog.Log, y *layout, opts *Options, c compress.Codec) *Events {
	s := &Events{writer: writer{log: log, layout: y, tables: &y.events, opts: opts, codec: c},
		pool: &pool{limit: opts.BufferMemoryBytes}, buffers: map[uint32]*eventsBuffer{}}
	s.gather = newGather(s.writer.gathers(deltalog.LaneEvents))
	return s
}

var (
	_ sinks.EventsSink = (*Events)(nil)
	_ sinks.Joint      = (*Events)(nil)
	_ sinks.Joint      = (*Sessions)(nil)
	_ sinks.Sink       = (*Revisions)(nil)
)

// Position implements sinks.Sink.
func (s *Events) Position(ctx context.Context, shard uint32) (uint64, error) {
	return s.position(ctx, s.appID(shard, "events"))
}

// Close implements sinks.Sink.
func (s *Events) Close() (err error) {
	s.once.Do(func() {
		s.close()
		err = s.log.Close()
	})
	return err
}

// Buffer implements sinks.EventsSink. A former buffer of the shard is discarded.
func (s *Events) Buffer(shard uint32) sinks.EventsBuffer {
	b := &eventsBuffer{shard: shard, level: level.First, layout: s.layout, pool: s.pool, codec: s.codec,
		fileBytes: s.opts.FileBytes, open: map[int32]*eventsEncoder{}}
	s.mu.Lock()
	former := s.buffers[shard]
	s.buffers[shard] = b
	s.mu.Unlock()
	if former != nil {
		former.Discard()
	}
	return b
}

func (s *Events) buffer(shard uint32) *eventsBuffer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buffers[shard]
}

// Write implements sinks.Sink: all rows of the plan in one commit. What an operator has given up of them is left out if
// no buffer has it, and named in the same commit (givenID).
func (s *Events) Write(ctx context.Context, plan *state.Plan) error {
	seat := s.come(ctx, plan.Config.Shard)
	defer seat.leave()
	err := s.untilJudged(ctx, func(j *judge) error { return s.write(ctx, plan, j, seat) })
	if err != nil {
		return fmt.Errorf("delta: events of shard %d, plan (%d, %d]: %w", plan.Config.Shard, plan.A, plan.B, err)
	}
	if b := s.buffer(plan.Config.Shard); b != nil {
		s.pool.drop(b, plan.B)
	}
	return nil
}

func (s *Events) write(ctx context.Context, plan *state.Plan, judge *judge, seat *seat) error {
	_, want := plan.Rows()
	if want == 0 {
		return nil
	}
	appID := s.appID(plan.Config.Shard, "events")
	change, done, err := s.start(appID, plan)
	if done || err != nil {
		return err
	}
	origin := deltalog.Origin{Tagged: true, Shard: plan.Config.Shard, From: plan.A, To: plan.B}
	change.Last, change.Rows, change.Rules = true, want, judge.text()
	d := &draft{change: change}
	files, err := s.buffered(plan, judge)
	if err != nil {
		return err
	}
	switch loose := (&looseEvents{w: &s.writer, files: files, origin: origin}); {
	case files != nil && s.joins(plan, loose.size()) && !judge.fills():
		d.rows = loose
	case files != nil:
		if change.Adds, _, err = loose.each(ctx); err != nil {
			return err
		}
	default:
		seat.leave() // to read from Kafka again may take minutes
		if change.Adds, change.Rows, err = s.fetched(ctx, plan, origin, judge); err != nil {
			return err
		}
		for _, r := range plan.Given() {
			change.Parts[0].Notes = append(change.Parts[0].Notes, givenID(appID, r))
		}
	}
	return s.insert(ctx, plan, d, seat)
}

// buffered returns the plan's files, encoded, from the shard's buffer. It returns nil if the buffer does not have all
// of them.
func (s *Events) buffered(plan *state.Plan, judge *judge) ([]*dataFile, error) {
	b := s.buffer(plan.Config.Shard)
	if b == nil {
		return nil, nil
	}
	epochs, ok := s.pool.take(b, plan)
	if !ok {
		return nil, nil
	}
	var files []*dataFile
	for _, e := range epochs {
		files = append(files, e.files...)
	}
	for _, f := range files {
		if err := judge.events(f); err != nil {
			return nil, err
		}
	}
	return judge.fillEvents(files, s.codec)
}

// fetched reads the plan's records again and uploads their files as they fill. It returns their number.
func (s *Events) fetched(ctx context.Context, plan *state.Plan, origin deltalog.Origin, judge *judge) (
	adds []deltalog.Add, rows int64, err error) {
	source := s.opts.EventSource(plan.Config.Shard)
	if source == nil {
		return nil, 0, fmt.Errorf("no buffer has the plan and shard %d has no event source", plan.Config.Shard)
	}
	var (
		open = map[int32]*eventsEncoder{}
		size int64
	)
	finish := func(date int32) error {
		f, err := open[date].finish(0)
		delete(open, date)
		if err != nil {
			return err
		}
		if err := judge.events(f); err != nil {
			return err
		}
		filled, err := judge.fillEvents([]*dataFile{f}, s.codec)
		if err != nil {
			return err
		}
		add, err := s.upload(ctx, filled[0], origin)
		adds = append(adds, add)
		rows += f.rows
		return err
	}
	pending := 0
	err = source.Events(ctx, plan, func(it *event.Item) error {
		epoch, ok := epochOf(plan, it)
		if !ok {
			return fmt.Errorf("record %d/%d is in no range of the plan", it.Partition, it.Offset)
		}
		date := schema.Day(it.Timestamp)
		e := open[date]
		if e == nil {
			e = s.layout.newEventsEncoder(s.table(plan).level, date, s.codec)
			open[date] = e
		}
		if err := e.add(it, int64(schema.BatchID(plan.Config.Shard, epoch))); err != nil {
			return err
		}
		// The source may reuse the item's texts after this call.
		if err := e.flush(); err != nil {
			return err
		}
		if pending++; pending < flushRows {
			return nil
		}
		// Several days may be open at once: the sum of what they hold is bounded.
		pending, size = 0, 0
		largest := date
		for d, e := range open {
			size += e.size()
			if e.size() > open[largest].size() {
				largest = d
			}
		}
		if size >= s.opts.FileBytes {
			return finish(largest)
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	for _, date := range slices.Sorted(maps.Keys(open)) {
		if err := finish(date); err != nil {
			return nil, 0, err
		}
	}
	if least, most := plan.Rows(); rows < least || rows > most {
		return nil, 0, fmt.Errorf("the event source gave %d rows, the plan counts %d to %d", rows, least, most)
	}
	return adds, rows, nil
}

// epochOf finds the epoch of the plan that a record belongs to.
func epochOf(plan *state.Plan, it *event.Item) (uint64, bool) {
	for i := range plan.Epochs {
		for _, r := range plan.Epochs[i].Ranges {
			if r.Partition == it.Partition && r.From <= it.Offset && it.Offset < r.To {
				return plan.Epochs[i].Epoch, true
			}
		}
	}
	return 0, false
}
