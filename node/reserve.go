package node

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/raftstore"
)

// reserveName is the file of the data folder that takes room which is given up when the disk is full.
const reserveName = "reserve"

// reserveChunk is how much of the file is written between two syncs: those of the log wait for them.
const reserveChunk = 4 << 20

// reserve keeps a node alive on a full disk. The first write that finds no room removes the reserve file and is made
// again, so that what is under way can end: an entry that was being stored, a checkpoint, a compaction. From then on
// the disk counts as full: intake rests (budget), and one of three nodes takes no entries and keeps no leadership
// (raftstore.Options.NoRoom), while reads, heartbeats, votes, truncation and compactions go on. With twice its size
// free the file is made again, and the node goes on.
//
//	held ──── a write finds no room: the file is removed ────► spent ──── another one: its error, the process ends
//	  ▲                                                          │
//	  └──────── twice its size is free: written in full ─────────┘
//
// Whether the reserve is held is whether the file is there, whole: so a process that was killed in between, or begins
// on a full disk, comes back to the same. A file system that does not tell its free space has no reserve. Where the
// file cannot be made for another reason than room, the node goes on without it, and says so in its log; it tries
// again.
//
// Only the data folder lies above the layer: what a local Delta table does not find room for, which may be elsewhere,
// is its sink's trouble. The file is written and removed below the layer that spends it, and below encryption at rest:
// its content is of no meaning, and does not compress, or it would take no room on some file systems. A sync that finds
// no room is an error as ever: one that succeeds after one that has failed proves nothing.
type reserve struct {
	fs    vfs.FS // below
	dir   string
	bytes int64 // 0: there is none
	log   *slog.Logger

	making  sync.Mutex // held while the file is made or given up
	tidied  bool
	rest    int          // calls of keep for which the file is not tried again
	held    atomic.Int64 // bytes of the file
	missing atomic.Bool  // the file should be there, and is not
}

// retryRest is for how many calls of keep the file is not tried again after it could not be made: a minute (the budget
// looks every 2 s).
const retryRest = 30

// openReserve looks for the reserve of a data folder, and returns the file system that spends it. It changes nothing:
// the folder may be another process's, until its lock is held. A folder without the file, on a file system without room
// for it, is full from the first moment on.
func openReserve(fsys vfs.FS, dir string, bytes int64, log *slog.Logger) (*reserve, vfs.FS) {
	r := &reserve{fs: fsys, dir: dir, bytes: bytes, log: log}
	if bytes == 0 {
		return r, fsys
	}
	if r.there() {
		r.held.Store(bytes)
	} else if du, err := fsys.GetDiskUsage(dir); err == nil && du.AvailBytes < 2*uint64(bytes) {
		r.missing.Store(true)
	}
	return r, vfs.OnDiskFull(fsys, r.spend)
}

// there says whether the file is there, whole.
func (r *reserve) there() bool {
	info, err := r.fs.Stat(r.fs.PathJoin(r.dir, reserveName))
	return err == nil && info.Size() == r.bytes
}

// tidy removes what is there and is not the reserve: what a process has left that was killed while it made the file,
// or a file of another size. Once is enough. It is called with making held.
func (r *reserve) tidy() {
	if r.tidied {
		return
	}
	r.tidied = true
	path := r.fs.PathJoin(r.dir, reserveName)
	remove := []string{path + ".tmp"}
	if r.held.Load() == 0 {
		remove = append(remove, path)
	}
	for _, name := range remove {
		if err := r.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.log.Warn("a former reserve could not be removed", "error", err)
		}
	}
}

// spend gives the room up. Every write of the node waits for it; if the file is just being made, until that has ended,
// which leaves the file whole or gives its room back.
func (r *reserve) spend() {
	r.making.Lock()
	defer r.making.Unlock()
	if r.held.Swap(0) == 0 {
		return
	}
	r.missing.Store(true)
	err := errors.Join(r.fs.Remove(r.fs.PathJoin(r.dir, reserveName)), syncFolder(r.fs, r.dir))
	r.log.Error("the disk is full: the reserve is given up, and intake rests until there is room", "dir", r.dir,
		"bytes", r.bytes, "error", err)
}

// keep makes the file if it is missing and twice its size is free. It is called with the folder's lock held, every
// 2 s.
func (r *reserve) keep() {
	r.making.Lock()
	defer r.making.Unlock()
	if r.tidy(); r.bytes == 0 {
		return
	}
	if r.held.Load() > 0 {
		if r.there() {
			return
		}
		r.held.Store(0)
		r.log.Warn("somebody has taken the reserve away", "dir", r.dir)
	}
	du, err := r.fs.GetDiskUsage(r.dir)
	if err != nil {
		return // the file system does not tell
	}
	was := r.missing.Load()
	if du.AvailBytes < 2*uint64(r.bytes) {
		if r.rest = 0; !r.missing.Swap(true) {
			r.log.Error("there is no room for the reserve", "dir", r.dir, "bytes", r.bytes, "free", du.AvailBytes)
		}
		return
	}
	if r.rest--; r.rest > 0 {
		return
	}
	if err := r.write(); err != nil {
		r.rest = retryRest
		noRoom := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
		r.missing.Store(noRoom)
		r.log.Error("the reserve could not be made", "dir", r.dir, "bytes", r.bytes, "full", noRoom, "error", err)
		return
	}
	r.rest = 0
	r.held.Store(r.bytes)
	r.missing.Store(false)
	if was {
		r.log.Info("the reserve is there again: the disk is no longer full", "bytes", r.bytes)
	}
}

// write writes the file in full, under another name until it is durable.
func (r *reserve) write() (err error) {
	path := r.fs.PathJoin(r.dir, reserveName)
	f, err := r.fs.Create(path+".tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	noise := rand.NewChaCha8([32]byte{})
	for left := r.bytes; left > 0 && err == nil; left -= reserveChunk {
		if _, err = io.CopyN(f, noise, min(left, reserveChunk)); err == nil {
			err = f.Sync()
		}
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = r.fs.Rename(path+".tmp", path)
	}
	if err == nil {
		err = syncFolder(r.fs, r.dir)
	}
	if err != nil {
		err = errors.Join(err, r.fs.Remove(path+".tmp"))
	}
	return err
}

// full returns why the disk counts as full, "" if it does not.
func (r *reserve) full() string {
	if !r.missing.Load() {
		return ""
	}
	return fmt.Sprintf("the disk is full: the reserve of %d MiB (limits.reserve_bytes) is given up until twice that "+
		"is free", r.bytes>>20)
}

// room returns why so many bytes may not be written for what can wait, nil if they may. Only a full disk is looked at.
func (r *reserve) room(bytes int64) error {
	why := r.full()
	if why == "" {
		return nil
	}
	if du, err := r.fs.GetDiskUsage(r.dir); err == nil && du.AvailBytes > uint64(max(bytes, 0)) {
		return nil
	}
	return fmt.Errorf("%w for %d bytes: %s", raftstore.ErrNoRoom, bytes, why)
}

// noRoom returns why no entries are taken, nil if they are.
func (r *reserve) noRoom() error {
	if why := r.full(); why != "" {
		return fmt.Errorf("%w: %s", raftstore.ErrNoRoom, why)
	}
	return nil
}

// syncFolder makes the names in a folder durable.
func syncFolder(fsys vfs.FS, dir string) error {
	d, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
