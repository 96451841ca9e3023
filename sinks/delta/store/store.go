// Package store is the object store under the Delta sink: whole objects, put-if-absent, listing by prefix.
//
// Promise:
//
//  1. An object is seen whole or not at all; a Put or PutIfAbsent that returned nil is durable.
//  2. Of all PutIfAbsent calls for one key, by any process, at most one ever takes effect.
//  3. Get and GetRange after a successful put return the new bytes (read after write), and List shows the key.
//
// A Local object can be seen before it is durable, until the put that made it has returned nil. SyncNames makes such
// objects durable.
//
// ErrNotFound is certain. ErrExists says that the key is taken, but perhaps by this very call: a client library that
// repeats a request whose answer was lost sees its own object. Any other error of a put is ambiguous: the object may
// be there now, may appear later, or never. A caller that must know reads the object back.
//
// Assumptions. Local: the folder is on one POSIX file system of one machine, link(2) fails on an existing name, and
// fsync of a file and of its folder make both durable. S3: the store honours If-None-Match: * on a single PUT, which
// Probe tests before anything else is written.
//
// Rejected: puts of unknown size (the client's completion of a multipart upload is not conditional; whoever streams
// an object must know its size); O_EXCL instead of link (it shows a partial file); deleting the object that a failed
// put may have left (it may have become live).
package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Errors that callers act on.
var (
	// ErrExists says that a put-if-absent met an object, possibly the caller's own.
	ErrExists = errors.New("store: object exists")
	// ErrNotFound says that there is no such object.
	ErrNotFound = errors.New("store: object not found")
	// ErrRange says that an object has no byte of the range that was asked for.
	ErrRange = errors.New("store: no byte of the object is in the range")
	// ErrKey says that a key is malformed: keys are relative, /-separated, and without empty, "." or ".." elements.
	// Those of puts are of the bytes [A-Za-z0-9_=./-]; what others have put may be read and removed under any valid
	// UTF-8 without control characters.
	ErrKey = errors.New("store: malformed key")
	// ErrUnconditional says that the store ignores conditional puts.
	ErrUnconditional = errors.New("store: conditional PUT is not honoured")
)

// Info is one listed object.
type Info struct {
	Key      string
	Size     int64     // bytes
	Modified time.Time // by the store's clock
}

// ErrStreamed says that a PutStreamIfAbsent was given another number of bytes than it was told.
var ErrStreamed = errors.New("store: not as many bytes were written as the object was to have")

// exactly passes on the bytes of one object but the last one, and refuses those that are too many.
type exactly struct {
	w    io.Writer
	left int64
	last []byte // at most one byte
}

func (e *exactly) Write(p []byte) (int, error) {
	if int64(len(p)) > e.left {
		return 0, ErrStreamed
	}
	pass := p
	if n := len(p); n > 0 && int64(n) == e.left {
		pass, e.last = p[:n-1], []byte{p[n-1]}
	}
	if len(pass) > 0 {
		if n, err := e.w.Write(pass); err != nil {
			e.left -= int64(n)
			return n, err
		}
	}
	e.left -= int64(len(p))
	return len(p), nil
}

// stream has write give w exactly size bytes. The last one waits until write has returned: a server that has all bytes
// of an object may make it, whatever write says afterwards.
func stream(w io.Writer, size int64, write func(io.Writer) error) error {
	e := &exactly{w: w, left: size}
	if err := write(e); err != nil {
		return err
	}
	if e.left != 0 {
		return fmt.Errorf("%w: %d are missing", ErrStreamed, e.left)
	}
	if len(e.last) > 0 {
		if _, err := w.Write(e.last); err != nil {
			return err
		}
	}
	return nil
}

// Range says what a GetRange has read.
type Range struct {
	N    int   // bytes
	Size int64 // bytes of the whole object
	// Image is another one for another object that has stood under the key, before or after: who reads an object in
	// ranges compares it.
	Image string
}

// Store holds whole objects by key. Methods are safe for concurrent use.
type Store interface {
	// Put writes the object, replacing a former one.
	Put(ctx context.Context, key string, data []byte) error
	// PutIfAbsent writes the object if the key is free; else ErrExists.
	PutIfAbsent(ctx context.Context, key string, data []byte) error
	// PutStreamIfAbsent is PutIfAbsent of an object that is not held in memory: write is called at most once, in
	// another goroutine perhaps, and must write size bytes. Its error is returned, and there is no object then.
	PutStreamIfAbsent(ctx context.Context, key string, size int64, write func(io.Writer) error) error
	// Get returns the object's bytes, or ErrNotFound.
	Get(ctx context.Context, key string) ([]byte, error)
	// GetRange fills p with the object's bytes from offset off on or, if off is negative, with its last len(p) ones.
	// It returns fewer than len(p) only if the object ends there; ErrRange if there is none, ErrNotFound without an
	// object. Len(p) must not be 0.
	GetRange(ctx context.Context, key string, off int64, p []byte) (Range, error)
	// List calls yield for every object whose key has the prefix and is greater than startAfter ("" for all),
	// ascending by key.
	List(ctx context.Context, prefix, startAfter string, yield func(Info) error) error
	// Delete removes the object; a missing one is no error.
	Delete(ctx context.Context, key string) error
	// String names the store for logs and errors, without secrets.
	String() string
}

// SyncNames makes the names of the objects that have been seen in the folder of key durable, if s is a store where an
// object may be seen before it is durable. A caller that acts on an object which another process has put, or on one
// whose put returned an error, calls it between reading and acting.
func SyncNames(ctx context.Context, s Store, key string) error {
	if n, ok := s.(interface {
		SyncNames(ctx context.Context, key string) error
	}); ok {
		return n.SyncNames(ctx, key)
	}
	return nil
}

// CheckForeign reports with ErrKey a key under which nothing can be read or removed.
func CheckForeign(key string) error {
	if key == "" {
		return fmt.Errorf("%w: empty", ErrKey)
	}
	for el := range strings.SplitSeq(key, "/") {
		if el == "" || el == "." || el == ".." {
			return fmt.Errorf("%w: %q", ErrKey, key)
		}
	}
	if !utf8.ValidString(key) || strings.ContainsFunc(key, unicode.IsControl) {
		return fmt.Errorf("%w: %q", ErrKey, key)
	}
	return nil
}

// CheckKey reports with ErrKey a key under which nothing is put.
func CheckKey(key string) error {
	if err := CheckForeign(key); err != nil {
		return err
	}
	for i := range len(key) {
		c := key[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			strings.IndexByte("_=./-", c) >= 0) {
			return fmt.Errorf("%w: %q", ErrKey, key)
		}
	}
	return nil
}

// Probe finds out whether the store honours put-if-absent, by two conditional puts of a new key under prefix. The key
// is drawn from random. The error wraps ErrUnconditional if the second put took effect or was not refused.
func Probe(ctx context.Context, s Store, prefix string, random io.Reader) error {
	var id [16]byte
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return fmt.Errorf("store: probe key: %w", err)
	}
	key := fmt.Sprintf("%sdeckle-probe-%x", prefix, id)
	first, second := []byte("first"), []byte("second")
	if err := s.PutIfAbsent(ctx, key, first); err != nil && !errors.Is(err, ErrExists) {
		return fmt.Errorf("store: probe of %s: %w", s, err)
	}
	errSecond := s.PutIfAbsent(ctx, key, second)
	got, err := s.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("store: probe of %s: read back: %w", s, err)
	}
	if derr := s.Delete(ctx, key); derr != nil {
		return fmt.Errorf("store: probe of %s: delete: %w", s, derr)
	}
	switch {
	case errSecond == nil || !bytes.Equal(got, first):
		return fmt.Errorf("%w by %s: a second PUT with If-None-Match: * replaced the object, so that two nodes could "+
			"overwrite each other's commits; use a store that honours it (AWS S3, MinIO from RELEASE.2024-05-07, "+
			"Ceph, SeaweedFS, Garage, RustFS or versitygw in a version with conditional writes), and check that no "+
			"gateway drops the header", ErrUnconditional, s)
	case !errors.Is(errSecond, ErrExists):
		return fmt.Errorf("store: probe of %s: second conditional put: %w", s, errSecond)
	}
	return nil
}
