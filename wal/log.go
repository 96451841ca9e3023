package wal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Log is one write-ahead log, shared by the groups of a node. Its methods may be called from any goroutine.
type Log struct {
	opts    Options
	logger  *slog.Logger
	metrics *metrics
	lock    io.Closer

	mu   sync.Mutex
	done sync.Cond // some calls were written, or collection has ended
	// err is ErrClosed or ErrFailed; once set, every call returns it.
	err      error
	closing  bool
	queue    []*waiter
	queued   int64 // bytes of frames in queue
	inFlight int64 // bytes of the calls that are being written
	// writing is true while one goroutine owns cur, w and buf, and changes table.
	writing    bool
	collecting bool
	table      *table
	handles    map[uint64]*Group
	segments   []*segment // ascending, the last is cur
	stats      Stats

	cur *segment
	w   vfs.File
	buf []byte
}

// waiter is a call that waits for its records to be durable.
type waiter struct {
	muts  []mutation
	bytes int64
	done  bool
	err   error
}

func newLog(opts Options, lock io.Closer) *Log {
	l := &Log{opts: opts, logger: opts.Logger, lock: lock, table: newTable(opts.CacheBytes), metrics: newMetrics(),
		handles: make(map[uint64]*Group)}
	l.done.L = &l.mu
	return l
}

// commit makes muts durable and visible, in the order of the calls. The first waiter that finds no other one writing
// writes and syncs for all that are in the queue.
func (l *Log) commit(muts ...mutation) error {
	w := &waiter{muts: muts}
	for i := range muts {
		w.bytes += int64(muts[i].encodedBytes())
	}
	if w.bytes > maxCallBytes {
		return fmt.Errorf("%w: %d bytes in one call", ErrTooLarge, w.bytes)
	}
	l.mu.Lock()
	if err := l.usable(); err != nil {
		l.mu.Unlock()
		return err
	}
	l.queue = append(l.queue, w)
	l.queued += w.bytes
	var fatal error
	for !w.done {
		if l.writing {
			l.done.Wait()
			continue
		}
		if err := l.writeBatch(); err != nil {
			fatal = err
		}
	}
	l.mu.Unlock()
	if fatal != nil {
		l.opts.OnFatal(fatal)
	}
	return w.err
}

// usable returns why the log can take no call, nil if it can. It is called with mu held.
func (l *Log) usable() error {
	if l.err == nil && l.closing {
		return ErrClosed
	}
	return l.err
}

// takeBatch removes from the queue the calls that one write carries.
func (l *Log) takeBatch() (batch []*waiter) {
	var n int64
	for len(l.queue) > 0 && (n == 0 || n+l.queue[0].bytes <= maxGroupBytes) {
		n += l.queue[0].bytes
		batch = append(batch, l.queue[0])
		l.queue[0] = nil
		l.queue = l.queue[1:]
	}
	l.queued -= n
	l.inFlight = n
	return batch
}

// writeBatch writes, syncs and applies one batch of calls. It is called with mu held and no other goroutine writing,
// and releases mu meanwhile. The error it returns is fatal.
func (l *Log) writeBatch() error {
	l.writing = true
	batch := l.takeBatch()
	var head []byte
	if l.cur.size >= l.opts.SegmentBytes {
		head = appendHead(nil, header{seq: l.cur.seq + 1, prevEnd: l.cur.size}, l.table, nil)
	}
	l.mu.Unlock()

	var ends []uint32
	err := l.rotate(head)
	if err == nil {
		ends, err = l.write(batch)
	}

	l.mu.Lock()
	l.writing, l.inFlight = false, 0
	if err != nil {
		err = l.fail(err)
	} else {
		off, i := uint32(l.cur.size), 0
		for _, w := range batch {
			for j := range w.muts {
				m := &w.muts[j]
				l.table.apply(m, loc{seg: l.cur, off: off, len: ends[i] - off}, true)
				if m.kind == kindEntry {
					l.stats.EntriesWritten++
				}
				off = ends[i]
				i++
			}
		}
		l.cur.size = int64(off)
	}
	for _, w := range batch {
		w.done, w.err = true, l.err
	}
	l.done.Broadcast()
	return err
}

// fail makes err the error of every later call and of every call in the queue. It is called with mu held; it returns
// the error to report, nil if one was reported before.
func (l *Log) fail(err error) error {
	if errors.Is(l.err, ErrFailed) {
		return nil
	}
	l.err = fmt.Errorf("%w: %w", ErrFailed, err)
	l.logger.Error("wal: failed; the process should end", "error", err)
	for _, w := range l.queue {
		w.done, w.err = true, l.err
	}
	l.queue, l.queued = nil, 0
	l.done.Broadcast()
	return l.err
}

// write appends the batch's records with one write and one fsync, and returns where each frame ends.
func (l *Log) write(batch []*waiter) (ends []uint32, err error) {
	base := l.cur.size
	buf := l.buf[:0]
	for _, w := range batch {
		for i := range w.muts {
			m := &w.muts[i]
			buf = appendRecord(buf, l.cur.seq, base, base, m.kind, m.group, m.appendPayload)
			ends = append(ends, uint32(base)+uint32(len(buf)))
		}
	}
	if l.buf = buf; cap(buf) > maxGroupBytes+maxGroupBytes/4 {
		l.buf = nil
	}
	return ends, l.append(buf)
}

// append writes b to the current segment and syncs it. It does not change cur.size.
func (l *Log) append(b []byte) error {
	n := len(b)
	if _, err := l.w.Write(b); err != nil {
		return fmt.Errorf("write segment %016x: %w", l.cur.seq, err)
	}
	begin := l.opts.Now()
	l.setSyncing(begin)
	// gofail: var bugSkipFsync struct{}
	// l.setSyncing(time.Time{})
	// return nil
	err := l.w.SyncData()
	l.setSyncing(time.Time{})
	if err != nil {
		return fmt.Errorf("sync segment %016x: %w", l.cur.seq, err)
	}
	l.synced(l.opts.Now().Sub(begin), n)
	return nil
}

// rotate begins the next segment with head, and seals the one before; with a nil head it does nothing.
func (l *Log) rotate(head []byte) error {
	if head == nil {
		return nil
	}
	return l.advance(&segment{seq: l.cur.seq + 1}, head)
}

// advance creates s with content and makes it the segment that is written to.
func (l *Log) advance(s *segment, content []byte) error {
	w, err := createSegment(l.opts.FS, l.opts.Dir, s.seq, content)
	if err != nil {
		return err
	}
	s.size = int64(len(content))
	if s.r, err = l.opts.FS.Open(l.opts.FS.PathJoin(l.opts.Dir, segmentName(s.seq))); err != nil {
		return fmt.Errorf("open segment %016x: %w", s.seq, errors.Join(err, w.Close()))
	}
	old, oldW := l.cur, l.w
	l.mu.Lock()
	l.segments = append(l.segments, s)
	l.cur, l.w = s, w
	l.mu.Unlock()
	if oldW == nil {
		return nil
	}
	seal := appendRecord(nil, old.seq, old.size, old.size, kindSeal, 0, nil)
	if _, err := oldW.Write(seal); err != nil {
		return fmt.Errorf("seal segment %016x: %w", old.seq, errors.Join(err, oldW.Close()))
	}
	if err := errors.Join(oldW.SyncData(), oldW.Close()); err != nil {
		return fmt.Errorf("seal segment %016x: %w", old.seq, err)
	}
	return nil
}

// Close lets the writes under way finish, marks the end of the log and closes its files. Calls made after it return
// ErrClosed. If the log has failed, Close returns that error.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closing {
		l.mu.Unlock()
		return nil
	}
	l.closing = true
	for l.writing || l.collecting || len(l.queue) > 0 {
		l.done.Wait()
	}
	failed := l.err
	l.writing = true
	l.mu.Unlock()

	var fatal error
	if failed == nil {
		mark := appendRecord(nil, l.cur.seq, l.cur.size, l.cur.size, kindMark, 0, nil)
		if err := l.append(mark); err != nil {
			l.mu.Lock()
			fatal = l.fail(err)
			l.mu.Unlock()
			failed = fatal
		}
	}
	l.mu.Lock()
	l.writing = false
	if l.err == nil {
		l.err = ErrClosed
	}
	l.mu.Unlock()
	l.metrics.unregister(l.opts.Registerer)
	err := errors.Join(failed, l.closeFiles())
	if fatal != nil {
		l.opts.OnFatal(fatal)
	}
	return err
}

// closeFiles closes all open files, except those that are being read: their readers close them.
func (l *Log) closeFiles() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	if l.w != nil {
		errs = append(errs, l.w.Close())
		l.w = nil
	}
	for _, s := range l.segments {
		errs = append(errs, s.retire())
	}
	return errors.Join(append(errs, l.lock.Close())...)
}

// DropGroup removes everything of a group, durably. The group's id may be used again; it then starts empty.
func (l *Log) DropGroup(id uint64) error {
	if err := l.commit(mutation{kind: kindDrop, group: id}); err != nil {
		return err
	}
	return l.free()
}
