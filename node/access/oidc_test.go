package access

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// issuer is a local issuer of access tokens.
type issuer struct {
	t      *testing.T
	server *httptest.Server

	mu     sync.Mutex
	clock  time.Time
	keys   map[string]any // private keys by their ids
	shown  []string       // ids that it tells
	answer func(w http.ResponseWriter, r *http.Request) bool

	asked atomic.Int64 // for keys
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{t: t, clock: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC), keys: map[string]any{}}
	i.server = httptest.NewTLSServer(http.HandlerFunc(i.serve))
	t.Cleanup(i.server.Close)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i.keys["r1"] = rsaKey
	i.shown = []string{"r1"}
	return i
}

func (i *issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	answer := i.answer
	i.mu.Unlock()
	if answer != nil && answer(w, r) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/realm/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.url(), "jwks_uri": i.server.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"}})
	case "/keys":
		i.asked.Add(1)
		i.mu.Lock()
		defer i.mu.Unlock()
		var set jose.JSONWebKeySet
		for _, id := range i.shown {
			set.Keys = append(set.Keys, (&jose.JSONWebKey{Key: i.keys[id], KeyID: id}).Public())
		}
		_ = json.NewEncoder(w).Encode(set)
	default:
		http.NotFound(w, r)
	}
}

func (i *issuer) now() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.clock
}

// pause lets the time pass after which the issuer may be asked again.
func (i *issuer) pause() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.clock = i.clock.Add(askPause + time.Second)
}

func (i *issuer) url() string { return i.server.URL + "/realm" }

// oidc returns what knows the issuer's tokens.
func (i *issuer) oidc(change func(*OIDCOptions)) *OIDC {
	o := OIDCOptions{Issuer: i.url(), Audience: "deckle", Claim: "roles", Transport: i.server.Client().Transport,
		Roles: map[string]Role{"ops": Operator, "readers": Viewer, "data": Analyst}, Now: i.now}
	if change != nil {
		change(&o)
	}
	return NewOIDC(o)
}

// good are the claims of a token that counts.
func (i *issuer) good() map[string]any {
	return map[string]any{"iss": i.url(), "aud": "deckle", "sub": "user-1", "exp": i.now().Add(time.Hour).Unix(),
		"iat": i.now().Unix(), "roles": []string{"readers"}}
}

func (i *issuer) sign(alg jose.SignatureAlgorithm, id string, key any, claims map[string]any) string {
	i.t.Helper()
	opts := (&jose.SignerOptions{}).WithType("at+jwt")
	if id != "" {
		opts = opts.WithHeader("kid", id)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts)
	if err != nil {
		i.t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		i.t.Fatal(err)
	}
	signed, err := s.Sign(payload)
	if err != nil {
		i.t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return token
}

func (i *issuer) token(change func(map[string]any)) string {
	claims := i.good()
	if change != nil {
		change(claims)
	}
	return i.sign(jose.RS256, "r1", i.keys["r1"], claims)
}

// Each row that is refused is somebody who would have got in with a looser rule.
func TestWhoATokenIs(t *testing.T) {
	i := newIssuer(t)
	d := i.oidc(nil)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&i.keys["r1"].(*rsa.PrivateKey).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	set := func(name string, v any) func(map[string]any) { return func(c map[string]any) { c[name] = v } }
	without := func(name string) func(map[string]any) { return func(c map[string]any) { delete(c, name) } }
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	whole := i.token(nil)
	cut := strings.Split(whole, ".")
	rows := map[string]struct {
		token string
		good  bool
	}{
		"good":                        {whole, true},
		"one audience of several":     {i.token(set("aud", []string{"x", "deckle"})), true},
		"without a key id":            {i.sign(jose.RS256, "", i.keys["r1"], i.good()), true},
		"PS256":                       {i.sign(jose.PS256, "r1", i.keys["r1"], i.good()), true},
		"another issuer":              {i.token(set("iss", "https://example.com")), false},
		"an issuer that begins so":    {i.token(set("iss", i.url()+"/")), false},
		"the beginning of the issuer": {i.token(set("iss", i.server.URL)), false},
		"without an issuer":           {i.token(without("iss")), false},
		"another audience":            {i.token(set("aud", "deckle2")), false},
		"without an audience":         {i.token(without("aud")), false},
		"expired":                     {i.token(set("exp", i.now().Add(-time.Second).Unix())), false},
		"without an end":              {i.token(without("exp")), false},
		"not yet":                     {i.token(set("nbf", i.now().Add(time.Hour).Unix())), false},
		"of nobody":                   {i.token(without("sub")), false},
		"of another key":              {i.sign(jose.RS256, "r1", other, i.good()), false},
		"of an unknown key":           {i.sign(jose.RS256, "r9", other, i.good()), false},
		"HS256 with the public key":   {i.sign(jose.HS256, "r1", public, i.good()), false},
		"none": {part(map[string]any{"alg": "none", "kid": "r1"}) + "." +
			part(i.good()) + ".", false},
		"other claims under the signature": {cut[0] + "." + part(map[string]any{"iss": i.url(), "aud": "deckle",
			"sub": "root", "exp": i.now().Add(time.Hour).Unix(), "roles": []string{"ops"}}) + "." + cut[2], false},
		"nothing": {"", false},
		"a word":  {"word", false},
		"ours":    {prefix + "k3f9x2ab_" + strings.Repeat("A", secretLength), false},
	}
	for name, row := range rows {
		p, err := d.identify(t.Context(), row.token)
		switch {
		case row.good && (err != nil || p.Who != "oidc:"+i.url()+"#user-1" || p.Role != Viewer):
			t.Errorf("%s: %+v, %v", name, p, err)
		case !row.good && !errors.Is(err, errWrong):
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

func TestKindsOfKeys(t *testing.T) {
	i := newIssuer(t)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.keys["e1"], i.keys["e2"] = ec, ed
	i.shown = []string{"r1", "e1", "e2"}
	d := i.oidc(nil)
	for id, alg := range map[string]jose.SignatureAlgorithm{"e1": jose.ES256, "e2": jose.EdDSA, "r1": jose.RS512} {
		if p, err := d.identify(t.Context(), i.sign(alg, id, i.keys[id], i.good())); err != nil || p.Role != Viewer {
			t.Errorf("%s: %+v, %v", alg, p, err)
		}
	}
}

// The greatest role counts. A token without one is known and may nothing; so is one that should say its brands and does
// not, or whose brands do not go with its role.
func TestRolesOfATokens(t *testing.T) {
	i := newIssuer(t)
	const long = "https://example.com/roles"
	for name, row := range map[string]struct {
		claim, brands string
		claims        map[string]any
		role          Role
		held          []string
	}{
		"a text": {"roles", "", map[string]any{"roles": "data"}, Analyst, nil},
		"the greatest": {"roles", "",
			map[string]any{"roles": []any{"readers", "ops", "data", "else"}}, Operator, nil},
		"none of ours": {"roles", "",
			map[string]any{"roles": []any{"admin", "OPS", "ops ", 7, nil}}, Nobody, nil},
		"no claim": {"roles", "", map[string]any{"roles": nil}, Nobody, nil},
		"a path": {"a.b.roles", "",
			map[string]any{"a": map[string]any{"b": map[string]any{"roles": "ops"}}}, Operator, nil},
		"a name with dots": {long, "", map[string]any{long: []any{"ops"}}, Operator, nil},
		"dots in the middle": {"x." + long + ".r", "",
			map[string]any{"x": map[string]any{long: map[string]any{"r": "ops"}}}, Operator, nil},
		"a path into a text": {"a.b", "", map[string]any{"a": "ops"}, Nobody, nil},
		"scope":              {"scope", "", map[string]any{"scope": "openid data"}, Analyst, nil},
		"no scope":           {"roles", "", map[string]any{"roles": "openid ops"}, Nobody, nil},
		"brands": {"roles", "b",
			map[string]any{"roles": "data", "b": []any{"x", "y"}}, Analyst, []string{"x", "y"}},
		"all brands":       {"roles", "b", map[string]any{"roles": "ops", "b": "*"}, Operator, nil},
		"no brands":        {"roles", "b", map[string]any{"roles": "data"}, Nobody, []string{}},
		"no brand":         {"roles", "b", map[string]any{"roles": "data", "b": []any{}}, Nobody, []string{}},
		"verbs and brands": {"roles", "b", map[string]any{"roles": "ops", "b": "x"}, Nobody, []string{"x"}},
	} {
		d := i.oidc(func(o *OIDCOptions) { o.Claim, o.BrandsClaim = row.claim, row.brands })
		p, err := d.identify(t.Context(), i.token(func(c map[string]any) {
			delete(c, "roles")
			maps.Copy(c, row.claims)
		}))
		if err != nil || p.Role != row.role || !slices.Equal(p.Brands, row.held) || p.Held() != (row.held != nil) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

// Whoever sends tokens with key ids of their own has the issuer asked once per pause. A key that is new is known after
// the pause, and one that is no longer told does not count any more from the next question on.
func TestKeyStorm(t *testing.T) {
	i := newIssuer(t)
	d := i.oidc(nil)
	first := i.token(nil)
	if _, err := d.identify(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	for n := range 200 {
		unknown := i.sign(jose.RS256, fmt.Sprint("x", n), i.keys["r1"], i.good())
		if _, err := d.identify(t.Context(), unknown); err == nil {
			t.Fatal("an unknown key id counts")
		}
	}
	if n := i.asked.Load(); n != 1 {
		t.Fatalf("the issuer was asked %d times", n)
	}
	second, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	i.keys["r2"], i.shown = second, []string{"r2"}
	i.mu.Unlock()
	next := i.sign(jose.RS256, "r2", second, i.good())
	if _, err := d.identify(t.Context(), next); !errors.Is(err, errWrong) {
		t.Fatalf("within the pause: %v", err)
	}
	i.pause()
	if _, err := d.identify(t.Context(), next); err != nil {
		t.Fatalf("after the pause: %v", err)
	}
	if _, err := d.identify(t.Context(), first); !errors.Is(err, errWrong) {
		t.Fatalf("a key that is not told any more: %v", err)
	}
	if n := i.asked.Load(); n != 2 {
		t.Fatalf("the issuer was asked %d times", n)
	}
}

// An issuer that does not answer holds up a few requests for a bounded time, and nobody who comes with something else.
// Tokens whose key is known need it no more.
func TestIssuerAway(t *testing.T) {
	i := newIssuer(t)
	silent := make(chan struct{})
	i.answer = func(http.ResponseWriter, *http.Request) bool { <-silent; return true }
	d := i.oidc(nil)
	token := i.token(nil)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	var away, sent atomic.Int64 // those who were told so after they had waited, and at once
	for range 4 * maxWaiting {
		wg.Go(func() {
			switch _, err := d.identify(ctx, token); {
			case !errors.Is(err, ErrAway):
			case ctx.Err() == nil:
				sent.Add(1)
			default:
				away.Add(1)
			}
		})
	}
	a := New(Options{Tokens: true, OIDC: d, Now: i.now})
	made, secret, err := NewToken(Viewer, nil, "", i.now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	file, err := FormatTokens([]*Token{made})
	if err != nil || a.SetTokens(file) != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+secret)
	if p, err := a.Identify(r, From{}); err != nil || p.Role != Viewer {
		t.Errorf("a token of ours beside it: %+v, %v", p, err)
	}
	wg.Wait()
	if n, m := away.Load(), sent.Load(); n+m != 4*maxWaiting || n > maxWaiting || n == 0 {
		t.Errorf("%d waited, %d did not, of %d", n, m, 4*maxWaiting)
	}
	close(silent) // it answers nothing of use
	d = i.oidc(nil)
	if _, err := d.identify(t.Context(), token); !errors.Is(err, ErrAway) || d.Failing() == nil {
		t.Errorf("%v, failing %v", err, d.Failing())
	}
	i.mu.Lock()
	i.answer = nil
	i.mu.Unlock()
	if _, err := d.identify(t.Context(), token); !errors.Is(err, ErrAway) ||
		strings.Contains(d.Failing().Error(), errPaced.Error()) {
		t.Errorf("within the pause: %v; what is told of the issuer: %v", err, d.Failing())
	}
	i.pause()
	if _, err := d.identify(t.Context(), i.token(nil)); err != nil || d.Failing() != nil {
		t.Errorf("after the pause: %v, failing %v", err, d.Failing())
	}
	i.server.Close()
	i.pause()
	if _, err := d.identify(t.Context(), i.token(nil)); err != nil {
		t.Errorf("without the issuer, with a key that is known: %v", err)
	}
	if _, err := d.identify(t.Context(), i.sign(jose.RS256, "r9", i.keys["r1"], i.good())); !errors.Is(err, ErrAway) {
		t.Errorf("without the issuer, with a key that is not: %v", err)
	}
	if d.Failing() == nil {
		t.Error("nobody is told that the issuer is away")
	}
}

// Those whose key nobody knows wait for the issuer, a few at a time; those whose key is known do not.
func TestStormWhileAway(t *testing.T) {
	i := newIssuer(t)
	d := i.oidc(nil)
	known := i.token(nil)
	if _, err := d.identify(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	silent := make(chan struct{})
	defer close(silent)
	i.mu.Lock()
	i.answer = func(http.ResponseWriter, *http.Request) bool { <-silent; return true }
	i.mu.Unlock()
	i.pause()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	unknown := i.sign(jose.RS256, "x", i.keys["r1"], i.good())
	var wg sync.WaitGroup
	var waited, sent atomic.Int64
	for range 4 * maxWaiting {
		wg.Go(func() {
			switch _, err := d.identify(ctx, unknown); {
			case err == nil:
			case ctx.Err() == nil:
				sent.Add(1)
			default:
				waited.Add(1)
			}
		})
	}
	for ctx.Err() == nil && sent.Load() < 3*maxWaiting {
		time.Sleep(time.Millisecond)
	}
	if _, err := d.identify(ctx, known); err != nil {
		t.Errorf("a key that is known: %v", err)
	}
	wg.Wait()
	if n, m := waited.Load(), sent.Load(); n != maxWaiting || m != 3*maxWaiting {
		t.Errorf("%d waited, %d did not", n, m)
	}
}

// What the issuer answers is bounded, and it cannot send a node anywhere without TLS.
func TestIssuerAnswers(t *testing.T) {
	for name, answer := range map[string]func(i *issuer, w http.ResponseWriter, r *http.Request) bool{
		"a redirect": func(i *issuer, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/elsewhere" {
				i.asked.Add(100)
			}
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return true
		},
		"keys without TLS": func(i *issuer, w http.ResponseWriter, _ *http.Request) bool {
			plain := httptest.NewServer(http.HandlerFunc(i.serve)) // which has the right keys
			i.t.Cleanup(plain.Close)
			i.mu.Lock()
			i.answer = nil
			i.mu.Unlock()
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.url(), "jwks_uri": plain.URL + "/keys"})
			return true
		},
		"another issuer": func(i *issuer, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.url() + "x", "jwks_uri": i.server.URL + "/keys"})
			return true
		},
		"without an end": func(i *issuer, w http.ResponseWriter, _ *http.Request) bool {
			for n := range 100 {
				if _, err := w.Write([]byte(strings.Repeat(" ", maxAnswer))); err != nil {
					return true
				}
				i.asked.Store(int64(n))
			}
			i.asked.Store(100)
			return true
		},
		"lines": func(_ *issuer, w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, "a\nb\x1b[31m"+strings.Repeat("c", 1000), http.StatusTeapot)
			return true
		},
	} {
		i := newIssuer(t)
		i.answer = func(w http.ResponseWriter, r *http.Request) bool { return answer(i, w, r) }
		d := i.oidc(nil)
		_, err := d.identify(t.Context(), i.token(nil))
		if !errors.Is(err, ErrAway) || i.asked.Load() >= 100 {
			t.Errorf("%s: %v, asked %d", name, err, i.asked.Load())
		}
		if f := d.Failing(); f == nil || len(f.Error()) > 310 || strings.ContainsAny(f.Error(), "\n\x1b") {
			t.Errorf("%s: failing %q", name, f)
		}
	}
}

func FuzzBearer(f *testing.F) {
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	var server *httptest.Server
	server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/keys" {
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{
				Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k"}}})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": server.URL, "jwks_uri": server.URL + "/keys"})
	}))
	f.Cleanup(server.Close)
	d := NewOIDC(OIDCOptions{Issuer: server.URL, Audience: "a", Claim: "r", Transport: server.Client().Transport})
	f.Fuzz(func(t *testing.T, token string) {
		if p, err := d.identify(t.Context(), token); err == nil {
			t.Fatalf("%q is %+v", token, p)
		}
	})
}
