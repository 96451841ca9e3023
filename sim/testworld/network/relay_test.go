package network

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// streams is a raft.StreamLayer over the network, with raftstore's header.
type streams struct {
	n        *Network
	r        *Relay
	ln       net.Listener
	host     string
	refuse   byte
	bytewise bool // the smallest writes that a client may make

	wg sync.WaitGroup
	in chan net.Conn
	up chan struct{}
}

func newStreams(t *testing.T, n *Network, r *Relay, host string) *streams {
	ln, err := n.Listen(host, host+":1")
	if err != nil {
		t.Fatal(err)
	}
	s := &streams{n: n, r: r, ln: ln, host: host, in: make(chan net.Conn), up: make(chan struct{})}
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.greet(c) })
		}
	})
	return s
}

func (s *streams) greet(c net.Conn) {
	h := make([]byte, 10)
	if _, err := io.ReadFull(c, h); err == nil {
		_, err = io.ReadFull(c, make([]byte, h[9]))
		if _, werr := c.Write([]byte{s.refuse}); err == nil && werr == nil && s.refuse == 0 {
			select {
			case s.in <- c:
				return
			case <-s.up:
			}
		}
	}
	_ = c.Close()
}

func (s *streams) Accept() (net.Conn, error) {
	select {
	case c := <-s.in:
		return c, nil
	case <-s.up:
		return nil, net.ErrClosed
	}
}

func (s *streams) Close() error {
	close(s.up)
	err := s.ln.Close()
	s.wg.Wait()
	return err
}

func (s *streams) Addr() net.Addr { return s.ln.Addr() }

func (s *streams) Dial(a raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := s.r.Dial(ctx, s.host, string(a), func(ctx context.Context, addr string) (net.Conn, error) {
		return s.n.Dial(ctx, s.host, addr)
	})
	if err != nil {
		return nil, err
	}
	if s.bytewise {
		c = &bytewise{c}
	}
	target := "b-0000000000000001"
	h := append([]byte("DKL1"), kindRaft)
	h = binary.BigEndian.AppendUint32(h, 3)
	h = append(append(h, byte(len(target))), target...)
	if _, err := c.Write(h); err != nil {
		return nil, err
	}
	answer := make([]byte, 1)
	if _, err := io.ReadFull(c, answer); err != nil || answer[0] != 0 {
		return nil, fmt.Errorf("refused with %d, %w", answer[0], err)
	}
	return c, nil
}

// bytewise writes one byte at a time at the beginning.
type bytewise struct{ net.Conn }

func (c *bytewise) Write(p []byte) (int, error) {
	for i := range p {
		if i == 2000 { // that is enough
			n, err := c.Conn.Write(p[i:])
			return i + n, err
		}
		if _, err := c.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func transportOver(s *streams) *raft.NetworkTransport {
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: s, MaxPool: 3, MaxRPCsInFlight: 1, Timeout: 5 * time.Second, Logger: hclog.NewNullLogger(),
	})
}

// received are the requests that a transport was given, in order.
type received struct {
	mu   sync.Mutex
	reqs []any
}

// answer serves a transport until it is closed.
func (rc *received) answer(tr *raft.NetworkTransport, done <-chan struct{}) {
	for {
		select {
		case rpc := <-tr.Consumer():
			req := rpc.Command
			if snap, ok := req.(*raft.InstallSnapshotRequest); ok {
				b, err := io.ReadAll(rpc.Reader)
				req = fmt.Sprintf("snapshot %d: %d bytes, %v", snap.Term, len(b), err)
			}
			rc.mu.Lock()
			rc.reqs = append(rc.reqs, req)
			rc.mu.Unlock()
			switch r := rpc.Command.(type) {
			case *raft.AppendEntriesRequest:
				rpc.Respond(&raft.AppendEntriesResponse{Term: r.Term, LastLog: r.PrevLogEntry + uint64(len(r.Entries)),
					Success: true}, nil)
			case *raft.RequestVoteRequest:
				rpc.Respond(&raft.RequestVoteResponse{Term: r.Term, Granted: true}, nil)
			case *raft.RequestPreVoteRequest:
				rpc.Respond(&raft.RequestPreVoteResponse{Term: r.Term, Granted: true}, nil)
			case *raft.TimeoutNowRequest:
				rpc.Respond(&raft.TimeoutNowResponse{}, nil)
			case *raft.InstallSnapshotRequest:
				rpc.Respond(&raft.InstallSnapshotResponse{Term: r.Term, Success: true}, nil)
			}
		case <-done:
			return
		}
	}
}

// TestRelayRepeats sends every kind of request over the library's own transport: every answer belongs to its request,
// and the receiver sees every request, some of them again, whole, later and out of order. Requests that must not come
// again do not.
func TestRelayRepeats(t *testing.T) {
	for name, bytewise := range map[string]bool{"as it is": false, "byte by byte": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *Network) {
				r := NewRelay(n, drawer(3))
				r.Repeat(0.3, time.Second)
				from, to := newStreams(t, n, r, "a"), newStreams(t, n, r, "b")
				from.bytewise = bytewise
				client, server := transportOver(from), transportOver(to)
				done := make(chan struct{})
				var wg sync.WaitGroup
				var rc received
				wg.Go(func() { rc.answer(server, done) })
				sent := talk(t, client)
				time.Sleep(time.Minute) // everything has arrived by then
				r.Repeat(0, 0)
				quiet := r.Repeated()
				again := talk(t, client)
				time.Sleep(time.Minute)
				if r.Repeated() != quiet {
					t.Error("a relay that is to repeat nothing does")
				}
				sent = append(sent, again...)
				close(done)
				_ = client.Close()
				_ = server.Close()
				n.Close()
				wg.Wait()
				server.CloseStreams()
				client.CloseStreams()
				check(t, sent, rc.reqs, quiet)
			})
		})
	}
}

// talk sends requests and returns them; each answer must belong to its request.
func talk(t *testing.T, client *raft.NetworkTransport) (sent []any) {
	t.Helper()
	for i := range uint64(100) {
		header := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("a"), Addr: []byte("a:1")}
		term := 1 + i
		var err error
		switch i % 10 {
		case 0:
			req := &raft.RequestVoteRequest{RPCHeader: header, Term: term, LastLogIndex: i}
			var resp raft.RequestVoteResponse
			if err = client.RequestVote("b", "b:1", req, &resp); resp.Term != term {
				t.Errorf("vote of term %d: %+v", term, resp)
			}
			sent = append(sent, req)
		case 1:
			req := &raft.RequestPreVoteRequest{RPCHeader: header, Term: term, LastLogIndex: i}
			var resp raft.RequestPreVoteResponse
			if err = client.RequestPreVote("b", "b:1", req, &resp); resp.Term != term {
				t.Errorf("pre-vote of term %d: %+v", term, resp)
			}
			sent = append(sent, req)
		case 2:
			req := &raft.TimeoutNowRequest{RPCHeader: header}
			err = client.TimeoutNow("b", "b:1", req, &raft.TimeoutNowResponse{})
			sent = append(sent, req)
		case 3:
			size := 400_000 + int64(i) // as many bytes as a few writes
			req := &raft.InstallSnapshotRequest{RPCHeader: header, Term: term, Size: size}
			err = client.InstallSnapshot("b", "b:1", req, &raft.InstallSnapshotResponse{},
				bytes.NewReader(make([]byte, size)))
			sent = append(sent, fmt.Sprintf("snapshot %d: %d bytes, <nil>", term, size))
		default:
			req := &raft.AppendEntriesRequest{RPCHeader: header, Term: term, PrevLogEntry: 1000 * i,
				LeaderCommitIndex: i}
			for k := range i % 4 {
				req.Entries = append(req.Entries, &raft.Log{Index: 1000*i + k + 1, Term: term,
					Data: bytes.Repeat([]byte{byte(i)}, 1+int(k)*150_000)})
			}
			var resp raft.AppendEntriesResponse
			if err = client.AppendEntries("b", "b:1", req, &resp); resp.LastLog != 1000*i+i%4 {
				t.Errorf("append of term %d: %+v", term, resp)
			}
			sent = append(sent, req)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return sent
}

// check compares what was received with what was sent.
func check(t *testing.T, sent, got []any, repeated int) {
	t.Helper()
	if repeated < 15 || len(got) != len(sent)+repeated {
		t.Fatalf("%d sent, %d repeated, %d received", len(sent), repeated, len(got))
	}
	kinds := map[string]int{}
	overtaken := false
	at := -1 // of the newest original that has been received
	for _, g := range got {
		i := slices.IndexFunc(sent[at+1:], func(s any) bool { return same(s, g) })
		if i == 0 {
			at++
			continue
		}
		if !slices.ContainsFunc(sent[:at+1], func(s any) bool { return same(s, g) }) {
			t.Fatalf("received what was not sent before: %.200v", g)
		}
		overtaken = overtaken || !same(sent[at], g)
		kinds[strings.TrimPrefix(fmt.Sprintf("%T", g), "*raft.")]++
	}
	if at != len(sent)-1 {
		t.Errorf("%d of %d were received", at+1, len(sent))
	}
	if !overtaken {
		t.Error("no repeat came after another request")
	}
	for _, k := range []string{"AppendEntriesRequest", "RequestVoteRequest", "RequestPreVoteRequest"} {
		if kinds[k] == 0 {
			t.Errorf("no %s came again: %v", k, kinds)
		}
	}
	if len(kinds) != 3 {
		t.Errorf("came again: %v", kinds)
	}
}

// same compares two requests; the library leaves empty lists nil or not, and stamps entries.
func same(a, b any) bool {
	x, ok := a.(*raft.AppendEntriesRequest)
	y, ok2 := b.(*raft.AppendEntriesRequest)
	if !ok || !ok2 {
		return reflect.DeepEqual(a, b)
	}
	if x.Term != y.Term || x.PrevLogEntry != y.PrevLogEntry || x.LeaderCommitIndex != y.LeaderCommitIndex ||
		len(x.Entries) != len(y.Entries) {
		return false
	}
	for i := range x.Entries {
		if x.Entries[i].Index != y.Entries[i].Index || !bytes.Equal(x.Entries[i].Data, y.Entries[i].Data) {
			return false
		}
	}
	return true
}

// TestRelayLeavesOthersAlone: a connection that is not Raft's is passed on as it is, whatever its first bytes.
func TestRelayLeavesOthersAlone(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		r := NewRelay(n, drawer(4))
		r.Repeat(1, time.Second)
		ln, err := n.Listen("b", "b:1")
		if err != nil {
			t.Fatal(err)
		}
		control := "DKL1\x02\x00\x00\x00\x00\x01b"
		var wg sync.WaitGroup
		for _, first := range []string{"D", "DKL", "\x00", "DKL2 and more", control, "\x16\x03\x01 TLS"} {
			c, err := r.Dial(t.Context(), "a", "b:1", func(ctx context.Context, addr string) (net.Conn,
				error) {
				return n.Dial(ctx, "a", addr)
			})
			if err != nil {
				t.Fatal(err)
			}
			s, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() { _, _ = io.Copy(s, s); _ = s.Close() }) // an echo
			for _, m := range []string{first, "\x00more", "\x01and more"} {
				send(t, c, m)
				receive(t, c, m)
			}
			_ = c.Close()
		}
		time.Sleep(time.Minute)
		wg.Wait()
		synctest.Wait()
		if r.Repeated() != 0 || len(ln.(*listener).backlog) != 0 {
			t.Errorf("%d copies, %d connections", r.Repeated(), len(ln.(*listener).backlog))
		}
	})
}

// TestRelayEnds: what is still to be repeated when the network is closed never is.
func TestRelayEnds(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		r := NewRelay(n, drawer(5))
		r.Repeat(1, time.Hour)
		from, to := newStreams(t, n, r, "a"), newStreams(t, n, r, "b")
		client, server := transportOver(from), transportOver(to)
		done := make(chan struct{})
		var wg sync.WaitGroup
		var rc received
		wg.Go(func() { rc.answer(server, done) })
		talk(t, client)
		n.Cut("a", "b") // copies are held, and their dials hang
		time.Sleep(10 * time.Minute)
		n.Close()
		before := len(rc.reqs)
		close(done)
		_ = client.Close()
		_ = server.Close()
		wg.Wait()
		time.Sleep(2 * time.Hour)
		server.CloseStreams()
		client.CloseStreams()
		if r.mu.Lock(); len(r.pending) != 0 || len(rc.reqs) != before {
			t.Errorf("%d copies are pending, %d requests came after the end", len(r.pending), len(rc.reqs)-before)
		}
		r.mu.Unlock()
	})
}
