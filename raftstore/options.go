package raftstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"deckle/schema/level"
)

// Peer is one configured node. Name never changes; Addr is what the other nodes dial (host:port).
type Peer struct {
	Name, Addr string
}

// Timings are the timeouts of the groups. A zero field takes its default. Lease ≤ Heartbeat ≤ Election must hold; the
// election timeout must exceed the slowest fsync of a healthy disk, since heartbeats queue behind it.
type Timings struct {
	Heartbeat     time.Duration // a follower without contact for 1–2 of these asks for an election; default 500 ms
	Election      time.Duration // a candidate without a result for 1–2 of these tries again; default 500 ms
	Lease         time.Duration // a leader steps down after this time without a quorum; default 500 ms
	Commit        time.Duration // an idle follower learns the commit index after this time; default 250 ms
	Transport     time.Duration // one RPC, one dial, one header; default 1.5 s
	StoreDeadline time.Duration // a leader whose StoreLogs takes longer steps down; default 1 s
}

// Options are everything that a Store needs. Whatever touches the outside world is injected.
type Options struct {
	FS   vfs.FS // default vfs.Default
	Dir  string // the node's data folder; raftstore owns its layout: identity, wal/, shard-<n>/, snapshots/
	Name string // this node, one of Nodes
	// Nodes are all configured nodes, this one included, in the order of the configuration: one or three.
	Nodes []Peer
	// Listen is the bind address (host:port); default the Addr of this node's Peer.
	Listen string
	// Listener is used instead of Listen. It must not have TLS wrapped around it; the Store closes it.
	Listener net.Listener
	// Dial replaces TCP; TLS is wrapped around what it returns.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Security is how connections are secured; nil: without TLS. Every request is held to the node at the other end of
	// its connection, as far as that is known.
	Security Security
	// Plain lets connections without TLS in besides, of peers that are nobody, and dials without TLS where the other
	// end has none: while a cluster goes from one to the other. It does nothing without Security.
	Plain bool
	// Shards is the number of groups, fixed when the cluster is created.
	Shards int
	// Fixed are the values of this node's configuration that are fixed when a cluster is created, beside Nodes and
	// Shards. Nodes that differ found no cluster, and one that differs from its cluster does not join it.
	Fixed []Setting
	// Founded returns these values as the state of this node has them; nil: it has none yet. It is asked once the state
	// machines are open, and before anything is applied.
	Founded func() []Setting
	// NewStateMachine opens (or creates) a shard's state machine in dir, which is on FS. The state machine may call
	// fatal, from any goroutine, with an error that makes it unusable and that no caller would learn of: one of its
	// background work.
	NewStateMachine func(ctx context.Context, shard uint32, dir string, fatal func(error)) (StateMachine, error)
	Timings         Timings
	// Level is the level of this binary, which is told to the other nodes; default level.Current, and never above it.
	// Groups of a higher level cannot be read here.
	Level uint32
	// MaxLevel is the highest level to which this node lets its groups rise; 0 means that there is no bound.
	MaxLevel uint32
	// Manual says that this node wants its groups to rise only when an operator says so. It is told to the other nodes,
	// and nothing here heeds it.
	Manual bool
	// LogBytes is the length of one group's log, in bytes, beyond which the group makes a checkpoint and truncates its
	// log; default 64 MiB. About half of it is kept behind the checkpoint for followers that were away.
	LogBytes int64
	// WALBytes is the length of the whole node's log, in bytes, at which the groups that hold back its oldest segments
	// are checkpointed and truncated too; default 2 × Shards × LogBytes.
	WALBytes int64
	// SegmentBytes is the length at which a segment of the node's log is closed; default wal.DefaultSegmentBytes.
	SegmentBytes int64
	Logger       *slog.Logger
	Registerer   prometheus.Registerer // optional
	// NoRoom, if set, returns why the disk of this node counts as full, nil if it does not. One of three nodes then
	// takes no entries and no snapshots, for any group, and keeps no leadership; heartbeats, votes and truncation go
	// on. A single node goes on: it has nobody to leave the groups to, and what makes room is entries, too. It is
	// called often, from any goroutine, and must not wait.
	NoRoom func() error
	// Tell returns what this node says of itself when another one asks it (Store.Ask): JSON of at most MaxTold bytes.
	// It is called from any goroutine and must not wait.
	Tell func() json.RawMessage
	// Do does what another node asks of this one (Store.Do), and returns JSON of at most MaxTold bytes. from is that
	// node's name: with Security it has proven it, without it says so. It is called from any goroutine, and ends with
	// its context.
	Do func(ctx context.Context, from string, what json.RawMessage) json.RawMessage
	// Share answers what another node asks of this one (Store.Share), with JSON of at most MaxShared bytes. from is
	// that node's name, proven or said as with Do. It is called from any goroutine, for at most 16 requests of a node
	// at the same time, and ends with its context, which ends when the other node does not wait any more. nil: this
	// node does not share, and says so.
	Share func(ctx context.Context, from string, what json.RawMessage) json.RawMessage
	// OnFatal is called at most once, from any goroutine, when the process should end. This package never ends it.
	OnFatal func(error)
	// Rand draws incarnations and cluster ids; default crypto/rand.
	Rand func() uint64
}

// doWithin is how long a node may take to do what another one asks (Store.Do): it may ask others in turn.
const doWithin = 15 * time.Second

// answerWithin is how long the answer to a control request may take.
func (o *Options) answerWithin(op string) time.Duration {
	if op == opDo {
		return doWithin
	}
	return 2 * o.Timings.Transport
}

// complete fills the defaults.
func (t *Timings) complete() {
	for _, d := range []struct {
		p   *time.Duration
		def time.Duration
	}{
		{&t.Heartbeat, 500 * time.Millisecond}, {&t.Election, 500 * time.Millisecond},
		{&t.Lease, 500 * time.Millisecond}, {&t.Commit, 250 * time.Millisecond},
		{&t.Transport, 1500 * time.Millisecond}, {&t.StoreDeadline, time.Second},
	} {
		if *d.p == 0 {
			*d.p = d.def
		}
	}
}

// complete fills defaults and checks.
func (o *Options) complete() error {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = cryptoUint64
	}
	if o.OnFatal == nil {
		o.OnFatal = func(error) {}
	}
	if o.Level == 0 {
		o.Level = uint32(level.Current)
	}
	if o.LogBytes == 0 {
		o.LogBytes = 64 << 20
	}
	// gofail: var raftLogBytes int
	// o.LogBytes = int64(raftLogBytes)
	if o.WALBytes == 0 {
		o.WALBytes = 2 * int64(max(o.Shards, 1)) * o.LogBytes
	}
	o.Timings.complete()
	t := &o.Timings
	switch {
	case o.Dir == "":
		return fmt.Errorf("%w: no data folder", ErrConfig)
	case o.Shards < 1 || o.Shards > 1<<16:
		return fmt.Errorf("%w: %d shards", ErrConfig, o.Shards)
	case o.NewStateMachine == nil:
		return fmt.Errorf("%w: no state machine", ErrConfig)
	case len(o.Nodes) != 1 && len(o.Nodes) != 3:
		return fmt.Errorf("%w: %d nodes, must be one or three", ErrConfig, len(o.Nodes))
	case t.Lease > t.Heartbeat || t.Heartbeat > t.Election:
		return fmt.Errorf("%w: lease %v ≤ heartbeat %v ≤ election %v must hold", ErrConfig,
			t.Lease, t.Heartbeat, t.Election)
	case t.Lease < 5*time.Millisecond || t.Commit < time.Millisecond || t.Transport < 10*time.Millisecond ||
		t.StoreDeadline < 0:
		return fmt.Errorf("%w: timings too short: %+v", ErrConfig, *t)
	case o.Level > uint32(level.Current):
		return fmt.Errorf("%w: level %d, this binary has %d", ErrConfig, o.Level, level.Current)
	case o.LogBytes < 0 || o.WALBytes < 0:
		return fmt.Errorf("%w: negative log length", ErrConfig)
	}
	names, addrs := map[string]bool{}, map[string]bool{}
	for _, p := range o.Nodes {
		switch {
		case p.Name == "" || len(p.Name) > maxName:
			return fmt.Errorf("%w: node name %q must have 1 to %d bytes", ErrConfig, p.Name, maxName)
		case p.Addr == "":
			return fmt.Errorf("%w: node %s has no address", ErrConfig, p.Name)
		case names[p.Name] || addrs[p.Addr]:
			return fmt.Errorf("%w: node %s or its address %s is listed twice", ErrConfig, p.Name, p.Addr)
		}
		names[p.Name], addrs[p.Addr] = true, true
	}
	if !names[o.Name] {
		return fmt.Errorf("%w: node %q is not one of the configured nodes", ErrConfig, o.Name)
	}
	return nil
}

// peer returns the configured node of that name.
func (o *Options) peer(name string) (Peer, bool) {
	for _, p := range o.Nodes {
		if p.Name == name {
			return p, true
		}
	}
	return Peer{}, false
}

func cryptoUint64() uint64 {
	var b [8]byte
	if _, err := io.ReadFull(rand.Reader, b[:]); err != nil {
		panic(err) // crypto/rand never fails
	}
	return binary.BigEndian.Uint64(b[:])
}
