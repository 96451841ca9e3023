package raftstore

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	fullAppend = 16 // entries that the library puts into an append at most
	// maxAppend bounds the entries of a lengthened append. With the bytes it bounds what one node keeps in memory for
	// another one: maxAppendBytes for each group, and as much while it is encoded.
	maxAppend        = 1024
	firstAppendBytes = 256 << 10
	minAppendBytes   = 64 << 10
	maxAppendBytes   = 4 << 20
	// entryOverhead is about what an entry costs on the wire besides its data.
	entryOverhead = 64
)

// longer lengthens full appends: the library has one append in flight, of fullAppend entries, so that a follower which
// is far away and behind would get 80 entries a second at a round trip of 200 ms.
//
// What is added follows in the log, and is committed by what the request itself says. A committed entry is the same in
// every log for ever, so it does not matter that this node may have lost the leadership since the library made the
// request, or that a snapshot is about to replace the log. Entries that are not committed could be another leader's by
// then. The library goes on behind the last entry of the request that it gave (replicateTo, updateLastAppended).
//
// The bytes follow the peer: they double after an append that they have bounded and that took less than a quarter of
// the timeout, and halve after one that failed.
type longer struct {
	// read reads an entry of the group's log. An error only ends the lengthening: the library meets it, too, if it
	// needs that entry.
	read    func(index uint64, out *raft.Log) error
	timeout time.Duration // of one call

	mu    sync.Mutex
	bytes map[raft.ServerID]int // bounds of the peers
}

func newLonger(timeout time.Duration, read func(uint64, *raft.Log) error) *longer {
	return &longer{read: read, timeout: timeout, bytes: map[raft.ServerID]int{}}
}

// lengthen adds entries to an append, and returns what is to be told how its call ended.
func (l *longer) lengthen(to raft.ServerID, req *raft.AppendEntriesRequest) (ended func(took time.Duration, ok bool)) {
	n := len(req.Entries)
	if n < fullAppend {
		return func(time.Duration, bool) {}
	}
	l.mu.Lock()
	most, known := l.bytes[to]
	if !known {
		most = firstAppendBytes
	}
	l.mu.Unlock()
	bytes := 0
	for _, e := range req.Entries {
		bytes += sizeOf(e)
	}
	bounded := false
	for next := req.Entries[n-1].Index + 1; next <= req.LeaderCommitIndex && len(req.Entries) < maxAppend; next++ {
		e := new(raft.Log)
		if err := l.read(next, e); err != nil || e.Index != next || e.Term > req.Term {
			break
		}
		if bytes += sizeOf(e); bytes > most {
			bounded = true
			break
		}
		req.Entries = append(req.Entries, e)
	}
	lengthened := len(req.Entries) > n
	return func(took time.Duration, ok bool) {
		switch {
		case ok && bounded && took < l.timeout/4:
			most = min(2*most, maxAppendBytes)
		case !ok && lengthened:
			most = max(most/2, minAppendBytes)
		default:
			return
		}
		l.mu.Lock()
		l.bytes[to] = most
		l.mu.Unlock()
	}
}

// sizeOf is about what an entry takes in memory and on the wire.
func sizeOf(e *raft.Log) int { return len(e.Data) + len(e.Extensions) + entryOverhead }
