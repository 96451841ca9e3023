package raftstore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A connection of kind share carries one request and one answer that may take long, between two nodes that share work:
// what it says, only Options.Share and the callers of Store.Share read. It is not a control request, because those are
// small and soon answered:
//
//	caller    request (From, Level, Cluster) | length u32 | JSON
//	answerer  response (Error, or nothing)   | length u32 | JSON, unless there is an error
//
// The request is judged, as each control request is, before anything large is read.
const (
	// MaxShared bounds what Store.Share sends and what Options.Share returns, in bytes.
	MaxShared = 1 << 20
	// shareWithin bounds how long an answer may take: no caller waits longer, whatever its context allows.
	shareWithin = 10 * time.Minute
	// sharedAtOnce is how many requests of one node are answered at the same time; a further one is refused. Each
	// may be MaxShared in memory, and wait for long.
	sharedAtOnce = 16
	// sharesFor is how long it is believed of a node, without asking again, that it does not share.
	sharesFor = 10 * time.Second
)

// ErrNotShared says that a request of Store.Share did not reach what it was meant for: the other node is of a version
// that does not share, is busy with others of ours, belongs to another cluster, or the request is too large. Nothing
// came of it.
var ErrNotShared = errors.New("raftstore: not shared")

// sharing answers requests of kind share.
type sharing struct {
	opts     *Options
	logger   *slog.Logger
	self     *self
	refusals *refusals
	ctx      context.Context // ends with Close

	mu   sync.Mutex
	busy map[string]int // requests that are being answered, by node
}

// serve answers one request of a peer, and closes the connection. The context of the answer ends when the caller closes
// its end of the connection.
func (s *sharing) serve(c net.Conn, peer string) {
	var watch sync.WaitGroup
	defer func() { _ = c.Close(); watch.Wait() }()
	_ = c.SetDeadline(time.Now().Add(2 * s.opts.Timings.Transport))
	var req request
	if err := readFrame(c, &req); err != nil {
		s.logger.Debug("share request", "error", err)
		return
	}
	node, err := s.enter(&req, peer)
	if err != nil {
		if writeFrame(c, &response{Error: err.Error()}) == nil {
			// A connection that is closed with something unread is reset, and the caller would not learn why.
			_, _ = io.CopyN(io.Discard, c, 4+MaxShared)
		}
		return
	}
	defer s.leave(node)
	what, err := readShared(c)
	if err != nil {
		s.logger.Debug("share request", "from", node, "error", err)
		return
	}
	_ = c.SetDeadline(time.Time{})
	ctx, cancel := context.WithTimeout(s.ctx, shareWithin)
	defer cancel()
	watch.Go(func() {
		_, _ = c.Read(make([]byte, 1)) // whatever it is, the caller waits no more
		cancel()
	})
	told := s.opts.Share(ctx, node, what)
	_ = c.SetWriteDeadline(time.Now().Add(2 * s.opts.Timings.Transport))
	if err = writeFrame(c, &response{}); err == nil {
		err = writeShared(c, told)
	}
	if err != nil {
		s.logger.Debug("share answer", "to", node, "error", err)
	}
}

// enter judges who asks, and counts the request as one that is being answered. It returns the node's name.
func (s *sharing) enter(req *request, peer string) (string, error) {
	from, no := s.opts.speaks(raft.ServerID(req.From), peer)
	if no != nil {
		s.refusals.request(noShard, s.opts.known(peer, raft.ServerID(req.From)), no)
		return "", no.err
	}
	switch id := s.self.get(); {
	case id.Cluster == "" || req.Cluster != id.Cluster:
		return "", fmt.Errorf("raftstore: this is cluster %q, not %.100q", id.Cluster, req.Cluster)
	case s.opts.Share == nil:
		return "", errors.New("raftstore: this node shares nothing")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[from.Name] >= sharedAtOnce {
		return "", fmt.Errorf("raftstore: %d requests of %s are being answered", sharedAtOnce, from.Name)
	}
	s.busy[from.Name]++
	return from.Name, nil
}

func (s *sharing) leave(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[node]--
}

// sharers sends requests of kind share, to nodes that are known to take them.
type sharers struct {
	peers *peers

	mu sync.Mutex
	// takes are the nodes that have said so, until a connection to one of them is refused; refuses those that have
	// said otherwise, and when.
	takes   map[string]bool
	refuses map[string]time.Time
}

// share sends a request to a node and returns its answer.
func (s *sharers) share(ctx context.Context, to Peer, what json.RawMessage) (json.RawMessage, error) {
	if len(what) > MaxShared {
		return nil, fmt.Errorf("%w: %d bytes", ErrNotShared, len(what))
	}
	if err := s.ask(ctx, to); err != nil {
		return nil, err
	}
	id := s.peers.self.get()
	c, err := s.peers.net.dial(ctx, to.Addr, header{kind: kindShare, target: to.Name})
	if err != nil {
		s.mu.Lock()
		delete(s.takes, to.Name) // it may be another version by now
		s.mu.Unlock()
		return nil, fmt.Errorf("%w: %w", ErrNotShared, err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetWriteDeadline(time.Now().Add(2 * s.peers.opts.Timings.Transport))
	_ = c.SetReadDeadline(time.Now().Add(shareWithin))
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var resp response
	var told json.RawMessage
	err = writeFrame(c, &request{From: string(id.serverID()), Level: s.peers.opts.Level, Cluster: id.Cluster})
	if err == nil {
		// What ends the connection here may stand behind a refusal, which is read instead.
		_ = writeShared(c, what)
		err = readFrame(c, &resp)
	}
	if err == nil && resp.Error != "" {
		return nil, fmt.Errorf("%w: %w: %s: %s", ErrNotShared, ErrRefused, to.Name, resp.Error)
	}
	if err == nil {
		told, err = readShared(c)
	}
	if err != nil {
		return nil, fmt.Errorf("raftstore: share with %s: %w", to.Name, errors.Join(ctx.Err(), err))
	}
	return told, nil
}

// ask returns nil if a node takes requests of this kind, by what it has told before, or else tells now.
func (s *sharers) ask(ctx context.Context, to Peer) error {
	no := fmt.Errorf("%w: %s is of a version that does not share", ErrNotShared, to.Name)
	s.mu.Lock()
	takes := s.takes[to.Name]
	at, refuses := s.refuses[to.Name]
	s.mu.Unlock()
	switch {
	case takes:
		return nil
	case refuses && time.Since(at) < sharesFor:
		return no
	}
	resp, err := s.peers.call(ctx, to, &request{Op: opHello})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotShared, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if resp.Shares {
		s.takes[to.Name] = true
		delete(s.refuses, to.Name)
		return nil
	}
	s.refuses[to.Name] = time.Now()
	return no
}

// writeShared writes JSON as a frame that may be large.
func writeShared(w io.Writer, b json.RawMessage) error {
	if len(b) > MaxShared {
		return fmt.Errorf("%w: %d bytes", errFrame, len(b))
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func readShared(r io.Reader) (json.RawMessage, error) {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	l := binary.BigEndian.Uint32(n[:])
	if l > MaxShared {
		return nil, fmt.Errorf("%w: %d bytes", errFrame, l)
	}
	b := make([]byte, l)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	if !json.Valid(b) {
		return nil, fmt.Errorf("%w: no JSON", errFrame)
	}
	return b, nil
}
