package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var (
	errMissing  = errors.New("segment is missing")
	errTooShort = errors.New("segment is shorter than the next one says")
	errKind     = errors.New("record does not belong here")
	errHead     = errors.New("head of the segment disagrees with the records before it")
	errProven   = errors.New("damaged, though a later record shows it was on disk")
)

// Open replays the log in opts.Dir, drops a torn tail and begins a fresh segment. The end of ctx ends a long replay.
// Damage that is no torn tail is a *CorruptError; nothing on disk is changed then.
func Open(ctx context.Context, opts Options) (*Log, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := makeDir(opts.FS, opts.Dir); err != nil {
		return nil, err
	}
	lock, err := opts.FS.Lock(opts.FS.PathJoin(opts.Dir, LockName))
	if err != nil {
		return nil, fmt.Errorf("wal: lock %s (does another process use this folder?): %w", opts.Dir, err)
	}
	l := newLog(opts, lock)
	if err := l.open(ctx); err != nil {
		return nil, errors.Join(err, l.closeFiles())
	}
	if err := l.metrics.register(opts.Registerer, l); err != nil {
		return nil, errors.Join(fmt.Errorf("wal: %w", err), l.closeFiles())
	}
	return l, nil
}

// makeDir creates dir and syncs every folder that has a new name in it.
func makeDir(fsys vfs.FS, dir string) error {
	var parents []string
	for d := dir; ; d = fsys.PathDir(d) {
		if _, err := fsys.Stat(d); err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("wal: %w", err)
		}
		p := fsys.PathDir(d)
		parents = append(parents, p)
		if p == d {
			break
		}
	}
	if len(parents) == 0 {
		return nil
	}
	if err := fsys.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("wal: create folder: %w", err)
	}
	for _, p := range parents {
		if err := syncDir(fsys, p); err != nil {
			return fmt.Errorf("wal: %w", err)
		}
	}
	return nil
}

func (l *Log) open(ctx context.Context) error {
	seqs, leftovers, err := l.list()
	if err != nil {
		return err
	}
	for i := 1; i < len(seqs); i++ {
		if want := seqs[i-1] + 1; seqs[i] != want {
			return &CorruptError{Segment: want, Err: errMissing}
		}
	}
	heads := make([]header, len(seqs))
	for i, seq := range seqs {
		if heads[i], err = l.openSegment(seq); err != nil {
			return err
		}
	}
	next := header{seq: 1, prevEnd: 0}
	var tail []mutation
	var buf []byte
	for i, s := range l.segments {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wal: open: %w", err)
		}
		if buf, err = readSegment(s.r, buf); err != nil {
			return fmt.Errorf("wal: read segment %016x: %w", s.seq, err)
		}
		p := replay{log: l, seg: s, head: heads[i], data: buf}
		if i+1 < len(seqs) {
			err = p.closed(i == 0, heads[i+1].prevEnd)
		} else {
			tail, err = p.last(i == 0)
			next = header{seq: s.seq + 1, prevEnd: s.size}
		}
		if err != nil {
			return err
		}
	}
	if err := l.begin(next, tail); err != nil {
		return err
	}
	for _, name := range leftovers {
		if err := l.opts.FS.Remove(l.opts.FS.PathJoin(l.opts.Dir, name)); err != nil {
			l.logger.Warn("wal: remove an unfinished segment", "file", name, "error", err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.collect()
}

// list returns the segments in order, and the names of segments that were never finished.
func (l *Log) list() (seqs []uint64, leftovers []string, err error) {
	names, err := l.opts.FS.List(l.opts.Dir)
	if err != nil {
		return nil, nil, fmt.Errorf("wal: list: %w", err)
	}
	for _, name := range names {
		if seq, ok := parseSegmentName(name); ok {
			seqs = append(seqs, seq)
		} else if strings.HasSuffix(name, segmentSuffix+tmpSuffix) {
			leftovers = append(leftovers, name)
		}
	}
	slices.Sort(seqs)
	return seqs, leftovers, nil
}

func (l *Log) openSegment(seq uint64) (header, error) {
	f, err := l.opts.FS.Open(l.opts.FS.PathJoin(l.opts.Dir, segmentName(seq)))
	if err != nil {
		return header{}, fmt.Errorf("wal: open segment %016x: %w", seq, err)
	}
	l.segments = append(l.segments, &segment{seq: seq, r: f})
	st, err := f.Stat()
	if err != nil {
		return header{}, fmt.Errorf("wal: open segment %016x: %w", seq, err)
	}
	b := make([]byte, min(segmentHeader, st.Size()))
	if len(b) > 0 {
		if _, err := f.ReadAt(b, 0); err != nil {
			return header{}, fmt.Errorf("wal: read segment %016x: %w", seq, err)
		}
	}
	h, err := decodeHeader(b, seq)
	if errors.Is(err, ErrVersion) {
		return header{}, fmt.Errorf("segment %016x: %w", seq, err)
	}
	if err != nil {
		return header{}, &CorruptError{Segment: seq, Err: err}
	}
	return h, nil
}

// begin creates the segment that writes go to: the state of all groups, then those records of the segment before that
// no fsync is known to have covered. They are written again instead of synced in place, because an fsync that once
// failed may later claim success for pages that never reached the disk.
func (l *Log) begin(h header, tail []mutation) error {
	s := &segment{seq: h.seq}
	at := make([]loc, len(tail))
	content := appendHead(nil, h, l.table, func(buf []byte) []byte {
		for i := range tail {
			start := len(buf)
			buf = appendRecord(buf, h.seq, 0, 0, tail[i].kind, tail[i].group, tail[i].appendPayload)
			at[i] = loc{seg: s, off: uint32(start), len: uint32(len(buf) - start)}
		}
		return buf
	})
	for i := range tail {
		l.table.apply(&tail[i], at[i], false)
	}
	if err := l.missing(h.seq); err != nil {
		return err
	}
	return l.advance(s, content)
}

// missing returns an error if a group needs entries that lay before the oldest segment.
func (l *Log) missing(fresh uint64) error {
	for _, id := range l.table.known() {
		g := l.table.groups[id]
		n := 0
		for n < len(g.locs) && g.locs[n].seg == nil {
			n++
		}
		if n == 0 {
			continue
		}
		oldest := fresh
		if len(l.segments) > 0 {
			oldest = l.segments[0].seq
		}
		return &CorruptError{Segment: oldest - 1, Group: id, HasGroup: true,
			Err: fmt.Errorf("%w: it held entries %d to %d", errMissing, g.first, g.first+uint64(n)-1)}
	}
	return nil
}

// replay applies the records of one segment to the table.
type replay struct {
	log  *Log
	seg  *segment
	head header
	data []byte
	off  int64
}

func (p *replay) corrupt(r record, err error) error {
	e := &CorruptError{Segment: p.seg.seq, Offset: p.off, Err: err}
	if g := p.log.table.groups[r.group]; g != nil {
		e.Group, e.HasGroup = r.group, true
	}
	return e
}

// next decodes the record at p.off.
func (p *replay) next() (record, mutation, int, error) {
	r, n, err := decodeRecord(p.data[p.off:], p.seg.seq, p.off)
	if err != nil {
		return r, mutation{}, 0, err
	}
	m, err := decodeMutation(r)
	if err != nil {
		return r, m, n, p.corrupt(r, err)
	}
	return r, m, n, nil
}

// start reads the groups' states in the segment's head. Replay begins with those of the oldest segment; those of the
// others are compared with the table.
func (p *replay) start(oldest bool) error {
	t := p.log.table
	p.off = segmentHeader
	if p.head.head > int64(len(p.data)) {
		p.off = int64(len(p.data))
		return p.corrupt(record{}, errTooShort)
	}
	for range p.head.groups {
		r, m, n, err := p.next()
		if err != nil {
			return p.asCorrupt(r, err)
		}
		if r.kind != kindState {
			return p.corrupt(r, errKind)
		}
		switch {
		case oldest:
			t.group(r.group).restore(m.state)
		case t.groups[r.group] == nil || !t.groups[r.group].image().equal(m.state):
			return p.corrupt(r, errHead)
		}
		p.off += int64(n)
	}
	if len(t.known()) != p.head.groups {
		return p.corrupt(record{}, errHead)
	}
	return nil
}

func (p *replay) asCorrupt(r record, err error) error {
	if _, ok := errors.AsType[*CorruptError](err); ok {
		return err
	}
	return p.corrupt(r, err)
}

func (p *replay) apply(m *mutation, off int64, n int) {
	p.log.table.apply(m, loc{seg: p.seg, off: uint32(off), len: uint32(n)}, false)
}

// closed replays a segment of which every byte before end was acknowledged, or at least synced.
func (p *replay) closed(oldest bool, end int64) error {
	if end < p.head.head {
		return p.corrupt(record{}, errHead)
	}
	if end > int64(len(p.data)) {
		p.off = int64(len(p.data))
		return p.corrupt(record{}, errTooShort)
	}
	p.data = p.data[:end]
	p.seg.size = end
	if err := p.start(oldest); err != nil {
		return err
	}
	for p.off < end {
		r, m, n, err := p.next()
		if err != nil {
			return p.asCorrupt(r, err)
		}
		if r.kind == kindState || r.kind == kindSeal {
			return p.corrupt(r, errKind)
		}
		p.apply(&m, p.off, n)
		p.off += int64(n)
	}
	return nil
}

// last replays the newest segment as far as it is proven to have been on disk, and returns the valid records behind
// that.
func (p *replay) last(oldest bool) (tail []mutation, err error) {
	if err := p.start(oldest); err != nil {
		return nil, err
	}
	type found struct {
		m   mutation
		off int64
		n   int
	}
	var all []found
	proven := p.head.head
	for p.off < int64(len(p.data)) {
		r, m, n, err := p.next()
		if _, ok := errors.AsType[*CorruptError](err); ok {
			return nil, err
		}
		if err != nil {
			if p.off < proven {
				return nil, p.corrupt(r, err)
			}
			if provenPast(p.data, p.seg.seq, p.off+8, p.off) {
				return nil, p.corrupt(r, fmt.Errorf("%w: %w", errProven, err))
			}
			p.log.logger.Warn("wal: torn tail dropped", "segment", p.seg.seq, "offset", p.off,
				"bytes", int64(len(p.data))-p.off, "reason", err)
			break
		}
		switch r.kind {
		case kindState:
			return nil, p.corrupt(r, errKind)
		case kindSeal:
			return nil, &CorruptError{Segment: p.seg.seq + 1, Err: errMissing}
		}
		proven = max(proven, r.synced)
		all = append(all, found{m, p.off, n})
		p.off += int64(n)
	}
	p.seg.size = p.head.head
	for _, f := range all {
		if f.off < proven {
			p.apply(&f.m, f.off, f.n)
			p.seg.size = f.off + int64(f.n)
		} else if f.m.kind != kindMark {
			tail = append(tail, f.m)
		}
	}
	return tail, nil
}
