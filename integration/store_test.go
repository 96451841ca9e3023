package integration

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"testing"

	"deckle/integration/services"
	"deckle/sinks/delta/store"
)

// TestRangesAndStreams: a real S3 store gives ranges of an object, tells another object under the key apart, and takes
// an object that is written while it is sent, once, whole or not at all.
func TestRangesAndStreams(t *testing.T) {
	cache, err := services.OpenCache(os.Stderr)
	must(t, err)
	binary, err := cache.FetchMinIO(t.Context())
	need(t, err)
	m, err := services.StartMinIO(t.Context(), binary, folder(t), bucket, nil)
	must(t, err)
	t.Cleanup(func() { must(t, m.End()) })
	s, err := store.NewS3(store.S3Options{Endpoint: "http://" + m.Addr, Bucket: bucket, Credentials: m.Credentials()})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	data := make([]byte, 30<<20)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	pieces := func(w io.Writer) error {
		for b := range slices.Chunk(data, 100_001) {
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		return nil
	}
	must(t, s.PutStreamIfAbsent(t.Context(), "t/x.parquet", int64(len(data)), pieces))
	err = s.PutStreamIfAbsent(t.Context(), "t/x.parquet", int64(len(data)), pieces)
	if !errors.Is(err, store.ErrExists) {
		t.Errorf("a second time: %v", err)
	}
	err = s.PutStreamIfAbsent(t.Context(), "t/y.parquet", int64(len(data))+1, pieces)
	if !errors.Is(err, store.ErrStreamed) {
		t.Errorf("a byte is missing: %v", err)
	}
	if _, err := s.Get(t.Context(), "t/y.parquet"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("half an object: %v", err)
	}
	image := ""
	for _, r := range []struct{ off, n, from, to int }{
		{0, 10, 0, 10}, {1 << 20, 17 << 20, 1 << 20, 18 << 20}, {-1, 5, len(data) - 5, len(data)},
		{len(data) - 3, 10, len(data) - 3, len(data)}, {-1, len(data) + 9, 0, len(data)},
	} {
		p := make([]byte, r.n)
		got, err := s.GetRange(t.Context(), "t/x.parquet", int64(r.off), p)
		if err != nil || !bytes.Equal(p[:got.N], data[r.from:r.to]) || got.Size != int64(len(data)) ||
			image != "" && got.Image != image {
			t.Errorf("%d bytes from %d: %+v, %v", r.n, r.off, got, err)
		}
		image = got.Image
	}
	_, err = s.GetRange(t.Context(), "t/x.parquet", int64(len(data)), make([]byte, 1))
	if !errors.Is(err, store.ErrRange) {
		t.Errorf("behind the end: %v", err)
	}
	if _, err := s.GetRange(t.Context(), "t/none", 0, make([]byte, 1)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no object: %v", err)
	}
	must(t, s.Put(t.Context(), "t/x.parquet", data[1:]))
	got, err := s.GetRange(t.Context(), "t/x.parquet", 0, make([]byte, 1))
	if err != nil || got.Image == image || got.Image == "" {
		t.Errorf("another object: %+v, %v", got, err)
	}
	must(t, s.Put(t.Context(), "t/empty", nil))
	if _, err := s.GetRange(t.Context(), "t/empty", -1, make([]byte, 1)); !errors.Is(err, store.ErrRange) {
		t.Errorf("an empty object: %v", err)
	}
}
