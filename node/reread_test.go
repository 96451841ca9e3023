package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/node/nodetest"
)

// sickFS is a file system of which reads fail: so many of them, or all while it is below zero. A read that fails may
// have got some of the bytes before.
type sickFS struct {
	vfs.FS
	mu      sync.Mutex
	left    int
	partial int
	with    error
	failed  int
}

func (s *sickFS) fail(n, partial int, with error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left, s.partial, s.with, s.failed = n, partial, with, 0
}

func (s *sickFS) failures() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (s *sickFS) next() (partial int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 {
		return 0, nil
	}
	s.left--
	s.failed++
	return s.partial, s.with
}

func (s *sickFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := s.FS.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	return &sickFile{f, s}, nil
}

func (s *sickFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, c)
	if err != nil {
		return nil, err
	}
	return &sickFile{f, s}, nil
}

type sickFile struct {
	vfs.File
	fs *sickFS
}

func (f *sickFile) Read(p []byte) (int, error) {
	partial, err := f.fs.next()
	if err == nil {
		return f.File.Read(p)
	}
	if partial == 0 {
		return 0, err
	}
	n, rerr := f.File.Read(p[:min(partial, len(p))])
	return n, errors.Join(err, rerr)
}

func (f *sickFile) ReadAt(p []byte, off int64) (int, error) {
	partial, err := f.fs.next()
	if err == nil {
		return f.File.ReadAt(p, off)
	}
	n, _ := f.File.ReadAt(p[:min(partial, len(p))], off)
	return n, err
}

func TestReread(t *testing.T) {
	const text = "what is in the file"
	below := &sickFS{FS: vfs.NewMem()}
	f, err := below.Create("f", vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write([]byte(text))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name             string
		fails            int
		with             error
		pauses           []time.Duration
		ends, again, bad bool
	}{
		{name: "healthy"},
		{name: "once", fails: 1, with: syscall.EIO, pauses: rereadPauses[:1], again: true},
		{name: "twice", fails: 2, with: syscall.EIO, pauses: rereadPauses, again: true},
		{name: "three times", fails: 3, with: syscall.EIO, pauses: rereadPauses, ends: true, bad: true},
		{name: "something else", fails: 1, with: syscall.EBADF, bad: true},
	} {
		for _, partial := range []int{0, 4} {
			var pauses []time.Duration
			var ended []error
			fsys := &rereadFS{FS: below, log: slog.New(slog.DiscardHandler),
				failed: func(err error) { ended = append(ended, err) },
				wait:   func(d time.Duration) { pauses = append(pauses, d) }}
			f, err := fsys.Open("f")
			if err != nil {
				t.Fatal(err)
			}
			below.fail(c.fails, partial, c.with)
			p := make([]byte, len(text))
			n, err := f.ReadAt(p, 0)
			switch {
			case c.bad != (err != nil) || err != nil && !errors.Is(err, c.with):
				t.Errorf("%s, %d: %v", c.name, partial, err)
			case err == nil && string(p[:n]) != text:
				t.Errorf("%s, %d: %q", c.name, partial, p[:n])
			case !slices.Equal(pauses, c.pauses) || len(ended) > 0 != c.ends || fsys.again.Load() > 0 != c.again:
				t.Errorf("%s, %d: pauses %v, ended %v", c.name, partial, pauses, ended)
			case c.ends && (!errors.Is(ended[0], syscall.EIO) || !strings.HasPrefix(ended[0].Error(), "f ")):
				t.Errorf("%s: ended with %v", c.name, ended[0])
			}
			below.fail(c.fails, partial, c.with)
			all, err := io.ReadAll(f)
			if (err != nil) != c.bad && partial == 0 || err == nil && string(all) != text {
				t.Errorf("%s, %d: read from the beginning: %q, %v", c.name, partial, all, err)
			}
			below.fail(0, 0, nil)
			if n, err := f.ReadAt(p, int64(len(text))); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("%s: behind the end %d, %v", c.name, n, err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Three nodes whose disks cannot be read keep their folders, all of them, and are the same servers with the same data
// once they can be. While they run a read that fails ends them; one that works when it is made again does not.
func TestUnreadableDisks(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 3, nil)
	disks := make([]*sickFS, 3)
	for i := range disks {
		disks[i] = &sickFS{FS: c.fs}
	}
	at := 0
	c.adapt = func(d *Deps) { d.FS = disks[at] }
	start := func(i int) (err error) { at = i; c.nodes[i], err = c.open(i); return err }
	for i := range disks {
		if err := start(i); err != nil {
			t.Fatal(err)
		}
	}
	c.ready()
	for i := range 50 {
		b.Produce(nodetest.Record(0, "s", i))
	}
	nodetest.Until(t, "applied", func() bool { return c.sum(applied) == 50 })
	servers := map[string]bool{}
	for i, n := range c.nodes {
		servers[n.raft.Status().ServerID] = true
		disks[i].fail(2, 0, syscall.EIO) // it may well read nothing; then the next start does
		c.stop(i)
	}
	folder := func(i int) map[string]int64 {
		files := map[string]int64{}
		var walk func(dir string)
		walk = func(dir string) {
			names, err := c.fs.List(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				path := c.fs.PathJoin(dir, name)
				if info, err := c.fs.Stat(path); err != nil {
					t.Fatal(err)
				} else if info.IsDir() {
					walk(path)
				} else if strings.HasSuffix(path, ".wal") || strings.HasSuffix(path, ".sst") || name == "identity" {
					files[path] = info.Size()
				}
			}
		}
		walk(c.fs.PathJoin("data", "n"+string(rune('0'+i))))
		return files
	}
	for i, d := range disks {
		before := folder(i)
		for range 2 {
			d.fail(-1, 0, syscall.EIO)
			if err := start(i); !errors.Is(err, syscall.EIO) {
				t.Fatalf("node %d opens what it cannot read: %v", i, err)
			}
			c.nodes[i] = nil
			if d.failures() < 1+len(rereadPauses) {
				t.Errorf("node %d has read %d times", i, d.failures())
			}
		}
		d.fail(2, 0, syscall.EIO)
		if after := folder(i); !maps.Equal(before, after) {
			t.Errorf("node %d had %v, has %v", i, before, after)
		}
	}
	for i := range disks {
		if err := start(i); err != nil {
			t.Fatalf("node %d, of which two reads fail: %v", i, err)
		}
	}
	c.ready()
	for i, n := range c.nodes {
		if id := n.raft.Status().ServerID; !servers[id] {
			t.Errorf("node %d came back as %s, not one of %v", i, id, servers)
		}
	}
	for i := range 50 {
		b.Produce(nodetest.Record(0, "s", 50+i))
	}
	nodetest.Until(t, "all applied", func() bool { return c.sum(applied) == 100 })
	// While a node runs: it ends, and its folder is not given up.
	n := c.nodes[0]
	disks[0].fail(-1, 0, syscall.EIO)
	if _, _, err := n.Store(0).Snapshot("data/n0/copy"); !errors.Is(err, syscall.EIO) {
		t.Errorf("a copy of tables that cannot be read: %v", err)
	}
	if err := n.Wait(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the node ended with %v", err)
	}
	id := n.raft.Status().ServerID
	ctx, cancel := context.WithTimeout(t.Context(), nodetest.Patience)
	defer cancel()
	_ = n.Close(ctx) // it may fail to read what it is asked to close
	disks[0].fail(0, 0, nil)
	if err := errors.Join(c.fs.RemoveAll("data/n0/copy"), start(0)); err != nil {
		t.Fatal(err)
	}
	c.ready()
	if now := c.nodes[0].raft.Status().ServerID; now != id {
		t.Errorf("%s has come back as %s", id, now)
	}
	c.checkExact(t, 100, 0, 0)
}
