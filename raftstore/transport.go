package raftstore

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// layer is one group's raft.StreamLayer over the node's port.
type layer struct {
	net    *network
	group  uint32
	addr   nodeAddr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// nodeAddr is the node's own address as the other nodes know it.
type nodeAddr string

func (nodeAddr) Network() string  { return "tcp" }
func (a nodeAddr) String() string { return string(a) }

func newLayer(n *network, group uint32, addr string) *layer {
	return &layer{net: n, group: group, addr: nodeAddr(addr), conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *layer) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// hand gives an incoming connection to the group's transport, which closes it.
func (l *layer) hand(c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.closed:
		_ = c.Close()
	case <-l.net.ctx.Done():
		_ = c.Close()
	}
}

func (l *layer) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *layer) Addr() net.Addr { return l.addr }

// Dial takes an address that addresses.ServerAddr made: the server that is meant, and where it is.
func (l *layer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	target, addr, ok := strings.Cut(string(address), dialSeparator)
	if !ok {
		return nil, errors.New("raftstore: dial without a server id")
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return l.net.dial(ctx, addr, header{kind: kindRaft, group: l.group, target: target})
}

const dialSeparator = "\x00"

// transport is the library's network transport, changed where the library is wrong or lacks something:
//   - the server id reaches Dial, for the header;
//   - it has no heartbeat fast path, which may raise the term while the leader's loop runs (hashicorp/raft #695);
//   - a vote is given to a server id, not to an address, which the server's next incarnation will have too;
//   - the guard (guard.go) sees every request before Raft does;
//   - an answer is taken only if it may be one (held): the library takes over any term that stands in it;
//   - calls to a peer that does not answer wait until a heartbeat to it is answered, so that the library's backoff,
//     which grows to seconds, does not delay a peer that has come back;
//   - a snapshot is sent only to a server that can read it, and what became of it is noted;
//   - a full append to a follower that is behind is made longer (longer.go).
type transport struct {
	*raft.NetworkTransport // embedded, so that its pre-vote and its Close stay visible

	rpcs     chan raft.RPC
	incoming []*raft.NetworkTransport // one for each peer: the library hands a request over without its connection
	heard    chan heard               // what comes in by them
	closed   chan struct{}
	once     sync.Once
	ending   chan struct{} // closed before Raft is shut down, which waits for the calls that wait here
	wg       sync.WaitGroup
	// maySend tells whether a server can take a snapshot, noteSent what became of sending it.
	maySend  func(context.Context, raft.ServerID, io.Reader) error
	noteSent func(raft.ServerID, error)
	// refusedAnswer is told of an answer that was not taken.
	refusedAnswer func(raft.ServerID, *refusal)
	longer        *longer

	mu sync.Mutex
	// down holds the silent peers; a channel is closed when its peer answers again, or nobody is to wait any more.
	down map[raft.ServerID]chan struct{}
}

// maxWait bounds how long one call waits for a silent peer.
const maxWait = 30 * time.Second

func newTransport(inner *raft.NetworkTransport) *transport {
	return &transport{
		NetworkTransport: inner, rpcs: make(chan raft.RPC), heard: make(chan heard), closed: make(chan struct{}),
		ending: make(chan struct{}), down: map[raft.ServerID]chan struct{}{},
	}
}

// heard is a request and the peer whose connection it came by.
type heard struct {
	rpc  raft.RPC
	peer string
}

// hears adds a transport that takes the connections of one peer.
func (t *transport) hears(peer string, in *raft.NetworkTransport) {
	t.incoming = append(t.incoming, in)
	t.wg.Go(func() {
		for {
			select {
			case rpc := <-in.Consumer():
				select {
				case t.heard <- heard{rpc, peer}:
				case <-t.closed:
					return
				}
			case <-t.closed:
				return
			}
		}
	})
}

// addresses gives Dial the server id along with the configured address of its node.
type addresses struct{ opts *Options }

func (a addresses) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	p, ok := a.opts.peer(nodeOf(id))
	if !ok {
		return "", errors.New("raftstore: server of no configured node: " + string(id))
	}
	return raft.ServerAddress(string(id) + dialSeparator + p.Addr), nil
}

func (t *transport) SetHeartbeatHandler(func(raft.RPC)) {}

func (t *transport) Consumer() <-chan raft.RPC { return t.rpcs }

func (t *transport) EncodePeer(id raft.ServerID, addr raft.ServerAddress) []byte {
	return raftAddress(id, addr)
}

// raftAddress is a server's address as Raft's requests have it.
func raftAddress(id raft.ServerID, addr raft.ServerAddress) []byte {
	return []byte(string(addr) + dialSeparator + string(id))
}

func (t *transport) DecodePeer(b []byte) raft.ServerAddress {
	addr, _, _ := strings.Cut(string(b), dialSeparator)
	return raft.ServerAddress(addr)
}

func (t *transport) AppendEntries(
	id raft.ServerID, target raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse,
) error {
	heartbeat := req.PrevLogEntry == 0 && len(req.Entries) == 0 && req.LeaderCommitIndex == 0
	if !heartbeat {
		t.awaitPeer(id)
	}
	// gofail: var bugAckBeforeQuorum struct{}
	// if n := len(req.Entries); n > 0 {
	// 	later := *req
	// 	t.wg.Go(func() { _ = t.NetworkTransport.AppendEntries(id, target, &later, new(raft.AppendEntriesResponse)) })
	// 	resp.Term, resp.LastLog, resp.Success = req.Term, req.Entries[n-1].Index, true
	// 	return nil
	// }
	ended, start := t.longer.lengthen(id, req), time.Now()
	err := t.NetworkTransport.AppendEntries(id, target, req, resp)
	if err = t.held(id, err, resp.ID, resp.Term, req.Term); err != nil {
		*resp = raft.AppendEntriesResponse{}
	}
	ended(time.Since(start), err == nil && resp.Success)
	t.noteAnswer(id, err == nil, heartbeat)
	return err
}

// RequestVote asks a server for its vote.
func (t *transport) RequestVote(
	id raft.ServerID, target raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse,
) error {
	err := t.NetworkTransport.RequestVote(id, target, req, resp)
	if err = t.held(id, err, resp.ID, resp.Term, req.Term); err != nil {
		*resp = raft.RequestVoteResponse{}
	}
	return err
}

// RequestPreVote asks a server whether it would give its vote.
func (t *transport) RequestPreVote(
	id raft.ServerID, target raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse,
) error {
	err := t.NetworkTransport.RequestPreVote(id, target, req, resp)
	if err = t.held(id, err, resp.ID, resp.Term, req.Term); err != nil {
		*resp = raft.RequestPreVoteResponse{}
	}
	return err
}

// TimeoutNow asks a server to begin an election at once.
func (t *transport) TimeoutNow(
	id raft.ServerID, target raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse,
) error {
	err := t.NetworkTransport.TimeoutNow(id, target, req, resp)
	return t.held(id, err, resp.ID, 0, 0)
}

// held returns the error of a call. A call whose answer names another server than the one that was asked, or a term too
// far above that of the request, has failed. An answer need not name its server: those to snapshots do not.
func (t *transport) held(asked raft.ServerID, err error, by []byte, term, of uint64) error {
	// gofail: var bugAnswersUnbound struct{}
	// term = 0
	var no *refusal
	switch {
	case err != nil:
		return err
	case len(by) > 0 && string(by) != string(asked):
		no = refused(whySender, "the answer of server %.100q instead of server %s", by, asked)
	case !termWithin(term, of):
		no = refused(whyTerm, "server %s answers a request of term %d with term %d", asked, of, term)
	default:
		return nil
	}
	t.refusedAnswer(asked, no)
	return no.err
}

// InstallSnapshot sends a snapshot to a server that can read it. If it fails, the library tries again, with a pause
// that grows to seconds.
func (t *transport) InstallSnapshot(
	id raft.ServerID, target raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse,
	data io.Reader,
) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // Raft's end waits for this call
		select {
		case <-t.ending:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := t.maySend(ctx, id, data)
	if err == nil {
		err = t.NetworkTransport.InstallSnapshot(id, target, req, resp, data)
		if err = t.held(id, err, resp.ID, resp.Term, req.Term); err != nil {
			*resp = raft.InstallSnapshotResponse{}
		}
	}
	t.noteSent(id, err)
	return err
}

// awaitPeer waits while the peer is known to be silent, for maxWait at most.
func (t *transport) awaitPeer(id raft.ServerID) {
	t.mu.Lock()
	up := t.down[id]
	t.mu.Unlock()
	if up == nil {
		return
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case <-up:
	case <-timer.C:
	case <-t.ending:
	}
}

// noteAnswer notes whether a peer answered: a heartbeat without an answer makes it silent.
func (t *transport) noteAnswer(id raft.ServerID, ok, heartbeat bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	up := t.down[id]
	switch {
	case ok && up != nil:
		close(up)
		delete(t.down, id)
	case !ok && up == nil && heartbeat:
		t.down[id] = make(chan struct{})
	}
}

// release lets all waiting calls go on: a call of a leadership that has ended is of no use.
func (t *transport) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, up := range t.down {
		close(up)
		delete(t.down, id)
	}
}

func (t *transport) Close() error {
	t.once.Do(func() { close(t.closed) })
	err := t.NetworkTransport.Close()
	t.CloseStreams()
	for _, in := range t.incoming {
		err = errors.Join(err, in.Close())
		in.CloseStreams()
	}
	t.wg.Wait()
	return err
}
