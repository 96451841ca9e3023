//go:build cgo && linux

package main

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>

typedef void **(*connect_fn)(int, char **);
typedef void (*close_fn)(void **);
typedef void *(*query_fn)(void *, const char *, size_t, const char *, size_t);
typedef char *(*buffer_fn)(void *);
typedef size_t (*length_fn)(void *);
typedef const char *(*error_fn)(void *);
typedef void (*destroy_fn)(void *);

static connect_fn p_connect;
static close_fn p_close;
static query_fn p_query;
static buffer_fn p_buffer;
static length_fn p_length;
static error_fn p_error;
static destroy_fn p_destroy;

static const char *front_load(const char *path) {
	void *h = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!h) return dlerror();
	p_connect = (connect_fn)dlsym(h, "chdb_connect");
	p_close = (close_fn)dlsym(h, "chdb_close_conn");
	p_query = (query_fn)dlsym(h, "chdb_query_n");
	p_buffer = (buffer_fn)dlsym(h, "chdb_result_buffer");
	p_length = (length_fn)dlsym(h, "chdb_result_length");
	p_error = (error_fn)dlsym(h, "chdb_result_error");
	p_destroy = (destroy_fn)dlsym(h, "chdb_destroy_query_result");
	if (!p_connect || !p_close || !p_query || !p_buffer || !p_length || !p_error || !p_destroy)
		return "the library lacks a symbol of chdb's C interface";
	// Otherwise the engine would install its own handlers in place of the Go runtime's.
	void (*handlers)(int) = (void (*)(int))dlsym(h, "chdb_set_signal_handlers_enabled");
	if (handlers) handlers(0);
	return 0;
}
static void **front_connect(int argc, char **argv) { return p_connect(argc, argv); }
static void front_close(void **c) { p_close(c); }
static void *front_query(void **c, const char *q, size_t n, const char *f, size_t fn) {
	return p_query(*c, q, n, f, fn);
}
static char *front_buffer(void *r) { return p_buffer(r); }
static size_t front_length(void *r) { return p_length(r); }
static const char *front_error(void *r) { return p_error(r); }
static void front_destroy(void *r) { p_destroy(r); }
*/
import "C"

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"
)

// engine is the library with its sessions, all on one data folder. Each runs one query at a time.
type engine struct {
	idle   chan *session // the sessions that run nothing; there are cap(idle) in all
	closed chan struct{}
}

// session is one connection to the engine: the database that USE has chosen is its own.
type session struct {
	conn     *unsafe.Pointer
	database string
}

// The text has the engine's own form.
var errClosed = errors.New("Code: 236. DB::Exception: the engine is shutting down (ABORTED)") //nolint:staticcheck

// openEngine loads the library and opens the data folder with so many sessions: as many queries run at a time.
func openEngine(lib, dir string, sessions int) (*engine, error) {
	path := C.CString(lib)
	defer C.free(unsafe.Pointer(path))
	if e := C.front_load(path); e != nil {
		return nil, errors.New(C.GoString(e))
	}
	e := &engine{idle: make(chan *session, sessions), closed: make(chan struct{})}
	for range sessions {
		s, err := openSession(dir)
		if err != nil {
			for len(e.idle) > 0 {
				C.front_close((<-e.idle).conn)
			}
			return nil, err
		}
		e.idle <- s
	}
	return e, nil
}

func openSession(dir string) (*session, error) {
	args := []string{"clickhouse", "--path=" + dir}
	argv := (**C.char)(C.calloc(C.size_t(len(args)), C.size_t(unsafe.Sizeof(uintptr(0)))))
	defer C.free(unsafe.Pointer(argv))
	for i, a := range args {
		s := C.CString(a)
		defer C.free(unsafe.Pointer(s))
		unsafe.Slice(argv, len(args))[i] = s
	}
	c := C.front_connect(C.int(len(args)), argv)
	if c == nil || *c == nil {
		return nil, fmt.Errorf("chdb_connect: %s cannot be opened (is another process using it?)", dir)
	}
	return &session{conn: c, database: "default"}, nil
}

// run executes queries one after another in the given database, in a session that runs nothing else meanwhile, and
// returns the output of the last one in the given format. The error's text is the engine's.
func (e *engine) run(database, format string, queries ...string) ([]byte, error) {
	var s *session
	select {
	case <-e.closed:
		return nil, errClosed
	case s = <-e.idle:
	}
	defer func() { e.idle <- s }()
	select {
	case <-e.closed: // close is waiting for this session
		return nil, errClosed
	default:
	}
	if database != s.database {
		if _, err := s.query("USE "+quoteIdent(database), "Null"); err != nil {
			return nil, err
		}
		s.database = database
	}
	var out []byte
	for _, q := range queries {
		var err error
		if out, err = s.query(q, format); err != nil {
			// What a query gave before it failed would stand before the answer to the next one.
			if _, drainErr := s.query("SELECT 1", "Null"); drainErr != nil {
				return nil, errors.Join(err, drainErr)
			}
			return nil, err
		}
	}
	return out, nil
}

func (s *session) query(q, format string) ([]byte, error) {
	cf, cq := C.CString(format), C.CString(q)
	defer C.free(unsafe.Pointer(cf))
	defer C.free(unsafe.Pointer(cq))
	r := C.front_query(s.conn, cq, C.size_t(len(q)), cf, C.size_t(len(format)))
	if r == nil {
		// The text has the engine's own form.
		return nil, errors.New("Code: 1000. DB::Exception: the engine gave no result") //nolint:staticcheck
	}
	defer C.front_destroy(r)
	if s := C.front_error(r); s != nil {
		return nil, errors.New(C.GoString(s))
	}
	n := C.front_length(r)
	if n == 0 {
		return nil, nil
	}
	// C.GoBytes is not used because its length is a C int, and a result may be longer.
	return bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(C.front_buffer(r))), uint64(n))), nil
}

// close refuses further queries, waits for those that are running, and closes the engine with its last session.
func (e *engine) close() {
	close(e.closed)
	for range cap(e.idle) {
		C.front_close((<-e.idle).conn)
	}
}
