package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// disk is a node's disk: it outlives the processes that use it. Every process gets a file system of its own over the
// same memory, through which faults reach it; a crash replaces the memory by what survives.
type disk struct {
	rng *lockedRand

	mu       sync.Mutex
	mem      *vfs.MemFS
	syncs    time.Duration // a sync of the log takes up to this much longer; see doc.go
	stuck    chan struct{} // a sync of the log takes until it is closed
	full     bool          // writes have no room
	failSync int           // how many syncs are still to fail
	crashIn  int           // how many write operations from now crash is called; 0: never
	crash    func()
	writes   int
	failed   bool // a write or a sync has failed: the process that saw it may end itself
}

func newDisk(rng *lockedRand) *disk { return &disk{rng: rng, mem: vfs.NewCrashableMem()} }

// process is one process's view of the disk.
type process struct {
	d    *disk
	gate *gate
}

// open returns the file system for a new process.
func (d *disk) open(g *gate) vfs.FS {
	d.mu.Lock()
	defer d.mu.Unlock()
	return errorfs.Wrap(d.mem, &process{d: d, gate: g})
}

// memory is what is on the disk, past all faults.
func (d *disk) memory() vfs.FS {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mem
}

// String implements errorfs.Injector.
func (p *process) String() string { return "the simulated disk" }

// MaybeError implements errorfs.Injector: it is called before every operation.
func (p *process) MaybeError(op errorfs.Op) error {
	if p.gate.dead() {
		return nil // a dead process may do to its former memory what it likes
	}
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	d := p.d
	d.mu.Lock()
	d.writes++
	var crash func()
	if d.crashIn > 0 {
		if d.crashIn--; d.crashIn == 0 {
			crash, d.crash = d.crash, nil
		}
	}
	var wait time.Duration
	var log bool
	var err error
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		if log = strings.Contains(op.Path, "wal/"); log {
			wait = d.rng.between(0, d.syncs)
		}
		if d.failSync > 0 {
			d.failSync--
			err = syscall.EIO
		}
	case errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpCreate, errorfs.OpMkdirAll:
		if d.full {
			err = syscall.ENOSPC
		}
	}
	d.failed = d.failed || err != nil
	d.mu.Unlock()
	if crash != nil {
		crash()
		return nil
	}
	if wait > 0 {
		time.Sleep(wait)
	}
	if log {
		d.pass()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", op.Path, err)
	}
	return nil
}

// pass returns when no sync is stuck.
func (d *disk) pass() {
	for {
		d.mu.Lock()
		stuck := d.stuck
		d.mu.Unlock()
		if stuck == nil {
			return
		}
		<-stuck
	}
}

// lose is a loss of power: of what was not synced, the given percentage of blocks and names survives, in any order.
func (d *disk) lose(percent int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crashIn, d.crash, d.failed = 0, nil, false
	d.rng.with(func(r *rand.Rand) {
		d.mem = d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: r})
	})
}

// wipe replaces the disk by an empty one.
func (d *disk) wipe() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mem, d.crashIn, d.crash, d.failed = vfs.NewCrashableMem(), 0, nil, false
}

// stick keeps every sync of the log from returning until release is called.
func (d *disk) stick() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	stuck := make(chan struct{})
	d.stuck = stuck
	return func() {
		d.set(func(d *disk) {
			if d.stuck == stuck { // otherwise it belongs to a later call
				d.stuck = nil
			}
		})
		close(stuck)
	}
}

func (d *disk) set(f func(d *disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(d)
}

// crashAfter calls f at the n-th write operation from now, before it is done.
func (d *disk) crashAfter(n int, f func()) {
	d.set(func(d *disk) { d.crashIn, d.crash = n, f })
}

func (d *disk) hasFailed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// flip changes one bit of a file that wanted accepts, while no process runs. It returns the file, "" if there is none.
func (d *disk) flip(dir string, wanted func(name string, newest bool) bool) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	names, err := d.mem.List(dir)
	if err != nil {
		return "", nil // no such folder yet
	}
	newest := ""
	for _, n := range names {
		if strings.HasSuffix(n, ".wal") && n > newest {
			newest = n
		}
	}
	var found []string
	for _, n := range names {
		if wanted(n, n == newest) {
			found = append(found, n)
		}
	}
	if len(found) == 0 {
		return "", nil
	}
	name := path.Join(dir, found[d.rng.IntN(len(found))])
	f, err := d.mem.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return "", err
	}
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return "", errors.Join(err, f.Close())
	}
	at := d.rng.Int64N(info.Size())
	b := make([]byte, 1)
	if _, err = f.ReadAt(b, at); err == nil {
		b[0] ^= 1 << d.rng.IntN(8)
		_, err = f.WriteAt(b, at)
	}
	return fmt.Sprintf("%s at %d of %d", name, at, info.Size()), errors.Join(err, f.Sync(), f.Close())
}

// lockedRand is the run's randomness, shared by its goroutines.
type lockedRand struct {
	mu sync.Mutex
	r  *rand.Rand
}

func newLockedRand(seed, stream uint64) *lockedRand {
	return &lockedRand{r: rand.New(rand.NewPCG(seed, stream))}
}

func (l *lockedRand) with(f func(*rand.Rand)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l.r)
}

// IntN draws from [0, n).
func (l *lockedRand) IntN(n int) (v int) { l.with(func(r *rand.Rand) { v = r.IntN(n) }); return v }

// Int64N draws from [0, n).
func (l *lockedRand) Int64N(n int64) (v int64) {
	l.with(func(r *rand.Rand) { v = r.Int64N(n) })
	return v
}

// Float64 draws from [0, 1).
func (l *lockedRand) Float64() (v float64) { l.with(func(r *rand.Rand) { v = r.Float64() }); return v }

// between draws a duration.
func (l *lockedRand) between(a, b time.Duration) time.Duration {
	return a + time.Duration(l.Int64N(int64(b-a)+1))
}

// gate is passed by the calls of a process: it is shut while the process is paused, and ends with the process.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // nil: open; closed when it opens
	end  chan struct{} // closed when the process is dead
	once sync.Once
}

func newGate() *gate { return &gate{end: make(chan struct{})} }

func (g *gate) pause() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == nil {
		g.shut = make(chan struct{})
	}
}

func (g *gate) resume() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}

func (g *gate) kill() { g.once.Do(func() { close(g.end) }) }

func (g *gate) dead() bool {
	select {
	case <-g.end:
		return true
	default:
		return false
	}
}

// wait returns when the process is not paused, or dead, or when ctx ends.
func (g *gate) wait(ctx context.Context) {
	for {
		g.mu.Lock()
		shut := g.shut
		g.mu.Unlock()
		if shut == nil {
			return
		}
		select {
		case <-shut:
		case <-g.end:
			return
		case <-ctx.Done():
			return
		}
	}
}
