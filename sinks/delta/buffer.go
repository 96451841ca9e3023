package delta

import (
	"maps"
	"slices"
	"sync"

	"github.com/parquet-go/parquet-go/compress"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/state"
)

// pool is the memory that the buffers of all shards share. Sealed epochs wait in it for their plan, and the oldest are
// dropped when it is over its limit.
type pool struct {
	mu     sync.Mutex
	limit  int64
	used   int64          // bytes, open epochs included
	sealed []*sealedEpoch // ascending by the time of sealing
}

// sealedEpoch is one epoch of a shard, encoded.
type sealedEpoch struct {
	owner *eventsBuffer
	epoch uint64
	level level.Level
	files []*dataFile
	rows  int64
	bytes int64
}

// grow adds n bytes to those in use and drops the oldest sealed epochs while the pool is over its limit. It reports
// whether the pool is within its limit afterwards.
func (p *pool) grow(n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used += n
	for p.used > p.limit && len(p.sealed) > 0 {
		p.used -= p.sealed[0].bytes
		p.sealed = slices.Delete(p.sealed, 0, 1)
	}
	return p.used <= p.limit
}

func (p *pool) put(s *sealedEpoch) {
	p.mu.Lock()
	p.sealed = append(p.sealed, s)
	p.mu.Unlock()
}

// drop removes the sealed epochs of a buffer up to and including the epoch upTo.
func (p *pool) drop(owner *eventsBuffer, upTo uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sealed = slices.DeleteFunc(p.sealed, func(s *sealedEpoch) bool {
		if s.owner != owner || s.epoch > upTo {
			return false
		}
		p.used -= s.bytes
		return true
	})
}

// take returns the sealed epochs that make up the plan, ascending, or false if an epoch with rows is not in the pool.
func (p *pool) take(owner *eventsBuffer, plan *state.Plan) ([]*sealedEpoch, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	have := map[uint64]*sealedEpoch{}
	for _, s := range p.sealed {
		if s.owner == owner {
			have[s.epoch] = s
		}
	}
	var out []*sealedEpoch
	for i := range plan.Epochs {
		info := &plan.Epochs[i]
		if info.Events == 0 {
			continue
		}
		s := have[info.Epoch]
		if s == nil || s.rows != info.Events || !owner.layout.alike(s.level, max(plan.Level, level.First)) {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

// eventsBuffer implements sinks.EventsBuffer.
type eventsBuffer struct {
	shard     uint32
	layout    *layout
	pool      *pool
	codec     compress.Codec
	fileBytes int64

	mu        sync.Mutex
	level     level.Level              // of the open epoch
	open      map[int32]*eventsEncoder // by day
	finished  []*eventsEncoder         // encoders of the open epoch that have reached fileBytes
	counted   int64                    // bytes of the open epoch that the pool has counted
	broken    bool                     // the open epoch has been dropped
	discarded bool
}

// Append implements sinks.EventsBuffer.
func (b *eventsBuffer) Append(batch *event.Batch, left []state.Position) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken || b.discarded {
		return nil
	}
	if err := b.append(batch, left); err != nil {
		b.dropOpen()
		return err
	}
	size := int64(0)
	for _, e := range b.finished {
		size += e.size()
	}
	for date, e := range b.open {
		n := e.size()
		size += n
		if n >= b.fileBytes {
			b.finished = append(b.finished, e)
			delete(b.open, date)
		}
	}
	fits := b.pool.grow(size - b.counted)
	b.counted = size
	if !fits {
		b.dropOpen()
	}
	return nil
}

// Rise implements sinks.EventsBuffer.
func (b *eventsBuffer) Rise(l level.Level) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.open)+len(b.finished) > 0 && !b.layout.alike(b.level, l) {
		b.dropOpen()
	}
	b.level = l
}

// alike tells whether the files of events of two levels have the same columns.
func (y *layout) alike(a, b level.Level) bool {
	return len(y.events[a].statOf) == len(y.events[b].statOf)
}

func (b *eventsBuffer) append(batch *event.Batch, left []state.Position) error {
	for i := range batch.Items {
		it := &batch.Items[i]
		at := state.Position{Partition: it.Partition, Offset: it.Offset}
		for len(left) > 0 && (left[0].Partition < at.Partition ||
			left[0].Partition == at.Partition && left[0].Offset < at.Offset) {
			left = left[1:]
		}
		if len(left) > 0 && left[0] == at {
			continue
		}
		date := schema.Day(it.Timestamp)
		e := b.open[date]
		if e == nil {
			e = b.layout.newEventsEncoder(b.level, date, b.codec)
			b.open[date] = e
		}
		if err := e.add(it, -1); err != nil {
			return err
		}
	}
	for _, e := range b.open {
		if err := e.flush(); err != nil {
			return err
		}
	}
	return nil
}

// dropOpen frees the open epoch; Write will read its events from Kafka again.
func (b *eventsBuffer) dropOpen() {
	b.pool.grow(-b.counted)
	b.counted, b.broken = 0, true
	b.open, b.finished = map[int32]*eventsEncoder{}, nil
}

// Seal implements sinks.EventsBuffer.
func (b *eventsBuffer) Seal(epoch uint64, complete bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.discarded {
		return
	}
	if !complete && !b.broken {
		b.dropOpen()
	}
	broken := b.broken
	b.broken = false
	if broken {
		return
	}
	s := &sealedEpoch{owner: b, epoch: epoch, level: b.level}
	encoders := b.finished
	for _, date := range slices.Sorted(maps.Keys(b.open)) {
		encoders = append(encoders, b.open[date])
	}
	for _, e := range encoders {
		f, err := e.finish(int64(schema.BatchID(b.shard, epoch)))
		if err != nil {
			b.dropOpen()
			b.broken = false
			return
		}
		s.files = append(s.files, f)
		s.rows += f.rows
		s.bytes += int64(cap(f.data))
	}
	before := b.counted
	b.open, b.finished, b.counted = map[int32]*eventsEncoder{}, nil, 0
	if s.rows == 0 {
		b.pool.grow(-before)
		return
	}
	b.pool.put(s)
	b.pool.grow(s.bytes - before)
}

// Discard implements sinks.EventsBuffer.
func (b *eventsBuffer) Discard() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.discarded {
		return
	}
	b.dropOpen()
	b.discarded = true
	b.pool.drop(b, ^uint64(0))
}
