package raftstore

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// sane checks what the library takes for granted in a request and panics without: at once, or, since it stores the
// entry first, at every start from then on.
func sane(command any) error {
	switch req := command.(type) {
	case *raft.AppendEntriesRequest:
		for i, e := range req.Entries {
			switch {
			case e == nil:
				return fmt.Errorf("%w: entry %d is missing", errMalformed, i)
			case e.Index == 0 || e.Index != req.PrevLogEntry+1+uint64(i):
				return fmt.Errorf("%w: entry %d has index %d after %d", errMalformed, i, e.Index, req.PrevLogEntry)
			case e.Term == 0 || e.Term > req.Term:
				return fmt.Errorf("%w: entry %d has term %d in term %d", errMalformed, i, e.Term, req.Term)
			}
			switch e.Type {
			case raft.LogCommand, raft.LogNoop, raft.LogBarrier:
			case raft.LogConfiguration:
				if err := configurationDecodes(e.Data); err != nil {
					return fmt.Errorf("%w: entry %d: %w", errMalformed, e.Index, err)
				}
			default:
				return fmt.Errorf("%w: entry %d has type %d", errMalformed, e.Index, e.Type)
			}
		}
	case *raft.InstallSnapshotRequest:
		if req.SnapshotVersion != raft.SnapshotVersionMax || req.Size < 0 ||
			req.LastLogIndex == 0 || req.LastLogTerm > req.Term {
			return fmt.Errorf("%w: snapshot of version %d, %d bytes, at %d",
				errMalformed, req.SnapshotVersion, req.Size, req.LastLogIndex)
		}
		if err := configurationDecodes(req.Configuration); err != nil {
			return fmt.Errorf("%w: snapshot: %w", errMalformed, err)
		}
	}
	return nil
}

// configurationDecodes turns the library's panic into an error.
func configurationDecodes(b []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("configuration: %v", p)
		}
	}()
	raft.DecodeConfiguration(b)
	return nil
}
