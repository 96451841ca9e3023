package state

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"deckle/cipherfs/cipherfstest"
)

// crashImages keeps, before every operation that writes, what would be on disk if the process or the power ended there.
type crashImages struct {
	mem *vfs.MemFS
	rng *rand.Rand

	mu     sync.Mutex
	on     bool
	opens  bool // whether Pebble opens the new folder
	images []crashImage
	err    error
}

type crashImage struct {
	name string
	fs   *vfs.MemFS
}

func (c *crashImages) MaybeError(op errorfs.Op) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.on && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
		// When it opens a folder, Pebble relies on new names in it reaching the disk in order, as journals keep them.
		c.opens = c.opens || op.Kind == errorfs.OpMkdirAll
		c.note(fmt.Sprintf("before operation of kind %d on %s", op.Kind, op.Path))
	}
	return nil
}

func (c *crashImages) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = true
}

// end keeps a last image and returns all of them. Pebble's goroutines may still be writing.
func (c *crashImages) end() ([]crashImage, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note("after all")
	c.on = false
	return c.images, c.err
}

func (c *crashImages) String() string { return "crash images" }

func (c *crashImages) note(at string) {
	killed := vfs.NewCrashableMem()
	for range 100 { // a file may be removed while it is being copied
		killed = vfs.NewCrashableMem()
		if _, c.err = vfs.Clone(c.mem, killed, "", "", vfs.CloneSync); !errors.Is(c.err, os.ErrNotExist) {
			break
		}
	}
	c.images = append(c.images,
		crashImage{"process killed " + at, killed},
		crashImage{"power cut " + at, c.mem.CrashClone(vfs.CrashCloneCfg{})},
	)
	if !c.opens {
		half := vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: c.rng}
		c.images = append(c.images, crashImage{"power cut, half is kept, " + at, c.mem.CrashClone(half)})
	}
}

// TestRestoreCutOff interrupts Restore at every operation on the file system. The next Open must have the whole former
// state or the whole new one, nothing else may be left beside it, and a snapshot that was not taken over can be
// restored again.
func TestRestoreCutOff(t *testing.T) {
	for _, seed := range seeds(t, 1) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { restoreCutOff(t, seed) })
	}
}

func restoreCutOff(t *testing.T, seed uint64) {
	mem := vfs.NewCrashableMem()
	must(t, mem.MkdirAll("data/staged", 0o755))
	crash := &crashImages{mem: mem, rng: rand.New(rand.NewPCG(seed, 3))}
	fsys := errorfs.Wrap(mem, crash)
	g := newGenerator(seed)
	grow := func(s *Store, n int) {
		for range n {
			index, _ := s.Applied()
			entry := EncodeConfig(testConfig())
			if index > 0 {
				entry = g.entry()
			}
			res, err := s.Apply(index+1, 1, entry)
			must(t, err)
			g.learn(entry, res, s)
		}
	}
	sum := func(s *Store) uint64 {
		v, err := s.Checksum()
		must(t, err)
		return v
	}
	open := func(fsys vfs.FS) *Store {
		s, err := Open(context.Background(), Options{FS: cipherfstest.Over(fsys), Dir: "data/shard-0"})
		must(t, err)
		return s
	}

	// The former state, and a snapshot of a store that has gone on.
	s := open(fsys)
	grow(s, 20)
	must(t, s.Checkpoint(context.Background()))
	former := sum(s)
	_, _, err := s.Snapshot("data/copy")
	must(t, err)
	other, err := Open(context.Background(), Options{FS: cipherfstest.Over(mem), Dir: "data/copy"})
	must(t, err)
	grow(other, 20)
	next := sum(other)
	_, _, err = other.Snapshot("data/staged/files")
	must(t, err)
	must(t, other.Close())
	for _, dir := range []string{"data/staged/files", "data/staged", "data", ""} {
		must(t, syncDir(mem, dir))
	}

	crash.begin()
	must(t, s.Restore("data/staged/files"))
	images, err := crash.end()
	must(t, err)
	if got := sum(s); got != next {
		t.Fatalf("restored state %x, want %x", got, next)
	}
	must(t, s.Close())

	count := map[string]int{}
	for _, im := range images {
		_, err := im.fs.Stat("data/shard-0")
		between := errors.Is(err, os.ErrNotExist)
		s, err := Open(context.Background(), Options{FS: cipherfstest.Over(im.fs), Dir: "data/shard-0"})
		if err != nil {
			l, _ := im.fs.List("data/shard-0")
			t.Fatalf("%s: %v %v", im.name, err, l)
		}
		got := sum(s)
		switch {
		case got == former && between:
			count["put back"]++
		case got == former:
			count["former"]++
		case got == next && !between:
			count["new"]++
		default:
			t.Fatalf("%s: state %x, former %x, new %x, between %v", im.name, got, former, next, between)
		}
		if _, err := im.fs.Stat("data/shard-0.old"); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%s: the former folder is still there: %v", im.name, err)
		}
		// What Open has finished stays finished.
		after := im.fs.CrashClone(vfs.CrashCloneCfg{})
		again := open(after)
		if sum(again) != got {
			t.Fatalf("%s: another state after a crash after Open", im.name)
		}
		must(t, again.Close())
		if got == former {
			must(t, s.Restore("data/staged/files"))
			if sum(s) != next {
				t.Fatalf("%s: restored anew to %x", im.name, sum(s))
			}
		}
		must(t, s.Close())
	}
	t.Log(len(images), "images:", count)
	if count["former"] == 0 || count["put back"] == 0 || count["new"] == 0 {
		t.Fatalf("not all cases were met: %v", count)
	}
}
