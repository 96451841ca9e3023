package raftstore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// sharedBy lets a node answer with what it was asked, and by whom. A request `"wait"` is answered when it is given up;
// started and ended count those.
type sharedBy struct{ started, ended atomic.Int32 }

func (s *sharedBy) tune(i int, o *Options) {
	if i == 2 {
		return // a node that does not share
	}
	o.Share = func(ctx context.Context, from string, what json.RawMessage) json.RawMessage {
		if string(what) == `"wait"` {
			s.started.Add(1)
			<-ctx.Done()
			s.ended.Add(1)
			return nil
		}
		if string(what) == `"large"` {
			return text(MaxShared)
		}
		return json.RawMessage(fmt.Sprintf(`[%q,%d]`, from, len(what)))
	}
}

// text is JSON of so many bytes.
func text(n int) json.RawMessage { return json.RawMessage(`"` + strings.Repeat("x", n-2) + `"`) }

// What one node shares with another comes back with that node's answer, up to the bound on both ways; who waits no
// more, ends the answer.
func TestShare(t *testing.T) {
	by := &sharedBy{}
	c := newCluster(t, 3, 1, func(i int, o *Options) { calm(i, o); by.tune(i, o) })
	c.start(c.all()...)
	c.ready(c.all()...)
	a := c.nodes[0].store
	for _, n := range []int{3, MaxShared} {
		if told, err := a.Share(t.Context(), "b", text(n)); err != nil || string(told) != fmt.Sprintf(`["a",%d]`, n) {
			t.Errorf("%d bytes: %s, %v", n, told, err)
		}
	}
	if told, err := a.Share(t.Context(), "b", json.RawMessage(`"large"`)); err != nil || len(told) != MaxShared {
		t.Errorf("a large answer: %d bytes, %v", len(told), err)
	}
	for what, node := range map[string]string{"does not share": "c", "itself": "a", "is not configured": "z"} {
		if _, err := a.Share(t.Context(), node, text(3)); !errors.Is(err, ErrNotShared) {
			t.Errorf("with a node that %s: %v", what, err)
		}
	}
	if _, err := a.Share(t.Context(), "b", text(MaxShared+1)); !errors.Is(err, ErrNotShared) {
		t.Errorf("a request that is too large: %v", err)
	}

	// At most so many at a time; each ends with its caller, and not before.
	ctx, cancel := context.WithCancel(t.Context())
	ends := make(chan error, sharedAtOnce)
	for range sharedAtOnce {
		go func() {
			_, err := a.Share(ctx, "b", json.RawMessage(`"wait"`))
			ends <- err
		}()
	}
	c.eventually("all wait", func() bool { return by.started.Load() == sharedAtOnce })
	if _, err := a.Share(t.Context(), "b", text(3)); !errors.Is(err, ErrNotShared) || !errors.Is(err, ErrRefused) {
		t.Errorf("one more: %v", err)
	}
	time.Sleep(3 * c.nodes[0].store.opts.Timings.Heartbeat)
	if by.ended.Load() != 0 {
		t.Error("an answer has ended before its caller")
	}
	cancel()
	for range sharedAtOnce {
		if err := <-ends; !errors.Is(err, context.Canceled) || errors.Is(err, ErrNotShared) {
			t.Errorf("given up: %v", err)
		}
	}
	c.eventually("all answers have ended", func() bool { return by.ended.Load() == sharedAtOnce })
	if _, err := a.Share(t.Context(), "b", text(3)); err != nil {
		t.Errorf("afterwards: %v", err)
	}

	// Who stops does not wait for those who ask, and tells them.
	go func() {
		_, err := a.Share(t.Context(), "b", json.RawMessage(`"wait"`))
		ends <- err
	}()
	c.eventually("it waits", func() bool { return by.started.Load() == sharedAtOnce+1 })
	c.stop(1)
	if err := <-ends; err == nil {
		t.Error("no error of a node that has stopped")
	}
	if _, err := a.Share(t.Context(), "b", text(3)); !errors.Is(err, ErrNotShared) {
		t.Errorf("with a node that does not run: %v", err)
	}
}

// shareAs sends a request of kind share as it is, and returns the answer's error.
func (w *wire) shareAs(node string, req *request, what []byte) error {
	conn, err := w.net.dial(w.t.Context(), w.addr, header{kind: kindShare, target: node})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if err := writeFrame(conn, req); err != nil {
		return err
	}
	_, _ = conn.Write(what)
	var resp response
	if err := readFrame(conn, &resp); err != nil {
		return err
	}
	if resp.Error != "" {
		return errors.New(resp.Error)
	}
	_, err = readShared(conn)
	return err
}

// frame is what writeShared writes, with another length if that is not 0.
func frame(b []byte, length uint32) []byte {
	if length == 0 {
		length = uint32(len(b))
	}
	return append(binary.BigEndian.AppendUint32(nil, length), b...)
}

// Nothing that a stranger shares is answered, nor what a member shares in another's name; what is no frame is not read
// to its end.
func TestStrangersShareNothing(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	var taken atomic.Int32
	c := newCluster(t, 3, 1, func(i int, o *Options) {
		calm(i, o)
		o.Share = func(context.Context, string, json.RawMessage) json.RawMessage {
			taken.Add(1)
			return json.RawMessage(`{}`)
		}
	})
	c.secure(ours)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	uri := func(node string) string { return "deckle://test/node/" + node }
	cluster := c.nodes[0].store.ClusterID()
	b := string(c.nodes[1].store.self.serverID())
	as := func(node string) *request { return &request{From: node, Cluster: cluster} }
	foreign := theirs.names(t, "x", uri("b"), time.Hour)
	foreign.pool = ours.pool
	whole := frame([]byte(`{}`), 0)
	for name, sec := range map[string]Security{
		"no": nil, "another CA's": foreign, "no node's": ours.names(t, "x", "deckle://test/client/b", time.Hour),
		"another cluster's": ours.names(t, "x", "deckle://prod/node/b", time.Hour),
	} {
		if err := c.wireTo(0).with(sec).shareAs("a", as(b), whole); err == nil {
			t.Errorf("a request with %s certificate is answered", name)
		}
	}
	named := func(node string) *wire { return c.wireTo(0).with(ours.names(t, "x", uri(node), time.Hour)) }
	had := c.refusals(0, noShard, whySender)
	for name, s := range map[string]struct {
		node, target string
		req          *request
		what         []byte
		says         string
	}{
		"in another's name":      {"c", "a", as(b), whole, "(" + whySender + ")"},
		"in the node's own name": {"c", "a", as("a-0123456789abcdef"), whole, "(" + whySender + ")"},
		"in nobody's name":       {"c", "a", as("c-"), whole, "(" + whySender + ")"},
		"to another cluster": {"b", "a", &request{From: b, Cluster: "0123456789abcdef"}, whole,
			"this is cluster"},
		"to no cluster":            {"b", "a", &request{From: b}, whole, "this is cluster"},
		"to another server":        {"b", "a-0123456789abcdef", as(b), whole, errNotMe.Error()},
		"a frame that is too long": {"b", "a", as(b), frame([]byte(`{}`), MaxShared+1), errFrame.Error()},
		"a frame without an end":   {"b", "a", as(b), frame([]byte(`{}`), 3), errFrame.Error()},
		"a frame that is no JSON":  {"b", "a", as(b), frame([]byte(`{`), 0), errFrame.Error()},
	} {
		err := named(s.node).shareAs(s.target, s.req, s.what)
		if err == nil || !strings.Contains(err.Error(), s.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := c.refusals(0, noShard, whySender) - had; got != 3 {
		t.Errorf("%v refusals are counted", got)
	}
	if taken.Load() != 0 {
		t.Errorf("%d requests were taken", taken.Load())
	}
	if err := named("b").shareAs("a", as(b), whole); err != nil || taken.Load() != 1 {
		t.Errorf("a member's own: %v, %d", err, taken.Load())
	}
	c.alive(c.all()...)
}

// A node of an earlier version is not asked; one that has become such a one is asked for it first.
func TestShareWithAnOlderNode(t *testing.T) {
	by := &sharedBy{}
	c := newCluster(t, 3, 1, func(i int, o *Options) { calm(i, o); by.tune(i, o) })
	c.start(c.all()...)
	c.ready(c.all()...)
	a := c.nodes[0].store
	if _, err := a.Share(t.Context(), "b", text(3)); err != nil {
		t.Fatal(err)
	}
	id := string(c.nodes[1].store.self.serverID())
	c.stop(1)
	end := c.answerHello(1, map[string]any{"ServerID": id, "Level": 1, "Phase": "member"})
	defer end()
	// The first meets a closed connection, as v0.1.0 does with a kind that it does not know, the next one asks.
	for range 2 {
		if _, err := a.Share(t.Context(), "b", text(3)); !errors.Is(err, ErrNotShared) {
			t.Errorf("an older node: %v", err)
		}
	}
	if _, ok := a.sharers.refuses["b"]; !ok {
		t.Error("it is not known for what it is")
	}
	if h, err := readHeader(strings.NewReader(string(header{kindShare + 1, 0, "a"}.append(nil)))); err == nil {
		t.Errorf("a kind of later is taken: %+v", h)
	}
}

// FuzzShare sends anything over a connection of kind share. It is answered or closed, and what is taken is JSON of a
// member, within the bound.
func FuzzShare(f *testing.F) {
	req, err := json.Marshal(&request{From: "b-0123456789abcdef", Cluster: "00000000000000aa"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(frame(req, 0), frame([]byte(`{"x":1}`), 0)...))
	f.Add(append(frame(req, 0), frame([]byte(`{`), 0)...))
	f.Add(append(frame(req, 0), frame(nil, MaxShared+1)...))
	f.Add(frame(req, 0)[:9])
	f.Add([]byte{})
	o := fuzzOptions(nil, 3)
	o.Timings.Transport = 10 * time.Second
	o.Share = func(_ context.Context, from string, what json.RawMessage) json.RawMessage {
		if from != "b" && from != "c" || !json.Valid(what) || len(what) > MaxShared {
			f.Errorf("taken from %s: %q", from, what)
		}
		return json.RawMessage(`{}`)
	}
	self := newSelf(&o, &identity{Name: "a", Incarnation: "0123456789abcdef", Cluster: "00000000000000aa"})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &sharing{opts: &o, logger: o.Logger, self: self, refusals: newRefusals(o.Logger, newMetrics(nil)),
			ctx: t.Context(), busy: map[string]int{}}
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() { defer close(done); s.serve(theirs, nobody) }()
		go func() {
			_, _ = ours.Write(b)
			_ = ours.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		}()
		var resp response
		if readFrame(ours, &resp) == nil && resp.Error == "" {
			_, _ = readShared(ours)
		}
		_ = ours.Close()
		<-done
		if s.busy["b"] != 0 || s.busy["c"] != 0 {
			t.Errorf("%q is counted for ever: %v", b, s.busy)
		}
	})
}
