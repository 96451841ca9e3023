package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"deckle/node/config"
)

const (
	// tokenLeft is how much longer a token must be good to be used for a connection.
	tokenLeft = 30 * time.Second
	// tokenPatience bounds the wait for a token.
	tokenPatience = 10 * time.Second
)

// tokens gives OAUTHBEARER's tokens, one for all connections of the node as long as it is good.
type tokens struct {
	cfg    *config.OAuth
	secret func() string // of the client, or the token itself
	tls    func() *tls.Config
	now    func() time.Time

	mu  sync.Mutex // one at a time fetches
	has *oauth2.Token
	of  string // the secret with which has was fetched
}

func newTokens(cfg *config.OAuth, secret func() string, tls func() *tls.Config) *tokens {
	return &tokens{cfg: cfg, secret: secret, tls: tls, now: time.Now}
}

// auth returns what one connection proves itself with.
func (t *tokens) auth(ctx context.Context) (oauth.Auth, error) {
	token, err := t.token(ctx)
	if err != nil {
		return oauth.Auth{}, err
	}
	a := oauth.Auth{Token: token}
	for _, e := range t.cfg.Extensions {
		if a.Extensions == nil {
			a.Extensions = map[string]string{}
		}
		a.Extensions[e.Name] = e.Value
	}
	return a, nil
}

func (t *tokens) token(ctx context.Context) (string, error) {
	secret := t.secret()
	if t.cfg.TokenFile != "" {
		token := strings.TrimSpace(secret)
		if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", errors.New("kafka.sasl.oauth.token_file: what it has is no token")
		}
		return token, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	left := time.Duration(0)
	if t.has != nil {
		left = t.has.Expiry.Sub(t.now())
		if t.of == secret && (t.has.Expiry.IsZero() || left >= tokenLeft) {
			return t.has.AccessToken, nil
		}
	}
	got, err := t.fetch(ctx, secret)
	switch {
	case err == nil:
		t.has, t.of = got, secret
	case left <= 0:
		return "", fmt.Errorf("kafka.sasl.oauth: no token from %s: %w", t.cfg.TokenURL, err)
	}
	return t.has.AccessToken, nil // the former one, if it is still good
}

// fetch gets a token by client credentials (RFC 6749 §4.4).
func (t *tokens) fetch(ctx context.Context, secret string) (*oauth2.Token, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	if t.tls != nil {
		transport.TLSClientConfig = t.tls().Clone()
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Transport: transport, Timeout: tokenPatience})
	ask := clientcredentials.Config{ClientID: t.cfg.ClientID, ClientSecret: secret, TokenURL: t.cfg.TokenURL,
		Scopes: strings.Fields(t.cfg.Scope)}
	if t.cfg.Audience != "" {
		ask.EndpointParams = url.Values{"audience": {t.cfg.Audience}}
	}
	got, err := ask.Token(ctx)
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok { // whose text has the whole answer, in lines
		return nil, errors.New(strings.TrimSpace(strings.Join([]string{refused.Response.Status, refused.ErrorCode,
			refused.ErrorDescription}, " ")))
	}
	return got, err
}
