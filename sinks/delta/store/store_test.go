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
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"deckle/sim/testworld/objects"
	"deckle/sinks/delta/store"
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
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			check := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			check(store.Probe(ctx, s, "", rand.Reader))
			if _, err := s.Get(ctx, "t/none"); !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("Get of a missing key: %v", err)
			}
			check(s.Delete(ctx, "t/none"))
			check(s.PutIfAbsent(ctx, "t/_log/a.json", []byte("one")))
			if err := s.PutIfAbsent(ctx, "t/_log/a.json", []byte("two")); !errors.Is(err, store.ErrExists) {
				t.Fatalf("second PutIfAbsent: %v", err)
			}
			got, err := s.Get(ctx, "t/_log/a.json")
			if err != nil || string(got) != "one" {
				t.Fatalf("Get: %q, %v", got, err)
			}
			check(s.Put(ctx, "t/_log/a.json", []byte("three")))
			if got, _ := s.Get(ctx, "t/_log/a.json"); string(got) != "three" {
				t.Fatalf("Get after Put: %q", got)
			}
			check(s.Put(ctx, "t/empty", nil))
			if got, err := s.Get(ctx, "t/empty"); err != nil || len(got) != 0 {
				t.Fatalf("empty object: %q, %v", got, err)
			}
			big := bytes.Repeat([]byte("0123456789abcdef"), 20<<16) // 20 MiB: above the client's multipart threshold
			check(s.PutIfAbsent(ctx, "t/big", big))
			if err := s.PutIfAbsent(ctx, "t/big", big[1:]); !errors.Is(err, store.ErrExists) {
				t.Fatalf("second PutIfAbsent of a large object: %v", err)
			}
			if got, err := s.Get(ctx, "t/big"); err != nil || !bytes.Equal(got, big) {
				t.Fatalf("large object: %d bytes, %v", len(got), err)
			}
			checkRanges(t, s, "t/big", big)
			checkStreams(t, s, big)
			for i := range 8 {
				check(s.Put(ctx, fmt.Sprintf("l/_log/%03d", i), []byte{byte(i)}))
				check(s.Put(ctx, fmt.Sprintf("l/d=%d/x", i), nil))
			}
			list := func(prefix, after string) string {
				var keys []string
				check(s.List(ctx, prefix, after, func(i store.Info) error {
					keys = append(keys, i.Key)
					if i.Modified.IsZero() {
						t.Errorf("%s has no time", i.Key)
					}
					return nil
				}))
				if !slices.IsSorted(keys) {
					t.Fatalf("not in order: %q", keys)
				}
				return strings.Join(keys, " ")
			}
			if got := list("l/_log/", "l/_log/004"); got != "l/_log/005 l/_log/006 l/_log/007" {
				t.Fatalf("list after: %s", got)
			}
			if got := list("l/_log/00", "l/_log/006"); got != "l/_log/007" {
				t.Fatalf("list of a name prefix: %s", got)
			}
			if got := list("l/", "l/d=7"); got != "l/d=7/x" {
				t.Fatalf("list into a folder: %s", got)
			}
			if got := strings.Fields(list("l/", "")); len(got) != 16 {
				t.Fatalf("list of everything: %q", got)
			}
			if got := list("none/", ""); got != "" {
				t.Fatalf("list of nothing: %s", got)
			}
			stop := errors.New("stop")
			if err := s.List(ctx, "l/", "", func(store.Info) error { return stop }); !errors.Is(err, stop) {
				t.Fatalf("List did not pass the error on: %v", err)
			}
			for _, bad := range []string{"", "/a", "a/", "a//b", "../a", "a/./b", "a b", "a%20b", "ä"} {
				if err := s.Put(ctx, bad, nil); !errors.Is(err, store.ErrKey) {
					t.Errorf("Put(%q): %v", bad, err)
				}
				if err := s.PutIfAbsent(ctx, bad, nil); !errors.Is(err, store.ErrKey) {
					t.Errorf("PutIfAbsent(%q): %v", bad, err)
				}
			}
			for _, bad := range []string{"", "/a", "a/", "a//b", "../a", "a/./b"} {
				if _, err := s.Get(ctx, bad); !errors.Is(err, store.ErrKey) {
					t.Errorf("Get(%q): %v", bad, err)
				}
				if err := s.Delete(ctx, bad); !errors.Is(err, store.ErrKey) {
					t.Errorf("Delete(%q): %v", bad, err)
				}
			}
		})
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
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
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

// One of many racing writers wins each key, and the object is the winner's, whole.
// checkStreams puts an object of 20 MiB in pieces: once, whole or not at all.
func checkStreams(t *testing.T, s store.Store, data []byte) {
	t.Helper()
	ctx := context.Background()
	pieces := func(w io.Writer) error {
		for b := range slices.Chunk(data, 100_001) {
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		return nil
	}
	broken := errors.New("broken")
	for name, write := range map[string]func(io.Writer) error{
		"half": func(w io.Writer) error { _, _ = w.Write(data[:len(data)/2]); return broken },
		"all":  func(w io.Writer) error { _, _ = w.Write(data); return broken },
		"more": func(w io.Writer) error { _ = pieces(w); _, _ = w.Write([]byte("x")); return broken },
		"none": func(io.Writer) error { return broken },
	} {
		if err := s.PutStreamIfAbsent(ctx, "t/"+name, int64(len(data)), write); !errors.Is(err, broken) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for _, wrong := range []int64{-7, 7} {
		err := s.PutStreamIfAbsent(ctx, "t/wrong", int64(len(data))+wrong, pieces)
		if !errors.Is(err, store.ErrStreamed) {
			t.Fatalf("%d bytes fewer than there are: %v", wrong, err)
		}
	}
	for _, key := range []string{"t/half", "t/all", "t/more", "t/none", "t/wrong"} {
		if _, err := s.Get(ctx, key); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("%s: %v", key, err)
		}
	}
	if err := s.PutStreamIfAbsent(ctx, "t/streamed", int64(len(data)), pieces); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(ctx, "t/streamed"); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if err := s.PutStreamIfAbsent(ctx, "t/streamed", int64(len(data)), pieces); !errors.Is(err, store.ErrExists) {
		t.Fatalf("a second time: %v", err)
	}
}

// checkRanges reads ranges of an object of 20 MiB, and of others.
func checkRanges(t *testing.T, s store.Store, key string, data []byte) {
	t.Helper()
	ctx, image := context.Background(), ""
	for _, tc := range []struct {
		off  int64
		n    int
		want []byte
	}{
		{0, 5, data[:5]}, {7, 1 << 20, data[7 : 7+1<<20]}, {-1, 3, data[len(data)-3:]},
		{int64(len(data)) - 2, 9, data[len(data)-2:]}, {-1, len(data) + 5, data}, {0, len(data) + 5, data},
	} {
		p := make([]byte, tc.n)
		r, err := s.GetRange(ctx, key, tc.off, p)
		if err != nil || !bytes.Equal(p[:r.N], tc.want) || r.Size != int64(len(data)) || r.Image == "" ||
			image != "" && r.Image != image {
			t.Fatalf("%d bytes from %d: %d, of %d (%s), %v", tc.n, tc.off, r.N, r.Size, r.Image, err)
		}
		image = r.Image
	}
	p := make([]byte, 4)
	if _, err := s.GetRange(ctx, key, int64(len(data)), p); !errors.Is(err, store.ErrRange) {
		t.Fatalf("a range behind the end: %v", err)
	}
	if _, err := s.GetRange(ctx, "t/none", 0, p); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a range of a missing key: %v", err)
	}
	for _, small := range []string{"", "x", "xy"} {
		if err := s.Put(ctx, "t/small", []byte(small)); err != nil {
			t.Fatal(err)
		}
		r, err := s.GetRange(ctx, "t/small", -1, p)
		if small == "" && !errors.Is(err, store.ErrRange) || small != "" && (err != nil || string(p[:r.N]) != small) {
			t.Fatalf("the last bytes of %q: %q, %v", small, p[:r.N], err)
		}
		if small != "" && r.Image == image {
			t.Fatal("another object has the same image")
		}
		image = r.Image
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
	checkRanges(t, s, "t/big", data)
}

func TestRacingWriters(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			for v := range 10 {
				key := fmt.Sprintf("t/_log/%020d.json", v)
				var won atomic.Int64
				var winner atomic.Value
				var wg sync.WaitGroup
				for w := range 8 {
					wg.Go(func() {
						body := bytes.Repeat(fmt.Appendf(nil, "%d", w), 1000)
						err := s.PutIfAbsent(context.Background(), key, body)
						if err == nil {
							won.Add(1)
							winner.Store(body)
						} else if !errors.Is(err, store.ErrExists) {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if won.Load() != 1 {
					t.Fatalf("%s: %d writers won", key, won.Load())
				}
				got, err := s.Get(context.Background(), key)
				if err != nil || !bytes.Equal(got, winner.Load().([]byte)) {
					t.Fatalf("%s is not the winner's: %v", key, err)
				}
			}
		})
	}
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
