package store_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"deckle/sinks/delta/store"
)

// Each request is signed with the keys of that moment; whichever of the two changes, the next one has it.
func TestS3KeysOfTheMoment(t *testing.T) {
	var seen atomic.Value
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte("<Error><Code>NoSuchKey</Code></Error>"))
	}))
	defer srv.Close()
	access, secret := "one", "secretsecret"
	keys := store.Keys{From: "static", AccessKey: func() string { return access },
		SecretKey: func() string { return secret }}
	credentials, err := keys.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.NewS3(store.S3Options{Endpoint: srv.URL, Bucket: "lake", MaxRetries: 1, Credentials: credentials})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ask := func(what string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, _ = s.Get(ctx, "x")
		if got := seen.Load().(string); !strings.Contains(got, "Credential="+access+"/") {
			t.Errorf("%s: %q", what, got)
		}
		if v, err := credentials.GetWithContext(nil); err != nil || v.SecretAccessKey != secret {
			t.Errorf("%s: the secret is another one, %v", what, err)
		}
	}
	ask("at the start")
	access = "two"
	ask("another access key")
	secret = "othersecret"
	ask("another secret key")
}
