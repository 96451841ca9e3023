package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"deckle/schema/level"
)

// keepSent is how long a copy for sending is kept after its last use: Raft opens it before it dials, and again at each
// retry to a follower that may be dead, and each new copy costs the state machine a flush.
const keepSent = time.Minute

// sender makes copies of the state machine for followers that are too far behind, and streams them.
type sender struct {
	fs    vfs.FS
	dir   string
	shard uint32
	sm    StateMachine
	fsm   *fsm
	log   *logStore

	// busy is the lock of the fields below: it is full while the lock is held. It is no mutex, because refresh holds it
	// while the state machine waits for its disk, and virtual time (sim/cluster) stands still while a goroutine waits
	// for a mutex.
	busy chan struct{}
	n    int // copies made by this process
	cur  *stateCopy

	// levelOf asks a server for the level of its binary.
	levelOf func(context.Context, raft.ServerID) (uint32, error)
	mu      sync.Mutex
	failed  map[raft.ServerID]notSent
}

// notSent is why the last attempt to send a snapshot to a server has failed.
type notSent struct {
	at  time.Time
	err error
}

// stateCopy is a copy of the state machine's files.
type stateCopy struct {
	dir    string
	files  manifest
	marker marker // the index and configuration that the copy has
	refs   int    // streams that read it
	used   time.Time
}

// hold takes the lock and returns what gives it back.
func (s *sender) hold() (release func()) {
	s.busy <- struct{}{}
	return func() { <-s.busy }
}

// open returns a stream of a copy behind which the log continues without a gap: the last copy, or a fresh one.
func (s *sender) open(m marker) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if err := s.fsm.holdErr(); err != nil { // another node has the entries that this one cannot read
		return nil, nil, err
	}
	defer s.hold()()
	first, err := s.log.FirstIndex()
	if err != nil {
		return nil, nil, err
	}
	if s.cur == nil || s.cur.marker.Index+1 < first || s.cur.marker.Index < m.Index {
		if err := s.refresh(m); err != nil {
			return nil, nil, err
		}
	}
	c := s.cur
	c.refs++
	meta := c.marker.meta()
	meta.Size = c.files.size()
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.CloseWithError(c.files.write(w, s.fs, c.dir))
	}()
	return meta, &sending{PipeReader: r, s: s, c: c, done: done}, nil
}

// refresh replaces the copy. It is called with the lock held.
func (s *sender) refresh(m marker) error {
	if err := s.drop(); err != nil {
		return err
	}
	s.n++
	c := &stateCopy{dir: s.fs.PathJoin(s.dir, fmt.Sprintf("%s%d-%d", sendPrefix, s.shard, s.n)), used: time.Now()}
	if err := removeAll(s.fs, c.dir); err != nil {
		return err
	}
	index, term, err := s.sm.Snapshot(c.dir)
	if err != nil {
		return errors.Join(s.fsm.failDamaged(fmt.Errorf("raftstore: copy state: %w", err)), removeAll(s.fs, c.dir))
	}
	// The copy may be of a lower level than the state has by now, never of a higher one.
	c.files = manifest{applied: index, term: term, level: s.fsm.level()}
	if c.marker, err = s.fsm.describe(index, term, m); err == nil {
		err = c.files.scan(s.fs, c.dir, "")
	}
	if err != nil {
		return errors.Join(err, removeAll(s.fs, c.dir))
	}
	s.cur = c
	return nil
}

// check tells whether a server can read a snapshot, before it is sent: one that cannot would end the connection, and
// its reason would be lost with it. A snapshot of the first level can be read by everybody.
func (s *sender) check(ctx context.Context, to raft.ServerID, data io.Reader) error {
	r, ok := data.(*sending)
	if !ok || r.c.files.level <= level.First {
		return nil
	}
	has, err := s.levelOf(ctx, to)
	if err == nil && has < uint32(r.c.files.level) {
		err = fmt.Errorf("%w: the snapshot has level %d, %s reads up to level %d", ErrTooNew, r.c.files.level, to, has)
	}
	return err
}

// note remembers what became of an attempt to send a snapshot.
func (s *sender) note(to raft.ServerID, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.failed, to)
		return
	}
	if s.failed == nil {
		s.failed = map[raft.ServerID]notSent{}
	}
	s.failed[to] = notSent{time.Now(), err}
}

// failures says why recent snapshots could not be sent, one text per server, in the order of their ids.
func (s *sender) failures() (texts []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.failed)) {
		if f := s.failed[id]; time.Since(f.at) < keepSent { // it is retried sooner, if it is still needed
			texts = append(texts, fmt.Sprintf("%s: %v", id, f.err))
		}
	}
	return texts
}

// drop forgets the copy; its files are removed when its last reader has closed. It is called with the lock held.
func (s *sender) drop() error {
	c := s.cur
	s.cur = nil
	if c == nil || c.refs > 0 {
		return nil
	}
	return removeAll(s.fs, c.dir)
}

// sweep drops a copy that nobody reads and that has not been used for a while; always drops it at any age.
func (s *sender) sweep(always bool) error {
	defer s.hold()()
	if s.cur == nil || s.cur.refs > 0 || !always && time.Since(s.cur.used) < keepSent {
		return nil
	}
	return s.drop()
}

// keeps returns the index behind which the log should keep its entries, because a follower is being sent a copy that
// ends there; 0 if none is being sent.
func (s *sender) keeps() uint64 {
	defer s.hold()()
	if s.cur == nil || s.cur.refs == 0 && time.Since(s.cur.used) > keepSent/2 {
		return 0
	}
	return s.cur.marker.Index
}

// sending is one stream of a copy.
type sending struct {
	*io.PipeReader
	s    *sender
	c    *stateCopy
	done chan struct{}
	once sync.Once
}

func (r *sending) Close() (err error) {
	r.once.Do(func() {
		_ = r.PipeReader.Close()
		<-r.done
		defer r.s.hold()()
		r.c.refs--
		r.c.used = time.Now()
		if r.c.refs == 0 && r.s.cur != r.c {
			err = removeAll(r.s.fs, r.c.dir)
		}
	})
	return err
}

// dropCopies removes the copies that an earlier process made for sending.
func dropCopies(fsys vfs.FS, dir string) error {
	copies, err := copiesIn(fsys, dir)
	for _, c := range copies {
		err = errors.Join(err, removeAll(fsys, c))
	}
	return err
}

func copiesIn(fsys vfs.FS, dir string) (copies []string, err error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, fmt.Errorf("raftstore: list %s: %w", dir, err)
	}
	for _, n := range names {
		if strings.HasPrefix(n, sendPrefix) {
			copies = append(copies, fsys.PathJoin(dir, n))
		}
	}
	return copies, nil
}

// Copies returns the folders of a data folder that have copies of the state, made of links to its files, for other
// nodes. Nobody needs them while no Store is open: every Open removes them.
func Copies(fsys vfs.FS, dir string) ([]string, error) {
	copies, err := copiesIn(fsys, fsys.PathJoin(dir, snapshotDirName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return copies, err
}
