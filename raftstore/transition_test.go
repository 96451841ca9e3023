package raftstore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// recorded is a connection that keeps what is written to it.
type recorded struct {
	net.Conn
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *recorded) Write(b []byte) (int, error) {
	r.mu.Lock()
	r.b.Write(b)
	r.mu.Unlock()
	return r.Conn.Write(b)
}

func (r *recorded) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.b.Bytes())
}

// What somebody has seen on the wire is of no use to him: played again, the bytes of a member's control request and of
// a whole connection of Raft do nothing. Without TLS they would.
func TestReplay(t *testing.T) {
	for _, secure := range []bool{true, false} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			ours := newAuthority(t)
			c := newCluster(t, 3, 1, calm)
			var done atomic.Int64
			c.tune = func(i int, o *Options) {
				calm(i, o)
				o.Do = func(context.Context, string, json.RawMessage) json.RawMessage {
					done.Add(1)
					return json.RawMessage(`{}`)
				}
			}
			if secure {
				c.secure(ours)
			}
			c.start(0, 1, 2)
			c.ready(c.all()...)
			c.put(0, 10)
			c.agree(0, c.all()...)
			to := c.leader(0)
			other := (to + 1) % 3
			before := c.nodes[to].store.Status().Groups[0].Term
			id := string(c.nodes[other].store.self.serverID())
			var sent []*recorded
			w := c.wireTo(to)
			w.net.opts.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
				sent = append(sent, &recorded{Conn: conn})
				return sent[len(sent)-1], err
			}
			if secure {
				w.with(ours.names(t, "x", "deckle://test/node/"+c.peers[other].Name, time.Hour))
			}
			req := &request{Op: opDo, From: id, Cluster: c.nodes[to].store.ClusterID(), Do: json.RawMessage(`{}`)}
			if _, err := w.ask(c.peers[to].Name, req); err != nil {
				t.Fatal(err)
			}
			if err := forgeries[3].send(w, as(id, c.peers[other].Addr), before+1, c.end(to)); err != nil {
				t.Fatal(err)
			}
			w.close()
			if len(sent) != 2 || done.Load() != 1 {
				t.Fatalf("%d connections, %d requests done", len(sent), done.Load())
			}
			answered := 0 // bytes of Raft's answer, that a connection of its own would get
			for _, s := range sent {
				conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", c.peers[to].Addr)
				if err != nil {
					t.Fatal(err)
				}
				_ = conn.SetDeadline(time.Now().Add(time.Second))
				_, _ = conn.Write(s.bytes())
				b, _ := io.ReadAll(conn)
				_ = conn.Close()
				if len(b) > 0 && b[0] == answerOK {
					answered++
				}
			}
			want := 0
			if !secure {
				want = 2
			}
			if got := done.Load() - 1; got != int64(want)/2 || answered != want {
				t.Errorf("%d requests are done again, %d connections are taken, want %d of two", got, answered, want)
			}
			if secure && c.counted(to, "refused", whyHandshake) != 2 {
				t.Errorf("%v are counted", c.counted(to, "refused", whyHandshake))
			}
			c.unharmed(before, 1)
			c.put(0, 10)
			c.agree(0, c.all()...)
		})
	}
}

// A cluster without TLS gets it without a stop: every node first takes both, then only TLS. Entries go on at every
// step, and at the end nobody comes in without a certificate.
func TestTransition(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	plain := c.tune
	all := c.secure(newAuthority(t))
	c.tune = plain
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	for _, both := range []bool{true, false} {
		how := map[int]bool{}
		c.tune = func(i int, o *Options) {
			if how[i] {
				o.Security, o.Plain = all[i], both
			} else if !both {
				o.Security, o.Plain = all[i], true
			}
		}
		for i := range c.nodes {
			c.stop(i)
			c.put(0, 10)
			how[i] = true
			c.start(i)
			c.ready(i)
			for range 10 {
				c.put(0, 10)
			}
			c.agree(0, c.all()...)
			// While it takes both, a stranger without a certificate is heard as before.
			w := c.wireTo(i)
			_, err := w.ask(c.peers[i].Name, &request{Op: opHello, From: c.peers[(i+1)%3].Name + "-"})
			if (err == nil) != both {
				t.Errorf("a stranger without a certificate, where both are taken: %v: %v", both, err)
			}
			w.close()
		}
	}
	c.alive(c.all()...)
	for i := range c.nodes {
		for _, conn := range c.nodes[i].store.net.connected() {
			if conn.state == nil {
				t.Errorf("%s has a connection without TLS, with %s", c.peers[i].Name, conn.RemoteAddr())
			}
		}
	}
}

// connected returns the connections that have been there for longer than a handshake takes.
func (n *network) connected() (list []*trackedConn) {
	n.mu.Lock()
	before := map[*trackedConn]bool{}
	for c := range n.conns {
		before[c] = true
	}
	n.mu.Unlock()
	time.Sleep(2 * testTimings.Transport)
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		if before[c] {
			list = append(list, c)
		}
	}
	return list
}

// A node that takes both falls back to none where the other end has no TLS, and nowhere else: a certificate that was
// refused is no reason.
func TestNoFallback(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	o := &Options{Name: "a", Nodes: []Peer{{"a", "x:1"}, {"b", "x:2"}}, Shards: 1, Plain: true,
		Security: ours.names(t, "a", "deckle://test/node/a", time.Hour), Timings: patient,
		Logger: slog.New(slog.DiscardHandler)}
	n := newNetwork(o)
	defer n.close()
	for name, l := range map[string]struct {
		sec Security
		ok  bool
	}{
		"no TLS":          {nil, true},
		"b":               {ours.names(t, "b", "deckle://test/node/b", time.Hour), true},
		"another node":    {ours.names(t, "c", "deckle://test/node/c", time.Hour), false},
		"another CA":      {theirs.names(t, "b", "deckle://test/node/b", time.Hour), false},
		"another cluster": {ours.names(t, "b", "deckle://prod/node/b", time.Hour), false},
	} {
		m := newFalseMember(t, l.sec)
		c, err := n.dial(t.Context(), m.addr(), header{kindControl, 0, "b"})
		if (err == nil) != l.ok {
			t.Errorf("%s: %v", name, err)
		}
		if c != nil {
			_ = c.Close()
		}
	}
}
