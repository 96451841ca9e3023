package main

import (
	"fmt"
	"sync"
	"time"
)

// violation is a state that no reader may ever see.
type violation struct {
	At    string `json:"at"` // since the beginning
	Table string `json:"table"`
	What  string `json:"what"`
}

// log collects violations, the first hundred in full.
type violations struct {
	began time.Time
	mu    sync.Mutex
	count int
	first []violation
}

const keptViolations = 100

func newViolations() *violations { return &violations{began: time.Now()} }

func (v *violations) add(table, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.count++; len(v.first) < keptViolations {
		v.first = append(v.first, violation{time.Since(v.began).Round(time.Millisecond).String(), table, fmt.Sprintf(format, args...)})
	}
}

func (v *violations) list() (count int, first []violation) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.count, append([]violation{}, v.first...)
}

// commit is one version of a Delta table, as the files of its log say it.
type commit struct {
	version int64
	txns    map[string]int64 // by application id
	adds    []addedFile
	removes []string // paths
}

type addedFile struct {
	path string
	rows []deltaRow
}

// deltaRow are the columns of a row that a history is judged by; a table has some of them.
type deltaRow struct {
	partition int32 // events
	offset    int64

	session, origin string // sessions
	revision, total int64

	batch uint64
}

func (r *deltaRow) shard() uint32 { return uint32(r.batch >> 40) }
func (r *deltaRow) epoch() uint64 { return r.batch & (1<<40 - 1) }

// offsets is a set of the offsets of one partition.
type offsets struct {
	bits []uint64
	n    int64
}

// add says whether the offset is new.
func (o *offsets) add(offset int64) bool {
	i, bit := int(offset>>6), uint64(1)<<(offset&63)
	for len(o.bits) <= i {
		o.bits = append(o.bits, make([]uint64, 1+len(o.bits))...)
	}
	if o.bits[i]&bit != 0 {
		return false
	}
	o.bits[i] |= bit
	o.n++
	return true
}

func (o *offsets) has(offset int64) bool {
	i := int(offset >> 6)
	return i < len(o.bits) && o.bits[i]&(1<<(offset&63)) != 0
}

// eventsHistory judges the versions of the table events, one after the other.
type eventsHistory struct {
	v          *violations
	partitions map[int32]*offsets
	top        map[int32]int64   // greatest offset of a partition
	epoch      map[uint32]uint64 // greatest epoch of a shard
	txns       map[string]int64
	doubled    int64
}

func newEventsHistory(v *violations) *eventsHistory {
	return &eventsHistory{v: v, partitions: map[int32]*offsets{}, top: map[int32]int64{}, epoch: map[uint32]uint64{}, txns: map[string]int64{}}
}

// commit judges the next version: an epoch appears whole and after those before it, and nothing goes or comes twice.
func (h *eventsHistory) commit(c *commit) {
	bad := func(format string, args ...any) {
		h.v.add("delta.events", "version %d: "+format, append([]any{c.version}, args...)...)
	}
	for _, path := range c.removes {
		bad("file %s is gone", path)
	}
	epoch, top := map[uint32]uint64{}, map[int32]int64{}
	for _, f := range c.adds {
		for i := range f.rows {
			r := &f.rows[i]
			set := h.partitions[r.partition]
			if set == nil {
				set = &offsets{}
				h.partitions[r.partition] = set
				h.top[r.partition] = -1
			}
			if !set.add(r.offset) {
				h.doubled++
				bad("record %d/%d stands twice", r.partition, r.offset)
			} else if r.offset <= h.top[r.partition] {
				bad("record %d/%d appears after record %d of its partition", r.partition, r.offset, h.top[r.partition])
			}
			if r.epoch() <= h.epoch[r.shard()] {
				bad("epoch %d of shard %d grows after epoch %d was visible (record %d/%d)", r.epoch(), r.shard(), h.epoch[r.shard()], r.partition, r.offset)
			}
			epoch[r.shard()] = max(epoch[r.shard()], r.epoch())
			top[r.partition] = max(top[r.partition], r.offset)
		}
	}
	checkTxns(c, h.txns, "events", epoch, bad)
	for s, e := range epoch {
		h.epoch[s] = max(h.epoch[s], e)
	}
	for p, o := range top {
		h.top[p] = max(h.top[p], o)
	}
}

// checkTxns wants the txn of a shard to rise, and every shard that has new rows to say in the same commit how far they go.
func checkTxns(c *commit, txns map[string]int64, kind string, epochs map[uint32]uint64, bad func(string, ...any)) {
	for shard, epoch := range epochs {
		found := false
		for id, version := range c.txns {
			if s, k := appID(id); s == shard && k == kind {
				found = true
				if uint64(version) < epoch {
					bad("txn %s is at %d, and there are rows of epoch %d", id, version, epoch)
				}
			}
		}
		if !found {
			bad("rows of shard %d up to epoch %d come without their txn", shard, epoch)
		}
	}
	for id, version := range c.txns {
		if version <= txns[id] {
			bad("txn %s goes from %d to %d", id, txns[id], version)
		}
		txns[id] = max(txns[id], version)
	}
}

// sessionsHistory judges the versions of the table sessions.
type sessionsHistory struct {
	v     *violations
	rows  map[string]sessionState // by session and origin
	files map[string][]string     // keys of the rows of a live file
	txns  map[string]int64
	epoch map[uint32]uint64 // how far the inserts of a shard have come
}

type sessionState struct {
	file            string
	batch           uint64
	revision, total int64
}

func newSessionsHistory(v *violations) *sessionsHistory {
	return &sessionsHistory{v: v, rows: map[string]sessionState{}, files: map[string][]string{}, txns: map[string]int64{}, epoch: map[uint32]uint64{}}
}

// commit judges the next version: a row appears with the plan of its epoch, and stands once from then on, as it was or newer.
func (h *sessionsHistory) commit(c *commit) {
	bad := func(format string, args ...any) {
		h.v.add("delta.sessions", "version %d: "+format, append([]any{c.version}, args...)...)
	}
	removed := map[string]sessionState{}
	for _, path := range c.removes {
		keys, ok := h.files[path]
		if !ok {
			bad("file %s is removed and was not there", path)
		}
		for _, k := range keys {
			removed[k] = h.rows[k]
			delete(h.rows, k)
		}
		delete(h.files, path)
	}
	inserted := map[uint32]uint64{}
	for _, f := range c.adds {
		keys := make([]string, 0, len(f.rows))
		for i := range f.rows {
			r := &f.rows[i]
			key := r.session + " " + r.origin
			keys = append(keys, key)
			now := sessionState{f.path, r.batch, r.revision, r.total}
			if _, ok := h.rows[key]; ok {
				bad("session %s stands twice", key)
			}
			was, replaced := removed[key]
			switch {
			case !replaced:
				if r.epoch() <= h.epoch[r.shard()] {
					bad("session %s of epoch %d is inserted after epoch %d of shard %d was visible", key, r.epoch(), h.epoch[r.shard()], r.shard())
				}
				inserted[r.shard()] = max(inserted[r.shard()], r.epoch())
			case now.batch < was.batch || now.revision < was.revision || now.total < was.total:
				bad("session %s goes back from %+v to %+v", key, was, now)
			}
			delete(removed, key)
			h.rows[key] = now
		}
		h.files[f.path] = keys
	}
	for key := range removed {
		bad("session %s is gone", key)
	}
	checkTxns(c, h.txns, "sessions", inserted, bad)
	for id, version := range c.txns { // an insert goes as far as its txn says, and not only as its rows do
		if s, kind := appID(id); kind == "sessions" {
			h.epoch[s] = max(h.epoch[s], uint64(version))
		}
	}
}
