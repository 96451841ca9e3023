package raftstore

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"log/slog"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/semaphore"

	"deckle/schema/level"
)

// guard stands between the transport and Raft, since a snapshot that arrives at a node whose log is ahead of it, or
// conflicts with it, breaks the library (hashicorp/raft #697, #704: the conflicting entries stay, or the end of the log
// that Raft keeps in memory points to nothing). Of a snapshot at index I and term T:
//
//	already applied here, or in the log with term T    answered with success: all of it is here, durably
//	the log reaches I, with another term there         refused; the log's entries from I on are dropped and the group
//	                                                   restarts, so that the next attempt finds a log that ends
//	                                                   below I. What is dropped was never committed, for I with
//	                                                   term T was
//	the log ends below I                               Raft installs it; nothing of the log is kept (snapshots.fitLog)
//
//	any of these, of a level that is not read here     refused after its head; what follows is not read
//	any of these, while the group is held, or the      refused, unless all of it is here; nothing of it is read
//	node has no room for entries (logBound)
//
// An append whose previous entry is older than the log's begin is shortened to where the log can check it: what lies
// below is committed, and so the same as the leader's. An append that carries entries is refused while the node has no
// room for them. The commit index of an append counts up to the last entry that the append has compared with the log:
// the library commits up to the end of the log, where entries of a former leader may lie that no one has asked for yet,
// if the append ends before them.
type guard struct {
	logger         *slog.Logger
	log            *logStore
	fsm            *fsm
	snaps          *snapshots
	ctx            context.Context     // ends with the group
	oneSnapshot    *semaphore.Weighted // held during a local snapshot and during an install
	requestRestart func(restartRequest)
	level          level.Level // of this binary
	bound          *logBound
	refused        func() // is called when an append is refused because the log is too long
	speaker        *speaker
}

// watch hands requests to an instance of Raft, one by one, until its transport closes.
func (g *guard) watch(r *instance) {
	for {
		select {
		case rpc := <-r.trans.NetworkTransport.Consumer():
			g.pass(r, rpc, nobody)
		case h := <-r.trans.heard:
			g.pass(r, h.rpc, h.peer)
		case <-r.trans.closed:
			return
		}
	}
}

// pass hands a request that came from a peer to Raft, unless Raft must not see it.
func (g *guard) pass(r *instance, rpc raft.RPC, peer string) {
	if g.answered(r, rpc, peer) {
		return
	}
	select {
	case r.trans.rpcs <- rpc:
	case <-r.trans.closed:
	}
}

// answered looks at a request that came from a peer, and answers it if Raft must not see it.
func (g *guard) answered(r *instance, rpc raft.RPC, peer string) bool {
	if err := sane(rpc.Command); err != nil {
		g.logger.Warn("request refused", "error", err)
		refuseUnread(rpc, err)
		return true
	}
	if err := g.speaker.hear(r, rpc.Command, peer); err != nil {
		refuseUnread(rpc, err)
		return true
	}
	switch req := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		if err := g.tooLong(req); err != nil {
			refuseUnread(rpc, err)
			return true
		}
		g.shorten(req)
		req.LeaderCommitIndex = min(req.LeaderCommitIndex, req.PrevLogEntry+uint64(len(req.Entries)))
	case *raft.InstallSnapshotRequest:
		return g.install(r, rpc, req)
	}
	return false
}

// install answers a snapshot that Raft must not see, and lets the others in one at a time. It returns false where Raft
// is still to be given the request.
func (g *guard) install(r *instance, rpc raft.RPC, req *raft.InstallSnapshotRequest) (answered bool) {
	if req.Term < r.raft.CurrentTerm() {
		return false // Raft refuses it
	}
	index, term := req.LastLogIndex, req.LastLogTerm
	have, err := g.log.term(index)
	if err != nil {
		refuse(rpc, err)
		return true
	}
	last, err := g.log.inner.LastIndex()
	switch {
	case err != nil:
		refuse(rpc, err)
		return true
	case index <= g.fsm.known() || have == term && index <= r.raft.LastIndex():
		_, _ = io.Copy(io.Discard, rpc.Reader)
		rpc.Respond(&raft.InstallSnapshotResponse{Term: req.Term, Success: true}, nil)
		return true
	}
	if err = cmp.Or(g.fsm.holdErr(), g.bound.exceeded()); err == nil {
		err = g.readable(&rpc)
	}
	if err != nil {
		g.logger.Warn("snapshot refused", "index", index, "error", err)
		refuseUnread(rpc, err)
		return true
	}
	if last >= index {
		g.requestRestart(restartRequest{index, "the log conflicts with the leader's snapshot"})
		refuse(rpc, errConflict)
		return true
	}
	if err := g.oneSnapshot.Acquire(g.ctx, 1); err != nil { // waits for a local snapshot under way
		refuse(rpc, err)
		return true
	}
	answer := make(chan raft.RPCResponse, 1)
	to := rpc.RespChan
	rpc.RespChan = answer
	r.trans.wg.Go(func() {
		defer g.oneSnapshot.Release(1)
		select {
		case a := <-answer:
			to <- a
		case <-r.trans.closed:
		}
	})
	select {
	case r.trans.rpcs <- rpc:
	case <-r.trans.closed:
	}
	return true
}

// readable reads the head of the snapshot that follows a request, and puts it back. It returns an error if only a newer
// binary can read the snapshot. Whatever else may be wrong with it shows when it is staged.
func (g *guard) readable(rpc *raft.RPC) error {
	var head bytes.Buffer
	_, _, err := readHead(io.TeeReader(rpc.Reader, &head), g.level)
	rpc.Reader = io.MultiReader(&head, rpc.Reader)
	if isTooNew(err) {
		return err
	}
	return nil
}

// tooLong returns why an append may not be stored, if it carries entries and the log of the node is too long already.
func (g *guard) tooLong(req *raft.AppendEntriesRequest) error {
	if len(req.Entries) == 0 {
		return nil
	}
	err := g.bound.exceeded()
	if err != nil {
		g.refused()
	}
	return err
}

// refuseUnread answers with an error. Of a snapshot no more is read: whoever sends it must not hold up the others, and
// what is left of it on the connection is no request, so the library closes it.
func refuseUnread(rpc raft.RPC, err error) {
	var resp any
	switch rpc.Command.(type) {
	case *raft.RequestVoteRequest:
		resp = &raft.RequestVoteResponse{}
	case *raft.RequestPreVoteRequest:
		resp = &raft.RequestPreVoteResponse{}
	case *raft.InstallSnapshotRequest:
		resp = &raft.InstallSnapshotResponse{}
	case *raft.TimeoutNowRequest:
		resp = &raft.TimeoutNowResponse{}
	default:
		resp = &raft.AppendEntriesResponse{}
	}
	rpc.Respond(resp, err)
}

// refuse answers a member's snapshot with an error; what follows its request on the connection is read and dropped, so
// that its sender learns of the error.
func refuse(rpc raft.RPC, err error) {
	_, _ = io.Copy(io.Discard, rpc.Reader)
	refuseUnread(rpc, err)
}

// shorten drops those first entries of an append that the log cannot check any more.
func (g *guard) shorten(req *raft.AppendEntriesRequest) {
	if req.PrevLogEntry == 0 && len(req.Entries) == 0 {
		return // a heartbeat
	}
	first, err := g.log.inner.FirstIndex()
	if err != nil || first > 0 && req.PrevLogEntry >= first ||
		req.PrevLogEntry == 0 && first <= 1 && g.snaps.marker().Index == 0 {
		return
	}
	at := g.fsm.known()
	term, err := g.log.term(at)
	if err != nil {
		return
	}
	if term == 0 {
		m := g.snaps.marker()
		at, term = m.Index, m.Term
	}
	if req.PrevLogEntry >= at {
		return
	}
	drop := min(at-req.PrevLogEntry, uint64(len(req.Entries)))
	req.Entries = req.Entries[drop:]
	req.PrevLogEntry, req.PrevLogTerm = at, term
}
