package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"deckle/node/access"
	"deckle/node/config"
	"deckle/node/front"
	"deckle/trust"
)

// httpSide is what a node answers over HTTP with.
type httpSide struct {
	gate     *front.Gate
	metrics  *front.Metrics
	tls      *trust.Material // nil: plain HTTP
	clients  *trust.Material // the CAs of client certificates; nil: they do not count
	access   *access.Access
	oidc     *access.OIDC                 // nil: there is no issuer
	audit    atomic.Pointer[access.Audit] // nil before Run has opened it
	refusals refusals

	accessMetrics *access.Metrics
}

// openHTTP reads the files of the HTTP side and registers its figures. It does not listen.
func openHTTP(cfg *config.Config, deps *Deps, files *trust.Files) (*httpSide, error) {
	h := &httpSide{}
	var err error
	if h.tls, err = material(files, "http.tls", cfg.HTTP.TLS); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	if h.metrics, err = front.NewMetrics(deps.Registerer); err != nil {
		return nil, fmt.Errorf("node: metrics: %w", err)
	}
	if h.accessMetrics, err = access.NewMetrics(deps.Registerer); err != nil {
		return nil, fmt.Errorf("node: metrics: %w", err)
	}
	if err := h.openAccess(cfg, deps, files); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	names := append([]string{cfg.HTTP.Listen}, cfg.HTTP.Hosts...)
	for _, p := range cfg.Cluster.Nodes {
		if p.Name == cfg.Node {
			names = append(names, p.Address)
		}
	}
	h.gate = front.NewGate(front.GateOptions{Names: names, Own: h.certified, Base: cfg.HTTP.BasePath,
		Proxies: cfg.HTTP.Proxies(), Now: deps.Now, Metrics: h.metrics})
	return h, nil
}

// checkHTTP opens the files of the HTTP side, as openHTTP does; certificate is what http.tls has, nil for none.
func checkHTTP(cfg *config.Config, deps *Deps, files *trust.Files, certificate *trust.Material) (notices []string,
	err error) {
	if t := cfg.HTTP.TLS; t != nil && t.CA != "" && certificate != nil {
		if err := certificate.VerifyOwn(x509.ExtKeyUsageServerAuth); err != nil {
			notices = append(notices, fmt.Sprintf("http.tls.cert: who believes http.tls.ca refuses it: %v", err))
		}
	}
	if text := opens(&cfg.HTTP); text != "" {
		notices = append(notices, text)
	}
	return notices, (&httpSide{}).openAccess(cfg, deps, files)
}

// openAccess reads who may what.
func (h *httpSide) openAccess(cfg *config.Config, deps *Deps, files *trust.Files) (err error) {
	o := access.Options{Now: deps.Now, Metrics: h.accessMetrics}
	auth := cfg.HTTP.Auth
	if auth == nil {
		h.access = access.New(o)
		return nil
	}
	if c := auth.Certificates; c != nil {
		if h.clients, err = files.TLS("http.auth.certificates", trust.Block{Roots: c.CA}); err != nil {
			return err
		}
		o.Certificates = &access.Certificates{Pool: func() *x509.CertPool { return h.clients.Client().RootCAs }}
		for _, r := range c.Roles {
			role, err := access.ParseRole(r.Role)
			if err != nil {
				return err // which the configuration has refused
			}
			o.Certificates.Roles = append(o.Certificates.Roles, access.Named{Name: r.Name, Role: role})
		}
	}
	if c := auth.OIDC; c != nil {
		if o.OIDC, err = openOIDC(c, deps, files); err != nil {
			return err
		}
		h.oidc = o.OIDC
	}
	o.Tokens = auth.Tokens != ""
	h.access = access.New(o)
	if o.Tokens {
		return files.Closing("http.auth.tokens", auth.Tokens, h.access.SetTokens, h.access.NoTokens)
	}
	return nil
}

// openOIDC reads the CA of an issuer. It asks the issuer nothing.
func openOIDC(c *config.HTTPOIDC, deps *Deps, files *trust.Files) (*access.OIDC, error) {
	m, err := files.TLS("http.auth.oidc", trust.Block{Roots: c.CA})
	if err != nil {
		return nil, err
	}
	o := access.OIDCOptions{Issuer: c.Issuer, Audience: c.Audience, Claim: c.Claim, BrandsClaim: c.BrandsClaim,
		Roles: map[string]access.Role{}, Now: deps.Now, Transport: &issuerTransport{m: m}}
	for _, r := range c.Roles {
		if o.Roles[r.Name], err = access.ParseRole(r.Role); err != nil {
			return nil, err // which the configuration has refused
		}
	}
	return access.NewOIDC(o), nil
}

// issuerTransport asks by the CAs that are in use then. The issuer is asked so seldom that no connection is kept.
type issuerTransport struct{ m *trust.Material }

// RoundTrip implements http.RoundTripper.
func (t *issuerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return (&http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: t.m.Client(),
		DisableKeepAlives: true}).RoundTrip(r)
}

// oidcFailing says why the issuer of access tokens cannot be asked, "" if it can.
func (h *httpSide) oidcFailing() string {
	if h.oidc == nil {
		return ""
	}
	if err := h.oidc.Failing(); err != nil {
		return fmt.Sprintf("the issuer of access tokens cannot be asked, so those whose key is not known here yet are "+
			"refused: %v", err)
	}
	return ""
}

// openRecords opens the audit log, and writes the token of this machine's own commands. Only a process that serves does
// it.
func (h *httpSide) openRecords(cfg *config.Config, now func() time.Time) error {
	a := &cfg.HTTP.Audit
	audit, err := access.OpenAudit(access.AuditOptions{File: a.File, Node: cfg.Node, MaxBytes: a.MaxBytes,
		Keep: a.Keep, Now: now, Metrics: h.accessMetrics})
	if err != nil {
		return fmt.Errorf("node: %w (http.audit.file names another place)", err)
	}
	h.audit.Store(audit)
	if h.access.Required() {
		return writeLocalToken(cfg.DataDir, h.access.NewLocal())
	}
	return nil
}

// closeRecords ends the audit log, after the last answer.
func (h *httpSide) closeRecords() error {
	if a := h.audit.Load(); a != nil {
		return a.Close()
	}
	return nil
}

// auditFailing says why the audit log cannot be written, "" if it can.
func (h *httpSide) auditFailing() string {
	a := h.audit.Load()
	if a == nil {
		return ""
	}
	if err := a.Failing(); err != nil {
		return fmt.Sprintf("the audit log cannot be written, so verbs and looks at sessions are refused: %v", err)
	}
	return ""
}

// opens says what http.insecure leaves open, "" if it is not set.
func opens(h *config.HTTP) string {
	const at = "http.insecure: "
	switch {
	case !h.Insecure:
		return ""
	case h.Auth == nil && (h.Reachable() || h.Proxied()):
		return at + "nobody has to say who they are, so whoever reaches " + h.Listen + ", or a proxy before it, can " +
			"read everything, histories of readers included"
	case h.Auth == nil:
		return at + "nobody has to say who they are, so every user of this machine, and whoever a proxy on it lets " +
			"through, can read everything, histories of readers included"
	case h.TLS == nil && h.Reachable():
		return at + "there is no TLS, so whoever is between " + h.Listen + " and its clients can read their tokens " +
			"and all answers"
	}
	return at + "it opens nothing as the rest is; take it away"
}

// certified says whether the certificate that clients are shown has a name.
func (h *httpSide) certified(name string) bool {
	if h.tls == nil {
		return false
	}
	leaf := h.tls.Leaf()
	return leaf != nil && leaf.VerifyHostname(name) == nil
}

// serve answers on ln with handler until ctx ends, on at most that many connections at a time. One client has a
// quarter of them, a trusted proxy all.
func (h *httpSide) serve(ctx context.Context, ln net.Listener, connections int, handler http.Handler,
	log *slog.Logger) error {
	limited := front.Limit(ln, front.Limits{Connections: connections, PerAddress: max(connections/4, 4),
		Whole: h.gate.Trusted, Refused: h.metrics.Refused})
	h.metrics.Watch(limited)
	s := front.Server{Handler: handler, Logger: log}
	if h.tls != nil {
		s.TLS = h.server()
	}
	return front.Serve(ctx, limited, s)
}

// server is the configuration of TLS. Client certificates are asked for, and judged with each request, by the CAs that
// are in use by then.
func (h *httpSide) server() *tls.Config {
	if h.clients == nil {
		return h.tls.Server(tls.NoClientCert, nil)
	}
	c := h.tls.Server(tls.RequestClientCert, nil)
	inner := c.GetConfigForClient
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		now, err := inner(hello)
		if err == nil {
			now.ClientCAs = h.clients.Client().RootCAs // which clients are told, to choose by
		}
		return now, err
	}
	return c
}

// scheme is how clients ask.
func (h *httpSide) scheme() string {
	if h.tls != nil {
		return "https"
	}
	return "http"
}

// refusals says when connections have been refused for so long that somebody should know.
type refusals struct {
	seen        int64
	since, last time.Time // of refusals that have not ceased for refusalsPause
}

const (
	refusalsLast  = time.Minute
	refusalsPause = 30 * time.Second
)

// judge takes the number of refusals so far.
func (r *refusals) judge(total int64, now time.Time) string {
	if total > r.seen {
		if r.last.IsZero() || now.Sub(r.last) > refusalsPause {
			r.since = now
		}
		r.seen, r.last = total, now
	}
	if r.last.IsZero() || now.Sub(r.last) > refusalsPause || r.last.Sub(r.since) < refusalsLast {
		return ""
	}
	return "connections have been closed for more than a minute, because too many are open, of everybody or of one " +
		"address; deckle_http_refused_total says which"
}
