package store

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// TestLyingServer: an answer that is not whole is an error, never a shorter listing or object.
func TestLyingServer(t *testing.T) {
	const page = `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>b</Name><KeyCount>1</KeyCount>` +
		`<MaxKeys>1</MaxKeys><IsTruncated>true</IsTruncated><NextContinuationToken>more</NextContinuationToken>` +
		`<Contents><Key>t/one</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>1</Size></Contents>` +
		`</ListBucketResult>`
	down := func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprint(w, `<Error><Code>SlowDown</Code><Message>later</Message></Error>`)
	}
	first := func(w http.ResponseWriter) { _, _ = fmt.Fprint(w, page) }
	cut := func(w http.ResponseWriter) { _, _ = fmt.Fprint(w, page[:300]) }
	pages := func(second func(http.ResponseWriter)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			if r.URL.Query().Get("continuation-token") == "" {
				first(w)
				return
			}
			second(w)
		}
	}
	says := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, text) }
	}
	list := func(s *S3) error {
		n := 0
		err := s.List(t.Context(), "t/", "", func(Info) error { n++; return nil })
		if n > 1 {
			t.Errorf("%d objects", n)
		}
		return err
	}
	get := func(s *S3) error {
		data, err := s.Get(t.Context(), "t/one")
		if err == nil {
			t.Errorf("%d bytes", len(data))
		}
		return err
	}
	ranged := func(s *S3) error {
		_, err := s.GetRange(t.Context(), "t/one", 0, make([]byte, 100))
		return err
	}
	object := func(length, body string, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", length)
			w.Header().Set("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
			w.Header().Set("ETag", `"e"`)
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			if len(header) > 0 {
				w.WriteHeader(http.StatusPartialContent)
			}
			_, _ = fmt.Fprint(w, body)
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		ask    func(*S3) error
	}{
		"list, 200 without a body":          {func(http.ResponseWriter, *http.Request) {}, list},
		"list, 200 with a page of a proxy":  {says("<html>"), list},
		"list, cut":                         {says(page[:300]), list},
		"list, 503 at the second page":      {pages(down), list},
		"list, no body at the second page":  {pages(func(http.ResponseWriter) {}), list},
		"list, the second page is cut":      {pages(cut), list},
		"get, shorter than it says":         {object("100", "short"), get},
		"range, shorter than it says":       {object("100", "short", "Content-Range", "bytes 0-99/200"), ranged},
		"range, another one":                {object("5", "short", "Content-Range", "bytes 7-11/200"), ranged},
		"range, an answer without its size": {object("5", "short", "Content-Range", "bytes 0-4/*"), ranged},
	} {
		srv := httptest.NewServer(c.answer)
		s, err := NewS3(S3Options{Endpoint: srv.URL, Bucket: "b", MaxRetries: 1,
			Credentials: credentials.NewStaticV4("a", "b", "")})
		if err != nil {
			t.Fatal(err)
		}
		err = c.ask(s)
		if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrExists) || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		_ = s.Close()
		srv.Close()
	}
}

// TestForeignKeys: what others have put under any name can be read and removed; nothing leads out of the store.
func TestForeignKeys(t *testing.T) {
	for _, key := range []string{"t/a%20b/x", "t/a b/x", "t/d=GMT+9/x", "t/ä:*?/x", "t/d=%2e%2e/x", "t/...", "t/-"} {
		if err := CheckForeign(key); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	for _, key := range []string{"", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a\x00b", "a\nb", "a\xffb",
		"a\u0085"} {
		if err := CheckForeign(key); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", key, err)
		}
	}
	if err := CheckKey("t/a b"); !errors.Is(err, ErrKey) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
}
