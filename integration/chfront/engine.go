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
	"sync"
	"unsafe"
)

// engine is the only session that libchdb has. Queries run one at a time.
type engine struct {
	mu       sync.Mutex
	conn     *unsafe.Pointer
	database string
}

// The text has the engine's own form.
var errClosed = errors.New("Code: 236. DB::Exception: the engine is shutting down (ABORTED)") //nolint:staticcheck

// openEngine loads the library and opens the data folder.
func openEngine(lib, dir string) (*engine, error) {
	path := C.CString(lib)
	defer C.free(unsafe.Pointer(path))
	if e := C.front_load(path); e != nil {
		return nil, errors.New(C.GoString(e))
	}
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
	return &engine{conn: c, database: "default"}, nil
}

// run executes queries one after another in the given database, with no other query in between, and returns the output
// of the last one in the given format. The error's text is the engine's.
func (e *engine) run(database, format string, queries ...string) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn == nil {
		return nil, errClosed
	}
	if database != e.database {
		if _, err := e.query("USE "+quoteIdent(database), "Null"); err != nil {
			return nil, err
		}
		e.database = database
	}
	var out []byte
	for _, q := range queries {
		var err error
		if out, err = e.query(q, format); err != nil {
			// What a query gave before it failed would stand before the answer to the next one.
			if _, drainErr := e.query("SELECT 1", "Null"); drainErr != nil {
				return nil, errors.Join(err, drainErr)
			}
			return nil, err
		}
	}
	return out, nil
}

func (e *engine) query(q, format string) ([]byte, error) {
	cf, cq := C.CString(format), C.CString(q)
	defer C.free(unsafe.Pointer(cf))
	defer C.free(unsafe.Pointer(cq))
	r := C.front_query(e.conn, cq, C.size_t(len(q)), cf, C.size_t(len(format)))
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

// close waits for the query that is running and closes the engine.
func (e *engine) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn != nil {
		C.front_close(e.conn)
		e.conn = nil
	}
}
