package raftstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	rtmetrics "runtime/metrics"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// fuzzOptions are those of a node on a fresh disk, in a network where nobody answers. A single node's group runs at
// once.
func fuzzOptions(fsys vfs.FS, nodes int) Options {
	peers := []Peer{{"a", "127.0.0.1:1"}, {"b", "127.0.0.1:2"}, {"c", "127.0.0.1:3"}}[:nodes]
	return Options{
		FS: fsys, Dir: "data", Name: "a", Nodes: peers, Shards: 1, Timings: testTimings, Rand: rand.Uint64,
		Listener: &deafListener{done: make(chan struct{})},
		Dial:     func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody answers") },
		NewStateMachine: func(_ context.Context, _ uint32, dir string, _ func(error)) (StateMachine, error) {
			return openFake(fsys, dir)
		},
		Logger: slog.New(slog.DiscardHandler),
	}
}

// deafListener is never given a connection.
type deafListener struct{ done chan struct{} }

func (l *deafListener) Accept() (net.Conn, error) { <-l.done; return nil, net.ErrClosed }
func (l *deafListener) Close() error              { close(l.done); return nil }
func (l *deafListener) Addr() net.Addr            { return nodeAddr("deaf") }

// allocated is how many bytes have been allocated since the process began.
func allocated() uint64 {
	s := []rtmetrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	rtmetrics.Read(s)
	return s[0].Value.Uint64()
}

func sealed(body []byte) []byte {
	return fmt.Appendf(append(bytes.Clone(body), '\n'), "%08x\n", crc32.Checksum(body, castagnoli))
}

// FuzzFolder puts anything, correctly sealed, into a file that Open reads. Open answers with one of its own errors or
// with a Store that opens again. (FuzzUnseal is about files that are not correctly sealed.)
func FuzzFolder(f *testing.F) {
	seed := func(file uint8, v any) {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file, b)
	}
	id := identity{
		Format: 1, Name: "a", Incarnation: "0123456789abcdef", Cluster: "00000000000000aa",
		Nodes: []string{"a", "b", "c"}, Shards: 1,
	}
	for _, p := range []phase{phaseNew, phaseFounding, phaseJoining, phaseMember, phaseVoid, "?"} {
		id.Phase = p
		seed(0, id)
	}
	conf := raft.Configuration{Servers: []raft.Server{{ID: "a-0123456789abcdef", Address: "127.0.0.1:1"}}}
	for _, m := range []marker{
		{}, {Index: 3, Term: 1, Applied: 2, Configuration: conf, ConfigIndex: 1},
		{Index: 1 << 60, Term: 9}, {Applied: 5}, {Index: 2, State: 9},
	} {
		seed(1, m)
		seed(2, m)
	}
	f.Add(uint8(0),
		[]byte(`{"Format":1,"Name":"a","Nodes":["a","b","c"],"Shards":1,"Phase":"member","Incarnation":"-"}`))
	f.Add(uint8(0), []byte(`[]`))
	f.Fuzz(func(t *testing.T, file uint8, body []byte) {
		fsys := vfs.NewMem()
		path := []string{"data/identity", "data/snapshots/marker-0", "data/snapshots/staged-0/meta"}[file%3]
		received := &fakeState{fs: fsys, st: fakeImage{Index: 2, Term: 1}}
		if _, _, err := received.Snapshot("data/snapshots/staged-0/files"); err != nil {
			t.Fatal(err)
		}
		id.Phase = phaseMember
		if err := errors.Join(writeSealed(fsys, "data/identity", id), writeFile(fsys, path, sealed(body))); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			s, err := Open(context.Background(), fuzzOptions(fsys, 3))
			if err != nil {
				if i > 0 || !isDamage(err) && !errors.Is(err, ErrForeignFolder) {
					t.Fatalf("attempt %d: %v", i, err)
				}
				return
			}
			now := s.self.get() // what it was founding or joining may be done already
			if now.Name != "a" || now.Shards != 1 || !now.valid() {
				t.Fatalf("opened as %+v", now)
			}
			if err := s.shut(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzControl sends anything over a control connection. It is answered with a frame or closed, and what the node is
// afterwards, it still is after a restart.
func FuzzControl(f *testing.F) {
	const a, c = "a-0123456789abcdef", "c-0123456789abcdef"
	founders := []member{{"a", a, "127.0.0.1:1"}, {"b", "b-%s", "127.0.0.1:2"}, {"c", c, "127.0.0.1:3"}}
	found := request{Op: opFound, From: a, Cluster: "00000000000000aa", Founders: founders,
		Nodes: []string{"a", "b", "c"}, Shards: 1}
	byAnother := found
	byAnother.From = c
	for _, r := range []request{
		{Op: opHello, From: a}, {Op: opHello, From: "a-"}, {Op: opHello}, found, byAnother,
		{Op: opJoin, From: c, Shard: 0}, {Op: opJoin, From: c, Shard: 1 << 31, Inquiry: true},
		{Op: opHealth, From: a}, {Op: "?", From: a},
	} {
		b, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"Op":"hello"`))
	f.Fuzz(func(t *testing.T, body []byte) {
		o := fuzzOptions(vfs.NewMem(), 3)
		o.Name = "b" // whom a tells of a new cluster
		s, err := Open(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		// The seeds name a founder whose incarnation is known only now.
		body = bytes.ReplaceAll(body, []byte("b-%s"), []byte(s.self.serverID()))
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() { defer close(done); s.control.serve(theirs, nobody) }()
		_ = ours.SetDeadline(time.Now().Add(5 * time.Second))
		go func() {
			var frame bytes.Buffer
			_ = writeFrame(&frame, json.RawMessage(body))
			if frame.Len() == 0 { // the body is not JSON: it is sent as it is
				frame.Write([]byte{0, 0, byte(len(body) >> 8), byte(len(body))})
				frame.Write(body)
			}
			_, _ = ours.Write(frame.Bytes())
		}()
		var resp response
		if err := readFrame(ours, &resp); err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("answer to %q: %v", body, err)
		}
		_ = ours.Close()
		<-done
		now := s.self.get()
		if err := s.shut(); err != nil {
			t.Fatal(err)
		}
		if now.Cluster != "" && now.Phase != phaseMember {
			t.Fatalf("%q made it %+v", body, now)
		}
		if err := o.complete(); err != nil {
			t.Fatal(err)
		}
		then, err := loadIdentity(&o)
		if err != nil || then.Cluster != now.Cluster || then.Incarnation != now.Incarnation {
			t.Fatalf("%q: %+v after a restart %+v: %v", body, now, then, err)
		}
	})
}

// recorder is a stream layer whose connections record what is written to them.
type recorder struct {
	deafListener
	b    bytes.Buffer
	read chan struct{}
}

func (r *recorder) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		defer close(r.read)
		_ = ours.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, _ = io.Copy(&r.b, ours)
		_ = ours.Close()
	}()
	return theirs, nil
}

// rpcBytes is what one call of the library's transport sends.
func rpcBytes(call func(*raft.NetworkTransport) error) []byte {
	r := &recorder{deafListener{make(chan struct{})}, bytes.Buffer{}, make(chan struct{})}
	t := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: r, MaxPool: 1, Timeout: time.Second, Logger: raftLogger(slog.New(slog.DiscardHandler), 0),
	})
	_ = call(t)
	<-r.read
	_ = t.Close()
	return r.b.Bytes()
}

// FuzzRaftConn sends anything, after the header, over a connection to a group. The group and the library in it go on:
// they answer or close, allocate in proportion, and can be opened again with whatever was stored.
func FuzzRaftConn(f *testing.F) {
	head := as("b-0123456789abcdef", "127.0.0.1:2")
	conf := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "a-1", Address: "x:1"}}})
	appendWith := func(prev uint64, es ...*raft.Log) []byte {
		return rpcBytes(func(t *raft.NetworkTransport) error {
			return t.AppendEntries("a-1", "x:1", &raft.AppendEntriesRequest{
				RPCHeader: head, Term: 1 << 30, PrevLogEntry: prev, PrevLogTerm: 1, Entries: es,
				LeaderCommitIndex: prev + uint64(len(es)),
			}, new(raft.AppendEntriesResponse))
		})
	}
	f.Add(appendWith(0))
	f.Add(appendWith(1, &raft.Log{Index: 2, Term: 1 << 30, Data: []byte("x")}))
	f.Add(appendWith(1, &raft.Log{Index: 2, Term: 1 << 30, Type: raft.LogConfiguration, Data: conf}))
	f.Add(appendWith(1,
		&raft.Log{Index: 2, Term: 1 << 30, Type: raft.LogConfiguration, Data: []byte("no configuration")}))
	f.Add(appendWith(1, &raft.Log{Index: 2, Term: 1 << 30, Type: raft.LogAddPeerDeprecated, Data: []byte("x")}))
	f.Add(appendWith(1, &raft.Log{Index: 2, Term: 1 << 30, Type: 77}))
	f.Add(appendWith(1, nil))
	f.Add(appendWith(1<<64-2, &raft.Log{Index: 1<<64 - 1, Term: 1}, &raft.Log{Index: 0, Term: 1}))
	for _, term := range []uint64{1 << 30, 1 << 50, 1<<64 - 1} {
		f.Add(rpcBytes(func(t *raft.NetworkTransport) error {
			return t.RequestVote("a-1", "x:1", &raft.RequestVoteRequest{
				RPCHeader: head, Term: term, LastLogIndex: 9, LastLogTerm: term - 1,
			}, new(raft.RequestVoteResponse))
		}))
	}
	f.Add(rpcBytes(func(t *raft.NetworkTransport) error {
		return t.TimeoutNow("a-1", "x:1", &raft.TimeoutNowRequest{RPCHeader: head}, new(raft.TimeoutNowResponse))
	}))
	for _, c := range [][]byte{conf, []byte("no configuration")} {
		f.Add(rpcBytes(func(t *raft.NetworkTransport) error {
			return t.InstallSnapshot("a-1", "x:1", &raft.InstallSnapshotRequest{
				RPCHeader: head, SnapshotVersion: 1, Term: 1 << 30, LastLogIndex: 50, LastLogTerm: 1,
				Configuration: c, ConfigurationIndex: 1, Size: 12,
			}, new(raft.InstallSnapshotResponse), bytes.NewReader([]byte("no snapshot.")))
		}))
	}
	// a map of 2^32 keys
	f.Add([]byte{0, 0xdf, 0xff, 0xff, 0xff, 0xff})
	// a list of 2^32 entries
	f.Add([]byte{0, 0x81, 0xa7, 'E', 'n', 't', 'r', 'i', 'e', 's', 0xdd, 0xff, 0xff, 0xff, 0xff})
	// a text of 4 GiB
	f.Add([]byte{0, 0x81, 0xa6, 'L', 'e', 'a', 'd', 'e', 'r', 0xc6, 0xff, 0xff, 0xff, 0xff, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		fsys := vfs.NewMem()
		options := joiner(t, fsys)
		options.firstEntry(t)
		open := func() *Store {
			options.Listener = &deafListener{done: make(chan struct{})}
			s, err := Open(context.Background(), options)
			if err != nil {
				t.Fatal(err)
			}
			for started := false; !started; time.Sleep(100 * time.Microsecond) {
				started = s.forming.started.Load()
			}
			return s
		}
		s := open()
		before := allocated()
		ours, theirs := net.Pipe()
		s.groups[0].run.Load().layer.hand(theirs)
		// The group waits for the rest of what is incomplete.
		_ = ours.SetDeadline(time.Now().Add(300 * time.Millisecond))
		go func() {
			_, _ = ours.Write(b)
			_ = ours.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		}()
		_, _ = io.Copy(io.Discard, ours)
		_ = ours.Close()
		// The library allocates at once for an extension (0xc9) of any length; nothing else may make it do so.
		if got := allocated() - before; got > 32<<20 && !bytes.Contains(b, []byte{0xc9}) {
			t.Errorf("%d bytes allocated for %d", got, len(b))
		}
		if err := s.shut(); err != nil {
			t.Fatal(err)
		}
		s = open()
		if err := s.shut(); err != nil {
			t.Fatal(err)
		}
	})
}
