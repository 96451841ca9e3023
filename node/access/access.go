package access

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// CookieName returns the name of the page's cookie. Over TLS browsers take it from this host alone.
func CookieName(secure bool) string {
	if secure {
		return "__Host-deckle"
	}
	return "deckle"
}

// ErrNone is the error of Identify if a request shows nothing of who sends it.
var ErrNone = errors.New("say who you are: a client certificate, or a token as Authorization: Bearer")

// errWrong is what every wrong token gets: whoever tries learns nothing about those that exist.
var errWrong = errors.New("the token is not known, or has expired")

// Options say how principals are known. The zero value lets everybody be an administrator.
type Options struct {
	// Tokens says that there is a file of tokens; Access.SetTokens takes its content, again and again.
	Tokens bool
	// Certificates are the names of client certificates and what each may; nil: certificates do not count.
	Certificates *Certificates
	// OIDC knows the access tokens of an issuer; nil: they do not count.
	OIDC    *OIDC
	Now     func() time.Time // default time.Now
	Metrics *Metrics         // may be nil
}

// Access knows who may what. Its methods are safe for concurrent use.
type Access struct {
	opts   Options
	tokens atomic.Pointer[map[string]*Token]
	local  *Token // nil: there is none
}

// New returns an Access without any token.
func New(o Options) *Access {
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &Access{opts: o}
	a.NoTokens()
	return a
}

// Required says whether requests must say who sends them. Otherwise everybody is an administrator.
func (a *Access) Required() bool {
	return a.opts.Tokens || a.opts.Certificates != nil || a.opts.OIDC != nil
}

// SetTokens puts the content of the file of tokens in use, or says why it cannot be.
func (a *Access) SetTokens(text []byte) error {
	list, err := ParseTokens(text)
	if err != nil {
		return err
	}
	byID := make(map[string]*Token, len(list))
	for _, t := range list {
		byID[t.ID] = t
	}
	a.tokens.Store(&byID)
	return nil
}

// NoTokens has no token of the file count any more.
func (a *Access) NoTokens() { a.tokens.Store(&map[string]*Token{}) }

// NewLocal makes the token of this machine's own commands, an administrator's. It is called before anybody asks.
func (a *Access) NewLocal() (token string) {
	t := &Token{ID: localID, Role: Admin}
	token, t.Hash = newSecret(localID)
	a.local = t
	return token
}

// From says where a request comes from, which no header of it does.
type From struct {
	Machine bool // from this machine, and through no proxy
	Secure  bool // over TLS
}

// Identify says who sends a request. An error is ErrNone, or says what is wrong with what it shows.
func (a *Access) Identify(r *http.Request, from From) (p *Principal, err error) {
	method := "none"
	defer func() { a.opts.Metrics.identified(method, err) }()
	if !a.Required() {
		return &Principal{Who: "none", Role: Admin}, nil
	}
	if c := a.opts.Certificates; c != nil && r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		method = "certificate"
		return c.identify(r.TLS.PeerCertificates, a.opts.Now())
	}
	if list := r.Header.Values("Authorization"); len(list) > 0 {
		method = "token"
		token, ok := bearer(list)
		if !ok {
			return nil, errors.New("Authorization must be one Bearer token")
		}
		if a.isOIDC(token) {
			method = "oidc"
		}
		return a.bearer(r.Context(), token, from)
	}
	if cookies := r.CookiesNamed(CookieName(from.Secure)); len(cookies) > 0 {
		method = "cookie"
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return nil, errors.New("a cookie is for reading only: give the token as Authorization: Bearer")
		}
		if len(cookies) > 1 {
			return nil, errWrong
		}
		return a.bearer(r.Context(), cookies[0].Value, from)
	}
	return nil, ErrNone
}

func bearer(list []string) (token string, ok bool) {
	if len(list) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(list[0], " ")
	token = strings.TrimLeft(token, " ")
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

// isOIDC says whether a token is to be judged by the issuer's keys: none of ours has its form.
func (a *Access) isOIDC(token string) bool {
	return a.opts.OIDC != nil && !strings.HasPrefix(token, prefix)
}

// bearer says whose a token of any kind is.
func (a *Access) bearer(ctx context.Context, token string, from From) (*Principal, error) {
	if a.isOIDC(token) {
		return a.opts.OIDC.identify(ctx, token)
	}
	return a.token(token, from)
}

// token says whose a token is.
func (a *Access) token(token string, from From) (*Principal, error) {
	id := idOf(token)
	if id == localID {
		if a.local == nil || !from.Machine || !a.local.is(token) {
			return nil, errWrong
		}
		return &Principal{Who: "local", Role: Admin}, nil
	}
	t := (*a.tokens.Load())[id]
	if t == nil || !t.is(token) || !a.opts.Now().Before(t.Expires) {
		return nil, errWrong
	}
	return &Principal{Who: "token:" + t.ID, Name: t.Name, Role: t.Role, Brands: slices.Clone(t.Brands)}, nil
}

// Login says whose a token is that somebody types into the page.
func (a *Access) Login(ctx context.Context, token string, from From) (p *Principal, err error) {
	defer func() { a.opts.Metrics.identified("login", err) }()
	const most = 3800 // what browsers take for a cookie
	switch {
	case !a.Required():
		return nil, errors.New("nobody has to log in here")
	case len(token) > most:
		return nil, fmt.Errorf("the token has more than %d bytes: too many for a cookie", most)
	}
	return a.bearer(ctx, token, from)
}
