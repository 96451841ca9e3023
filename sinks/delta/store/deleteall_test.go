package store_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"deckle/sinks/delta/store"
)

// Several objects are removed at once or one after the other, missing ones and more than one request takes among them.
func TestDeleteAll(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			keys := []string{"t/none"}
			for i := range 1010 {
				keys = append(keys, fmt.Sprintf("t/d=%d/%d.parquet", i%3, i))
			}
			for _, key := range append(keys[1:20:20], "t/stays", keys[1009], keys[1010]) {
				if err := s.Put(t.Context(), key, []byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			if err := store.DeleteAll(t.Context(), store.WithTimeouts(s, time.Minute), keys); err != nil {
				t.Fatal(err)
			}
			var left []string
			if err := s.List(t.Context(), "t/", "", func(i store.Info) error {
				left = append(left, i.Key)
				return nil
			}); err != nil || fmt.Sprint(left) != "[t/stays]" {
				t.Errorf("left %v, %v", left, err)
			}
			if err := store.DeleteAll(t.Context(), s, []string{"t/stays", "t/../x"}); !errors.Is(err, store.ErrKey) {
				t.Errorf("a malformed key: %v", err)
			}
			if _, err := s.Get(t.Context(), "t/stays"); err != nil {
				t.Errorf("removed beside a malformed key: %v", err)
			}
		})
	}
}

// What the store says is not removed, or does not say that it is, is an error.
func TestDeleteAllIsAnswered(t *testing.T) {
	answer := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		_, _ = w.Write([]byte(answer))
	}))
	defer srv.Close()
	s, err := store.NewS3(store.S3Options{Endpoint: srv.URL, Bucket: "lake", MaxRetries: 1,
		Credentials: store.StaticCredentials("key", "secret")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, row := range [][2]string{
		{"<DeleteResult><Deleted><Key>a</Key></Deleted><Deleted><Key>b</Key></Deleted></DeleteResult>", ""},
		{"<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>b</Key><Code>AccessDenied</Code><Message>no" +
			"</Message></Error></DeleteResult>", "delete b: no"},
		{"<DeleteResult><Deleted><Key>a</Key></Deleted></DeleteResult>", "does not name it"},
		{"", "delete a: 200 OK"},
	} {
		answer = row[0]
		err := store.DeleteAll(t.Context(), s, []string{"a", "b"})
		if (err == nil) != (row[1] == "") || err != nil && !strings.Contains(err.Error(), row[1]) {
			t.Errorf("%q: %v, want %q", row[0], err, row[1])
		}
	}
}
