package access

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func withTokens(t *testing.T, tokens ...*Token) (*Access, *time.Time) {
	t.Helper()
	m, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	now := testNow
	a := New(Options{Tokens: true, Now: func() time.Time { return now }, Metrics: m})
	text, err := FormatTokens(tokens)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SetTokens(text); err != nil {
		t.Fatal(err)
	}
	return a, &now
}

func with(header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

// One that is presented and wrong ends it: a thief of a cookie must not be able to hide behind a good token, nor a
// mistake in a token be answered as somebody else.
func TestIdentify(t *testing.T) {
	tok, secret := newToken(t, Analyst, "x")
	a, now := withTokens(t, tok)
	local := a.NewLocal()
	here, away, secure := From{Machine: true}, From{}, From{Secure: true}
	wrong := secret[:len(secret)-1] + map[bool]string{true: "B", false: "A"}[strings.HasSuffix(secret, "A")]
	for name, c := range map[string]struct {
		r    *http.Request
		from From
		who  string // "" for an error
	}{
		"nothing":            {with(), here, ""},
		"bearer":             {with("Authorization", "Bearer "+secret), away, "token:" + tok.ID},
		"bearer, small":      {with("Authorization", "bearer  "+secret), away, "token:" + tok.ID},
		"wrong secret":       {with("Authorization", "Bearer "+wrong), away, ""},
		"id alone":           {with("Authorization", "Bearer dkl_"+tok.ID), away, ""},
		"basic":              {with("Authorization", "Basic "+secret), away, ""},
		"no scheme":          {with("Authorization", secret), away, ""},
		"two":                {with("Authorization", "Bearer "+secret, "Authorization", "Bearer "+secret), away, ""},
		"cookie":             {with("Cookie", "deckle="+secret), away, "token:" + tok.ID},
		"cookie over TLS":    {with("Cookie", "__Host-deckle="+secret), secure, "token:" + tok.ID},
		"plain cookie, TLS":  {with("Cookie", "deckle="+secret), secure, ""},
		"two cookies":        {with("Cookie", "deckle="+secret+"; deckle="+secret), away, ""},
		"wrong, good cookie": {with("Authorization", "Bearer x", "Cookie", "deckle="+secret), away, ""},
		"local":              {with("Authorization", "Bearer "+local), here, "local"},
		"local from away":    {with("Authorization", "Bearer "+local), away, ""},
		"in the query":       {httptest.NewRequest(http.MethodGet, "/?token="+secret, nil), away, ""},
	} {
		p, err := a.Identify(c.r, c.from)
		if (err == nil) != (c.who != "") || err == nil && p.Who != c.who ||
			err != nil && strings.Contains(err.Error(), "dkl_") {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
		if strings.HasPrefix(name, "nothing") != errors.Is(err, ErrNone) && name != "in the query" &&
			name != "plain cookie, TLS" {
			t.Errorf("%s: %v", name, err)
		}
	}
	post := with("Cookie", "deckle="+secret)
	post.Method = http.MethodPost
	if _, err := a.Identify(post, away); err == nil {
		t.Error("a cookie counts for a verb")
	}
	good := with("Authorization", "Bearer "+secret)
	p, err := a.Identify(good, away)
	if err != nil || p.Role != Analyst || !p.Held() || !p.Sees("x") || p.Sees("y") || p.Name != "name" {
		t.Errorf("%+v, %v", p, err)
	}
	// A token is out as soon as its line is, or its time is over; a bad file changes nothing; a lost one closes.
	if err := a.SetTokens([]byte("{")); err == nil {
		t.Error("a bad file is taken")
	}
	if _, err := a.Identify(good, away); err != nil {
		t.Errorf("a bad file has changed something: %v", err)
	}
	*now = tok.Expires
	if _, err := a.Identify(good, away); err == nil {
		t.Error("an expired token is taken")
	}
	*now = testNow
	if err := a.SetTokens(nil); err != nil {
		t.Error(err)
	}
	if _, err := a.Identify(good, away); err == nil {
		t.Error("a revoked token is taken")
	}
	a, _ = withTokens(t, tok)
	local = a.NewLocal()
	a.NoTokens()
	if _, err := a.Identify(good, away); err == nil {
		t.Error("a token of a lost file is taken")
	}
	if _, err := a.Identify(with("Authorization", "Bearer "+local), here); err != nil {
		t.Errorf("the machine's own commands are locked out: %v", err)
	}
	if p, err := New(Options{}).Identify(with(), away); err != nil || p.Role != Admin || p.Who != "none" {
		t.Errorf("without authentication: %+v, %v", p, err)
	}
}

func TestLogin(t *testing.T) {
	tok, secret := newToken(t, Viewer)
	a, _ := withTokens(t, tok)
	if p, err := a.Login(t.Context(), secret, From{}); err != nil || p.Role != Viewer {
		t.Errorf("%+v, %v", p, err)
	}
	for _, bad := range []string{"", "x", secret + "x", strings.Repeat("x", 4000)} {
		if _, err := a.Login(t.Context(), bad, From{}); err == nil {
			t.Errorf("%.20q is taken", bad)
		}
	}
}
