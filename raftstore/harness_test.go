package raftstore

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"deckle/cipherfs/cipherfstest"
	"deckle/schema/level"
	testnet "deckle/sim/testworld/network"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeState is a state machine that keeps a count and a hash chain of what it applied, so that two are equal exactly if
// they applied the same entries in the same order. It is durable where Checkpoint wrote it.
type fakeState struct {
	fs  vfs.FS
	dir string

	mu      sync.Mutex
	st      fakeImage
	durable uint64
	failAt  uint64 // Apply fails at this index
	reads   uint32 // the level of its binary
	closed  bool

	snapTime time.Duration
}

type fakeImage struct {
	Index, Term, Count, Hash uint64
	Level                    uint32 `json:",omitempty"`
}

// levelEntry is an entry that raises the level of a fakeState's group.
func levelEntry(to byte) []byte { return []byte{0xff, 'L', to} }

// newerError is what a fakeState says of what is above its level.
type newerError struct{ level uint32 }

func (e newerError) Error() string { return fmt.Sprintf("fake: level %d is needed", e.level) }
func (e newerError) TooNew() bool  { return true }

// fakeFiller makes a snapshot large enough to be more than one write.
const fakeFiller = 300 << 10

func openFake(fsys vfs.FS, dir string) (*fakeState, error) {
	f := &fakeState{fs: fsys, dir: dir, reads: uint32(level.Current), snapTime: 20 * time.Millisecond}
	if err := f.settle(); err != nil {
		return nil, err
	}
	if err := makeDir(fsys, dir); err != nil {
		return nil, err
	}
	p := fsys.PathJoin(dir, "state")
	if ok, err := exists(fsys, p); err != nil || !ok {
		return f, err
	}
	if err := readSealed(fsys, p, &f.st); err != nil {
		return nil, err
	}
	f.durable = f.st.Index
	return f, nil
}

func (f *fakeState) Apply(index, term uint64, entry []byte) (any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if index <= f.st.Index {
		return nil, nil
	}
	if f.failAt > 0 && index >= f.failAt {
		return nil, errors.New("fake: apply fails")
	}
	after := f.st.Level
	if len(entry) == 3 && entry[0] == 0xff && entry[1] == 'L' {
		after = uint32(entry[2])
	}
	if after > f.reads {
		return nil, fmt.Errorf("fake: apply: %w", newerError{after})
	}
	h := fnv.New64a()
	var b [24]byte
	binary.BigEndian.PutUint64(b[:], f.st.Hash)
	binary.BigEndian.PutUint64(b[8:], index)
	binary.BigEndian.PutUint64(b[16:], term)
	h.Write(b[:])
	h.Write(entry)
	f.st = fakeImage{index, term, f.st.Count + 1, h.Sum64(), after}
	return f.st.Count, nil
}

func (f *fakeState) image() fakeImage {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.st
}

func (f *fakeState) Applied() (uint64, uint64) {
	st := f.image()
	return st.Index, st.Term
}

func (f *fakeState) Level() uint32 { return f.image().Level }

func (f *fakeState) Durable() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.durable
}

func (f *fakeState) Checkpoint(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.durable == f.st.Index {
		return nil
	}
	if err := writeSealed(f.fs, f.fs.PathJoin(f.dir, "state"), f.st); err != nil {
		return err
	}
	f.durable = f.st.Index
	return nil
}

func (f *fakeState) Snapshot(dir string) (uint64, uint64, error) {
	before := f.image()
	time.Sleep(f.snapTime) // Apply goes on: the copy may be younger than it is said to be
	st := f.image()
	if err := f.fs.MkdirAll(f.fs.PathJoin(dir, "sub"), 0o755); err != nil {
		return 0, 0, err
	}
	if err := writeFile(f.fs, f.fs.PathJoin(dir, "sub", "filler"), make([]byte, fakeFiller)); err != nil {
		return 0, 0, err
	}
	return before.Index, before.Term, writeSealed(f.fs, f.fs.PathJoin(dir, "state"), st)
}

func (f *fakeState) Restore(dir string) error {
	var st fakeImage
	if err := readSealed(f.fs, f.fs.PathJoin(dir, "state"), &st); err != nil {
		return err
	}
	if fi, err := f.fs.Stat(f.fs.PathJoin(dir, "sub", "filler")); err != nil || fi.Size() != fakeFiller {
		return fmt.Errorf("fake: filler: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := errors.Join(f.fs.Rename(f.dir, f.dir+".old"), f.fs.Rename(dir, f.dir), f.settle()); err != nil {
		return err
	}
	f.st, f.durable = st, st.Index
	return nil
}

// settle finishes a Restore as the real state machine does: it renames the folders.
func (f *fakeState) settle() error {
	if ok, err := exists(f.fs, f.dir+".old"); err != nil || !ok {
		return err
	}
	ok, err := exists(f.fs, f.dir)
	if err == nil && !ok {
		err = f.fs.Rename(f.dir+".old", f.dir)
	}
	if err == nil {
		err = syncDir(f.fs, f.fs.PathDir(f.dir))
	}
	if err == nil && ok {
		err = f.fs.RemoveAll(f.dir + ".old")
	}
	return err
}

func (f *fakeState) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

// cluster is a few nodes in one process, each on a crashable file system, over loopback TCP.
type cluster struct {
	t      *testing.T
	peers  []Peer
	nodes  []*node
	shards int
	tune   func(i int, o *Options)
	sent   atomic.Uint64
	again  atomic.Uint64 // puts that were made once more, since what had become of them was uncertain
}

type node struct {
	i     int
	fs    *vfs.MemFS
	store *Store
	fatal chan error
}

var testTimings = Timings{
	Heartbeat: 100 * time.Millisecond, Election: 300 * time.Millisecond, Lease: 100 * time.Millisecond,
	Commit: 20 * time.Millisecond, Transport: 600 * time.Millisecond, StoreDeadline: 2 * time.Second,
}

func newCluster(t *testing.T, n, shards int, tune func(i int, o *Options)) *cluster {
	t.Helper()
	c := &cluster{t: t, shards: shards, tune: tune}
	for i := range n {
		ln, err := testnet.Listen()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ln.Close() }() // not before all have one, or two may be given the same port
		c.peers = append(c.peers, Peer{Name: string(rune('a' + i)), Addr: ln.Addr().String()})
		c.nodes = append(c.nodes, &node{i: i, fs: vfs.NewCrashableMem()})
	}
	t.Cleanup(func() {
		for i := range c.nodes {
			c.stop(i)
		}
	})
	return c
}

func testLogger(t *testing.T) *slog.Logger {
	if os.Getenv("RAFTSTORE_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (c *cluster) open(i int) (*Store, error) {
	n := c.nodes[i]
	n.fatal = make(chan error, 1)
	fsys := cipherfstest.Over(n.fs)
	o := Options{
		FS: fsys, Dir: "data", Name: c.peers[i].Name, Nodes: c.peers, Shards: c.shards, Timings: testTimings,
		LogBytes: 1 << 20, Logger: testLogger(c.t), OnFatal: func(err error) { n.fatal <- err },
		Rand: rand.Uint64,
	}
	if c.tune != nil {
		c.tune(i, &o)
	}
	if o.NewStateMachine == nil {
		base, reads := o.FS, cmp.Or(o.Level, uint32(level.Current))
		o.NewStateMachine = func(_ context.Context, _ uint32, dir string, _ func(error)) (StateMachine, error) {
			f, err := openFake(base, dir)
			if err == nil {
				if f.reads = reads; f.Level() > reads {
					err = newerError{f.Level()}
				}
			}
			return f, err
		}
	}
	return Open(context.Background(), o)
}

func (c *cluster) start(is ...int) {
	c.t.Helper()
	for _, i := range is {
		s, err := c.open(i)
		if err != nil {
			c.t.Fatalf("open %s: %v", c.peers[i].Name, err)
		}
		c.nodes[i].store = s
	}
}

func (c *cluster) all() []int {
	is := make([]int, len(c.nodes))
	for i := range is {
		is[i] = i
	}
	return is
}

// stop ends a node at once, without handing over its leaderships.
func (c *cluster) stop(i int) {
	c.t.Helper()
	if s := c.nodes[i].store; s != nil {
		c.nodes[i].store = nil
		if err := s.shut(); err != nil {
			c.t.Errorf("stop %s: %v", c.peers[i].Name, err)
		}
	}
}

// kill cuts a node's power: what was not synced is lost.
func (c *cluster) kill(i int) {
	c.t.Helper()
	after := c.nodes[i].fs.CrashClone(vfs.CrashCloneCfg{})
	c.stop(i)
	c.nodes[i].fs = after
}

func (c *cluster) wipe(i int) {
	c.stop(i)
	c.nodes[i].fs = vfs.NewCrashableMem()
}

// eventually waits for a condition, as long as an overloaded machine may take.
func (c *cluster) eventually(what string, cond func() bool) {
	c.t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			for _, n := range c.nodes {
				if n.store != nil {
					c.t.Logf("%+v", n.store.Status())
				}
			}
			c.t.Fatalf("never: %s", what)
		}
	}
}

func (c *cluster) ready(is ...int) {
	c.t.Helper()
	for _, i := range is {
		c.eventually(c.peers[i].Name+" is ready", func() bool {
			select {
			case <-c.nodes[i].store.Ready():
				return true
			default:
				return false
			}
		})
	}
}

// leader returns the node that leads the shard.
func (c *cluster) leader(shard uint32) int {
	c.t.Helper()
	at := -1
	c.eventually(fmt.Sprintf("shard %d has a leader", shard), func() bool {
		for i, n := range c.nodes {
			if n.store != nil {
				if g := n.store.Group(shard); g != nil && g.IsLeader() {
					at = i
					return true
				}
			}
		}
		return false
	})
	return at
}

// put commits one entry through the node that leads, and repeats it until it is certainly committed.
func (c *cluster) put(shard uint32, size int) Result {
	c.t.Helper()
	entry := make([]byte, max(size, 8))
	binary.BigEndian.PutUint64(entry, c.sent.Add(1))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		for _, n := range c.nodes {
			if n.store == nil {
				continue
			}
			g := n.store.Group(shard)
			if g == nil || !g.IsLeader() {
				continue
			}
			res, err := g.Propose(entry).Wait(ctx)
			if err == nil {
				return res
			}
			if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrUncertain) {
				c.t.Fatalf("propose: %v", err)
			}
			if errors.Is(err, ErrUncertain) {
				c.again.Add(1)
			}
		}
		if ctx.Err() != nil {
			c.t.Fatalf("nothing could be committed to shard %d", shard)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (c *cluster) image(i int, shard uint32) fakeImage {
	return c.nodes[i].store.groups[shard].sm.(interface{ image() fakeImage }).image()
}

// agree waits until the nodes have applied the same entries, and returns their state.
func (c *cluster) agree(shard uint32, is ...int) fakeImage {
	c.t.Helper()
	var images []fakeImage
	c.eventually(fmt.Sprintf("nodes %v agree on shard %d", is, shard), func() bool {
		images = images[:0]
		for _, i := range is {
			images = append(images, c.image(i, shard))
		}
		return len(slices.Compact(images)) == 1
	})
	return images[0]
}

// others returns every node but i.
func (c *cluster) others(i int) []int {
	return slices.DeleteFunc(c.all(), func(k int) bool { return k == i })
}

func (c *cluster) config(i int, shard uint32) []string {
	var ids []string
	for _, s := range c.nodes[i].store.groups[shard].run.configuration().Servers {
		ids = append(ids, string(s.ID)+" "+s.Suffrage.String())
	}
	slices.Sort(ids)
	return ids
}

// raise commits an entry that raises the level of a shard's group, through the node that leads.
func (c *cluster) raise(shard uint32) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c.eventually("the level has risen", func() bool {
		g := c.nodes[c.leader(shard)].store.Group(shard)
		_, err := g.Propose(levelEntry(byte(level.Real))).Wait(ctx)
		return err == nil
	})
}

// alive fails the test if a node has met a fatal error.
func (c *cluster) alive(is ...int) {
	c.t.Helper()
	for _, i := range is {
		select {
		case err := <-c.nodes[i].fatal:
			c.t.Fatalf("%s: fatal: %v", c.peers[i].Name, err)
		default:
		}
	}
}
