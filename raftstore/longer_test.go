package raftstore

import (
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// fakeLog gives entries of 1 KiB of data up to last.
func fakeLog(last, term uint64) func(uint64, *raft.Log) error {
	return func(index uint64, out *raft.Log) error {
		if index > last {
			return raft.ErrLogNotFound
		}
		*out = raft.Log{Index: index, Term: term, Data: make([]byte, 1<<10)}
		return nil
	}
}

// appendOf is what the library sends of a log: n entries behind an index.
func appendOf(read func(uint64, *raft.Log) error, prev uint64, n int, commit, term uint64) *raft.AppendEntriesRequest {
	req := &raft.AppendEntriesRequest{Term: term, PrevLogEntry: prev, LeaderCommitIndex: commit}
	for i := range uint64(n) {
		e := new(raft.Log)
		_ = read(prev+1+i, e)
		req.Entries = append(req.Entries, e)
	}
	return req
}

func TestLongerAppends(t *testing.T) {
	perAppend := func(bytes int) int { return bytes / (1<<10 + entryOverhead) }
	for _, c := range []struct {
		name                    string
		last, logTerm           uint64
		n                       int
		commit, term            uint64
		want                    int
		took                    time.Duration
		failed                  bool
		bytesAfter, bytesBefore int
	}{
		{name: "no full append", last: 5000, logTerm: 2, n: 15, commit: 5000, term: 2, want: 15},
		{name: "nothing behind it", last: 16, logTerm: 2, n: 16, commit: 16, term: 2, want: 16},
		{name: "nothing committed behind it", last: 5000, logTerm: 2, n: 16, commit: 16, term: 2, want: 16},
		{name: "committed up to 20", last: 5000, logTerm: 2, n: 16, commit: 20, term: 2, want: 20},
		{name: "the log ends before the commit index", last: 18, logTerm: 2, n: 16, commit: 5000, term: 2, want: 18},
		{name: "entries of a later term than the request", last: 5000, logTerm: 3, n: 16, commit: 5000, term: 2,
			want: 16},
		{name: "the first bound of bytes", last: 5000, logTerm: 2, n: 16, commit: 5000, term: 2,
			want: perAppend(firstAppendBytes), bytesAfter: 2 * firstAppendBytes},
		{name: "a slow answer", last: 5000, logTerm: 2, n: 16, commit: 5000, term: 2, took: 300 * time.Millisecond,
			want: perAppend(firstAppendBytes)},
		{name: "no answer", last: 5000, logTerm: 2, n: 16, commit: 5000, term: 2, failed: true,
			want: perAppend(firstAppendBytes), bytesAfter: firstAppendBytes / 2},
		{name: "no answer, and the least bound", last: 5000, logTerm: 2, n: 16, commit: 5000, term: 2, failed: true,
			bytesBefore: minAppendBytes, want: perAppend(minAppendBytes), bytesAfter: minAppendBytes},
		{name: "the greatest number of entries", last: 5000, logTerm: 2, n: 16, commit: 5000, term: 2,
			bytesBefore: maxAppendBytes, want: maxAppend, bytesAfter: maxAppendBytes},
	} {
		t.Run(c.name, func(t *testing.T) {
			read := fakeLog(c.last, c.logTerm)
			l := newLonger(time.Second, read)
			if c.bytesBefore > 0 {
				l.bytes["b"] = c.bytesBefore
			}
			req := appendOf(read, 0, c.n, c.commit, c.term)
			l.lengthen("b", req)(c.took, !c.failed)
			if len(req.Entries) != c.want {
				t.Errorf("%d entries, want %d", len(req.Entries), c.want)
			}
			if !slices.IsSortedFunc(req.Entries, func(a, b *raft.Log) int { return int(a.Index) - int(b.Index) }) ||
				sane(req) != nil && c.logTerm <= c.term {
				t.Errorf("entries out of order: %v", sane(req))
			}
			if got := l.bytes["b"]; got != c.bytesAfter {
				t.Errorf("the bound is %d afterwards, want %d", got, c.bytesAfter)
			}
		})
	}
	// What one peer has shown says nothing about another one.
	l := newLonger(time.Second, fakeLog(5000, 2))
	l.lengthen("b", appendOf(l.read, 0, 16, 5000, 2))(0, false)
	req := appendOf(l.read, 0, 16, 5000, 2)
	l.lengthen("c", req)
	if want := perAppend(firstAppendBytes); len(req.Entries) != want {
		t.Errorf("another peer gets %d entries, want %d", len(req.Entries), want)
	}
}
