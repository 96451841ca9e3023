package node

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"deckle/node/access"
	"deckle/node/config"
)

// The issuer of access tokens is asked by the CAs that its block of the configuration has, as they are then, and the
// operator is told for as long as it cannot be.
func TestIssuerOfTheConfiguration(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var issuer *httptest.Server
	issuer = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/keys" {
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{
				Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k"}}})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": issuer.URL, "jwks_uri": issuer.URL + "/keys"})
	}))
	defer issuer.Close()
	issuer.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	now := time.Now()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key},
		(&jose.SignerOptions{}).WithHeader("kid", "k"))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := json.Marshal(map[string]any{"iss": issuer.URL, "aud": "deckle", "sub": "u",
		"exp": now.Add(time.Hour).Unix(), "realm_access": map[string]any{"roles": []string{"deckle-ops"}}})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}

	wrong, err := os.ReadFile(filepath.Join(certificates(t, 100, "a").Dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "issuer-ca.pem")
	put := func(ca []byte) {
		if err := os.WriteFile(file, ca, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(wrong)
	deps := Deps{Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }}
	deps.complete()
	cfg := &config.Config{Node: "a", DataDir: t.TempDir(), HTTP: config.HTTP{Auth: &config.HTTPAuth{
		OIDC: &config.HTTPOIDC{Issuer: issuer.URL, Audience: "deckle", Claim: "realm_access.roles", CA: file,
			Roles: []config.HTTPRole{{Name: "deckle-ops", Role: "operator"}}}}}}
	files := openFiles(cfg, &deps)
	h, err := openHTTP(cfg, &deps, files)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() (*access.Principal, error) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		return h.access.Identify(r, access.From{})
	}
	if said := h.oidcFailing(); said != "" {
		t.Errorf("before anybody asked: %s", said)
	}
	if p, err := ask(); !errors.Is(err, access.ErrAway) || !strings.Contains(h.oidcFailing(), "certificate") {
		t.Errorf("with another CA: %+v, %v; told: %s", p, err, h.oidcFailing())
	}
	put(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Certificate().Raw}))
	files.Look()
	now = now.Add(31 * time.Second)
	if p, err := ask(); err != nil || p.Role != access.Operator || h.oidcFailing() != "" {
		t.Errorf("with its CA: %+v, %v; told: %s", p, err, h.oidcFailing())
	}
}
