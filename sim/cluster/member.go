package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node"
	"deckle/sim"
	"deckle/sinks/delta/compact"
	"deckle/state"
)

// member is one node of the cluster: its disk and clock, which stay, and its processes, which come and go.
//
//	        open ok                    killed by a fault: nothing it does is seen from that moment
//	down ──────────► running ───────────────────────────────► down
//	  ▲                 │ it gives up (fatal): explained by a fault of its disk, or a failure of the run
//	  └─────────────────┘ stopped in order
type member struct {
	w     *world
	index int
	name  string
	disk  *disk
	clock clock

	mu      sync.Mutex
	boot    *incarnation // being opened
	run     *incarnation // nil while it is down
	hold    int          // faults that keep it down
	wake    chan struct{}
	damaged bool // a bit of its disk was flipped: it may notice at any time, until it has a new folder
	emptied bool // it has noticed, and is becoming a member again
	starts  int
	file    rulesFile // that its next process reads
}

// errKilled says that a process was killed while it was being opened.
var errKilled = errors.New("killed at its start")

// incarnation is one process.
type incarnation struct {
	node *node.Node
	gate *gate
	host string        // of the member that it was started as
	file rulesFile     // that it was started with
	from atomic.Value  // string: the host that it dials from
	left chan struct{} // closed when it has left its member
}

func newIncarnation(name string, f rulesFile) *incarnation {
	inc := &incarnation{gate: newGate(), host: name, file: f, left: make(chan struct{})}
	inc.from.Store(name)
	return inc
}

func newMember(w *world, i int) *member {
	return &member{w: w, index: i, name: nodeName(i), disk: newDisk(w.rng), wake: make(chan struct{}, 1),
		file: rulesFile{revision: 0, keys: []int{0}}}
}

func nodeName(i int) string { return fmt.Sprint("n", i) }

func nodeAddr(i int) string { return fmt.Sprintf("127.0.0.1:%d", 7000+i) }

// supervise keeps the node running until ctx ends, as an init system would.
func (m *member) supervise(ctx context.Context) {
	for ctx.Err() == nil {
		if m.held() {
			select {
			case <-m.wake:
			case <-ctx.Done():
			}
			continue
		}
		inc, err := m.start(ctx)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, errKilled) {
				m.refusedToStart(err)
				_ = sim.Pause(ctx, 500*time.Millisecond)
			}
			continue
		}
		died := make(chan error, 1)
		m.w.leftovers.Go(func() { died <- inc.node.Wait() })
		select {
		case err := <-died:
			m.ended(inc, err)
		case <-inc.gate.end:
			m.w.bury(inc)
		case <-inc.left:
		case <-ctx.Done():
			m.mu.Lock()
			m.run = nil
			m.mu.Unlock()
			m.w.stop(inc)
			inc.gate.kill()
		}
	}
}

func (m *member) held() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hold > 0
}

// readFile is Deps.ReadFile: the node's key, the keys that rules hash with, and its certificates.
func (m *member) readFile(path string) ([]byte, error) {
	if path == keyPath(m.name) {
		return keyText(m.index), nil
	}
	if key, ok := hmacKey(path); ok {
		return []byte(key), nil
	}
	return readCertificate(path)
}

// start opens a process on the disk as it is.
func (m *member) start(ctx context.Context) (*incarnation, error) {
	m.mu.Lock()
	m.starts++
	inc := newIncarnation(m.name, m.file)
	m.boot = inc
	m.mu.Unlock()
	w := m.w
	ln, err := w.net.Listen(m.name, nodeAddr(m.index))
	if err != nil {
		return nil, err
	}
	cfg := w.config(m, inc.file)
	dial := func(ctx context.Context, addr string) (net.Conn, error) {
		if inc.gate.dead() {
			return nil, errors.New("the process is dead")
		}
		return w.net.Dial(ctx, inc.from.Load().(string), addr)
	}
	inc.node, err = node.Open(ctx, cfg, node.Deps{
		FS: m.disk.open(inc.gate), Now: m.clock.now, Logger: w.history.logger(m.name, w.opts.LogLevel, m.logged),
		Registerer: prometheus.NewRegistry(), RaftListener: ln, ReadFile: m.readFile,
		RaftDial: func(ctx context.Context, addr string) (net.Conn,
			error) {
			return w.raftDial(ctx, m.name, addr, dial)
		},
		ClickHouseDial: func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, addr) },
		KafkaOpts: []kgo.Opt{kgo.Dialer(func(ctx context.Context, _, addr string) (net.Conn, error) {
			c, err := dial(ctx, addr)
			if err != nil {
				return nil, err
			}
			return w.broken.Conn(c), nil
		})},
		DeltaStore: &client{o: w.objects, gate: inc.gate},
		Compaction: compact.Options{Settle: 2 * time.Second, HotBytes: 256 << 10, MemoryBytes: 64 << 10},
		MostHidden: 0.7,
		WrapSink:   w.plans.watch(inc.host, inc.gate),
		Applied:    w.journal.watch(inc.gate),
		LogBytes:   w.opts.LogBytes, CheckpointBytes: w.opts.CheckpointBytes,
		SegmentBytes: max(w.opts.LogBytes/4, 4<<10),
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.boot = nil
	switch {
	case inc.gate.dead():
		if err == nil {
			w.bury(inc)
		}
		return nil, errKilled
	case err != nil:
		inc.gate.kill()
		w.net.Kill(m.name)
		return nil, err
	}
	m.run = inc
	w.history.add(m.name, "runs")
	return inc, nil
}

// refusedToStart judges an error of Open: some fault must explain it.
func (m *member) refusedToStart(err error) {
	m.w.history.add(m.name, "does not start: %v", err)
	if !m.disk.hasFailed() && !m.isDamaged() {
		m.w.history.fail("%s does not start, and no fault of its disk explains it: %v", m.name, err)
	}
	m.disk.lose(100)
}

// ended judges a process that has given up by itself.
func (m *member) ended(inc *incarnation, err error) {
	m.mu.Lock()
	if m.run == inc {
		m.run = nil
	}
	m.mu.Unlock()
	m.w.history.add(m.name, "gave up: %v", err)
	explained := m.disk.hasFailed() || m.isDamaged()
	inc.gate.kill()
	m.w.net.Kill(m.name)
	m.disk.lose(m.w.rng.IntN(101)) // after a failed fsync nobody knows what has become of what was not synced
	m.w.bury(inc)
	if err != nil && !explained {
		m.w.history.fail("%s gave up, and no fault of its disk explains it: %v", m.name, err)
	}
	_ = sim.Pause(context.Background(), m.w.rng.between(200*time.Millisecond, 2*time.Second))
}

// logged is called with what the node logs. A node must not give up its folder unless a fault has damaged it.
func (m *member) logged(message string) {
	if !strings.HasPrefix(message, "EMPTYING THE DATA FOLDER") {
		return
	}
	if !m.isDamaged() {
		m.w.history.fail("%s gives up its folder, and no fault of its disk explains it", m.name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.emptied = true
}

// atRisk says whether a flipped bit may still cost the node its disk, or has, and the node is no member again.
func (m *member) atRisk() bool {
	again := m.ready()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.emptied && again {
		m.damaged, m.emptied = false, false
	}
	return m.damaged
}

func (m *member) isDamaged() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.damaged
}

func (m *member) setDamaged(d bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.damaged = d
}

// current returns the running process, nil if there is none.
func (m *member) current() *incarnation {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.run
}

// kill ends the process at this very moment and keeps the node down until release is called. Of what was not synced,
// the given percentage survives.
func (m *member) kill(percent int) (release func()) {
	m.mu.Lock()
	for _, inc := range []*incarnation{m.run, m.boot} {
		if inc != nil {
			inc.gate.kill()
		}
	}
	m.run = nil
	m.hold++
	m.mu.Unlock()
	// The network ends first: the process must not say anything that rests on data which its disk has lost.
	m.w.net.Kill(m.name)
	m.disk.lose(percent)
	return sync.OnceFunc(func() {
		m.mu.Lock()
		m.hold--
		m.mu.Unlock()
		select {
		case m.wake <- struct{}{}:
		default:
		}
	})
}

// restart stops the process in order.
func (m *member) restart() {
	m.mu.Lock()
	inc := m.run
	m.run = nil
	m.hold++
	m.mu.Unlock()
	if inc != nil {
		m.w.stop(inc)
		inc.gate.kill()
	}
	m.mu.Lock()
	m.hold--
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// leave lets the running process live on as another host, cut off from the other nodes, with the disk that it has. Its
// address is taken from it, and the member is started again on an empty disk. The caller ends the process.
func (m *member) leave() *incarnation {
	m.mu.Lock()
	inc := m.run
	m.run = nil
	m.mu.Unlock()
	former := m.name + "-former"
	inc.from.Store(former)
	for i := range m.w.members {
		m.w.net.Cut(former, nodeName(i))
	}
	m.disk.wipe()
	m.w.net.Kill(m.name)
	close(inc.left)
	return inc
}

func (m *member) ready() bool {
	inc := m.current()
	return inc != nil && inc.node.Status().Ready
}

// store returns a member's replica of a shard, nil if it has none now.
func (m *member) store(shard uint32) *state.Store {
	inc := m.current()
	if inc == nil {
		return nil
	}
	return inc.node.Store(shard)
}
