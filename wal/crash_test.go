package wal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// crasher runs groups side by side on one log and copies the crashable file system at random calls of it, from within
// the call. It notes which calls of the log were acknowledged at that moment and which were under way.
type crasher struct {
	mem      *vfs.MemFS
	unsynced int

	mu      sync.Mutex
	rng     *rand.Rand
	acked   []*model
	pending []*op
	after   int // calls until the crash
	crash   *crashed
}

type crashed struct {
	fs      *vfs.MemFS
	at      string
	acked   []*model
	pending []*op
}

// step is called before each operation of the file system.
func (c *crasher) step(o errorfs.Op) error {
	if o.Kind.ReadOrWrite() == errorfs.OpIsRead {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.after--; c.after != 0 {
		return nil
	}
	c.crash = &crashed{at: fmt.Sprintf("op %d on %s", o.Kind, o.Path), pending: append([]*op(nil), c.pending...)}
	for _, m := range c.acked {
		c.crash.acked = append(c.crash.acked, m.clone())
	}
	c.crash.fs = c.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: c.unsynced, RNG: c.rng})
	return nil
}

func (c *crasher) crashedYet() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.crash != nil
}

func (c *crasher) run(l *Log, id int, rng *rand.Rand) error {
	for !c.crashedYet() {
		c.mu.Lock()
		o := randomOp(rng, c.acked[id], uint64(id))
		c.pending[id] = &o
		c.mu.Unlock()
		if err := o.call(l, l.Group(uint64(id))); err != nil {
			return fmt.Errorf("group %d: %s: %w", id, o.name, err)
		}
		c.mu.Lock()
		for _, s := range o.steps {
			s(c.acked[id])
		}
		c.pending[id] = nil
		c.mu.Unlock()
	}
	return nil
}

// survivors finds how many steps of the call under way have survived: any number of them, in their order.
func (x *crashed) survivors(id int, g *Group) (*model, error) {
	m := x.acked[id].clone()
	d := m.differs(g)
	if d == "" || x.pending[id] == nil {
		return m, asError(d, "nothing was under way")
	}
	for _, s := range x.pending[id].steps {
		s(m)
		if m.differs(g) == "" {
			return m, nil
		}
	}
	return nil, asError(d, "under way: "+x.pending[id].name)
}

func asError(differs, note string) error {
	if differs == "" {
		return nil
	}
	return fmt.Errorf("%s (%s)", differs, note)
}

// TestCrash: after every crash, everything acknowledged is there, what was not acknowledged is there as a prefix of its
// call or not at all, what was made void never comes back, and what Open shows is durable itself.
func TestCrash(t *testing.T) {
	base := seed(t)
	for _, unsynced := range []int{0, 30, 70, 100} {
		for run := range uint64(6) {
			t.Run(fmt.Sprintf("unsynced=%d/%d", unsynced, run), func(t *testing.T) {
				t.Parallel()
				crashRun(t, newRand(base, uint64(unsynced)<<32|run), unsynced, func(fs vfs.FS) vfs.FS { return fs })
			})
		}
	}
}

// crashRun opens the log through what over makes of the disk.
func crashRun(t *testing.T, rng *rand.Rand, unsynced int, over func(vfs.FS) vfs.FS) {
	const groups = 3
	fs := vfs.NewCrashableMem()
	models := make([]*model, groups)
	for id := range models {
		models[id] = newModel()
	}
	for round := range 25 {
		c := &crasher{mem: fs, unsynced: unsynced, rng: newRand(rng.Uint64(), 1), acked: models,
			pending: make([]*op, groups), after: 1 + rng.IntN(120)}
		disk := over(errorfs.Wrap(fs, errorfs.InjectorFunc(c.step)))
		l, err := Open(context.Background(), options(disk, func(o *Options) {
			o.SegmentBytes = 2<<10 + rng.Int64N(30<<10)
		}))
		if err != nil {
			t.Fatalf("round %d: open: %v", round, err)
		}
		for id, m := range models {
			if d := m.differs(l.Group(uint64(id))); d != "" {
				t.Fatalf("round %d: group %d: %s", round, id, d)
			}
		}
		var wg sync.WaitGroup
		errs := make([]error, groups)
		for id := range groups {
			r := newRand(rng.Uint64(), 2)
			wg.Go(func() { errs[id] = c.run(l, id, r) })
		}
		wg.Wait()
		for _, err := range errs {
			check(t, err)
		}
		check(t, l.Close())
		x := c.crash

		// What the first Open after the crash shows must itself survive a crash that keeps nothing unsynced.
		probe, err := Open(context.Background(), options(over(x.fs)))
		if err != nil {
			t.Fatalf("round %d: open after a crash before %s: %v", round, x.at, err)
		}
		fs = x.fs.CrashClone(vfs.CrashCloneCfg{})
		models = make([]*model, groups)
		for id := range groups {
			if models[id], err = x.survivors(id, probe.Group(uint64(id))); err != nil {
				t.Fatalf("round %d: crash before %s: group %d: %v", round, x.at, id, err)
			}
		}
		check(t, probe.Close())
	}
}
