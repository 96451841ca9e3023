package raftstore

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// marker is a group's snapshot as the local disk has it: no data, only the index up to which the state machine's own
// files replace the log. Everything up to Index is in the state; its last command is the entry Applied, and the
// entries between the two are configurations, barriers and no-ops, which a state machine never sees.
type marker struct {
	Index, Term uint64
	Applied     uint64
	// State is the index that an installed state had applied. A copy may be newer than the index that it was announced
	// with, and then reaches further than the log, until the log has caught up.
	State         uint64 `json:",omitempty"`
	Configuration raft.Configuration
	ConfigIndex   uint64
	// Replaced are former incarnations, the newest last (formers.go). A binary that does not know the field passes over
	// it, and drops it from the next marker.
	Replaced []raft.ServerID `json:",omitempty"`
}

// meta is the marker as the library describes a snapshot.
func (m *marker) meta() *raft.SnapshotMeta {
	return &raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: fmt.Sprintf("%s%d-%d", markerPrefix, m.Term, m.Index),
		Index: m.Index, Term: m.Term, Configuration: m.Configuration, ConfigurationIndex: m.ConfigIndex,
	}
}

// loadMarker returns the zero marker if there is none.
func loadMarker(fsys vfs.FS, path string) (m marker, err error) {
	if err := readSealed(fsys, path, &m); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	return m, nil
}
