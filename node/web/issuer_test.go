package web

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/access"
)

// An issuer's access token gives the role that its claim has, at the routes and at the page's login; one without a role
// is known and may nothing; and while the issuer is away nobody is told that the token is wrong.
func TestIssuer(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	away := false
	var issuer *httptest.Server
	issuer = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch w.Header().Set("Content-Type", "application/json"); {
		case away:
			w.WriteHeader(http.StatusBadGateway)
		case r.URL.Path == "/keys":
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{
				Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k"}}})
		default:
			_ = json.NewEncoder(w).Encode(map[string]any{"issuer": issuer.URL, "jwks_uri": issuer.URL + "/keys"})
		}
	}))
	defer issuer.Close()
	token := func(id string, roles ...string) string {
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key},
			(&jose.SignerOptions{}).WithHeader("kid", id))
		if err != nil {
			t.Fatal(err)
		}
		claims, err := json.Marshal(map[string]any{"iss": issuer.URL, "aud": "deckle", "sub": "u", "roles": roles,
			"exp": testNow.Add(time.Hour).Unix()})
		if err != nil {
			t.Fatal(err)
		}
		signed, err := s.Sign(claims)
		if err != nil {
			t.Fatal(err)
		}
		text, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	now := func() time.Time { return testNow }
	handler := func() http.Handler {
		return NewHandler(newFakeSource(), Options{Gatherer: prometheus.NewRegistry(), Now: now, Gate: patientGate(),
			Access: access.New(access.Options{Now: now, OIDC: access.NewOIDC(access.OIDCOptions{Issuer: issuer.URL,
				Audience: "deckle", Claim: "roles", Roles: map[string]access.Role{"readers": access.Viewer},
				Transport: issuer.Client().Transport, Now: now})})})
	}
	h := handler()
	ask := func(method, path, body, token string) (int, string) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Host, r.RemoteAddr = "localhost", "10.0.0.7:40000"
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var p problem
		_ = json.Unmarshal(w.Body.Bytes(), &p)
		return w.Code, strings.TrimPrefix(p.Type, problemType)
	}
	login := func(token string) string { return `{"token":"` + token + `"}` }
	for _, c := range []struct {
		what, method, path, body, token, problem string
		status                                   int
	}{
		{"a viewer", "GET", "/api/v1/status", "", token("k", "readers"), "", 200},
		{"a viewer who wants a session", "GET", "/api/v1/sessions/s", "", token("k", "readers"), "role", 403},
		{"no role", "GET", "/api/v1/status", "", token("k", "else"), "role", 403},
		{"another key", "GET", "/api/v1/status", "", token("x", "readers"), "unauthenticated", 401},
		{"nothing", "GET", "/api/v1/status", "", "", "unauthenticated", 401},
		{"login", "POST", "/api/v1/login", login(token("k", "readers")), "", "", 200},
		{"login with another key", "POST", "/api/v1/login", login(token("x", "readers")), "", "unauthenticated", 401},
	} {
		if code, p := ask(c.method, c.path, c.body, c.token); code != c.status || p != c.problem {
			t.Errorf("%s: %d %s", c.what, code, p)
		}
	}
	away, h = true, handler()
	if code, p := ask("GET", "/api/v1/status", "", token("k", "readers")); code != 503 || p != "issuer-away" {
		t.Errorf("the issuer is away: %d %s", code, p)
	}
	if code, p := ask("POST", "/api/v1/login", login(token("k", "readers")), ""); code != 503 || p != "issuer-away" {
		t.Errorf("login while the issuer is away: %d %s", code, p)
	}
}
