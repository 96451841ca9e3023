package raftstore

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// errInsane answers a request that no peer of this program makes.
var errInsane = errors.New("raftstore: malformed request")

// sane checks what the library takes for granted of a request, and panics on: at once, or, since it stores the entry
// first, at every start from then on.
func sane(command any) error {
	switch req := command.(type) {
	case *raft.AppendEntriesRequest:
		for i, e := range req.Entries {
			switch {
			case e == nil:
				return fmt.Errorf("%w: entry %d is missing", errInsane, i)
			case e.Index == 0 || e.Index != req.PrevLogEntry+1+uint64(i):
				return fmt.Errorf("%w: entry %d has index %d after %d", errInsane, i, e.Index, req.PrevLogEntry)
			case e.Term == 0 || e.Term > req.Term:
				return fmt.Errorf("%w: entry %d has term %d in term %d", errInsane, i, e.Term, req.Term)
			}
			switch e.Type {
			case raft.LogCommand, raft.LogNoop, raft.LogBarrier:
			case raft.LogConfiguration:
				if err := configurationDecodes(e.Data); err != nil {
					return fmt.Errorf("%w: entry %d: %w", errInsane, e.Index, err)
				}
			default:
				return fmt.Errorf("%w: entry %d has type %d", errInsane, e.Index, e.Type)
			}
		}
	case *raft.InstallSnapshotRequest:
		if req.SnapshotVersion != raft.SnapshotVersionMax || req.Size < 0 || req.LastLogIndex == 0 || req.LastLogTerm > req.Term {
			return fmt.Errorf("%w: snapshot of version %d, %d bytes, at %d", errInsane, req.SnapshotVersion, req.Size, req.LastLogIndex)
		}
		if err := configurationDecodes(req.Configuration); err != nil {
			return fmt.Errorf("%w: snapshot: %w", errInsane, err)
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
