package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"deckle/wal"
)

// audit reads the logs as they would be found if all three nodes lost power at this very moment:
//
//   - I3: every entry that any replica has applied is on at least two disks.
//   - Log matching (Raft, §5.3): entries with one index and term are the same on all disks, and terms never fall along
//     a log.
func (o *oracle) audit() {
	w := o.w
	if !w.oneDisk.TryLock() {
		return // a node has lost its disk, and no longer holds what it has acknowledged
	}
	defer w.oneDisk.Unlock()
	applied := make([]uint64, w.shards)
	for _, m := range w.members {
		for shard := range applied {
			if s := m.store(uint32(shard)); s != nil {
				index, _ := s.Applied()
				applied[shard] = max(applied[shard], index)
			}
		}
	}
	holders := make([]int, w.shards)
	for _, m := range w.members {
		lasts, err := o.auditLog(m)
		var corrupt *wal.CorruptError
		switch {
		case errors.As(err, &corrupt) && m.isDamaged():
			return
		case err != nil:
			w.history.fail("I3: the log of %s cannot be read after a loss of power: %v", m.name, err)
			return
		}
		for shard, last := range lasts {
			if last == 0 || last >= applied[shard] { // 0: the state has been installed, and has everything up to there
				holders[shard]++
			}
		}
	}
	for shard, n := range holders {
		if n < 2 {
			w.history.fail("I3: entry %d of shard %d was applied, and is on %d disks only", applied[shard], shard, n)
		}
	}
	o.mu.Lock()
	o.audits++
	o.mu.Unlock()
}

// auditLog returns the last index of each shard's log on a node's disk.
func (o *oracle) auditLog(m *member) (lasts []uint64, err error) {
	w := o.w
	lasts = make([]uint64, w.shards)
	var fsys vfs.FS = m.disk.image()
	if w.sealed {
		if fsys, err = unsealed(fsys, m.index); err != nil {
			return nil, err
		}
	}
	if _, err := fsys.Stat("data/wal"); err != nil {
		return lasts, nil // it was never opened
	}
	log, err := wal.Open(context.Background(), wal.Options{FS: fsys, Dir: "data/wal"})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	for shard := range lasts {
		g := log.Group(uint64(shard))
		first, err := g.FirstIndex()
		if err != nil {
			return nil, err
		}
		if lasts[shard], err = g.LastIndex(); err != nil {
			return nil, err
		}
		var before uint64
		for i := first; i > 0 && i <= lasts[shard]; i++ {
			var e raft.Log
			if err := g.GetLog(i, &e); err != nil {
				return nil, fmt.Errorf("shard %d, entry %d: %w", shard, i, err)
			}
			if e.Term < before {
				w.history.fail("log matching: on %s, shard %d, entry %d is of term %d, the one before it of %d", m.name,
					shard, i, e.Term, before)
			}
			before = e.Term
			at := entryAt{uint32(shard), i, e.Term}
			sum := xxhash.Sum64(e.Data) + uint64(e.Type)
			o.mu.Lock()
			if seen, ok := o.entries[at]; ok && seen != sum {
				w.history.fail("log matching: %s has another entry %d of term %d of shard %d than was seen before",
					m.name, i, e.Term, shard)
			}
			o.entries[at] = sum
			o.mu.Unlock()
		}
	}
	return lasts, nil
}

// entryAt is the place of an entry in a shard's history.
type entryAt struct {
	shard       uint32
	index, term uint64
}

// image is what would be on the disk if power were lost now.
func (d *disk) image() *vfs.MemFS {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mem.CrashClone(vfs.CrashCloneCfg{})
}
