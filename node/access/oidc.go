package access

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
)

// ErrAway is wrapped by errors of Identify that say nothing of the token: its issuer could not be asked.
var ErrAway = errors.New("the issuer of the token cannot be asked")

const (
	// askPause is how long the issuer is not asked again for keys, or for its configuration. Everybody can send tokens
	// with key ids that nobody knows.
	askPause = 30 * time.Second
	// askTimeout bounds one question, and how long a request waits for one.
	askTimeout = 5 * time.Second
	// maxWaiting is how many requests wait for the issuer at a time; others are told that it is away. A node that waits
	// for it with every request it can have would answer nobody.
	maxWaiting = 8
	// maxAnswer bounds the bytes of an answer of the issuer.
	maxAnswer = 1 << 20
	// maxShownName bounds what is shown of a name that the issuer gives.
	maxShownName = 200
)

// signatures are the algorithms that count: with keys of the issuer's own. A key that both ends know (HS256) is none,
// for the issuer's public key would be one (RFC 8725, 2.1).
var signatures = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512,
	oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA}

// OIDCOptions say whose access tokens count (OpenID Connect; tokens are JWTs, RFC 9068).
type OIDCOptions struct {
	Issuer   string // an https URL; must equal the claim iss, byte by byte
	Audience string // must be in the claim aud
	// Claim has the roles: its name, or a path of names with dots between them. It is a text or a list of texts; a text
	// under the name scope or scp is a list with spaces (RFC 8693, 4.2).
	Claim string
	Roles map[string]Role // what each value of Claim may; the greatest counts
	// BrandsClaim, if it is not "", has the brands that the role is held to, and must be there; AllBrands in it holds
	// it to none.
	BrandsClaim string
	Transport   http.RoundTripper // how the issuer is asked
	Now         func() time.Time  // default time.Now
}

// AllBrands is the value of OIDCOptions.BrandsClaim for a role that is held to no brand.
const AllBrands = "*"

// OIDC knows the bearers of an issuer's access tokens. The issuer is asked when the first token comes. Its methods are
// safe for concurrent use.
type OIDC struct {
	opts    OIDCOptions
	client  *http.Client
	pace    *paced
	waiting chan struct{} // has one element for each request that waits

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier // nil until the issuer has told its configuration
	asking   chan struct{}         // closed when the question that is under way has its answer; nil: there is none
	asked    time.Time             // when the configuration was last asked for
	failed   error                 // of the last question, nil if it was answered
}

// NewOIDC returns an OIDC that has asked nothing.
func NewOIDC(o OIDCOptions) *OIDC {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Transport == nil {
		o.Transport = http.DefaultTransport
	}
	d := &OIDC{opts: o, waiting: make(chan struct{}, maxWaiting)}
	d.pace = &paced{d: d, asked: map[string]time.Time{}}
	d.client = &http.Client{Timeout: askTimeout, Transport: d.pace,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return d
}

// Failing says why the issuer could not be asked the last time, nil if it could or never was.
func (d *OIDC) Failing() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// identify says whose a token is.
func (d *OIDC) identify(ctx context.Context, token string) (*Principal, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	v, err := d.ready(ctx)
	if err != nil {
		return nil, err
	}
	// With a context that has ended, the library has the keys asked for if it must, and does not wait for them: so
	// those whose key is known wait for nobody.
	ended, end := context.WithCancel(ctx)
	end()
	t, err := v.Verify(ended, token)
	if asked(err) {
		if err := d.wait(); err != nil {
			return nil, err
		}
		t, err = d.verify(ctx, ended, v, token)
		<-d.waiting
	}
	if asked(err) && (ctx.Err() != nil || d.Failing() != nil) {
		return nil, ErrAway
	}
	if err != nil || t.Subject == "" {
		return nil, errWrong // the reason may show parts of the token, and helps nobody but whoever tries
	}
	var claims map[string]any
	if err := t.Claims(&claims); err != nil {
		return nil, errWrong
	}
	return d.principal(t.Subject, claims)
}

// verify verifies a token whose key was not known, and waits for the issuer.
func (d *OIDC) verify(ctx, ended context.Context, v *oidc.IDTokenVerifier, token string) (*oidc.IDToken, error) {
	for {
		t, err := v.Verify(ctx, token)
		switch {
		case !asked(err):
			return t, err
		case ctx.Err() != nil || d.Failing() != nil || !d.pace.over(d.opts.Now()):
			// The keys may have come after they were looked at, and before they were asked for.
			return v.Verify(ended, token)
		}
		// This was the outcome of a question from before the pause was over.
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// asked tells whether a token was not verified because its key is not known, and the issuer was to be asked for it. The
// library has no error for it.
func asked(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "failed to verify signature: fetching keys")
}

// wait takes one of the places of those who wait for the issuer; taking an element from d.waiting gives it back.
func (d *OIDC) wait() error {
	select {
	case d.waiting <- struct{}{}:
		return nil
	default:
		return fmt.Errorf("%w: too many wait for it", ErrAway)
	}
}

// ready returns what verifies tokens, once the issuer has told its configuration.
func (d *OIDC) ready(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	v, asking, err := d.ask()
	if v != nil || err != nil {
		return v, err
	}
	if err := d.wait(); err != nil {
		return nil, err
	}
	defer func() { <-d.waiting }()
	select {
	case <-asking:
	case <-ctx.Done():
		return nil, ErrAway
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.verifier == nil {
		return nil, fmt.Errorf("%w: %w", ErrAway, d.failed)
	}
	return d.verifier, nil
}

// ask returns what verifies tokens, or, after it has begun to ask for the issuer's configuration if nobody else has,
// what is closed when there is an answer.
func (d *OIDC) ask() (v *oidc.IDTokenVerifier, asking chan struct{}, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.verifier != nil || d.asking != nil {
		return d.verifier, d.asking, nil
	}
	now := d.opts.Now()
	if d.failed != nil && now.Sub(d.asked) < askPause {
		return nil, nil, fmt.Errorf("%w: %w", ErrAway, d.failed)
	}
	d.asking, d.asked = make(chan struct{}), now
	go d.discover(d.asking)
	return nil, d.asking, nil
}

// discover asks the issuer for its configuration.
func (d *OIDC) discover(asking chan struct{}) {
	// The library takes the client from the context; its time-out bounds the question.
	ctx := oidc.ClientContext(context.Background(), d.client)
	p, err := oidc.NewProvider(ctx, d.opts.Issuer)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.failed = shortened(err)
	} else {
		d.failed = nil
		d.verifier = p.VerifierContext(ctx, &oidc.Config{ClientID: d.opts.Audience, SupportedSigningAlgs: signatures,
			Now: d.opts.Now})
	}
	d.asking = nil
	close(asking)
}

// shortened is an error with a text that the log and a condition can show: the issuer's answer may be in it.
func shortened(err error) error {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, err.Error())
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "") + "…"
	}
	return errors.New(text)
}

// principal is who a token with these claims is of. Without a role it is one who may nothing.
func (d *OIDC) principal(subject string, claims map[string]any) (*Principal, error) {
	p := &Principal{Who: "oidc:" + d.opts.Issuer + "#" + subject, Name: shownName(claims)}
	for _, v := range values(claims, d.opts.Claim) {
		p.Role = max(p.Role, d.opts.Roles[v])
	}
	if d.opts.BrandsClaim == "" || p.Role == Nobody {
		return p, nil
	}
	brands := values(claims, d.opts.BrandsClaim)
	if slices.Contains(brands, AllBrands) {
		return p, nil
	}
	if p.Brands = append([]string{}, brands...); checkBrands(p.Role, p.Brands) != nil {
		p.Role = Nobody // no brands, or a role that has verbs, which concern all of them
	}
	return p, nil
}

// shownName is a name for people. It proves nothing.
func shownName(claims map[string]any) string {
	name, _ := claims["preferred_username"].(string)
	if len(name) > maxShownName || strings.ContainsFunc(name, unicode.IsControl) {
		return ""
	}
	return name
}

// values returns the texts of a claim. A name with dots is looked for as it is before it is taken for a path.
func values(claims map[string]any, path string) []string {
	v, name := lookup(claims, path)
	switch v := v.(type) {
	case string:
		if name == "scope" || name == "scp" {
			return strings.Fields(v)
		}
		return []string{v}
	case []any:
		var out []string
		for _, e := range v {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// lookup returns the value at a path, and the last name of the path.
func lookup(claims map[string]any, path string) (value any, name string) {
	if v, ok := claims[path]; ok {
		return v, path
	}
	for i, r := range path {
		if r != '.' {
			continue
		}
		if inner, ok := claims[path[:i]].(map[string]any); ok {
			if v, name := lookup(inner, path[i+1:]); v != nil {
				return v, name
			}
		}
	}
	return nil, ""
}

// errPaced says that the issuer is not asked so soon again.
var errPaced = errors.New("asked a moment ago")

// paced asks an issuer at most once in askPause for each document, and bounds its answers. The library asks for keys
// again with each token whose key id it does not know (go-oidc#482), and reads answers of any length.
type paced struct {
	d *OIDC

	mu    sync.Mutex
	asked map[string]time.Time
}

// RoundTrip implements http.RoundTripper.
func (p *paced) RoundTrip(r *http.Request) (*http.Response, error) {
	at, now := r.URL.String(), p.d.opts.Now()
	if r.URL.Scheme != "https" {
		return nil, p.note(fmt.Errorf("%s is not https", at))
	}
	p.mu.Lock()
	if last, ok := p.asked[at]; ok && now.Sub(last) < askPause {
		p.mu.Unlock()
		return nil, errPaced
	}
	p.asked[at] = now // the issuer names two
	p.mu.Unlock()
	answer, err := p.d.opts.Transport.RoundTrip(r)
	if err != nil {
		return nil, p.note(err)
	}
	if answer.StatusCode != http.StatusOK {
		_ = p.note(fmt.Errorf("%s answers %s", at, answer.Status))
	} else {
		_ = p.note(nil)
	}
	answer.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(answer.Body, maxAnswer), answer.Body}
	return answer, nil
}

// over says whether the issuer may be asked again.
func (p *paced) over(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, last := range p.asked {
		if now.Sub(last) < askPause {
			return false
		}
	}
	return true
}

// note keeps how a question for keys has ended.
func (p *paced) note(err error) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.d.failed = nil; err != nil {
		p.d.failed = shortened(err)
	}
	return err
}
