package raftstore

import (
	"errors"
	"math"
	"net"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	dto "github.com/prometheus/client_model/go"

	"deckle/cipherfs/cipherfstest"
	"deckle/wal"
)

// jump is how far the forged terms are above the true ones: more than any election of the test.
const jump = 1 << 20

// unharmed fails the test if a forged term, vote, entry or state is found on a running node.
func (c *cluster) unharmed(before uint64, puts int) {
	c.t.Helper()
	for i, n := range c.nodes {
		if n.store == nil {
			continue
		}
		g := n.store.groups[0]
		vote, _ := g.log.inner.GetUint64([]byte("LastVoteTerm"))
		if term := n.store.Status().Groups[0].Term; max(term, vote) >= before+jump {
			c.t.Errorf("%s: term %d, vote of term %d", c.peers[i].Name, term, vote)
		}
		first, _ := g.log.inner.FirstIndex()
		last, _ := g.log.inner.LastIndex()
		for k := first; k <= last; k++ {
			var e raft.Log
			if err := g.log.inner.GetLog(k, &e); err != nil || string(e.Data) == "forged" || e.Term >= before+jump {
				c.t.Errorf("%s: entry %d is %+v, %v", c.peers[i].Name, k, e, err)
			}
		}
		if got := c.image(i, 0); got.Count > uint64(puts)+c.again.Load() {
			c.t.Errorf("%s: %d entries applied, %d were put", c.peers[i].Name, got.Count, puts)
		}
	}
}

// refusals returns how many requests a node has refused for a reason.
func (c *cluster) refusals(i int, shard, why string) float64 {
	var m dto.Metric
	if err := c.nodes[i].store.met.requests.WithLabelValues(shard, why).Write(&m); err != nil {
		c.t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// end returns the last entry of a node's log.
func (c *cluster) end(i int) (last raft.Log) {
	inner := c.nodes[i].store.groups[0].log.inner
	index, err := inner.LastIndex()
	if err == nil {
		err = inner.GetLog(index, &last)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return last
}

// calm lets a leader lead on while the machine is busy.
func calm(_ int, o *Options) {
	o.Timings = Timings{Heartbeat: time.Second, Election: time.Second, Lease: time.Second, Transport: 2 * time.Second}
}

// A stranger who reaches the Raft port and has no certificate changes nothing, whatever he sends under a name that is
// not a member's own. (Under a member's own name he is believed where there is no TLS, and so up to the bound of terms
// and to what only the leader may ask for.) An attack on the binary of before this check left a group without a leader
// for ever by one vote of the greatest term, and had forged entries committed.
func TestStrangers(t *testing.T) {
	c := newCluster(t, 3, 1, calm)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	c.agree(0, c.all()...)
	before := c.nodes[0].store.Status().Groups[0].Term
	id := func(i int) string { return string(c.nodes[i].store.self.serverID()) }
	leads := c.leader(0)
	other := (leads + 2) % 3                           // a follower: who leads may ask for an election
	for _, to := range []int{leads, (leads + 1) % 3} { // the leader and the other follower
		w := c.wireTo(to)
		count := map[string]float64{}
		for _, s := range []struct {
			name   string
			header raft.RPCHeader
			term   uint64
			why    string
		}{
			{"nobody", as("", "x:1"), before + jump, whySender},
			{"a node that is not configured", as("d-0123456789abcdef", "x:1"), before + jump, whySender},
			{"the node itself", as(id(to), c.peers[to].Addr), before + jump, whySender},
			{"another folder of the node itself", as(c.peers[to].Name+"-0123456789abcdef", "x:1"), before + jump,
				whySender},
			{"a node without an incarnation", as(c.peers[other].Name, "x:1"), before + jump, whySender},
			{"an incarnation that is none", as(c.peers[other].Name+"-1", "x:1"), before + jump, whySender},
			{"a member with another's address", raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax,
				ID: []byte(id(other)), Addr: as(id(to), c.peers[to].Addr).Addr}, before + jump, whyAddress},
			{"a member without an address", raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax,
				ID: []byte(id(other))}, before + jump, whyAddress},
			{"the greatest term", as(id(other), c.peers[other].Addr), math.MaxUint64, whyTerm},
			{"a term that wraps", as(id(other), c.peers[other].Addr), termLimit, whyTerm},
			{"a term far above", as(id(other), c.peers[other].Addr), before + 2*termBound, whyTerm},
		} {
			for _, f := range forgeries {
				why := s.why
				if why == whyTerm && f.name == "TimeoutNow" { // it has no term
					why = whyNotLeader
				}
				count[why]++
				err := f.send(w, s.header, s.term, c.end(to))
				if err == nil || !strings.Contains(err.Error(), errRefused.Error()+" ("+why+")") {
					t.Errorf("%s as %s to %s: %v", f.name, s.name, c.peers[to].Name, err)
				}
			}
		}
		for why, n := range count {
			if got := c.refusals(to, "0", why); got != n {
				t.Errorf("%s has counted %v requests for %s, %v were sent", c.peers[to].Name, got, why, n)
			}
		}
	}
	c.unharmed(before, 1)
	c.put(0, 10)
	c.agree(0, c.all()...)
	c.alive(c.all()...)
	c.unharmed(before, 2)
}

// Nor does a stranger learn or do anything by the control requests: each must come from another configured node, and a
// new cluster is told of by its founder.
func TestStrangersAskNothing(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	c.start(1, 2) // a would found the cluster
	w := newWire(t, "", c.peers[1].Addr)
	of := func(name string) string { return name + "-0123456789abcdef" }
	refusedAs := func(req *request, why string) {
		t.Helper()
		req.Nodes, req.Shards = []string{"a", "b", "c"}, 1
		resp, err := w.ask("b", req)
		if err == nil || !strings.Contains(err.Error(), errRefused.Error()+" ("+why+")") || resp.ServerID != "" {
			t.Errorf("%s from %q: %v", req.Op, req.From, err)
		}
	}
	sent := 0
	for _, op := range []string{opHello, opFound, opJoin, opHealth, opTell, opDo, "?"} {
		for _, from := range []string{"", "-", "d-", of("d"), "b-", of("b"), "a", "a-1"} {
			refusedAs(&request{Op: op, From: from}, whySender)
			sent++
		}
	}
	own := member{"b", string(c.nodes[1].store.self.serverID()), c.peers[1].Addr}
	found := func(from string, founders ...member) *request {
		return &request{Op: opFound, From: from, Cluster: "00000000000000aa", Founders: append(founders, own)}
	}
	refusedAs(found(of("c"), member{"c", of("c"), "x:1"}), whySender) // c is not the first of the nodes
	refusedAs(found(of("a"), member{"c", of("c"), "x:1"}), whySender) // a is not among the founders
	refusedAs(found(of("a"), member{"c", of("a"), "x:1"}), whySender)
	if got := c.refusals(1, noShard, whySender); got != float64(sent+3) {
		t.Errorf("%v are counted, %d were sent", got, sent+3)
	}
	if id := c.nodes[1].store.ClusterID(); id != "" {
		t.Errorf("b is of cluster %q", id)
	}
	for _, from := range []string{"a-", of("a")} { // ClusterOf has no incarnation yet
		if resp, err := w.ask("b", &request{Op: opHello, From: from}); err != nil || resp.ServerID != own.ID {
			t.Errorf("hello from %q: %+v, %v", from, resp, err)
		}
	}
	c.start(0)
	c.ready(c.all()...)
}

// What a snapshot's sender has announced and never sends must not hold up what others say: nothing of a refused
// snapshot is read.
func TestRefusedSnapshotHoldsNobodyUp(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	to := (c.leader(0) + 1) % 3
	w := c.wireTo(to)
	silent, end := net.Pipe() // nothing is ever written to it
	defer func() { _ = end.Close() }()
	done := make(chan error, 1)
	go func() {
		h := as("d-0123456789abcdef", "x:1")
		done <- w.trans.InstallSnapshot("", w.to, &raft.InstallSnapshotRequest{
			RPCHeader: h, SnapshotVersion: raft.SnapshotVersionMax, Term: jump, LastLogIndex: 1000, LastLogTerm: 1,
			Configuration: raft.EncodeConfiguration(raft.Configuration{}), Size: 1 << 40,
		}, new(raft.InstallSnapshotResponse), silent)
	}()
	c.eventually("the snapshot is refused", func() bool { return c.refusals(to, "0", whySender) > 0 })
	c.put(0, 10)
	c.agree(0, c.all()...)
	_ = silent.Close()
	<-done
}

// No term from 2⁶³ on is within anything, however close to it the one here is.
func TestTermWithin(t *testing.T) {
	for _, row := range []struct {
		term, above uint64
		want        bool
	}{
		{0, 0, true}, {3, 7, true}, {termBound, 0, true}, {termBound + 1, 0, false}, {7 + termBound, 7, true},
		{8 + termBound, 7, false}, {termLimit - 1, termLimit - 2, true}, {termLimit, termLimit - 1, false},
		{math.MaxUint64, 7, false}, {math.MaxUint64, math.MaxUint64, false},
	} {
		if termWithin(row.term, row.above) != row.want {
			t.Errorf("term %d above %d: want %v", row.term, row.above, row.want)
		}
	}
}

// A term up to 2³² above the one here passes, so that a member comes back however often it has called for elections
// alone; a greater one does not, in no kind of request.
func TestTermBound(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	c.agree(0, c.all()...)
	c.stop(0)
	c.stop(2)
	id, err := loadIdentity(c.options(2))
	if err != nil {
		t.Fatal(err)
	}
	header := as(string(id.serverID()), c.peers[2].Addr)
	w := c.wireTo(1)
	term := func() uint64 { return c.nodes[1].store.Status().Groups[0].Term }
	with := map[string]forgery{}
	for _, f := range forgeries {
		with[f.name] = f
	}
	send := func(kind string, at uint64, pass bool) {
		t.Helper()
		err := with[kind].send(w, header, at, c.end(1))
		if kind == "append" && pass { // it may lack what comes before
			pass = err == nil || !strings.Contains(err.Error(), errRefused.Error())
		}
		if (err == nil) != pass || !pass && !strings.Contains(err.Error(), "("+whyTerm+")") {
			t.Errorf("%s at %d, in term %d: %v", kind, at, term(), err)
		}
	}
	t0 := term()
	for _, kind := range []string{"append", "heartbeat", "vote", "pre-vote", "snapshot"} {
		for _, at := range []uint64{t0 + termBound + 1, termLimit - 1, termLimit, math.MaxUint64} {
			send(kind, at, false)
		}
	}
	if got := term(); got != t0 {
		t.Fatalf("term %d after refused requests, it was %d", got, t0)
	}
	send("pre-vote", t0+termBound, true)
	// Ten thousand elections, alone: with the others it finds a term that all of them take.
	send("vote", t0+10_000, true)
	if got := term(); got != t0+10_000 {
		t.Fatalf("term %d", got)
	}
	c.start(0, 2)
	c.put(0, 10)
	c.agree(0, c.all()...)
	c.alive(c.all()...)
	if got := term(); got < t0+10_000 || got > t0+20_000 {
		t.Fatalf("term %d", got)
	}
	// The exact bound, at which one server may be left behind: so it comes last.
	c.stop(0)
	c.stop(2)
	t1 := term()
	send("vote", t1+termBound, true)
	send("heartbeat", t1+2*termBound+1, false)
	send("heartbeat", t1+2*termBound, true)
	if got := term(); got != t1+2*termBound {
		t.Fatalf("term %d", got)
	}
	// The others are not drawn after it: neither by its requests nor by its answers.
	c.start(0, 2)
	c.put(0, 10)
	c.agree(0, 0, 2)
	for _, i := range []int{0, 2} {
		if got := c.nodes[i].store.Status().Groups[0].Term; got >= t1+termBound {
			t.Errorf("%s is in term %d", c.peers[i].Name, got)
		}
	}
	// It says why it follows nobody.
	c.eventually("the term is told of", func() bool {
		return strings.Contains(c.nodes[1].store.Status().Groups[0].TermRefused, whyTerm) ||
			strings.Contains(c.nodes[0].store.groups[0].speaker.termRefused(time.Minute), whyTerm)
	})
}

// A server that has nothing takes the term of a group whose term has once jumped; one that has an entry does not.
func TestTermOfAJoiner(t *testing.T) {
	fsys := vfs.NewMem()
	o := joiner(t, fsys)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Listener = ln
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.shut() }()
	for !s.forming.started.Load() {
		time.Sleep(time.Millisecond)
	}
	w := newWire(t, s.self.serverID(), ln.Addr().String())
	h := as("b-0123456789abcdef", "127.0.0.1:2")
	if err := forgeries[1].send(w, h, termLimit, raft.Log{}); err == nil {
		t.Error("a heartbeat of term 2⁶³ is taken")
	}
	if err := forgeries[1].send(w, h, termLimit-2*termBound, raft.Log{}); err != nil {
		t.Error(err)
	}
	if err := forgeries[0].send(w, h, termLimit-2*termBound+9, raft.Log{}); err != nil { // an entry
		t.Error(err)
	}
	if err := forgeries[1].send(w, h, termLimit-1, raft.Log{}); err == nil {
		t.Error("a term far above is taken by a server that has an entry")
	}
	if got := s.Status().Groups[0].Term; got != termLimit-2*termBound+9 {
		t.Errorf("term %d", got)
	}
}

// joiner writes the folder of a node that joins a cluster, and returns the options to open it.
func joiner(tb testing.TB, fsys vfs.FS) Options {
	tb.Helper()
	id := identity{
		Format: identityFormat, Name: "a", Incarnation: "0123456789abcdef", Cluster: "00000000000000aa",
		Nodes: []string{"a", "b", "c"}, Shards: 1, Phase: phaseJoining,
	}
	if err := errors.Join(makeDir(fsys, "data"), writeSealed(fsys, "data/identity", id)); err != nil {
		tb.Fatal(err)
	}
	return fuzzOptions(fsys, 3)
}

// firstEntry writes the group's first entry, of which all three are voters, where no node runs.
func (o *Options) firstEntry(tb testing.TB) {
	tb.Helper()
	w, err := wal.Open(tb.Context(), wal.Options{FS: o.FS, Dir: o.FS.PathJoin(o.Dir, walDirName)})
	if err != nil {
		tb.Fatal(err)
	}
	var conf raft.Configuration
	for _, p := range o.Nodes {
		conf.Servers = append(conf.Servers, raft.Server{
			ID: raft.ServerID(p.Name + "-0123456789abcdef"), Address: raft.ServerAddress(p.Addr),
		})
	}
	g := &Group{log: &logStore{inner: w.Group(0)}}
	if err := errors.Join(g.writeFirstConfiguration(conf), w.Close()); err != nil {
		tb.Fatal(err)
	}
}

// options are those of a node of the cluster, to look at its folder.
func (c *cluster) options(i int) *Options {
	return &Options{FS: cipherfstest.Over(c.nodes[i].fs), Dir: "data", Name: c.peers[i].Name, Nodes: c.peers,
		Shards: c.shards}
}

// FuzzSpeaker says anything, of any kind, in any place. Whether it is taken is judged by the rules a second time.
func FuzzSpeaker(f *testing.F) {
	const b = "b-0123456789abcdef"
	for kind := range uint8(5) {
		f.Add(kind, "", b, "x:2\x00"+b, "x:9", uint64(5), uint64(5), b, false)
		f.Add(kind, "b", b, "y:7\x00"+b, "", uint64(5+termBound), uint64(5), "", false)
		f.Add(kind, "c", b, "x:2\x00"+b, "", uint64(5), uint64(5), b, false)
		f.Add(kind, "", "c-00000000deadbeef", "x:3\x00c-00000000deadbeef", "", uint64(5), uint64(5), b, false)
		f.Add(kind, "", b, "x:2\x00"+b+"\x00", "", uint64(math.MaxUint64), uint64(math.MaxUint64), b, true)
	}
	id := regexp.MustCompile(`^(b|c)-[0-9a-f]{16}$`)
	f.Fuzz(func(t *testing.T, kind uint8, peer, by, addr, older string, term, own uint64, leader string, nothing bool) {
		o := &Options{Name: "a", Nodes: []Peer{{"a", "x:1"}, {"b", "x:2"}, {"c", "x:3"}}}
		s := &speaker{opts: o, nothing: func() bool { return nothing },
			formers: newFormers(marker{Replaced: []raft.ServerID{"c-00000000deadbeef"}})}
		build := func(addr, older string) any {
			h := raft.RPCHeader{ProtocolVersion: 3, ID: []byte(by), Addr: []byte(addr)}
			switch kind % 5 {
			case 0:
				//nolint:staticcheck // older versions of the library look at Leader
				return &raft.AppendEntriesRequest{RPCHeader: h, Term: term, Leader: []byte(older), PrevLogEntry: 4}
			case 1:
				//nolint:staticcheck // older versions of the library look at Candidate
				return &raft.RequestVoteRequest{RPCHeader: h, Term: term, Candidate: []byte(older), LastLogIndex: 4}
			case 2:
				return &raft.RequestPreVoteRequest{RPCHeader: h, Term: term, LastLogIndex: 4}
			case 3:
				return &raft.InstallSnapshotRequest{RPCHeader: h, Term: term, Leader: []byte(older), Size: 4}
			}
			return &raft.TimeoutNowRequest{RPCHeader: h}
		}
		if kind%5 == 4 {
			term = 0
		}
		command := build(addr, older)
		no := s.judge(command, peer, vantage{own, raft.ServerID(leader)})

		node, _, _ := strings.Cut(by, "-")
		_, named, whole := strings.Cut(addr, "\x00")
		far := term >= 1<<63 || term > own && term-own > 1<<32 && !nothing
		want := ""
		switch {
		case !id.MatchString(by) || peer != "" && peer != node:
			want = whySender
		case !whole || named != by:
			want = whyAddress
		case by == "c-00000000deadbeef":
			want = whyReplaced
		case far:
			want = whyTerm
		case kind%5 == 4 && leader != by:
			want = whyNotLeader
		}
		after := build(addr, older)
		if want == "" {
			addr := map[string]string{"b": "x:2", "c": "x:3"}[node] + "\x00" + by
			after = build(addr, addr)
		}
		if no == nil && want != "" || no != nil && (no.why != want || !errors.Is(no.err, errRefused)) {
			t.Fatalf("%+v of %q: %+v, want %q", command, peer, no, want)
		}
		if !reflect.DeepEqual(command, after) {
			t.Fatalf("it has become %+v, want %+v", command, after)
		}
	})
}
