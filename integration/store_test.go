package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"deckle/integration/services"
	"deckle/sinks/delta/store"
	"deckle/sinks/delta/store/storetest"
)

// s3Server is an S3 server of the tests.
type s3Server struct {
	*services.S3
	// putOld puts an object that has been there since a time, which no request of S3 can.
	putOld func(ctx context.Context, key string, data []byte, at time.Time) error
}

// s3Servers are the S3 stores that Deckle is tested with (docs/operations.md, Object stores).
var s3Servers = map[string]func(t *testing.T, cache *services.Cache, dir string) *s3Server{
	"minio": func(t *testing.T, cache *services.Cache, dir string) *s3Server {
		binary, err := cache.FetchMinIO(t.Context())
		need(t, err)
		m, err := services.StartMinIO(t.Context(), binary, dir, bucket, nil)
		must(t, err)
		// MinIO takes the time of an object from the node that replicates it.
		cl, err := m.Client()
		must(t, err)
		return &s3Server{m, func(ctx context.Context, key string, data []byte, at time.Time) error {
			_, err := cl.PutObject(ctx, bucket, key, bytes.NewReader(data), int64(len(data)),
				minio.PutObjectOptions{Internal: minio.AdvancedPutOptions{SourceMTime: at, ReplicationRequest: true}})
			return err
		}}
	},
	"versitygw": func(t *testing.T, cache *services.Cache, dir string) *s3Server {
		binary, err := cache.FetchVersity(t.Context())
		need(t, err)
		v, err := services.StartVersity(t.Context(), binary, dir, bucket, nil)
		must(t, err)
		cl, err := v.Client()
		must(t, err)
		return &s3Server{v, func(ctx context.Context, key string, data []byte, at time.Time) error {
			_, err := cl.PutObject(ctx, bucket, key, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{})
			if err != nil {
				return err
			}
			return os.Chtimes(filepath.Join(dir, "data", bucket, key), at, at) // it serves a folder
		}}
	},
}

// eachS3 runs a test on each S3 server.
func eachS3(t *testing.T, test func(t *testing.T, m *s3Server)) {
	cache, err := services.OpenCache(os.Stderr)
	must(t, err)
	for name, start := range s3Servers {
		t.Run(name, func(t *testing.T) {
			m := start(t, cache, folder(t))
			t.Cleanup(func() { must(t, m.End()) })
			test(t, m)
		})
	}
}

// open is the store as Deckle has it, at an address of the server or of something before it.
func (m *s3Server) open(t *testing.T, addr, prefix string) *store.S3 {
	t.Helper()
	s, err := store.NewS3(store.S3Options{Endpoint: "http://" + addr, Bucket: bucket, Prefix: prefix,
		Credentials: m.Credentials()})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// TestS3Stores: real S3 servers keep what package store promises, as its model does.
func TestS3Stores(t *testing.T) {
	eachS3(t, func(t *testing.T, m *s3Server) {
		storetest.Run(t, m.open(t, m.Addr, "team/deckle"), "suite/")
	})
}

// TestS3Unconditional: a real server that takes every PUT is found out when Deckle starts. So is a proxy that takes the
// condition away: it is signed, and nothing is written.
func TestS3Unconditional(t *testing.T) {
	eachS3(t, func(t *testing.T, m *s3Server) {
		p := startLossy(t, m.Addr)
		s := m.open(t, p.addr, "")
		must(t, store.Probe(t.Context(), s, "", rand.Reader))
		cl, err := m.Client()
		must(t, err)
		p.set(func(r *http.Request) fault {
			if r.Header.Get("If-None-Match") != "" { // what is in its way goes first
				key := strings.TrimPrefix(r.URL.Path, "/"+bucket+"/")
				if err := cl.RemoveObject(r.Context(), bucket, key, minio.RemoveObjectOptions{}); err != nil {
					t.Error(err)
				}
			}
			return pass
		})
		err = store.Probe(t.Context(), s, "", rand.Reader)
		if !errors.Is(err, store.ErrUnconditional) {
			t.Errorf("a store without conditions: %v", err)
		}
		t.Logf("said at the start: %v", err)
		p.set(func(r *http.Request) fault {
			r.Header.Del("If-None-Match")
			return pass
		})
		if err := store.Probe(t.Context(), s, "", rand.Reader); err == nil {
			t.Error("a proxy may take the condition away")
		} else {
			t.Logf("said at the start: %v", err)
		}
		must(t, s.List(t.Context(), "", "", func(i store.Info) error {
			t.Errorf("%s is left", i.Key)
			return nil
		}))
	})
}
