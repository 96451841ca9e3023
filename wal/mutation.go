package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// mutation is one change of a group, as a call asks for it and as replay reads it. Both are applied by table.apply.
type mutation struct {
	kind     kind
	group    uint64
	log      *raft.Log // kindEntry
	min, max uint64    // kindDelete, both inclusive
	key, val []byte    // kindSet
	vote     vote      // kindVote
	state    *groupImage
}

// vote is what a group has promised; candidate is nil if there is none.
type vote struct {
	hasTerm, hasVoteTerm bool
	term, voteTerm       uint64
	candidate            []byte
}

// groupImage is a group's state, entries aside, at the head of a segment. first and last are 0 for an empty log.
type groupImage struct {
	first, last uint64
	vote        vote
	keys        []string // sorted
	vals        [][]byte
}

var errPayload = errors.New("malformed payload")

// encodedBytes is the length of m's frame: exact for an entry, an upper bound for the other changes
// that a call makes.
func (m *mutation) encodedBytes() int {
	switch m.kind {
	case kindEntry:
		return align(recordHeader + entryFixed + len(m.log.Data) + len(m.log.Extensions))
	default:
		return align(recordHeader + 64 + len(m.key) + len(m.val) + len(m.vote.candidate))
	}
}

func (m *mutation) appendPayload(b []byte) []byte {
	le := binary.LittleEndian
	switch m.kind {
	case kindEntry:
		l := m.log
		b = le.AppendUint64(b, l.Index)
		b = le.AppendUint64(b, l.Term)
		var flags byte
		var nanos int64
		if !l.AppendedAt.IsZero() {
			flags |= flagTime
			nanos = l.AppendedAt.UnixNano()
		}
		if l.Data != nil {
			flags |= flagData
		}
		if l.Extensions != nil {
			flags |= flagExtensions
		}
		b = le.AppendUint64(b, uint64(nanos))
		b = le.AppendUint32(b, uint32(len(l.Data)))
		b = append(b, byte(l.Type), flags, 0, 0)
		b = append(b, l.Data...)
		b = append(b, l.Extensions...)
	case kindDelete:
		b = le.AppendUint64(b, m.min)
		b = le.AppendUint64(b, m.max)
	case kindSet:
		b = appendBytes(b, m.key)
		b = append(b, m.val...)
	case kindVote:
		b = m.vote.append(b)
	case kindState:
		b = le.AppendUint64(b, m.state.first)
		b = le.AppendUint64(b, m.state.last)
		b = m.state.vote.append(b)
		for i, k := range m.state.keys {
			b = appendBytes(b, []byte(k))
			b = appendBytes(b, m.state.vals[i])
		}
	}
	return b
}

// decodeMutation reads a record's payload. Data and Extensions are part of its buffer; keys, values and candidates are
// copied.
func decodeMutation(r record) (m mutation, err error) {
	m = mutation{kind: r.kind, group: r.group}
	p := reader{b: r.payload}
	switch r.kind {
	case kindEntry:
		l := &raft.Log{Index: p.u64(), Term: p.u64()}
		nanos := int64(p.u64())
		n := p.u32()
		tail := p.take(4)
		if p.bad || uint64(n) > uint64(len(p.b)) || tail[1] >= 1<<3 || tail[2] != 0 || tail[3] != 0 {
			return m, errPayload
		}
		l.Type = raft.LogType(tail[0])
		if tail[1]&flagTime != 0 {
			l.AppendedAt = time.Unix(0, nanos).UTC()
		} else if nanos != 0 {
			return m, errPayload
		}
		data := p.take(int(n))
		ext := p.take(len(p.b))
		if tail[1]&flagData != 0 {
			l.Data = data
		}
		if tail[1]&flagExtensions != 0 {
			l.Extensions = ext
		}
		if l.Index == 0 || l.Data == nil && len(data) > 0 || l.Extensions == nil && len(ext) > 0 {
			return m, errPayload
		}
		m.log = l
	case kindDelete:
		m.min, m.max = p.u64(), p.u64()
	case kindSet:
		m.key = clone(p.bytes())
		m.val = clone(p.take(len(p.b)))
	case kindVote:
		m.vote = p.vote()
	case kindDrop, kindSeal, kindMark:
	case kindState:
		s := &groupImage{first: p.u64(), last: p.u64(), vote: p.vote()}
		for len(p.b) > 0 && !p.bad {
			k := string(p.bytes())
			if n := len(s.keys); n > 0 && s.keys[n-1] >= k {
				p.bad = true
			}
			s.keys = append(s.keys, k)
			s.vals = append(s.vals, clone(p.bytes()))
		}
		if s.first > s.last || (s.first == 0) != (s.last == 0) || s.last-s.first > 1<<26 {
			p.bad = true
		}
		m.state = s
	default:
		return m, fmt.Errorf("unknown record kind %d", r.kind)
	}
	if p.bad || len(p.b) != 0 {
		return m, errPayload
	}
	return m, nil
}

func (v vote) append(b []byte) []byte {
	var flags byte
	if v.hasTerm {
		flags |= flagTerm
	}
	if v.hasVoteTerm {
		flags |= flagVoteTerm
	}
	if v.candidate != nil {
		flags |= flagCandidate
	}
	b = append(b, flags)
	b = binary.LittleEndian.AppendUint64(b, v.term)
	b = binary.LittleEndian.AppendUint64(b, v.voteTerm)
	return appendBytes(b, v.candidate)
}

func appendBytes(b, v []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(v)))
	return append(b, v...)
}

// clone copies v; it never returns nil, so that an empty value stays a value.
func clone(v []byte) []byte { return append(make([]byte, 0, len(v)), v...) }

// reader takes fields off b; once one is missing, bad is set and every later field is zero.
type reader struct {
	b   []byte
	bad bool
}

func (p *reader) take(n int) []byte {
	if n < 0 || n > len(p.b) {
		p.bad, p.b = true, nil
		return nil
	}
	v := p.b[:n:n]
	p.b = p.b[n:]
	return v
}

func (p *reader) u64() uint64 {
	if v := p.take(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

func (p *reader) u32() uint32 {
	if v := p.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (p *reader) bytes() []byte { return p.take(int(p.u32())) }

func (p *reader) vote() vote {
	f := p.take(1)
	if f == nil {
		return vote{}
	}
	v := vote{hasTerm: f[0]&flagTerm != 0, hasVoteTerm: f[0]&flagVoteTerm != 0, term: p.u64(), voteTerm: p.u64()}
	c := p.bytes()
	if f[0]&flagCandidate != 0 {
		v.candidate = clone(c)
	}
	if f[0] >= 1<<3 || !v.hasTerm && v.term != 0 || !v.hasVoteTerm && v.voteTerm != 0 ||
		v.candidate == nil && len(c) > 0 {
		p.bad = true
	}
	return v
}
