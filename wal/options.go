package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// DefaultSegmentBytes is the length at which a segment is closed.
	DefaultSegmentBytes int64 = 64 << 20
	// DefaultCacheBytes is the memory that the newest entries of one group may take.
	DefaultCacheBytes int64 = 2 << 20

	minSegmentBytes int64 = 1 << 10
	maxSegmentBytes int64 = 1 << 30
	// maxGroupBytes bounds what one write and fsync carry: a caller behind a long queue need not wait for all of it,
	// and the buffer that is kept stays small. A single call that is longer is written alone.
	maxGroupBytes = 8 << 20
	// maxCallBytes is the longest single call. With maxSegmentBytes it keeps every offset within 32 bits.
	maxCallBytes = 256 << 20
	maxKeyBytes  = 1 << 10
	maxValBytes  = 64 << 10
)

// Errors that callers distinguish with errors.Is. A damaged file is a *CorruptError.
var (
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("wal: closed")
	// ErrFailed is returned by every call once a write or fsync has failed. What the disk holds of unacknowledged
	// writes is then unknown, and only a new Open can tell.
	ErrFailed = errors.New("wal: failed")
	// ErrVersion is returned by Open for a folder written by a newer format.
	ErrVersion = errors.New("wal: unknown format version")
	// ErrTooLarge is returned for a call whose records exceed 256 MiB, a key over 1 KiB or a value over 64 KiB.
	ErrTooLarge = errors.New("wal: too large")
	// ErrNotFound is returned for a stable-store key without a value. The library compares the text.
	ErrNotFound = errors.New("not found")
	// ErrMiddle is returned by DeleteRange for a range that would leave entries on both sides.
	ErrMiddle = errors.New("wal: range to delete lies in the middle of the log")
)

// CorruptError is damage that is no torn tail: something that was acknowledged cannot be read back. Open changes
// nothing on disk when it returns one.
type CorruptError struct {
	Segment  uint64 // sequence number; the file is its 16 hexadecimal digits and ".wal"
	Offset   int64  // bytes from the start of the segment
	Group    uint64 // the group whose record it is, if HasGroup
	HasGroup bool
	Err      error // what is wrong there
}

func (e *CorruptError) Error() string {
	if e.HasGroup {
		return fmt.Sprintf("wal: corrupt: segment %016x, offset %d, group %d: %v", e.Segment, e.Offset, e.Group, e.Err)
	}
	return fmt.Sprintf("wal: corrupt: segment %016x, offset %d: %v", e.Segment, e.Offset, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// Options of a log. FS and Dir are required.
type Options struct {
	FS  vfs.FS
	Dir string // created if missing; holds nothing but the log
	// SegmentBytes closes a segment; default 64 MiB, at least 1 KiB, at most 1 GiB. Smaller segments free space
	// sooner and cost an fsync of file and folder each. Open reads one segment at a time into memory.
	SegmentBytes int64
	// CacheBytes bounds the newest entries of each group that are kept in memory; default 2 MiB, negative for none. If
	// it is too small, each entry is read from the file once per follower.
	CacheBytes int64
	Logger     *slog.Logger // default: none
	// OnFatal is called once, after the first failed write or fsync, by the goroutine that met it, which holds no lock
	// then. The process should end; the log does not end it.
	OnFatal    func(error)
	Registerer prometheus.Registerer // nil: no metrics
	// Now times fsyncs for metrics; nothing depends on it. Default time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() (Options, error) {
	if o.FS == nil || o.Dir == "" {
		return o, errors.New("wal: Options.FS and Options.Dir are required")
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	if o.SegmentBytes < minSegmentBytes || o.SegmentBytes > maxSegmentBytes {
		return o, fmt.Errorf("wal: SegmentBytes %d is not within [%d, %d]",
			o.SegmentBytes, minSegmentBytes, maxSegmentBytes)
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnFatal == nil {
		o.OnFatal = func(error) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, nil
}
