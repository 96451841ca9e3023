package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/raft"
)

// loc is where an entry's frame lies. seg is nil for an entry that the head of the oldest segment lists and that lay in
// a segment which has been deleted since: a later record must make it void.
type loc struct {
	seg *segment
	off uint32
	len uint32
}

// group is what the log's records add up to for one Raft group: a contiguous run of entries and the stable store.
type group struct {
	id    uint64
	first uint64 // index of locs[0]; meaningless while locs is empty
	locs  []loc
	bytes int64 // length of the frames of locs
	// cache holds the newest entries, cache[len-1] being the last of locs.
	cache      []*raft.Log
	cacheBytes int64
	keys       map[string][]byte
	vote       vote
}

func (g *group) last() uint64 { return g.first + uint64(len(g.locs)) - 1 }

func (g *group) bounds() (first, last uint64) {
	if len(g.locs) == 0 {
		return 0, 0
	}
	return g.first, g.last()
}

// known reports whether anything of g must be remembered.
func (g *group) known() bool {
	return len(g.locs) > 0 || len(g.keys) > 0 || g.vote.hasTerm || g.vote.hasVoteTerm || g.vote.candidate != nil
}

func (g *group) image() *groupImage {
	im := &groupImage{vote: g.vote, keys: slices.Sorted(maps.Keys(g.keys))}
	im.first, im.last = g.bounds()
	for _, k := range im.keys {
		im.vals = append(im.vals, g.keys[k])
	}
	return im
}

func (v vote) equal(o vote) bool {
	return v.hasTerm == o.hasTerm && v.hasVoteTerm == o.hasVoteTerm && v.term == o.term && v.voteTerm == o.voteTerm &&
		bytes.Equal(v.candidate, o.candidate) && (v.candidate == nil) == (o.candidate == nil)
}

func (im *groupImage) equal(o *groupImage) bool {
	return im.first == o.first && im.last == o.last && im.vote.equal(o.vote) && slices.Equal(im.keys, o.keys) &&
		slices.EqualFunc(im.vals, o.vals, bytes.Equal)
}

// table is the state of all groups. Only apply changes it, in the order of the records, live and at replay.
type table struct {
	groups   map[uint64]*group
	maxCache int64 // bytes per group
}

func newTable(maxCache int64) *table {
	return &table{groups: make(map[uint64]*group), maxCache: maxCache}
}

func (t *table) group(id uint64) *group {
	g := t.groups[id]
	if g == nil {
		g = &group{id: id, keys: make(map[string][]byte)}
		t.groups[id] = g
	}
	return g
}

// known returns the ids of the groups that must be remembered, ascending.
func (t *table) known() []uint64 {
	var ids []uint64
	for id, g := range t.groups {
		if g.known() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// apply makes the change m, whose frame lies at at. cached says that m.log may be kept in memory.
func (t *table) apply(m *mutation, at loc, cached bool) {
	switch m.kind {
	case kindEntry:
		t.group(m.group).store(m.log, at, cached, t.maxCache)
	case kindDelete:
		t.group(m.group).deleteRange(m.min, m.max)
	case kindSet:
		t.group(m.group).keys[string(m.key)] = m.val
	case kindVote:
		t.group(m.group).vote = m.vote
	case kindDrop:
		if g := t.groups[m.group]; g != nil {
			g.keepFirst(0)
			delete(t.groups, m.group)
		}
	}
}

// store makes every entry from l's index on void and appends l. An index that leaves a gap begins the log again: the
// library writes one only after it installed a snapshot, and nothing before a gap can be replicated again.
func (g *group) store(l *raft.Log, at loc, cached bool, maxCache int64) {
	// gofail: var bugLateWriteStays struct{}
	// if n := uint64(len(g.locs)); n > 0 && l.Index >= g.first && l.Index < g.first+n {
	// 	g.free(g.locs[l.Index-g.first])
	// 	g.locs[l.Index-g.first] = at
	// 	g.bytes += int64(at.len)
	// 	at.seg.live++
	// 	g.cache, g.cacheBytes = nil, 0
	// 	return
	// }
	if n := len(g.locs); n > 0 {
		switch {
		case l.Index < g.first || l.Index > g.last()+1:
			g.keepFirst(0)
		default:
			g.keepFirst(int(l.Index - g.first))
		}
	}
	if len(g.locs) == 0 {
		g.first = l.Index
	}
	g.locs = append(g.locs, at)
	g.bytes += int64(at.len)
	at.seg.live++
	if !cached {
		g.cache, g.cacheBytes = nil, 0
		return
	}
	g.cache = append(g.cache, l)
	g.cacheBytes += entryMemory(l)
	for len(g.cache) > 0 && g.cacheBytes > maxCache {
		g.cacheBytes -= entryMemory(g.cache[0])
		g.cache[0] = nil
		g.cache = g.cache[1:]
	}
}

// entryMemory is how many bytes a cached entry is counted as.
func entryMemory(l *raft.Log) int64 { return int64(len(l.Data)+len(l.Extensions)) + 160 }

// keepFirst drops every entry but the first n.
func (g *group) keepFirst(n int) {
	for i := n; i < len(g.locs); i++ {
		g.free(g.locs[i])
	}
	dropped := len(g.locs) - n
	keep := max(len(g.cache)-dropped, 0)
	for _, l := range g.cache[keep:] {
		g.cacheBytes -= entryMemory(l)
	}
	clear(g.cache[keep:])
	g.cache = g.cache[:keep]
	g.locs = g.locs[:n]
	if n == 0 {
		g.locs, g.cache = nil, nil
	}
}

func (g *group) free(at loc) {
	g.bytes -= int64(at.len)
	if at.seg != nil {
		at.seg.live--
	}
}

// span says which entries [from, to) of locs the range min..max covers; ok is false for one that lies in the middle.
func (g *group) span(min, max uint64) (from, to int, ok bool) {
	if len(g.locs) == 0 || min > max || min > g.last() || max < g.first {
		return 0, 0, true
	}
	if min <= g.first {
		if max >= g.last() {
			return 0, len(g.locs), true
		}
		return 0, int(max-g.first) + 1, true
	}
	return int(min - g.first), len(g.locs), max >= g.last()
}

func (g *group) deleteRange(min, max uint64) {
	from, to, ok := g.span(min, max)
	if !ok || from == to {
		return
	}
	if from > 0 || to == len(g.locs) {
		g.keepFirst(from)
		return
	}
	for _, at := range g.locs[:to] {
		g.free(at)
	}
	// A new array, so that the memory of a long log's index is freed along with its entries.
	g.locs = slices.Clone(g.locs[to:])
	g.first += uint64(to)
	if drop := len(g.cache) - len(g.locs); drop > 0 {
		for _, l := range g.cache[:drop] {
			g.cacheBytes -= entryMemory(l)
		}
		g.cache = slices.Clone(g.cache[drop:])
	}
}

// cached returns the entry at index if it is in memory.
func (g *group) cached(index uint64) *raft.Log {
	if back := g.last() - index; back < uint64(len(g.cache)) {
		return g.cache[uint64(len(g.cache))-1-back]
	}
	return nil
}

// get returns the value of a stable-store key.
func (g *group) get(key string) ([]byte, bool) {
	switch key {
	case keyTerm:
		return binary.BigEndian.AppendUint64(nil, g.vote.term), g.vote.hasTerm
	case keyVoteTerm:
		return binary.BigEndian.AppendUint64(nil, g.vote.voteTerm), g.vote.hasVoteTerm
	case keyCandidate:
		return g.vote.candidate, g.vote.candidate != nil
	}
	v, ok := g.keys[key]
	return v, ok
}

var errWidth = errors.New("the value of this key has 8 bytes")

// setting returns the mutation that gives key the value val.
func (g *group) setting(key string, val []byte) (mutation, error) {
	if key != keyTerm && key != keyVoteTerm && key != keyCandidate {
		return mutation{kind: kindSet, group: g.id, key: []byte(key), val: clone(val)}, nil
	}
	v := g.vote
	if key == keyCandidate {
		v.candidate = clone(val)
		return mutation{kind: kindVote, group: g.id, vote: v}, nil
	}
	if len(val) != 8 {
		return mutation{}, fmt.Errorf("wal: set %s: %w", key, errWidth)
	}
	n := binary.BigEndian.Uint64(val)
	if key == keyTerm {
		v.hasTerm, v.term = true, n
	} else {
		// The library sets term and candidate of a vote one after the other. The first of the two removes a candidate
		// of another term, so that a crash between them leaves no vote that was never given.
		v.hasVoteTerm, v.voteTerm, v.candidate = true, n, nil
	}
	return mutation{kind: kindVote, group: g.id, vote: v}, nil
}

// restore gives g the state of an image whose entries lie in segments that are gone.
func (g *group) restore(im *groupImage) {
	g.vote = im.vote
	for i, k := range im.keys {
		g.keys[k] = im.vals[i]
	}
	if im.first != 0 {
		g.first = im.first
		g.locs = make([]loc, im.last-im.first+1)
	}
}
