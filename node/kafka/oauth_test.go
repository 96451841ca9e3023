package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sasl/oauth"

	"deckle/node/config"
)

// issuer gives tokens that live for some time, to a client that knows a secret.
type issuer struct {
	mu     sync.Mutex
	secret string
	life   int // seconds
	down   bool
	given  int
	asked  string
}

// ServeHTTP implements http.Handler.
func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	_ = r.ParseForm()
	id, secret, _ := r.BasicAuth()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case i.down:
		w.WriteHeader(http.StatusServiceUnavailable)
	case id != "deckle" || secret != i.secret:
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"error":"invalid_client","error_description":"who is that"}`))
	default:
		i.given++
		i.asked = r.Form.Get("grant_type") + " " + r.Form.Get("scope") + " " + r.Form.Get("audience")
		fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"bearer","expires_in":%d}`, i.given, i.life)
	}
}

// set changes i while it answers.
func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

// A token is used as long as it is good for half a minute, and then fetched anew; if that fails, as long as it is good.
// Another secret of the client is used at once. Errors name the issuer and its reason, and never a secret.
func TestOAuthTokens(t *testing.T) {
	i := &issuer{secret: "secret-1", life: 100}
	srv := httptest.NewTLSServer(i)
	defer srv.Close()
	known := x509.NewCertPool()
	known.AddCert(srv.Certificate())
	secret, present := "secret-1", &tls.Config{RootCAs: known}
	cfg := &config.OAuth{TokenURL: srv.URL + "/token", ClientID: "deckle", Scope: "kafka write", Audience: "brokers",
		Extensions: []config.OAuthExtension{{Name: "logicalCluster", Value: "lkc-1"}}}
	tokens := newTokens(cfg, func() string { return secret }, func() *tls.Config { return present })
	start := time.Now()
	now := start
	tokens.now = func() time.Time { return now }
	ask := func(after time.Duration, want, fault string) {
		t.Helper()
		now = start.Add(after)
		_, first, err := oauth.Oauth(tokens.auth).Authenticate(t.Context(), "broker")
		if (err == nil) != (fault == "") || err != nil && !strings.Contains(err.Error(), fault) ||
			err != nil && strings.Contains(err.Error(), "secret-") {
			t.Errorf("after %s: %v, want %q", after, err, fault)
		}
		if want != "" && string(first) != "n,,\x01auth=Bearer "+want+"\x01logicalCluster=lkc-1\x01\x01" {
			t.Errorf("after %s: %q, want %q", after, first, want)
		}
	}
	ask(0, "token-1", "")
	i.set(func() {
		if i.asked != "client_credentials kafka write brokers" {
			t.Errorf("asked for %q", i.asked)
		}
	})
	ask(69*time.Second, "token-1", "")
	i.set(func() { i.down = true })
	ask(71*time.Second, "token-1", "")
	i.set(func() { i.down = false })
	ask(72*time.Second, "token-2", "")
	i.set(func() { i.down = true })
	ask(101*time.Second, "", srv.URL+"/token: 503 Service Unavailable")
	i.set(func() { i.down = false })
	ask(102*time.Second, "token-3", "")
	secret = "secret-2"
	i.set(func() { i.secret = "secret-2" })
	ask(0, "token-4", "")
	i.set(func() { i.secret = "secret-3" })
	tokens.has = nil
	ask(0, "", "401 Unauthorized invalid_client who is that")
	i.set(func() { i.secret = "secret-2" })
	present = &tls.Config{RootCAs: x509.NewCertPool()}
	ask(0, "", "unknown authority")
}

// The token of a file is that of the moment, and what is none is refused before it is sent.
func TestOAuthTokenFile(t *testing.T) {
	token := "one\n"
	tokens := newTokens(&config.OAuth{TokenFile: "/token"}, func() string { return token }, nil)
	for _, row := range [][3]string{
		{"one\n", "one", ""}, {" two ", "two", ""},
		{base64.RawURLEncoding.EncodeToString([]byte("x")) + ".e30.", "eA.e30.", ""},
		{"a b", "", "no token"}, {"a\x01b=c", "", "no token"}, {"tökén", "", "no token"}, {"", "", ""},
	} {
		token = row[0]
		got, err := tokens.token(t.Context())
		if got != row[1] || (err == nil) != (row[2] == "") || err != nil && !strings.Contains(err.Error(), row[2]) {
			t.Errorf("%q: %q, %v", row[0], got, err)
		}
	}
}
