package cluster

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"

	"deckle/event"
	"deckle/schema/level"
	"deckle/sim"
	"deckle/state"
)

// journal keeps the entries that shards have applied and that tell, at the end, which list of suppressed readers held
// where a record was decided:
//
//	entry 41  batch  [0, 120) of partition 0   taken     ┐ decided by the list of nobody
//	entry 42  add    user 27                             ┘
//	entry 43  batch  [120, 180)                refused   made by the list of before: decides nothing
//	entry 44  batch  [120, 150)                taken       decided by the list that has user 27
//
// From the state it takes whether a batch was taken, and from batches the ranges: never the verdict on a record.
type journal struct {
	history *runHistory

	mu     sync.Mutex
	shards map[uint32]map[uint64]*journalEntry // by index
}

// journalEntry is a batch, or a change of the list.
type journalEntry struct {
	sum  uint64
	data []byte // nil if the entry is of another kind
	res  any
}

// The kinds of entries that are read here: see docs/formats.md.
const (
	kindBatch    = 2
	kindSuppress = 12
)

func newJournal(h *runHistory) *journal {
	return &journal{history: h, shards: map[uint32]map[uint64]*journalEntry{}}
}

// watch returns what a process, whose gate is given, calls with each entry that it has applied.
func (j *journal) watch(gate *gate) func(shard uint32, index uint64, data []byte, res any) {
	return func(shard uint32, index uint64, data []byte, res any) {
		if gate.dead() {
			return
		}
		e := &journalEntry{sum: xxhash.Sum64(data), res: res}
		if b, ok := res.(*state.BatchResult); ok {
			e.res = b.Rejected // the rest belongs to the one who has proposed
		}
		if len(data) > 0 && (data[0] == kindBatch || data[0] == kindSuppress) {
			e.data = slices.Clone(data)
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		of := j.shards[shard]
		if of == nil {
			of = map[uint64]*journalEntry{}
			j.shards[shard] = of
		}
		before := of[index]
		if before == nil {
			of[index] = e
			return
		}
		if before.sum != e.sum {
			j.history.fail("I2: two replicas of shard %d have applied different entries at index %d", shard, index)
		}
		if taken, ok := e.res.(bool); ok && taken != before.res {
			j.history.fail("I2: one replica of shard %d has taken the batch at index %d, another has not", shard, index)
		}
	}
}

// decisions are what follows from the log.
type decisions struct {
	at    map[sim.Position]decision
	lists map[uint32]*list // of each shard, at the end
}

// decision is what the entry says that has decided a record.
type decision struct {
	readers sim.Readers
	passed  verdict // by the entry itself
}

// verdict is what a batch says of a record.
type verdict uint8

const (
	passedOver verdict = iota // neither of the other ones: an empty record, or one that a rule leaves out
	letIn                     // an event or a letter
	suppressed
)

// list is a shard's list of suppressed readers, worked out from its entries.
type list struct {
	salt    [32]byte
	readers sim.Readers
	changes uint64
}

// readers returns who was on the list where a record was decided.
func (d *decisions) readers(partition int32, offset int64) sim.Readers {
	return d.at[sim.Position{Partition: partition, Offset: offset}].readers
}

// decide reads the log. everybody is who may be on a list: it has hashes only.
func (j *journal) decide(everybody []sim.Reader) (*decisions, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	d := &decisions{at: map[sim.Position]decision{}, lists: map[uint32]*list{}}
	for shard, of := range j.shards {
		l := &list{readers: sim.Readers{}}
		d.lists[shard] = l
		names := map[[32]byte]map[listing]sim.Reader{} // by salt
		for _, index := range slices.Sorted(maps.Keys(of)) {
			e := of[index]
			if e.data == nil {
				continue
			}
			var err error
			if e.data[0] == kindSuppress {
				err = l.change(e, everybody, names)
			} else if refused, ok := e.res.(bool); ok && !refused {
				err = d.batch(e.data, l)
			}
			if err != nil {
				return nil, fmt.Errorf("entry %d of shard %d: %w", index, shard, err)
			}
		}
	}
	return d, nil
}

// batch takes what a batch has decided.
func (d *decisions) batch(data []byte, l *list) error {
	b, err := batchOf(data)
	if err != nil || b == nil {
		return err
	}
	for _, r := range b.Ranges {
		for offset := r.From; offset < r.To; offset++ {
			at := sim.Position{Partition: r.Partition, Offset: offset}
			if _, twice := d.at[at]; twice {
				return fmt.Errorf("offset %d of partition %d is decided twice", offset, r.Partition)
			}
			d.at[at] = decision{readers: l.readers}
		}
	}
	note := func(partition int32, offset int64, v verdict) {
		at := sim.Position{Partition: partition, Offset: offset}
		x := d.at[at]
		x.passed = v
		d.at[at] = x
	}
	for i := range b.Items {
		note(b.Items[i].Partition, b.Items[i].Offset, letIn)
	}
	for i := range b.Rejects {
		note(b.Rejects[i].Partition, b.Rejects[i].Offset, letIn)
	}
	for i := range b.Suppressed {
		note(b.Suppressed[i].Partition, b.Suppressed[i].Offset, suppressed)
	}
	return nil
}

// batchOf decodes the batch of an entry, nil if it has none.
func batchOf(data []byte) (*event.Batch, error) {
	l := level.Entry.Since(data[1])
	p := data[2:]
	next := func() uint64 {
		v, n := binary.Uvarint(p)
		if n <= 0 {
			p = nil
			return 0
		}
		p = p[n:]
		return v
	}
	next() // when
	next() // time that has passed
	for range map[bool]int{false: 1, true: 2}[l >= level.Real] {
		for range next() {
			next() // a partition
		}
	}
	if len(p) == 0 {
		return nil, nil
	}
	b := new(event.Batch)
	return b, event.DecodeBatch(p, b, new(event.BatchScratch))
}

// listing is what stands on a list in the place of an id.
type listing struct {
	kind byte
	hash [32]byte
}

// listingOf hashes an id as docs/formats.md says.
func listingOf(r sim.Reader, salt [32]byte) listing {
	kind := byte(1)
	if r.Session {
		kind = 2
	}
	mac := hmac.New(sha256.New, salt[:])
	mac.Write(append([]byte{kind, 0}, r.ID...))
	return listing{kind, [32]byte(mac.Sum(nil))}
}

// change changes the list as an entry says, and compares that with what the state has answered.
func (l *list) change(e *journalEntry, everybody []sim.Reader, names map[[32]byte]map[listing]sim.Reader) error {
	p := e.data[2:]
	_, n := binary.Varint(p)
	p = p[n:]
	add := p[0] == 1
	salt := [32]byte(p[1:33])
	p = p[33:]
	by, n := binary.Uvarint(p)
	p = p[n+int(by):]
	count, n := binary.Uvarint(p)
	p = p[n:]
	const size = 1 + 8 + 32
	if uint64(len(p)) != count*size {
		return errors.New("a change of the list of another length")
	}
	known := names[salt]
	if known == nil {
		known = map[listing]sim.Reader{}
		for _, r := range everybody {
			known[listingOf(r, salt)] = r
		}
		names[salt] = known
	}
	refused := l.salt != [32]byte{} && l.salt != salt || l.salt == [32]byte{} && !add
	before, changed := l.readers, 0
	if !refused {
		l.salt = salt
		l.readers = maps.Clone(before)
		for ; len(p) > 0; p = p[size:] {
			r, ok := known[listing{p[0], [32]byte(p[9:size])}]
			if !ok {
				return errors.New("the listing of nobody")
			}
			if l.readers[r] != add {
				changed++
			}
			if add {
				l.readers[r] = true
			} else {
				delete(l.readers, r)
			}
		}
		if changed > 0 {
			l.changes++
		}
	}
	res, ok := e.res.(*state.SuppressResult)
	if !ok {
		return fmt.Errorf("a change of the list with the result %T", e.res)
	}
	if (res.Refused != state.SuppressTaken) != refused || res.Changed != changed || res.List.Number != l.changes ||
		res.List.Count != int64(len(l.readers)) {
		return fmt.Errorf("the answer to a change of the list is %+v; %d readers of %d are on it after %d changes, "+
			"refused: %t", res, changed, len(l.readers), l.changes, refused)
	}
	return nil
}
