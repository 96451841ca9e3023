package store_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"go.uber.org/goleak"

	"deckle/sim/testworld/objects"
	"deckle/sinks/delta/store"
	"deckle/sinks/delta/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stores are the implementations that must behave in the same way.
func stores(t *testing.T) map[string]store.Store {
	s3, _ := fakeS3(t)
	return map[string]store.Store{
		"local-mem":  store.NewLocal(vfs.NewMem(), "root/deep", "p1"),
		"local-disk": store.NewLocal(vfs.Default, t.TempDir()+"/new/root", "p1"),
		"s3":         s3,
		"s3-tls":     fakeS3TLS(t),
		"mem":        objects.NewMem(nil),
	}
}

func fakeS3(t *testing.T) (*store.S3, *objects.S3) {
	t.Helper()
	fake := &objects.S3{Bucket: "lake", PageSize: 3}
	srv := httptest.NewServer(fake)
	s, err := store.NewS3(store.S3Options{Endpoint: srv.URL, Bucket: "lake", Prefix: "/team/deckle/",
		Credentials: store.StaticCredentials("key", "secret"), MaxRetries: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); srv.Close() })
	return s, fake
}

// fakeS3TLS is a store over TLS, where the client sends a stream as it is, without the chunks of its signature.
func fakeS3TLS(t *testing.T) *store.S3 {
	t.Helper()
	srv := httptest.NewTLSServer(&objects.S3{Bucket: "lake", PageSize: 3})
	known := x509.NewCertPool()
	known.AddCert(srv.Certificate())
	config := &tls.Config{RootCAs: known}
	s, err := store.NewS3(store.S3Options{Endpoint: srv.URL, Bucket: "lake", Prefix: "/team/deckle/",
		Credentials: store.StaticCredentials("key", "secret"), TLS: func() *tls.Config { return config }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); srv.Close() })
	return s
}

func TestStore(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) { storetest.Run(t, s, "suite/") })
	}
}

// TestForeignObjects: what others have put under names that no put here has is listed, read and removed like the rest.
func TestForeignObjects(t *testing.T) {
	folder := t.TempDir()
	s3, fake := fakeS3(t)
	for name, c := range map[string]struct {
		s   store.Store
		put func(key, text string)
	}{
		"local": {store.NewLocal(vfs.Default, folder, "p1"), func(key, text string) {
			path := filepath.Join(folder, filepath.FromSlash(key))
			err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
			if err != nil {
				t.Fatal(err)
			}
		}},
		"s3": {s3, func(key, text string) {
			r := httptest.NewRequest(http.MethodPut, "/", strings.NewReader(text))
			r.URL.Path = "/lake/team/deckle/" + key
			w := httptest.NewRecorder()
			if fake.ServeHTTP(w, r); w.Code != http.StatusOK {
				t.Fatal(w.Code, w.Body)
			}
		}},
	} {
		for _, key := range []string{"t/d=a%20b/x", "t/d=GMT+9/x", "t/d=a b/ä&?#.parquet", "t/d=%2E%2E/x"} {
			c.put(key, "of another")
			listed := ""
			err := c.s.List(t.Context(), key, "", func(i store.Info) error { listed = i.Key; return nil })
			if err != nil || listed != key {
				t.Errorf("%s: %q is listed as %q, %v", name, key, listed, err)
			}
			if got, err := c.s.Get(t.Context(), key); err != nil || string(got) != "of another" {
				t.Errorf("%s: Get(%q): %q, %v", name, key, got, err)
			}
			part := make([]byte, 2)
			if r, err := c.s.GetRange(t.Context(), key, 3, part); err != nil || r.N != 2 || string(part) != "an" {
				t.Errorf("%s: GetRange(%q): %q, %v", name, key, part, err)
			}
			if err := c.s.Delete(t.Context(), key); err != nil {
				t.Errorf("%s: Delete(%q): %v", name, key, err)
			}
			if _, err := c.s.Get(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: Get(%q) afterwards: %v", name, key, err)
			}
		}
	}
}

// A server, or a proxy before it, that knows no ranges answers with the whole object.
func TestRangesIgnored(t *testing.T) {
	fake := &objects.S3{Bucket: "lake"}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		fake.ServeHTTP(w, r)
	}))
	s, err := store.NewS3(store.S3Options{Endpoint: srv.URL, Bucket: "lake",
		Credentials: store.StaticCredentials("key", "secret")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); srv.Close() })
	data := bytes.Repeat([]byte("0123456789abcdef"), 20<<16)
	if err := s.Put(t.Context(), "t/big", data); err != nil {
		t.Fatal(err)
	}
	storetest.CheckRanges(t, s, "t/big", data)
}

func TestProbe(t *testing.T) {
	ctx := context.Background()
	s3, fake := fakeS3(t)
	fake.IgnoreConditions = true
	mem := objects.NewMem(nil)
	mem.Unconditional = true
	for _, s := range []store.Store{s3, mem} {
		err := store.Probe(ctx, s, "", rand.Reader)
		if !errors.Is(err, store.ErrUnconditional) || !strings.Contains(err.Error(), "use a store that honours it") {
			t.Errorf("%s: %v", s, err)
		}
	}
	if n := len(mem.Keys("")); n != 0 {
		t.Errorf("the probe left %d objects", n)
	}
}

// The client repeats a PUT whose answer was lost and then meets its own object: the store says ErrExists, and the
// object is there.
func TestS3OwnObject(t *testing.T) {
	s, fake := fakeS3(t)
	lost := 0
	fake.Fault = func(r *http.Request, applied bool) int {
		if applied && lost == 0 {
			lost++
			return http.StatusServiceUnavailable
		}
		return 0
	}
	err := s.PutIfAbsent(context.Background(), "k", []byte("mine"))
	if !errors.Is(err, store.ErrExists) || lost != 1 {
		t.Fatalf("got %v", err)
	}
	if got, err := s.Get(context.Background(), "k"); err != nil || string(got) != "mine" {
		t.Fatalf("got %q, %v", got, err)
	}
}

// A server that refuses a put by its header and closes the connection: the client sees a reset, and the key is taken.
func TestS3Reset(t *testing.T) {
	stands := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodHead && !stands:
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodHead:
			w.Header().Set("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
			w.Header().Set("ETag", `"e"`)
		default:
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.(*net.TCPConn).SetLinger(0) // Close resets
			_ = conn.Close()
		}
	}))
	defer server.Close()
	s, err := store.NewS3(store.S3Options{
		Endpoint: server.URL, Bucket: "bucket", MaxRetries: 1,
		Credentials: credentials.NewStaticV4("key", "secret", ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	body := make([]byte, 1<<20)
	puts := map[string]func(context.Context) error{
		"whole": func(ctx context.Context) error { return s.PutIfAbsent(ctx, "k", body) },
		"stream": func(ctx context.Context) error {
			return s.PutStreamIfAbsent(ctx, "k", int64(len(body)), func(w io.Writer) error {
				_, err := w.Write(body)
				return err
			})
		},
	}
	for name, put := range puts {
		for _, stands = range []bool{false, true} {
			if err := put(t.Context()); err == nil || errors.Is(err, store.ErrExists) != stands {
				t.Errorf("%s, an object stands: %v, error: %v", name, stands, err)
			}
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if err := put(cancelled); err == nil || errors.Is(err, store.ErrExists) {
			t.Errorf("%s, cancelled: %v", name, err)
		}
	}
	if err := s.Put(t.Context(), "k", body); err == nil || errors.Is(err, store.ErrExists) {
		t.Errorf("not conditional: %v", err)
	}
}

func TestS3Errors(t *testing.T) {
	s, fake := fakeS3(t)
	fake.Fault = func(*http.Request, bool) int { return http.StatusForbidden }
	if err := s.PutIfAbsent(context.Background(), "k", nil); err == nil || errors.Is(err, store.ErrExists) {
		t.Errorf("403: %v", err)
	}
	fake.Fault = func(*http.Request, bool) int { return http.StatusConflict }
	if err := s.PutIfAbsent(context.Background(), "k", nil); err == nil || errors.Is(err, store.ErrExists) {
		t.Errorf("409 is neither a yes nor a no: %v", err)
	}
	fake.Fault = nil
	fake.Bucket = "other"
	if _, err := s.Get(context.Background(), "k"); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("a missing bucket is no missing key: %v", err)
	}
	for _, opts := range []store.S3Options{
		{Endpoint: "host:9000", Bucket: "b"}, {Endpoint: "http://h/path", Bucket: "b"}, {Endpoint: "http://h"},
		{Endpoint: "http://h", Bucket: "b", Prefix: "a b"},
	} {
		if _, err := store.NewS3(opts); err == nil {
			t.Errorf("%+v was accepted", opts)
		}
	}
}

// An object whose put has returned nil survives a power cut; any other is there whole or not at all.
func TestLocalPowerCut(t *testing.T) {
	for seed := range uint64(30) {
		fs := vfs.NewCrashableMem()
		s := store.NewLocal(fs, "a/root", "p1")
		ctx := context.Background()
		want := map[string][]byte{}
		for i := range 10 {
			key := fmt.Sprintf("t/d=%d/f%d", i%3, i)
			body := bytes.Repeat([]byte{byte('a' + i)}, 5000)
			put := s.Put
			if i%2 == 0 {
				put = s.PutIfAbsent
			}
			if err := put(ctx, key, body); err != nil {
				t.Fatal(err)
			}
			want[key] = body
		}
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 30, RNG: mrand.New(mrand.NewPCG(seed, 2))})
		after := store.NewLocal(clone, "a/root", "p2")
		for key, body := range want {
			got, err := after.Get(ctx, key)
			if err != nil || !bytes.Equal(got, body) {
				t.Fatalf("seed %d: %s lost: %d bytes, %v", seed, key, len(got), err)
			}
		}
	}
}
