package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"

	"deckle/cipherfs/cipherfstest"
	"deckle/schema/level"
)

// crashImages keeps, before every operation that writes, what would be on disk if the process were killed or the power
// cut there.
type crashImages struct {
	mem *vfs.MemFS

	mu     sync.Mutex
	on     bool
	images []crashImage
	err    error
}

type crashImage struct {
	name string
	fs   *vfs.MemFS
}

func (c *crashImages) String() string { return "crash images" }

func (c *crashImages) MaybeError(op errorfs.Op) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.on && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
		c.note(fmt.Sprintf("%d, before kind %d on %s", len(c.images), op.Kind, op.Path))
	}
	return nil
}

func (c *crashImages) note(at string) {
	killed := vfs.NewCrashableMem()
	_, err := vfs.Clone(c.mem, killed, "", "", vfs.CloneSync)
	c.err = errors.Join(c.err, err)
	half := vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(rand.Uint64(), 1))}
	c.images = append(c.images,
		crashImage{"process killed, " + at, killed},
		crashImage{"power cut, " + at, c.mem.CrashClone(vfs.CrashCloneCfg{})},
		crashImage{"power cut, half is kept, " + at, c.mem.CrashClone(half)},
	)
}

// A complete snapshot is taken over, and the process ends at any of the operations on the file system: the next start
// finishes the takeover.
func TestTakeOverInterruptedAnywhere(t *testing.T) {
	const have, get = 3, 9
	mem := vfs.NewCrashableMem()
	crash := &crashImages{mem: mem}
	s, sm, l, done := openParts(t, errorfs.Wrap(mem, crash))
	for i := range uint64(have) {
		e := &raft.Log{Index: i + 1, Term: 1, Data: []byte("x")}
		if err := l.inner.StoreLog(e); err != nil {
			t.Fatal(err)
		}
		if _, err := sm.Apply(e.Index, e.Term, e.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(sm.Checkpoint(context.Background()), receive(s, get)); err != nil {
		t.Fatal(err)
	}
	crash.on = true
	if _, err := s.takeOver(sm, l); err != nil {
		t.Fatal(err)
	}
	crash.note("after all")
	crash.on = false
	done()
	if crash.err != nil {
		t.Fatal(crash.err)
	}
	var between, again, before int
	for _, im := range crash.images {
		if _, err := im.fs.Stat("d/shard-0"); errors.Is(err, fs.ErrNotExist) {
			between++
		}
		s, sm, l, done := openParts(t, im.fs)
		if sm.image().Count == have {
			before++
		}
		if ok, _ := exists(im.fs, s.stagedMeta()); ok {
			again++
		}
		if err := errors.Join(s.finish(sm, l), checkPromises(sm, l, s.marker(), 0)); err != nil {
			t.Fatalf("%s: %v", im.name, err)
		}
		if last, _ := l.LastIndex(); sm.image().Count != get || s.marker().Index != get+2 || last != 0 {
			t.Fatalf("%s: state %+v, marker %+v, log up to %d", im.name, sm.image(), s.marker(), last)
		}
		for _, left := range []string{s.stagedDir(), "d/shard-0.old"} {
			if ok, _ := exists(im.fs, left); ok {
				t.Fatalf("%s: %s is still there", im.name, left)
			}
		}
		done()
	}
	t.Logf("%d images: %d to finish, %d of them with the former state, %d between the renames",
		len(crash.images), again, before, between)
	if between == 0 || before == 0 || again == 0 || again == len(crash.images) {
		t.Fatal("not all cases were met")
	}
}

// A snapshot was taken over, by a rename, and neither it nor the former state can be found: this member has lost what
// it promised, and rejoins by itself.
func TestLostSnapshotIsDamage(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	for range 20 {
		c.put(0, 100)
	}
	have := c.agree(0, c.all()...)
	former := c.nodes[2].store.self.serverID()
	c.stop(2)
	fsys := c.nodes[2].fs
	s, err := newSnapshots(fsys, "data/snapshots", 0, level.Current)
	if err == nil {
		err = receive(s, 100)
	}
	if err == nil {
		err = fsys.RemoveAll(s.stagedFiles())
	}
	if err != nil {
		t.Fatal(err)
	}
	c.start(2)
	c.ready(2)
	if got := c.nodes[2].store.self.serverID(); got == former {
		t.Fatalf("came back as %s without what it had taken over", got)
	}
	c.put(0, 10)
	if got := c.agree(0, c.all()...); got.Count <= have.Count {
		t.Fatalf("count %d after %d", got.Count, have.Count)
	}

	t.Run("of a single node", func(t *testing.T) {
		c := newCluster(t, 1, 1, nil)
		c.start(0)
		c.ready(0)
		c.put(0, 10)
		c.stop(0)
		s, err := newSnapshots(cipherfstest.Over(c.nodes[0].fs), "data/snapshots", 0, level.Current)
		if err == nil {
			err = errors.Join(receive(s, 100), c.nodes[0].fs.RemoveAll(s.stagedFiles()))
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.open(0); !errors.Is(err, ErrDamaged) {
			t.Fatalf("open gave %v", err)
		}
	})
}
