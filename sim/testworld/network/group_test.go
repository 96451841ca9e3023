package network

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/raftstore"
)

var minutes = flag.Int("minutes", 10, "virtual minutes of TestGroupOverTheNetwork")

// counter is a state machine: a count, a sum and a hash chain of all entries. Two are equal exactly if they have
// applied the same entries in the same order.
type counter struct {
	fs  vfs.FS
	dir string

	mu      sync.Mutex
	st      counterState
	durable uint64
}

type counterState struct{ Index, Term, Count, Hash uint64 }

func openCounter(fs vfs.FS, dir string) (*counter, error) {
	c := &counter{fs: fs, dir: dir}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if _, err := fs.Stat(fs.PathJoin(dir, "state")); err != nil {
		return c, nil
	}
	err := c.load(dir)
	return c, err
}

func (c *counter) load(dir string) error {
	f, err := c.fs.Open(c.fs.PathJoin(dir, "state"))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := binary.Read(f, binary.BigEndian, &c.st); err != nil {
		return err
	}
	c.durable = c.st.Index
	return nil
}

// save writes the state durably: no process of this test loses its power, but a snapshot must be whole.
func (c *counter) save(dir string) error {
	if err := c.fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := c.fs.Create(c.fs.PathJoin(dir, "state"), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	return errors.Join(binary.Write(f, binary.BigEndian, c.st), f.Sync(), f.Close())
}

func (c *counter) Apply(index, term uint64, entry []byte) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if index <= c.st.Index {
		return nil, nil
	}
	h := fnv.New64a()
	if err := binary.Write(h, binary.BigEndian, []uint64{c.st.Hash, index, term}); err != nil {
		return nil, err
	}
	h.Write(entry)
	c.st = counterState{index, term, c.st.Count + 1, h.Sum64()}
	return c.st.Count, nil
}

func (c *counter) state() counterState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.st
}

func (c *counter) Applied() (uint64, uint64) { st := c.state(); return st.Index, st.Term }

func (c *counter) Level() uint32 { return 1 }

func (c *counter) Durable() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.durable
}

func (c *counter) Checkpoint(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.save(c.dir); err != nil {
		return err
	}
	c.durable = c.st.Index
	return nil
}

func (c *counter) Snapshot(dir string) (uint64, uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.st.Index, c.st.Term, c.save(dir)
}

func (c *counter) Restore(dir string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.load(dir); err != nil {
		return err
	}
	return errors.Join(c.save(c.dir), c.fs.RemoveAll(dir))
}

func (c *counter) Close() error { return nil }

// trio is three stores over a network.
type trio struct {
	t     *testing.T
	n     *Network
	relay *Relay
	names []string
	fs    []*vfs.MemFS
	tune  func(*raftstore.Options) // optional

	mu     sync.Mutex
	stores []*raftstore.Store
}

func (c *trio) store(i int) *raftstore.Store {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stores[i]
}

func newTrio(t *testing.T, n *Network, shards int) *trio { return newTunedTrio(t, n, shards, nil) }

func newTunedTrio(t *testing.T, n *Network, shards int, tune func(*raftstore.Options)) *trio {
	c := &trio{t: t, n: n, relay: NewRelay(n, drawer(6)), names: []string{"a", "b", "c"}, tune: tune}
	for i := range c.names {
		c.fs = append(c.fs, vfs.NewMem())
		c.stores = append(c.stores, nil)
		c.open(i, shards)
	}
	return c
}

func (c *trio) open(i, shards int) {
	c.t.Helper()
	var peers []raftstore.Peer
	for _, p := range c.names {
		peers = append(peers, raftstore.Peer{Name: p, Addr: p + ":7946"})
	}
	name := c.names[i]
	p := c.n.Process(name)
	ln, err := p.Listen(peers[i].Addr)
	if err != nil {
		c.t.Fatal(err)
	}
	o := raftstore.Options{
		FS: c.fs[i], Dir: "data", Name: name, Nodes: peers, Listener: ln, Shards: shards, LogBytes: 64 << 10,
		Rand: rand.Uint64,
		Dial: func(ctx context.Context, addr string) (net.Conn, error) { return c.relay.Dial(ctx, name, addr, p.Dial) },
		NewStateMachine: func(_ context.Context, _ uint32, dir string, _ func(error)) (raftstore.StateMachine, error) {
			return openCounter(c.fs[i], dir)
		},
		OnFatal: func(err error) { c.t.Errorf("%s: %v", name, err) },
	}
	if c.tune != nil {
		c.tune(&o)
	}
	s, err := raftstore.Open(context.Background(), o)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stores[i] = s
}

func (c *trio) close() {
	var wg sync.WaitGroup
	for i := range c.names {
		s := c.store(i)
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := s.Close(ctx); err != nil && ctx.Err() == nil {
				c.t.Error(err)
			}
		})
	}
	wg.Wait()
	c.n.Close()
}

func (c *trio) state(i int, shard uint32) counterState {
	return c.store(i).Group(shard).StateMachine().(*counter).state()
}

// load proposes entries until ctx ends, and returns how many were acknowledged.
func (c *trio) load(ctx context.Context, shard uint32) (acked uint64) {
	for k := uint64(0); ctx.Err() == nil; k++ {
		for i := range c.names {
			g := c.store(i).Group(shard)
			if g == nil || !g.IsLeader() {
				continue
			}
			if _, err := g.Propose(binary.BigEndian.AppendUint64(make([]byte, 100), k)).Wait(ctx); err == nil {
				acked++
			}
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return acked
}

// ready waits until every node is, and every shard has been led.
func (c *trio) ready() {
	c.t.Helper()
	for i := range c.names {
		s := c.store(i)
		select {
		case <-s.Ready():
		case <-time.After(2 * time.Minute):
			c.t.Fatalf("%s is not ready after two minutes: %+v", c.names[i], s.Status())
		}
	}
}

// TestGroupOverTheNetwork: three nodes with two shards, for ten virtual minutes of cuts in every shape, delays,
// resets, pauses and repeated requests. The replicas reach the same state, and nothing that was acknowledged is
// missing in it.
func TestGroupOverTheNetwork(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	if testing.Short() {
		*minutes = min(*minutes, 3)
	}
	began := time.Now()
	var virtual time.Duration
	var repeated int
	bubble(t, func(t *testing.T, n *Network) {
		const shards = 2
		start := time.Now()
		c := newTrio(t, n, shards)
		defer c.close()
		c.ready()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var acked [shards]uint64
		var load sync.WaitGroup
		for shard := range acked {
			load.Go(func() { acked[shard] = c.load(ctx, uint32(shard)) })
		}
		c.relay.Repeat(0.2, 3*time.Second)
		rng := rand.New(rand.NewPCG(seed, 7))
		for time.Since(start) < time.Duration(*minutes)*time.Minute {
			heal := c.fault(rng)
			time.Sleep(time.Duration(rng.Int64N(int64(8 * time.Second))))
			heal()
			time.Sleep(time.Duration(rng.Int64N(int64(6 * time.Second))))
		}
		cancel()
		load.Wait()
		c.relay.Repeat(0, 0)
		time.Sleep(30 * time.Second)
		for shard := range uint32(shards) {
			var all []counterState
			for i := range c.names {
				all = append(all, c.state(i, shard))
			}
			if len(slices.Compact(slices.Clone(all))) != 1 {
				t.Errorf("shard %d: %+v", shard, all)
			}
			if k := all[0].Count; k < acked[shard] || acked[shard] < 25*uint64(*minutes) {
				t.Errorf("shard %d: %d entries applied, %d acknowledged", shard, k, acked[shard])
			}
		}
		t.Logf("acknowledged: %v, repeated: %d", acked, c.relay.Repeated())
		virtual, repeated = time.Since(start), c.relay.Repeated()
	})
	t.Logf("%s of virtual time in %s", virtual.Round(time.Second), time.Since(began).Round(time.Millisecond))
	if repeated < 100 {
		t.Errorf("%d requests were repeated", repeated)
	}
}

// fault begins a fault and returns what ends it.
func (c *trio) fault(rng *rand.Rand) (heal func()) {
	n := c.n
	k := rng.Perm(3)
	x, y, z := c.names[k[0]], c.names[k[1]], c.names[k[2]]
	both := func(do func(a, b string), a, b string) { do(a, b); do(b, a) }
	switch rng.IntN(7) {
	case 0: // one way
		n.Cut(x, y)
		return func() { n.Heal(x, y) }
	case 1: // one of the three alone
		both(n.Cut, x, y)
		both(n.Cut, x, z)
		return func() { both(n.Heal, x, y); both(n.Heal, x, z) }
	case 2: // a bridge: z reaches both
		both(n.Cut, x, y)
		return func() { both(n.Heal, x, y) }
	case 3: // it receives, and nothing that it sends arrives
		n.Cut(x, y)
		n.Cut(x, z)
		return func() { n.Heal(x, y); n.Heal(x, z) }
	case 4:
		for _, a := range c.names {
			for _, b := range c.names {
				n.Delay(a, b, time.Duration(rng.Int64N(int64(100*time.Millisecond))), 200*time.Millisecond)
			}
		}
		return func() {
			for _, a := range c.names {
				for _, b := range c.names {
					n.Delay(a, b, 0, 0)
				}
			}
		}
	case 5:
		n.Freeze(x)
		return func() { n.Thaw(x) }
	default:
		n.Reset(x, y)
		n.Reset(x, z)
		return func() {}
	}
}

// TestGroupAfterAKill: the process of a node ends with everything that it had open, and the next one takes its place.
func TestGroupAfterAKill(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		c := newTrio(t, n, 1)
		defer c.close()
		c.ready()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		var acked uint64
		var load sync.WaitGroup
		load.Go(func() { acked = c.load(ctx, 0) })
		time.Sleep(30 * time.Second)
		n.Kill("b")
		if err := c.store(1).Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		at := c.state(1, 0).Index
		time.Sleep(30 * time.Second)
		if c.state(1, 0).Index > at || c.state(0, 0).Index <= at {
			t.Errorf("the killed node has %+v, the others %+v; it had %d", c.state(1, 0), c.state(0, 0), at)
		}
		old := c.store(1)
		c.open(1, 1)
		if old == c.store(1) {
			t.Fatal("nothing was opened")
		}
		load.Wait()
		time.Sleep(10 * time.Second)
		if a, b := c.state(0, 0), c.state(1, 0); a != b || a.Count < acked || acked == 0 {
			t.Errorf("%+v and %+v, %d acknowledged", a, b, acked)
		}
	})
}

// TestGroupLeaderIsDeaf: a leader that is cut off in one direction loses its leadership to the others.
func TestGroupLeaderIsDeaf(t *testing.T) {
	for name, deaf := range map[string]bool{"hears nothing": true, "says nothing": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *Network) {
				c := newTrio(t, n, 1)
				defer c.close()
				c.ready()
				synctest.Wait()
				leader := c.leader(-1, 30*time.Second)
				for _, other := range c.names {
					if from, to := other, c.names[leader]; from != to {
						if !deaf {
							from, to = to, from
						}
						n.Cut(from, to)
						defer n.Heal(from, to)
					}
				}
				start := time.Now()
				next := c.leader(leader, 30*time.Second)
				t.Logf("%s leads instead of %s after %s", c.names[next], c.names[leader], time.Since(start))
				if c.store(leader).Group(0).IsLeader() {
					t.Error("the former leader still thinks that it leads")
				}
			})
		})
	}
}

// leader waits for a leader of shard 0 other than not.
func (c *trio) leader(not int, most time.Duration) int {
	c.t.Helper()
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for i := range c.names {
			if g := c.store(i).Group(0); i != not && g != nil && g.IsLeader() {
				return i
			}
		}
	}
	c.t.Fatalf("no leader after %s", most)
	return -1
}

// TestGroupFarNode: a node with a round trip of 200 ms to the others, which has missed 12,000 entries of 1 KiB, gets
// them at 2,000 a second at least, while the two others go on. The library goes on behind the last entry that its
// transport has sent: else it would send most of them again and again.
func TestGroupFarNode(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		c := newTunedTrio(t, n, 1, func(o *raftstore.Options) {
			o.LogBytes = 64 << 20 // the log is all that is sent: no snapshot
			o.Timings = raftstore.Timings{
				Heartbeat: time.Second, Election: time.Second, Lease: time.Second, Transport: 3 * time.Second,
			}
		})
		defer c.close()
		c.ready()
		leads := c.leader(-1, time.Minute)
		far := (leads + 1) % 3
		for i, name := range c.names {
			if i != far {
				n.Cut(name, c.names[far])
				n.Cut(c.names[far], name)
			}
		}
		const entries = 12000
		put := func(count int) {
			var last *raftstore.Future
			for range count {
				last = c.store(leads).Group(0).Propose(make([]byte, 1<<10))
			}
			if _, err := last.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		put(entries)
		if k := c.state(far, 0).Count; k > 100 {
			t.Fatalf("the node that is cut off has %d entries", k)
		}
		for i, name := range c.names {
			if i != far {
				n.Delay(name, c.names[far], 100*time.Millisecond, 0)
				n.Delay(c.names[far], name, 100*time.Millisecond, 0)
				n.Heal(name, c.names[far])
				n.Heal(c.names[far], name)
			}
		}
		for c.state(far, 0).Count < 1000 { // it has connected again
			time.Sleep(time.Millisecond)
		}
		began, from := time.Now(), c.state(far, 0).Count
		for c.state(far, 0).Count < entries {
			if time.Since(began) > time.Minute {
				t.Fatalf("%d entries after a minute", c.state(far, 0).Count)
			}
			time.Sleep(time.Millisecond)
		}
		rate := float64(entries-from) / time.Since(began).Seconds()
		t.Logf("%d entries in %v: %.0f per second", entries-from, time.Since(began), rate)
		if rate < 2000 {
			t.Errorf("%.0f entries per second over 200 ms", rate)
		}
		if leads != c.leader(-1, time.Second) {
			t.Error("the leader has changed")
		}
		put(100)
		time.Sleep(5 * time.Second)
		if a, b := c.state(leads, 0), c.state(far, 0); a != b {
			t.Errorf("leader %+v, far node %+v", a, b)
		}
	})
}
