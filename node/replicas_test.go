package node_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/raftstore"
	"deckle/sim/testworld/network"
	"deckle/state"
)

// replicas are three nodes of raftstore with the real state machine and log, each on a crashable file system and a
// network that can be cut.
type replicas struct {
	t       *testing.T
	peers   []raftstore.Peer
	members []*replica
	rng     *rand.Rand // of the test's goroutine

	mu    sync.Mutex
	acked map[int32]int64 // by partition: offsets below are acknowledged
}

type replica struct {
	name string
	fs   *vfs.MemFS
	// use keeps the store open while a test reads it.
	use   sync.RWMutex
	store *raftstore.Store
	fatal chan error

	mu    sync.Mutex
	cut   bool // no other node sees what the node does any more
	conns []net.Conn
}

// link registers a connection, or refuses it.
func (m *replica) link(c net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cut {
		_ = c.Close()
		return c, nil
	}
	m.conns = append(m.conns, c)
	return c, nil
}

// isolate cuts the node off the network for good: no other node learns what it does from here on.
func (m *replica) isolate() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cut = true
	for _, c := range m.conns {
		_ = c.Close()
	}
	m.conns = nil
}

func (m *replica) isolated() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cut
}

type cutListener struct {
	net.Listener
	m *replica
}

func (l cutListener) Accept() (net.Conn, error) { return l.m.link(l.Listener.Accept()) }

func newReplicas(t *testing.T, rng *rand.Rand) *replicas {
	r := &replicas{t: t, rng: rng, acked: map[int32]int64{}}
	for i := range 3 {
		ln, err := network.Listen()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ln.Close() }() // not before all have one, or two may be given the same port
		name := string(rune('a' + i))
		r.peers = append(r.peers, raftstore.Peer{Name: name, Addr: ln.Addr().String()})
		r.members = append(r.members, &replica{name: name, fs: vfs.NewCrashableMem()})
	}
	t.Cleanup(func() {
		for i := range r.members {
			r.end(i)
		}
	})
	return r
}

func (r *replicas) start(is ...int) {
	r.t.Helper()
	for _, i := range is {
		m := r.members[i]
		m.mu.Lock()
		m.cut, m.fatal = false, make(chan error, 1)
		m.mu.Unlock()
		ln, err := net.Listen("tcp", r.peers[i].Addr)
		if err != nil {
			r.t.Fatal(err)
		}
		fsys, fatal := m.fs, m.fatal
		o := raftstore.Options{
			FS: fsys, Dir: "data", Name: m.name, Nodes: r.peers, Listener: cutListener{ln, m}, Shards: 1,
			Dial: func(ctx context.Context, addr string) (net.Conn, error) {
				return m.link((&net.Dialer{}).DialContext(ctx, "tcp", addr))
			},
			// Replicas differ in everything that must not matter.
			NewStateMachine: func(
				ctx context.Context, _ uint32, dir string, fail func(error),
			) (raftstore.StateMachine, error) {
				return state.Open(ctx, state.Options{
					FS: fsys, Dir: dir, CheckpointBytes: []int64{0, 30 << 10, 200 << 10}[i],
					SessionMemoryBytes: []int64{0, 1, 100 << 10}[i],
					OnFatal:            fail,
				})
			},
			Timings: raftstore.Timings{Heartbeat: 100 * time.Millisecond, Election: 300 * time.Millisecond,
				Lease: 100 * time.Millisecond, Commit: 20 * time.Millisecond, Transport: 600 * time.Millisecond,
				StoreDeadline: 2 * time.Second},
			LogBytes: 64 << 10, OnFatal: func(err error) { fatal <- err }, Logger: slog.New(slog.DiscardHandler),
		}
		if os.Getenv("REPLICAS_LOG") != "" {
			o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
		}
		s, err := raftstore.Open(r.t.Context(), o)
		if err != nil {
			r.t.Fatalf("open %s: %v", m.name, err)
		}
		m.use.Lock()
		m.store = s
		m.use.Unlock()
	}
}

// end stops a node at once; its file system stays as it is.
func (r *replicas) end(i int) {
	m := r.members[i]
	m.isolate()
	m.use.Lock()
	defer m.use.Unlock()
	if m.store == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := m.store.Close(ctx); err != nil {
		r.t.Errorf("close %s: %v", m.name, err)
	}
	m.store = nil
	select {
	case err := <-m.fatal:
		r.t.Errorf("%s has failed: %v", m.name, err)
	default:
	}
}

// kill takes the power from the nodes at one moment. The given percentage of what was not synced survives.
func (r *replicas) kill(percent int, is ...int) {
	r.t.Helper()
	for _, i := range is {
		r.members[i].isolate()
	}
	for _, i := range is {
		after := r.members[i].fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: r.rng})
		r.end(i)
		r.members[i].fs = after
	}
}

func (r *replicas) eventually(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			for i := range r.members {
				r.look(i, func(s *raftstore.Store, _ *state.Store) { r.t.Logf("%+v", s.Status()) })
			}
			r.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// look calls f with a member's open store; sm is nil while it is no member of the group.
func (r *replicas) look(i int, f func(s *raftstore.Store, sm *state.Store)) {
	m := r.members[i]
	m.use.RLock()
	defer m.use.RUnlock()
	if m.store == nil {
		return
	}
	var sm *state.Store
	if g := m.store.Group(0); g != nil {
		sm = g.StateMachine().(*state.Store)
	}
	f(m.store, sm)
}

func (r *replicas) ready(is ...int) {
	r.t.Helper()
	for _, i := range is {
		r.eventually(r.members[i].name+" is ready", func() (ok bool) {
			r.look(i, func(_ *raftstore.Store, sm *state.Store) { ok = sm != nil })
			return ok
		})
	}
}

func (r *replicas) applied(i int) (index uint64) {
	r.look(i, func(_ *raftstore.Store, sm *state.Store) {
		if sm != nil {
			index, _ = sm.Applied()
		}
	})
	return index
}

// log returns the range of a member's log.
func (r *replicas) log(i int) (first, last uint64) {
	r.look(i, func(s *raftstore.Store, _ *state.Store) {
		g := s.Status().Groups[0]
		first, last = g.FirstIndex, g.LastIndex
	})
	return first, last
}

func (r *replicas) leader() int {
	r.t.Helper()
	at := -1
	r.eventually("there is a leader", func() bool {
		for i := range r.members {
			r.look(i, func(s *raftstore.Store, sm *state.Store) {
				if sm != nil && s.Group(0).IsLeader() {
					at = i
				}
			})
		}
		return at >= 0
	})
	return at
}

// advance waits until the group has applied a number of further entries.
func (r *replicas) advance(n uint64) {
	r.t.Helper()
	most := func() (m uint64) {
		for i := range r.members {
			m = max(m, r.applied(i))
		}
		return m
	}
	to := most() + n
	r.eventually(fmt.Sprintf("%d more entries", n), func() bool { return most() >= to })
}

// load does what the shard loop of a leader does, on the node that leads.
type load struct {
	r       *replicas
	rng     *rand.Rand
	sinks   []state.SinkID
	now     int64
	ids     uint64
	entries int
	cuts    int
}

func (l *load) run(ctx context.Context) {
	for ctx.Err() == nil {
		for i := range l.r.members {
			l.r.look(i, func(s *raftstore.Store, sm *state.Store) {
				if sm != nil && s.Group(0).IsLeader() {
					l.lead(ctx, l.r.members[i], s.Group(0), sm)
				}
			})
		}
		time.Sleep(time.Millisecond) // a writer of use may go first
	}
}

// lead proposes one round of entries, in flight together, that begins where the state stands.
func (l *load) lead(ctx context.Context, m *replica, g *raftstore.Group, sm *state.Store) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if g.Barrier(ctx) != nil {
		return
	}
	v := sm.View()
	if !v.Configured {
		_, _ = g.Propose(state.EncodeConfig(state.Config{
			ClusterID: "c", Pipeline: "p", Shards: 1, Topic: "t", Partitions: []int32{0, 1, 2},
			Starts:      []int64{0, 0, 0},
			Sinks:       l.sinks,
			IdleTimeout: time.Minute, Grace: 5 * time.Second, Retention: 5 * time.Minute, MaxTimers: 7,
		})).Wait(ctx)
		return
	}
	next := map[int32]int64{}
	for _, p := range v.Partitions {
		next[p.Partition] = p.Next
	}
	var futures []*raftstore.Future
	var ends []map[int32]int64
	propose := func(entry []byte, end map[int32]int64) {
		futures, ends = append(futures, g.Propose(entry)), append(ends, end)
	}
	for range 1 + l.rng.IntN(6) {
		e := l.batch(next)
		end := map[int32]int64{}
		for _, rg := range e.Batch.Ranges {
			end[rg.Partition] = rg.To
		}
		propose(state.AppendBatch(nil, e), end)
	}
	if l.rng.IntN(3) == 0 {
		propose(state.EncodeCut(l.now*1000, v.LastClosed, v.LastChecksum), nil)
	}
	sink := l.sinks[l.rng.IntN(len(l.sinks))]
	if b := v.Sinks[sink].PlanB; b > 0 {
		propose(state.EncodeAck(sink, b), nil)
	} else {
		propose(state.EncodePlan(sink, 1<<40), nil)
	}
	for i, f := range futures {
		res, err := f.Wait(ctx)
		if err != nil {
			if !errors.Is(err, raftstore.ErrNotLeader) && !errors.Is(err, raftstore.ErrUncertain) {
				l.r.t.Errorf("propose: %v", err)
			}
			continue
		}
		switch res := res.Value.(type) {
		case *state.BatchResult:
			if !res.Rejected {
				l.r.ack(m, ends[i])
			}
		case *state.CutResult:
			if res.Epoch > 0 {
				l.cuts++
			}
		case error:
			l.r.t.Errorf("result: %v", res)
		}
		l.entries++
	}
}

// ack records what a leader has acknowledged, unless the leader lost its power meanwhile.
func (r *replicas) ack(m *replica, end map[int32]int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.isolated() {
		return
	}
	for p, to := range end {
		r.acked[p] = max(r.acked[p], to)
	}
}

func (l *load) batch(next map[int32]int64) *state.BatchEntry {
	e := &state.BatchEntry{Now: l.now * 1000}
	for p := range int32(3) {
		from := next[p]
		for range 1 + l.rng.IntN(6) {
			l.now += int64(l.rng.IntN(2))
			l.ids++
			id := l.ids
			if l.rng.IntN(20) == 0 {
				id -= min(id-1, uint64(l.rng.IntN(100))) // a duplicate, or the id of an item that was never committed
			}
			it := event.Item{Partition: p, Offset: next[p], KafkaTimestamp: l.now * 1000, Event: event.Event{
				ID: event.ID{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}, SessionID: sessionOf(id),
				UserID: id % 11,
				Type:   event.Type(1 + id%8), Timestamp: l.now - int64(l.rng.IntN(10)), Brand: "b",
				City:      fmt.Sprint(id % 9),
				ArticleID: fmt.Sprint(id % 5), ArticleTitle: strings.Repeat("title ", 10+int(id%20)),
			}}
			switch l.rng.IntN(30) {
			case 0:
				it.Type = event.SessionEnd
			case 1:
				it.Timestamp -= 200 + int64(l.rng.IntN(400)) // late, or too late
			}
			e.Batch.Items = append(e.Batch.Items, it)
			next[p]++
		}
		e.Batch.Ranges = append(e.Batch.Ranges, event.Range{Partition: p, From: from, To: next[p], LeaderEpoch: 1})
	}
	return e
}

// sessionOf gives an event a session: some are open all the time, others begin, end and are purged later.
func sessionOf(id uint64) string {
	if id%7 == 0 {
		return fmt.Sprint("long-", id/7%5)
	}
	return fmt.Sprint("short-", id/100*10+id%10)
}

// TestReplicasStayEqual: three replicas with the real state machine and log, under load all the time, while one node
// loses its folder, one is away until the log has been cut behind it, and each loses its power, finally all at once.
// In the end the states are equal, nothing that was acknowledged is missing, and every offset is accounted for once
// (I1, I2, I3).
func TestReplicasStayEqual(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := newReplicas(t, rand.New(rand.NewPCG(seed, 1)))
	r.start(0, 1, 2)
	r.ready(0, 1, 2)
	l := &load{r: r, rng: rand.New(rand.NewPCG(seed, 2)), now: 1767225600,
		sinks: []state.SinkID{state.SinkEvents, state.SinkSessions, state.SinkRevisions, state.SinkClickHouse,
			state.SinkDeadLetter}}
	if r.rng.IntN(2) == 0 {
		l.sinks = l.sinks[:4] // without the dead letter sink, dead letters are not kept
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	stop := func() { cancel(); wg.Wait() }
	defer stop()
	wg.Go(func() { l.run(ctx) })
	r.advance(100)

	// A folder is lost. The node rejoins from a snapshot, because the log has been truncated.
	behind := func(i int, index uint64) {
		t.Helper()
		for k := range r.members {
			if k == i {
				continue
			}
			r.eventually("the log is cut", func() bool {
				first, _ := r.log(k)
				return first > index+1
			})
		}
	}
	behind(2, 1)
	r.end(2)
	r.members[2].fs = vfs.NewCrashableMem()
	r.start(2)
	r.ready(2)

	// One node is away for too long: the log is truncated meanwhile.
	_, last := r.log(1)
	r.kill(0, 1)
	behind(1, last)
	r.start(1)
	r.ready(1)
	to := r.applied(r.leader())
	r.eventually("a snapshot was installed, and the log goes on from there", func() bool {
		first, _ := r.log(1)
		return r.applied(1) >= to && first > last
	})

	// Leaders lose their power, then any node, then all.
	for _, percent := range []int{0, 50, 100} {
		i := r.leader()
		r.kill(percent, i)
		r.advance(30)
		r.start(i)
		r.ready(i)
		i = r.rng.IntN(3)
		r.kill(percent, i)
		r.start(i)
		r.ready(i)
		r.advance(30)
	}
	r.kill(30, 0, 1, 2)
	r.start(0, 1, 2)
	r.ready(0, 1, 2)
	r.advance(100)

	stop()
	to = r.equal()
	for i := range r.members {
		r.look(i, func(_ *raftstore.Store, sm *state.Store) {
			v := sm.View()
			var offsets, letters int64
			for _, p := range v.Partitions {
				offsets += p.Next
				if p.Next < r.acked[p.Partition] {
					t.Errorf("%s has partition %d up to %d, acknowledged was %d", r.members[i].name, p.Partition,
						p.Next, r.acked[p.Partition])
				}
			}
			for _, n := range v.DeadLetters {
				letters += n
			}
			if offsets != v.Applied+v.Duplicates+letters || letters == 0 || v.Duplicates == 0 {
				t.Errorf("%s: %d offsets, %d applied, %d duplicates, %d dead letters", r.members[i].name, offsets,
					v.Applied, v.Duplicates, letters)
			}
			if i == 0 {
				t.Logf("%d entries, %d cuts acknowledged; index %d, %d offsets, %d sessions, %+v", l.entries, l.cuts,
					to, offsets, v.LiveSessions, v.Sinks)
			}
		})
	}
}

// equal waits until all have applied the same, returns that index, and fails unless their states are equal.
func (r *replicas) equal() (to uint64) {
	r.t.Helper()
	// What was proposed last may still be committed: this is repeated until all are at one index, each of them from
	// before its checksum to after it.
	var sums [3]uint64
	r.eventually("all have applied the same", func() bool {
		var at [3]uint64
		for i := range r.members {
			still := false
			r.look(i, func(_ *raftstore.Store, sm *state.Store) {
				var err error
				at[i], _ = sm.Applied()
				if sums[i], err = sm.Checksum(); err != nil {
					r.t.Fatal(err)
				}
				after, _ := sm.Applied()
				still = after == at[i]
			})
			if !still {
				return false
			}
		}
		to = at[0]
		return at[1] == to && at[2] == to
	})
	if sums[0] != sums[1] || sums[1] != sums[2] {
		r.t.Fatalf("checksums %x at index %d", sums, to)
	}
	return to
}
