package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	dto "github.com/prometheus/client_model/go"
)

// falseMember listens in the place of a member and answers every request with an id and a term that follows from that
// of the request; what is asked for is granted.
type falseMember struct {
	net    *network
	layer  *layer
	trans  *raft.NetworkTransport
	stop   chan struct{}
	answer atomic.Pointer[func(term uint64) (by string, answered uint64)]
}

func newFalseMember(t *testing.T, s Security) *falseMember {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &Options{Name: "false", Listener: ln, Timings: patient, Logger: slog.New(slog.DiscardHandler),
		Security: s, Plain: true}
	m := &falseMember{net: newNetwork(o), stop: make(chan struct{})}
	if err := m.net.listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.layer = newLayer(m.net, 0, "false")
	m.trans = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: m.layer, MaxPool: 1, Timeout: 5 * time.Second, Logger: raftLogger(o.Logger, 0),
	})
	m.net.serve(func(_ header, _ string, c net.Conn) (byte, func()) {
		return answerOK, func() { m.layer.hand(c) }
	})
	m.net.wg.Go(m.serve)
	t.Cleanup(func() {
		close(m.stop)
		_ = m.trans.Close()
		m.trans.CloseStreams()
		m.net.close()
	})
	return m
}

func (m *falseMember) addr() string { return m.net.ln.Addr().String() }

func (m *falseMember) answers(f func(term uint64) (by string, answered uint64)) { m.answer.Store(&f) }

func (m *falseMember) serve() {
	for {
		var rpc raft.RPC
		select {
		case rpc = <-m.trans.Consumer():
		case <-m.stop:
			return
		}
		s, _ := saidBy(rpc.Command)
		by, term := (*m.answer.Load())(s.term)
		h := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(by), Addr: raftAddress(
			raft.ServerID(by), "x:1")}
		switch req := rpc.Command.(type) {
		case *raft.AppendEntriesRequest:
			rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: h, Term: term, Success: true,
				LastLog: req.PrevLogEntry + uint64(len(req.Entries))}, nil)
		case *raft.RequestVoteRequest:
			rpc.Respond(&raft.RequestVoteResponse{RPCHeader: h, Term: term, Granted: true}, nil)
		case *raft.RequestPreVoteRequest:
			rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: h, Term: term, Granted: true}, nil)
		case *raft.InstallSnapshotRequest:
			_, _ = io.Copy(io.Discard, rpc.Reader)
			rpc.Respond(&raft.InstallSnapshotResponse{RPCHeader: h, Term: term, Success: true}, nil)
		case *raft.TimeoutNowRequest:
			rpc.Respond(&raft.TimeoutNowResponse{RPCHeader: h}, nil)
		}
	}
}

// An answer counts only if it names the server that was asked, or none (answers to snapshots do not), and a term that
// is not far above that of the request. Otherwise the call has failed, and nothing of the answer is left: the library
// takes over the term of any answer.
func TestFalseAnswers(t *testing.T) {
	const asked = "b-0123456789abcdef"
	m := newFalseMember(t, nil)
	o := &Options{Name: "a", Timings: testTimings, Logger: slog.New(slog.DiscardHandler)}
	n := newNetwork(o)
	l := newLayer(n, 0, "a")
	tr := newTransport(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: l, MaxPool: 1, MaxRPCsInFlight: 1, Timeout: 5 * time.Second, Logger: raftLogger(o.Logger, 0),
	}))
	defer func() { _ = tr.Close(); n.close() }()
	count := map[string]int{}
	tr.refusedAnswer = func(of raft.ServerID, why *refusal) {
		if of != asked {
			t.Errorf("refused for %s", of)
		}
		count[why.why]++
	}
	tr.maySend = func(context.Context, raft.ServerID, io.Reader) error { return nil }
	tr.noteSent = func(raft.ServerID, error) {}
	to := raft.ServerAddress(asked + dialSeparator + m.addr())
	const term = 7
	calls := map[string]func() (answered uint64, granted bool, err error){
		"append": func() (uint64, bool, error) {
			var resp raft.AppendEntriesResponse
			err := tr.AppendEntries(asked, to, &raft.AppendEntriesRequest{Term: term, PrevLogEntry: 3}, &resp)
			return resp.Term, resp.Success, err
		},
		"vote": func() (uint64, bool, error) {
			var resp raft.RequestVoteResponse
			err := tr.RequestVote(asked, to, &raft.RequestVoteRequest{Term: term}, &resp)
			return resp.Term, resp.Granted, err
		},
		"pre-vote": func() (uint64, bool, error) {
			var resp raft.RequestPreVoteResponse
			err := tr.RequestPreVote(asked, to, &raft.RequestPreVoteRequest{Term: term}, &resp)
			return resp.Term, resp.Granted, err
		},
		"snapshot": func() (uint64, bool, error) {
			var resp raft.InstallSnapshotResponse
			err := tr.InstallSnapshot(asked, to, &raft.InstallSnapshotRequest{Term: term, Size: 1}, &resp,
				strings.NewReader("x"))
			return resp.Term, resp.Success, err
		},
		"TimeoutNow": func() (uint64, bool, error) {
			var resp raft.TimeoutNowResponse
			err := tr.TimeoutNow(asked, to, new(raft.TimeoutNowRequest), &resp)
			return 0, err == nil, err
		},
	}
	want := map[string]int{}
	for _, a := range []struct {
		by   string
		term uint64
		why  string // "": it is taken
	}{
		{asked, term, ""},
		{"", term, ""},
		{asked, term + termBound, ""},
		{asked, 0, ""},
		{asked, term + termBound + 1, whyTerm},
		{asked, termLimit, whyTerm},
		{asked, math.MaxUint64, whyTerm},
		{"b-0123456789abcdee", term, whySender},
		{"c-0123456789abcdef", term, whySender},
		{"b", term, whySender},
	} {
		m.answers(func(uint64) (string, uint64) { return a.by, a.term })
		for name, call := range calls {
			why := a.why
			if name == "TimeoutNow" && why == whyTerm {
				why = "" // its answer has no term
			}
			answered, granted, err := call()
			switch {
			case why == "" && (err != nil || !granted || name != "TimeoutNow" && answered != a.term):
				t.Errorf("%s by %q in term %d: %d, %v, %v", name, a.by, a.term, answered, granted, err)
			case why != "" && (!errors.Is(err, errRefused) || granted || answered != 0):
				t.Errorf("%s by %q in term %d is taken: %d, %v, %v", name, a.by, a.term, answered, granted, err)
			case why != "":
				want[why]++
			}
		}
	}
	if fmt.Sprint(count) != fmt.Sprint(want) {
		t.Errorf("counted %v, want %v", count, want)
	}
}

// A listener in a member's place, without the member's name, lets nothing be committed; and whatever term it answers,
// the other two go on.
func TestFalseMember(t *testing.T) {
	m := newFalseMember(t, nil)
	var inPlace atomic.Bool
	c := newCluster(t, 3, 1, nil)
	c.tune = func(_ int, o *Options) {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			if inPlace.Load() && addr == c.peers[1].Addr {
				addr = m.addr()
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		}
	}
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	c.agree(0, c.all()...)
	before := c.nodes[0].store.Status().Groups[0].Term
	b, third := c.nodes[1].store.self.serverID(), c.nodes[2].store.self.serverID()
	c.stop(1)
	m.answers(func(uint64) (string, uint64) { return string(b), math.MaxUint64 })
	inPlace.Store(true)
	for range 3 { // heartbeats, appends, and the votes of a few elections
		c.put(0, 10)
		if g := c.nodes[c.leader(0)].store.Group(0); g != nil {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			_ = g.TransferLeadership(ctx, c.peers[2-c.leader(0)].Name)
			cancel()
		}
	}
	c.put(0, 10)
	c.agree(0, 0, 2)
	c.unharmed(before, 5)
	counted := func() (n float64) {
		for _, i := range []int{0, 2} {
			for _, why := range []string{whySender, whyTerm} {
				var d dto.Metric
				if err := c.nodes[i].store.met.answers.WithLabelValues("0", why).Write(&d); err != nil {
					t.Fatal(err)
				}
				n += d.GetCounter().GetValue()
			}
		}
		return n
	}
	c.eventually("the answers are counted", func() bool { return counted() > 0 })

	// Alone with it nobody leads: it would grant everything, under another's name.
	m.answers(func(term uint64) (string, uint64) { return string(third), term })
	end := c.leader(0)
	c.stop(2 - end)
	c.eventually("the last one does not lead", func() bool { return !c.nodes[end].store.Group(0).IsLeader() })
	at := c.nodes[end].store.Status().Groups[0].CommitIndex
	for range 20 {
		time.Sleep(testTimings.Election / 4)
		if g := c.nodes[end].store.Group(0); g.IsLeader() || c.nodes[end].store.Status().Groups[0].CommitIndex > at {
			t.Fatal("it leads, with votes of nobody")
		}
	}
	inPlace.Store(false)
	c.start(1, 2-end)
	c.put(0, 10)
	c.agree(0, c.all()...)
}

// A leader tells a follower with an append up to where its log is committed; that counts only as far as the append has
// been compared with the follower's log. An entry behind it, which a former leader has left there, is not committed.
func TestCommitEndsWithTheAppend(t *testing.T) {
	c := newCluster(t, 3, 1, calm)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	c.agree(0, c.all()...)
	leads := c.leader(0)
	to, other := (leads+1)%3, (leads+2)%3
	h := as(string(c.nodes[leads].store.self.serverID()), c.peers[leads].Addr)
	term := c.nodes[leads].store.Status().Groups[0].Term
	c.stop(leads) // its name is ours
	c.stop(other)
	w, end := c.wireTo(to), c.end(to)
	applied := c.image(to, 0)
	send := func(prev raft.Log, commit uint64, entries ...*raft.Log) {
		t.Helper()
		var resp raft.AppendEntriesResponse
		//nolint:staticcheck // older versions of the library look at Leader
		if err := w.trans.AppendEntries("", w.to, &raft.AppendEntriesRequest{
			RPCHeader: h, Term: term, Leader: h.Addr, PrevLogEntry: prev.Index, PrevLogTerm: prev.Term,
			Entries: entries, LeaderCommitIndex: commit,
		}, &resp); err != nil || !resp.Success {
			t.Fatalf("append: %v, %+v", err, resp)
		}
	}
	left := &raft.Log{Index: end.Index + 1, Term: term, Data: []byte("of a former leader")}
	send(end, 0, left)
	send(end, end.Index+1)
	// Whatever is committed now comes behind it.
	time.Sleep(50 * time.Millisecond)
	if st := c.nodes[to].store.Status().Groups[0]; st.CommitIndex > end.Index || c.image(to, 0) != applied {
		t.Errorf("entry %d is committed up to %d: %+v, before %+v", left.Index, st.CommitIndex, c.image(to, 0), applied)
	}
	send(*left, left.Index) // now it has been compared
	c.eventually("it is applied", func() bool { return c.image(to, 0) != applied })
}
