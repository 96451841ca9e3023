package store_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"deckle/sinks/delta/store"
)

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
