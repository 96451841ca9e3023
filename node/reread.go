package node

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// rereadPauses are the times between the reads of what cannot be read: three reads in 300 ms.
var rereadPauses = []time.Duration{100 * time.Millisecond, 200 * time.Millisecond}

// rereadFS reads again what gave EIO: a controller that resets, or a path of a storage network that fails over, is back
// after a moment. What cannot be read then ends the node: failed is called with an error that wraps EIO, and the read
// returns it. It is no damage, for which a folder would be given up: the bytes may be there, and what takes them away
// on one node (a cable, an enclosure) may do so on all three. So the folder stays as it is, and the next start reads
// again.
//
// Only reads of files are made again. A write or a sync that fails is never tried again (package wal, invariant 9), and
// neither it nor the list of a folder comes here.
type rereadFS struct {
	vfs.FS
	log    *slog.Logger
	wait   func(time.Duration)
	failed func(error)

	again atomic.Int64 // reads that went well when they were made again
}

// Unwrap implements vfs.FS.
func (r *rereadFS) Unwrap() vfs.FS { return r.FS }

// Create implements vfs.FS.
func (r *rereadFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := r.FS.Create(name, c)
	return r.file(name, f, err)
}

// Open implements vfs.FS.
func (r *rereadFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := r.FS.Open(name, opts...)
	return r.file(name, f, err)
}

// OpenReadWrite implements vfs.FS.
func (r *rereadFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := r.FS.OpenReadWrite(name, c, opts...)
	return r.file(name, f, err)
}

// ReuseForWrite implements vfs.FS.
func (r *rereadFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := r.FS.ReuseForWrite(from, to, c)
	return r.file(to, f, err)
}

func (r *rereadFS) file(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &rereadFile{f, r, name}, nil
}

// read calls once, which reads, until it no longer gives EIO.
func (r *rereadFS) read(name string, once func() error) error {
	err := once()
	if !errors.Is(err, syscall.EIO) {
		return err
	}
	for _, pause := range rereadPauses {
		r.log.Warn("a read failed, and is made again", "file", name, "error", err)
		r.wait(pause)
		if err = once(); !errors.Is(err, syscall.EIO) {
			r.again.Add(1)
			return err
		}
	}
	err = fmt.Errorf("%s could not be read: %w", name, err)
	r.failed(err)
	return err
}

type rereadFile struct {
	vfs.File
	fs   *rereadFS
	name string
}

// Read implements vfs.File. A read that fails leaves the file's position where it was.
func (f *rereadFile) Read(p []byte) (n int, err error) {
	err = f.fs.read(f.name, func() error {
		if n, err = f.File.Read(p); n > 0 && errors.Is(err, syscall.EIO) {
			err = nil // the next call meets it, if it is still there
		}
		return err
	})
	return n, err
}

// ReadAt implements vfs.File.
func (f *rereadFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.fs.read(f.name, func() error {
		m, err := f.File.ReadAt(p[n:], off+int64(n))
		n += m
		return err
	})
	return n, err
}
