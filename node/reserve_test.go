package node

import (
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/node/status"
	"deckle/raftstore"
)

// tightFS is a file system of which so many bytes are free, and which says ENOSPC, in the middle of a write, as a real
// one does. A file gives its bytes back when it is removed, not when it is replaced.
type tightFS struct {
	vfs.FS
	mu    sync.Mutex
	free  int64
	found int // writes that found no room

	writes, syncs error // with which every write and every sync fails, if set
}

const roomy = 1 << 40

func (f *tightFS) setFree(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.free = n
}

func (f *tightFS) noRoom() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.found
}

func (f *tightFS) failWrites(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes = err
}

func (f *tightFS) failSyncs(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.syncs = err
}

// failing returns with what every write and every sync fails, nil if they do not.
func (f *tightFS) failing() (writes, syncs error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes, f.syncs
}

// take returns how many of n bytes there is room for.
func (f *tightFS) take(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	got := int(min(int64(n), f.free))
	f.free -= int64(got)
	if got < n {
		f.found++
	}
	return got
}

func (f *tightFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return vfs.DiskUsage{AvailBytes: uint64(f.free), TotalBytes: 20 << 20, UsedBytes: 0}, nil
}

func (f *tightFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	if err != nil {
		return nil, err
	}
	return &tightFile{file, f}, nil
}

func (f *tightFS) Remove(name string) error {
	info, err := f.FS.Stat(name)
	if err == nil {
		err = f.FS.Remove(name)
	}
	if err == nil {
		f.mu.Lock()
		f.free += info.Size()
		f.mu.Unlock()
	}
	return err
}

type tightFile struct {
	vfs.File
	fs *tightFS
}

func (t *tightFile) Write(p []byte) (int, error) {
	if err, _ := t.fs.failing(); err != nil {
		return 0, err
	}
	got := t.fs.take(len(p))
	n, err := t.File.Write(p[:got])
	if err == nil && got < len(p) {
		err = syscall.ENOSPC
	}
	return n, err
}

func (t *tightFile) Sync() error {
	if _, err := t.fs.failing(); err != nil {
		return err
	}
	return t.File.Sync()
}

const testReserve = 16 << 20

func TestReserve(t *testing.T) {
	below := &tightFS{FS: vfs.NewMem(), free: roomy}
	open := func(bytes int64) (*reserve, vfs.FS) {
		t.Helper()
		r, above := openReserve(below, "data", bytes, slog.New(slog.DiscardHandler))
		r.keep()
		return r, above
	}
	there := func() int64 {
		info, err := below.Stat("data/reserve")
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return 0
		case err != nil:
			t.Fatal(err)
		}
		return info.Size()
	}
	write := func(fsys vfs.FS, n int) error {
		f, err := fsys.Create("data/other", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Write(make([]byte, n))
		return errors.Join(err, f.Close())
	}
	check := func(what string, r *reserve, bytes int64, full bool) {
		t.Helper()
		if there() != bytes || r.held.Load() != bytes || (r.full() != "") != full || (r.noRoom() != nil) != full {
			t.Errorf("%s: %d bytes, %d held, full %q", what, there(), r.held.Load(), r.full())
		}
	}
	// Nothing is made before the lock of the folder is held; whether there is room is seen at once.
	below.setFree(2*testReserve - 1)
	r, _ := openReserve(below, "data", testReserve, slog.New(slog.DiscardHandler))
	check("a new folder without room", r, 0, true)
	below.setFree(roomy)
	r, _ = openReserve(below, "data", testReserve, slog.New(slog.DiscardHandler))
	check("a new folder", r, 0, false)
	if _, err := below.Stat("data"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a look has made the folder: %v", err)
	}
	if err := below.MkdirAll("data", 0o700); err != nil {
		t.Fatal(err)
	}
	r.keep()
	check("once there is one", r, testReserve, false)
	r, above := open(testReserve)
	check("opened again", r, testReserve, false)

	// The write that finds no room goes on where it was, and the file has all of it.
	below.setFree(1000)
	if err := write(above, 5000); err != nil {
		t.Fatal(err)
	}
	if info, err := below.Stat("data/other"); err != nil || info.Size() != 5000 {
		t.Errorf("the file has %v, %v", info, err)
	}
	check("after a full disk", r, 0, true)
	if err := r.room(testReserve); !errors.Is(err, raftstore.ErrNoRoom) {
		t.Errorf("room for as much as the reserve: %v", err)
	}
	if err := r.room(1 << 20); err != nil {
		t.Errorf("no room for a small checkpoint: %v", err)
	}
	// A process that begins there finds the same, and frees what one has left that was killed while it made the file.
	left, err := below.FS.Create("data/reserve.tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if err = left.Close(); err != nil {
		t.Fatal(err)
	}
	r, above = openReserve(below, "data", testReserve, slog.New(slog.DiscardHandler))
	check("opened on a full disk, before its lock is held", r, 0, true)
	r.keep()
	check("opened on a full disk", r, 0, true)
	if _, err := below.Stat("data/reserve.tmp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a kill has left is still there: %v", err)
	}
	below.setFree(2*testReserve - 1)
	r.keep()
	check("with too little room", r, 0, true)
	below.setFree(2 * testReserve)
	r.keep()
	check("with room", r, testReserve, false)
	// Nobody gets the room of a reserve that is not there.
	below.setFree(0)
	if err := write(above, testReserve+1); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("more than there is room for: %v", err)
	}
	if err := write(above, 1); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("without a reserve: %v", err)
	}
	// A sync that finds no room is an error, though the reserve is given up for it.
	below.setFree(roomy)
	r, above = open(testReserve)
	check("made for a sync", r, testReserve, false)
	f, err := above.Create("data/synced", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	below.failSyncs(syscall.ENOSPC)
	if err = f.Sync(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a sync without room: %v", err)
	}
	check("after a sync", r, 0, true)
	below.failSyncs(nil)
	if err = f.Close(); err != nil {
		t.Fatal(err)
	}
	r.keep()
	check("after the sync", r, testReserve, false)
	// Somebody takes it away: it is made again, or the disk is full.
	for _, free := range []int64{roomy, testReserve} {
		below.setFree(free - testReserve)
		if err := below.Remove("data/reserve"); err != nil {
			t.Fatal(err)
		}
		r.keep()
		check("taken away", r, map[bool]int64{true: testReserve}[free == roomy], free != roomy)
	}
	// What fails for another reason than room leaves the node without a reserve. It is tried again, not at once.
	below.setFree(roomy)
	for _, c := range []struct {
		err  error
		full bool
	}{{syscall.EIO, false}, {syscall.EDQUOT, true}} {
		r, _ = openReserve(below, "data", testReserve, slog.New(slog.DiscardHandler))
		below.failWrites(c.err)
		r.keep()
		check(c.err.Error(), r, 0, c.full)
		if _, err := below.Stat("data/reserve.tmp"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v has left a file: %v", c.err, err)
		}
		below.failWrites(nil)
		for range retryRest - 1 {
			r.keep()
		}
		check(c.err.Error()+", a little later", r, 0, c.full)
		r.keep()
		check(c.err.Error()+", later", r, testReserve, false)
		if err := below.Remove("data/reserve"); err != nil {
			t.Fatal(err)
		}
	}
	// Half of a file is none.
	below.setFree(roomy)
	writeTestFile(t, below, "data/reserve", testReserve/2)
	r, _ = open(testReserve)
	check("a half file", r, testReserve, false)
	r, above = open(0)
	check("none is configured", r, 0, false)
	if _, same := above.(*tightFS); !same {
		t.Error("without a reserve something lies between")
	}
	// A file system that does not tell its free space has none, and is never full.
	r, _ = openReserve(vfs.NewMem(), "", testReserve, slog.New(slog.DiscardHandler))
	r.keep()
	if r.held.Load() != 0 || r.full() != "" {
		t.Errorf("%d held, full %q", r.held.Load(), r.full())
	}
}

// A node whose disk is full lives on: it says so, answers, takes nothing in, and goes on by itself when there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	disk := &tightFS{FS: vfs.NewMem(), free: roomy}
	reserveBytes := int64(testReserve)
	c := newCluster(t, b, 1, func(cfg *config.Config) { cfg.Limits.ReserveBytes = &reserveBytes })
	c.fs = disk
	n := c.start(0)
	b.Produce(nodetest.Record(0, "first", 0))
	nodetest.Until(t, "applied", func() bool { return c.sum(applied) == 1 })

	disk.setFree(0)
	for i := range 10 {
		b.Produce(nodetest.Record(0, "second", i))
	}
	nodetest.Until(t, "paused", c.paused(status.PauseFull))
	nodetest.Until(t, "the condition", func() bool {
		return has(n.list.Snapshot(), condition.DiskFull, subjectNode)
	})
	if disk.noRoom() == 0 {
		t.Error("no write has found the disk full")
	}
	before := c.sum(applied)
	for i := range 10 {
		b.Produce(nodetest.Record(0, "third", i))
	}
	nodetest.Until(t, "lag", func() bool { l := c.lag(); return l != nil && *l >= 10 })
	if got := c.sum(applied); got != before {
		t.Errorf("%d applied, then %d, on a full disk", before, got)
	}
	if st := n.Status(); st.Ready || !strings.Contains(strings.Join(st.Reasons, "\n"), "disk is full") {
		t.Errorf("ready %v, reasons %v", st.Ready, st.Reasons)
	}
	disk.setFree(roomy)
	nodetest.Until(t, "all applied", func() bool { return c.sum(applied) == 21 })
	nodetest.Until(t, "ready", func() bool {
		return n.Status().Ready && !has(n.list.Snapshot(), condition.DiskFull, subjectNode)
	})
	c.checkExact(t, 21, 0, 0)
}

// One of three nodes whose disk is full leaves its shards to the others, and catches up by itself when there is room.
func TestDiskFullOfOneOfThree(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	reserveBytes := int64(testReserve)
	c := newCluster(t, b, 3, func(cfg *config.Config) { cfg.Limits.ReserveBytes = &reserveBytes })
	var disks []*tightFS
	c.adapt = func(d *Deps) {
		disks = append(disks, &tightFS{FS: d.FS, free: roomy})
		d.FS = disks[len(disks)-1]
	}
	for i := range c.nodes {
		c.start(i)
	}
	c.ready()
	b.Produce(nodetest.Record(0, "first", 0))
	nodetest.Until(t, "applied", func() bool { return c.sum(applied) == 1 })
	full, _, _ := c.leader(0)
	disks[full].setFree(0)
	produced := 1
	nodetest.Until(t, "another node leads, and goes on", func() bool {
		if produced < 200 {
			b.Produce(nodetest.Record(0, "more", produced))
			produced++
		}
		at, _, _ := c.leader(0)
		return at >= 0 && at != full && c.sum(applied) == int64(produced)
	})
	if !has(c.nodes[full].list.Snapshot(), condition.DiskFull, subjectNode) {
		t.Error("the full disk is no condition")
	}
	if disks[full].noRoom() == 0 {
		t.Error("no write has found the disk full")
	}
	disks[full].setFree(roomy)
	nodetest.Until(t, "it has caught up", func() bool {
		for _, s := range c.nodes[full].Status().Shards {
			if s.Shard == 0 && s.State.Applied == int64(produced) {
				return c.nodes[full].Status().Ready
			}
		}
		return false
	})
	c.checkExact(t, produced, 0, 0)
}
