package raftstore

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// wire speaks to a node's Raft port as anybody could who reaches it. It says what it is told to say.
type wire struct {
	t     *testing.T
	net   *network
	layer *layer
	trans *raft.NetworkTransport
	to    raft.ServerAddress // the server that is spoken to
	addr  string
}

// patient are the timings of whoever waits for a busy machine.
var patient = func() Timings {
	t := testTimings
	t.Transport = 5 * time.Second
	return t
}()

// newWire speaks to a server at an address. It has no certificate.
func newWire(t *testing.T, id raft.ServerID, addr string) *wire {
	o := &Options{Name: "stranger", Timings: patient, Logger: testLogger(t)}
	if err := o.complete(); !errors.Is(err, ErrConfig) { // it fills the defaults before it finds no folder
		t.Fatal(err)
	}
	w := &wire{t: t, net: newNetwork(o), to: raft.ServerAddress(string(id) + dialSeparator + addr), addr: addr}
	w.layer = newLayer(w.net, 0, "stranger")
	w.trans = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: w.layer, MaxPool: 1, Timeout: 5 * time.Second, Logger: raftLogger(o.Logger, 0),
	})
	t.Cleanup(w.close)
	return w
}

func (w *wire) close() {
	_ = w.trans.Close()
	w.trans.CloseStreams()
	w.net.close()
}

// wireTo speaks to a running node.
func (c *cluster) wireTo(i int) *wire {
	return newWire(c.t, c.nodes[i].store.self.serverID(), c.peers[i].Addr)
}

// ask sends a control request as it is and returns the error of its answer.
func (w *wire) ask(node string, req *request) (*response, error) {
	conn, err := w.net.dial(w.t.Context(), w.addr, header{kind: kindControl, target: node})
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	var resp response
	if err = errors.Join(writeFrame(conn, req), readFrame(conn, &resp)); err == nil && resp.Error != "" {
		err = errors.New(resp.Error)
	}
	return &resp, err
}

// forgery is a request of Raft's as an attacker makes it: it would do harm if it were obeyed.
type forgery struct {
	name string
	send func(w *wire, h raft.RPCHeader, term uint64, last raft.Log) error // last is the end of the log there
}

var forgeries = []forgery{
	{"append", func(w *wire, h raft.RPCHeader, term uint64, last raft.Log) error {
		//nolint:staticcheck // older versions of the library look at Leader
		return w.trans.AppendEntries("", w.to, &raft.AppendEntriesRequest{
			RPCHeader: h, Term: term, Leader: h.Addr, PrevLogEntry: last.Index, PrevLogTerm: last.Term,
			Entries:           []*raft.Log{{Index: last.Index + 1, Term: term, Data: []byte("forged")}},
			LeaderCommitIndex: last.Index + 1,
		}, new(raft.AppendEntriesResponse))
	}},
	{"heartbeat", func(w *wire, h raft.RPCHeader, term uint64, _ raft.Log) error {
		//nolint:staticcheck // older versions of the library look at Leader
		return w.trans.AppendEntries("", w.to, &raft.AppendEntriesRequest{RPCHeader: h, Term: term, Leader: h.Addr},
			new(raft.AppendEntriesResponse))
	}},
	{"vote", func(w *wire, h raft.RPCHeader, term uint64, last raft.Log) error {
		//nolint:staticcheck // older versions of the library look at Candidate
		return w.trans.RequestVote("", w.to, &raft.RequestVoteRequest{
			RPCHeader: h, Term: term, Candidate: h.Addr, LastLogIndex: last.Index + 1000, LastLogTerm: term - 1,
			LeadershipTransfer: true,
		}, new(raft.RequestVoteResponse))
	}},
	{"pre-vote", func(w *wire, h raft.RPCHeader, term uint64, last raft.Log) error {
		return w.trans.RequestPreVote("", w.to, &raft.RequestPreVoteRequest{
			RPCHeader: h, Term: term, LastLogIndex: last.Index + 1000, LastLogTerm: term - 1,
		}, new(raft.RequestPreVoteResponse))
	}},
	{"snapshot", func(w *wire, h raft.RPCHeader, term uint64, last raft.Log) error {
		conf := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "x-1", Address: "x:1"}}})
		return w.trans.InstallSnapshot("", w.to, &raft.InstallSnapshotRequest{
			RPCHeader: h, SnapshotVersion: raft.SnapshotVersionMax, Term: term, Leader: h.Addr,
			LastLogIndex: last.Index + 1000, LastLogTerm: term, Configuration: conf, ConfigurationIndex: 1, Size: 12,
		}, new(raft.InstallSnapshotResponse), strings.NewReader("no snapshot."))
	}},
	{"TimeoutNow", func(w *wire, h raft.RPCHeader, _ uint64, _ raft.Log) error {
		return w.trans.TimeoutNow("", w.to, &raft.TimeoutNowRequest{RPCHeader: h}, new(raft.TimeoutNowResponse))
	}},
}

// as is the header of a request that a server at an address sends.
func as(id, addr string) raft.RPCHeader {
	return raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: raftAddress(raft.ServerID(id),
			raft.ServerAddress(addr)),
	}
}
