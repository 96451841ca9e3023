package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"deckle/schema/level"
)

// snapshots is a group's raft.SnapshotStore. It keeps a marker. The data of a snapshot only passes through it, as files
// of the state machine:
//
//	snapshots/marker-<n>          the marker
//	snapshots/staged-<n>/files/   a snapshot being received, and then taken over by the state machine
//	snapshots/staged-<n>/meta     its marker, written last: from here on it will be taken over, at the latest at start
//	snapshots/send-<n>-<k>/       a snapshot being sent
type snapshots struct {
	fs    vfs.FS
	dir   string // snapshots/
	shard uint32
	level level.Level // of this binary: what is above it is not received
	send  *sender
	count func() // is called when a snapshot was installed

	formers *formers // what of them is known goes into each marker

	mu sync.Mutex
	m  marker
}

func newSnapshots(fsys vfs.FS, dir string, shard uint32, own level.Level) (*snapshots, error) {
	if err := makeDir(fsys, dir); err != nil {
		return nil, err
	}
	s := &snapshots{fs: fsys, dir: dir, shard: shard, level: own, count: func() {}}
	var err error
	s.m, err = loadMarker(fsys, s.markerPath())
	s.formers = newFormers(s.m)
	return s, err
}

func (s *snapshots) markerPath() string {
	return s.fs.PathJoin(s.dir, fmt.Sprintf("%s%d", markerPrefix, s.shard))
}
func (s *snapshots) stagedDir() string {
	return s.fs.PathJoin(s.dir, fmt.Sprintf("%s%d", stagedPrefix, s.shard))
}
func (s *snapshots) stagedFiles() string {
	return s.fs.PathJoin(s.stagedDir(), stagedFilesName)
}
func (s *snapshots) stagedMeta() string { return s.fs.PathJoin(s.stagedDir(), stagedMetaName) }

func (s *snapshots) marker() marker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m
}

func (s *snapshots) setMarker(m marker) error {
	m.Replaced = s.formers.list()
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.Index < s.m.Index {
		return errOvertaken
	}
	if s.m.State > m.Index { // the log has not reached the copy that was installed: the copy's promise still stands
		m.State = max(m.State, s.m.State)
	}
	if err := writeSealed(s.fs, s.markerPath(), m); err != nil {
		return err
	}
	s.m = m
	return nil
}

// List returns the marker.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	m := s.marker()
	if m.Index == 0 {
		return nil, nil
	}
	return []*raft.SnapshotMeta{m.meta()}, nil
}

// Open serves two callers: a leader that sends a snapshot gets a copy of the state machine, with the index that the
// copy has; Raft after an install gets an empty stream, because fsm.Restore knows where the files are.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if strings.HasPrefix(id, stagedPrefix) {
		var m marker
		if err := readSealed(s.fs, s.stagedMeta(), &m); err != nil {
			return nil, nil, err
		}
		meta := m.meta()
		meta.ID = id
		return meta, io.NopCloser(bytes.NewReader(nil)), nil
	}
	return s.send.open(s.marker())
}

// Create begins a snapshot: a local one, which ends with mark, or a received one, which is written to.
func (s *snapshots) Create(
	_ raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, _ raft.Transport,
) (raft.SnapshotSink, error) {
	return &snapshotSink{s: s, m: marker{Index: index, Term: term, Configuration: conf, ConfigIndex: confIndex}}, nil
}

// snapshotSink is one snapshot on its way to disk.
type snapshotSink struct {
	s      *snapshots
	m      marker
	marked bool

	pipe  *io.PipeWriter // of a received snapshot
	done  chan struct{}  // closed when the stream has been read
	files *manifest      // valid then
	err   error          // valid then
}

func (k *snapshotSink) ID() string {
	if k.pipe != nil {
		return fmt.Sprintf("%s%d-%d", stagedPrefix, k.m.Term, k.m.Index)
	}
	return k.m.meta().ID
}

// mark ends a local snapshot whose state is durable up to applied.
func (k *snapshotSink) mark(applied uint64) error {
	k.m.Applied = min(applied, k.m.Index) // while the log is being replayed, the state is ahead of it
	k.marked = true
	return nil
}

func (k *snapshotSink) Write(b []byte) (int, error) {
	if k.pipe == nil {
		if err := k.s.clearStaged(); err != nil {
			return 0, err
		}
		var r *io.PipeReader
		r, k.pipe = io.Pipe()
		k.done = make(chan struct{})
		go func() {
			defer close(k.done)
			k.files, k.err = readStream(r, k.s.level, k.s.fs, k.s.stagedFiles())
			_ = r.CloseWithError(k.err)
		}()
	}
	return k.pipe.Write(b)
}

func (k *snapshotSink) Close() error {
	if k.pipe == nil {
		if !k.marked {
			return errors.New("raftstore: snapshot without content")
		}
		return k.s.setMarker(k.m)
	}
	_ = k.pipe.Close()
	<-k.done
	if k.err != nil {
		return k.err
	}
	k.m.Applied = k.files.applied
	if k.m.Applied > k.m.Index {
		return fmt.Errorf("%w: state at %d, snapshot at %d", ErrStream, k.m.Applied, k.m.Index)
	}
	if err := syncDir(k.s.fs, k.s.stagedDir()); err != nil {
		return err
	}
	if err := writeSealed(k.s.fs, k.s.stagedMeta(), k.m); err != nil {
		return err
	}
	return syncDir(k.s.fs, k.s.dir)
}

func (k *snapshotSink) Cancel() error {
	if k.pipe == nil {
		return nil
	}
	_ = k.pipe.CloseWithError(io.ErrUnexpectedEOF)
	<-k.done
	return k.s.clearStaged()
}

// clearStaged drops what was received and not taken over; the meta file is removed first, durably.
func (s *snapshots) clearStaged() error {
	ok, err := exists(s.fs, s.stagedDir())
	if err != nil || !ok {
		return err
	}
	if ok, err = exists(s.fs, s.stagedMeta()); err != nil {
		return err
	} else if ok {
		if err := s.fs.Remove(s.stagedMeta()); err != nil {
			return fmt.Errorf("raftstore: drop staged snapshot: %w", err)
		}
		if err := syncDir(s.fs, s.stagedDir()); err != nil {
			return err
		}
	}
	return removeAll(s.fs, s.stagedDir())
}

// takeOver makes a completely received snapshot the group's state: the state machine takes the files over, the marker
// is written, and what the log holds below it is dropped unless it is known to fit. Each step may be the last before a
// crash; finish does what is left then.
func (s *snapshots) takeOver(sm StateMachine, log *logStore) (marker, error) {
	var m marker
	if err := readSealed(s.fs, s.stagedMeta(), &m); err != nil {
		return m, err
	}
	if at, _ := sm.Applied(); at < m.Applied {
		switch ok, err := exists(s.fs, s.stagedFiles()); {
		case err != nil:
			return m, err
		case !ok: // taken over, and lost since
			return m, fmt.Errorf("%w: shard %d has taken over a snapshot at %d, but its state is at %d",
				ErrDamaged, s.shard, m.Applied, at)
		}
		if err := sm.Restore(s.stagedFiles()); err != nil {
			return m, fmt.Errorf("raftstore: restore snapshot at %d: %w", m.Index, err)
		}
	}
	m.State, _ = sm.Applied()
	if m.State < m.Applied {
		return m, fmt.Errorf("%w: the restored snapshot of shard %d is at %d, not at %d",
			ErrDamaged, s.shard, m.State, m.Applied)
	}
	if d := sm.Durable(); d < m.Applied {
		return m, fmt.Errorf("%w: the restored snapshot of shard %d at %d is durable up to %d",
			ErrDamaged, s.shard, m.Applied, d)
	}
	s.formers.committed(m.ConfigIndex, m.Configuration)
	if err := s.setMarker(m); err != nil {
		return m, err
	}
	if err := s.fitLog(log); err != nil {
		return m, err
	}
	if err := s.clearStaged(); err != nil {
		return m, err
	}
	s.count()
	return m, nil
}

// finish does at start what a crash may have left undone: a completely received snapshot is taken over, an incomplete
// one is dropped.
func (s *snapshots) finish(sm StateMachine, log *logStore) error {
	ok, err := exists(s.fs, s.stagedMeta())
	if err != nil {
		return err
	}
	if ok {
		if _, err := s.takeOver(sm, log); err != nil {
			return err
		}
	} else if err := s.clearStaged(); err != nil {
		return err
	}
	return s.fitLog(log)
}

// fitLog drops the log if it ends below the marker: its entries have never been compared with the installed snapshot,
// and this node could later send them to others as committed ones. A log that does not fit the marker otherwise is
// damage.
func (s *snapshots) fitLog(log *logStore) error {
	m := s.marker()
	first, err := log.inner.FirstIndex()
	if err != nil {
		return err
	}
	last, err := log.inner.LastIndex()
	if err != nil || last == 0 || m.Index == 0 {
		return err
	}
	if last < m.Index {
		return log.inner.DeleteRange(0, math.MaxUint64)
	}
	term, err := log.term(m.Index)
	switch {
	case err != nil:
		return err
	case first > m.Index+1:
		return fmt.Errorf("%w: the log of shard %d begins at %d, the state needs %d",
			ErrDamaged, s.shard, first, m.Index+1)
	case term != 0 && term != m.Term:
		return fmt.Errorf("%w: entry %d of shard %d has term %d, the state's has %d",
			ErrDamaged, m.Index, s.shard, term, m.Term)
	}
	return nil
}
