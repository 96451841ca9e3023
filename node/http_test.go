package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"deckle/node/access"
	"deckle/node/config"
	"deckle/node/status"
	"deckle/node/web"
	"deckle/trust"
	"deckle/trust/pki"
)

// nothing is a node that has nothing to show.
type nothing struct{}

func (nothing) Status() status.Node      { return status.Node{Node: "a", Ready: true} }
func (nothing) Store(uint32) web.Replica { return nil }

// tokens writes a file with one token for each role, and returns them.
func tokens(t *testing.T, path string, roles ...access.Role) (secrets []string) {
	t.Helper()
	var list []*access.Token
	for _, r := range roles {
		tok, secret, err := access.NewToken(r, nil, "", time.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		list, secrets = append(list, tok), append(secrets, secret)
	}
	text, err := access.FormatTokens(list)
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return secrets
}

// The whole HTTP side as a configuration sets it up, over real connections: TLS and HTTP/2, who is known by a token, a
// client's certificate or as this machine's own user, and who is not; and what another content of a file changes while
// it runs.
func TestGuardedHTTP(t *testing.T) {
	f := certificates(t, 100, "a")
	for _, name := range []string{"prometheus", "other"} {
		if _, err := f.Client(pki.Leaf{Name: name, Days: 100}); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "tokens")
	mine := tokens(t, file, access.Analyst, access.Operator)
	cfg := &config.Config{Node: "a", DataDir: dir, HTTP: config.HTTP{Listen: "127.0.0.1:0", TLS: blockOf(f, "a"),
		Open: []string{"livez"}, Auth: &config.HTTPAuth{Tokens: file, Certificates: &config.HTTPCertificates{
			CA:    filepath.Join(f.Dir, "ca.pem"),
			Roles: []config.HTTPRole{{Name: "deckle://deckle/client/prometheus", Role: "viewer"}}}},
		Audit: config.Audit{File: filepath.Join(dir, "audit", "audit.jsonl"), MaxBytes: 1 << 20, Keep: 1}}}
	deps := Deps{Logger: slog.New(slog.DiscardHandler)}
	deps.complete()
	files := openFiles(cfg, &deps)
	h, err := openHTTP(cfg, &deps, files)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.openRecords(cfg, time.Now); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", cfg.HTTP.Listen)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	handler := web.NewHandler(nothing{}, web.Options{Gate: h.gate, Access: h.access, Audit: h.audit.Load(),
		Open: func() []string { return cfg.HTTP.Open },
		Command: func(context.Context, status.Command) (status.Outcome, error) {
			return status.Outcome{}, nil
		}})
	go func() { served <- h.serve(ctx, ln, 64, handler, deps.Logger) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := h.closeRecords(); err != nil {
			t.Error(err)
		}
	}()

	pool := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(f.Dir, "ca.pem"))
	if err != nil || !pool.AppendCertsFromPEM(ca) {
		t.Fatal(err)
	}
	var last *tls.ConnectionState
	// ask returns status and protocol; client is the name of a certificate, or "".
	ask := func(method, path, token, client string) string {
		t.Helper()
		c := &tls.Config{RootCAs: pool}
		if client != "" {
			at := filepath.Join(f.Dir, client)
			cert, err := tls.LoadX509KeyPair(at+".pem", at+"-key.pem")
			if err != nil {
				t.Fatal(err)
			}
			c.Certificates = []tls.Certificate{cert}
		}
		var body io.Reader
		if method == http.MethodPost {
			body = strings.NewReader(`{"partition":3}`)
		}
		r, err := http.NewRequest(method, "https://"+ln.Addr().String()+path, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		transport := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		last = resp.TLS
		return fmt.Sprintf("%d %s", resp.StatusCode, resp.Proto)
	}
	local, err := LocalToken(dir)
	if err != nil {
		t.Fatal(err)
	}
	const status, resume = "/api/v1/status", "/api/v1/partitions/resume"
	for _, c := range []struct{ method, path, token, client, want string }{
		{"GET", "/livez", "", "", "200 HTTP/2.0"},
		{"GET", status, "", "", "401 HTTP/2.0"},
		{"GET", status, mine[0], "", "200 HTTP/2.0"},
		{"POST", resume, mine[0], "", "403 HTTP/2.0"},
		{"POST", resume, mine[1], "", "200 HTTP/2.0"},
		{"GET", status, "", "prometheus", "200 HTTP/2.0"},
		{"POST", resume, "", "prometheus", "403 HTTP/2.0"},
		{"GET", status, "", "other", "401 HTTP/2.0"}, // a client of our CA that nobody has named
		{"GET", status, "", "a", "401 HTTP/2.0"},     // a node is no client
		{"GET", status, mine[0], "other", "401 HTTP/2.0"},
		{"GET", status, local, "", "200 HTTP/2.0"},
		{"POST", resume, local, "", "200 HTTP/2.0"},
	} {
		if got := ask(c.method, c.path, c.token, c.client); got != c.want {
			t.Errorf("%s %s, token %.12q, certificate %q: %s, want %s", c.method, c.path, c.token, c.client, got,
				c.want)
		}
	}
	before := last.PeerCertificates[0]
	if resp, err := http.Get("http://" + ln.Addr().String() + status); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("without TLS: %d", resp.StatusCode)
		}
	}
	for path, want := range map[string]os.FileMode{"local-token": 0o600, "audit/audit.jsonl": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}

	// Another certificate and other tokens count for the next connection, without a restart.
	if _, err := f.Node(pki.Leaf{Name: "a", Hosts: []string{"127.0.0.1"}, Days: 100, Force: true}); err != nil {
		t.Fatal(err)
	}
	former := mine
	mine = tokens(t, file, access.Viewer)
	files.Look()
	if got := ask("GET", status, former[1], ""); got != "401 HTTP/2.0" {
		t.Errorf("a token that is out: %s", got)
	}
	if got := ask("GET", status, mine[0], ""); got != "200 HTTP/2.0" {
		t.Errorf("a new token: %s", got)
	}
	if before.Equal(last.PeerCertificates[0]) {
		t.Error("the former certificate is shown")
	}
	// A file with an error changes nothing at first; the machine's own commands go on in any case.
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	files.Look()
	if got := ask("GET", status, mine[0], ""); got != "200 HTTP/2.0" {
		t.Errorf("an error in the file: %s", got)
	}
	text, err := os.ReadFile(cfg.HTTP.Audit.File)
	if err != nil || !strings.Contains(string(text), `"who":"local"`) ||
		!strings.Contains(string(text), `"verb":"partitions.resume"`) || strings.Contains(string(text), local[13:]) {
		t.Errorf("%v: %s", err, text)
	}
}

// Whoever deletes the file of tokens means that they do not count: after a minute none does.
func TestTokensClose(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tokens")
	secret := tokens(t, file, access.Viewer)[0]
	now := time.Now()
	deps := Deps{Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }}
	deps.complete()
	cfg := &config.Config{Node: "a", DataDir: dir, HTTP: config.HTTP{Auth: &config.HTTPAuth{Tokens: file}}}
	files := trust.NewFiles(os.ReadFile, deps.Now, deps.Logger)
	h, err := openHTTP(cfg, &deps, files)
	if err != nil {
		t.Fatal(err)
	}
	good := func() bool { _, err := h.access.Login(t.Context(), secret, access.From{}); return err == nil }
	if err := os.Remove(file); err != nil || !good() {
		t.Fatal(err)
	}
	files.Look()
	if now = now.Add(59 * time.Second); !good() {
		t.Error("closed at once")
	}
	now = now.Add(2 * time.Second)
	files.Look()
	if good() {
		t.Error("a token counts whose file is gone")
	}
}

// What http.insecure opens is said for as long as it is set, and nothing is said where it is not.
func TestInsecureHTTP(t *testing.T) {
	auth, block := &config.HTTPAuth{Tokens: "t"}, &config.TLS{Cert: "c", Key: "k"}
	for _, c := range []struct {
		http config.HTTP
		want string
	}{
		{config.HTTP{Listen: "127.0.0.1:80"}, ""},
		{config.HTTP{Listen: "10.0.0.1:80", TLS: block, Auth: auth}, ""},
		{config.HTTP{Listen: "10.0.0.1:80", Insecure: true}, "whoever reaches 10.0.0.1:80"},
		{config.HTTP{Listen: "10.0.0.1:80", TLS: block, Insecure: true}, "whoever reaches 10.0.0.1:80"},
		{config.HTTP{Listen: "127.0.0.1:80", Hosts: []string{"d.example"}, Insecure: true}, "or a proxy before it"},
		{config.HTTP{Listen: "127.0.0.1:80", Insecure: true}, "every user of this machine"},
		{config.HTTP{Listen: "10.0.0.1:80", Auth: auth, Insecure: true}, "there is no TLS"},
		{config.HTTP{Listen: "10.0.0.1:80", TLS: block, Auth: auth, Insecure: true}, "it opens nothing"},
		{config.HTTP{Listen: "127.0.0.1:80", Auth: auth, Insecure: true}, "it opens nothing"},
	} {
		if got := opens(&c.http); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.http, got, c.want)
		}
	}
}

// --check opens the files of the HTTP side, too: a node would not start without them.
func TestCheckHTTPFiles(t *testing.T) {
	f, other := certificates(t, 100, "a"), certificates(t, 100, "a")
	dir := t.TempDir()
	file := filepath.Join(dir, "tokens")
	tokens(t, file, access.Viewer)
	for what, c := range map[string]struct {
		change      func(*config.HTTP)
		notice, err string
	}{
		"good":          {func(*config.HTTP) {}, "", ""},
		"no tokens":     {func(h *config.HTTP) { h.Auth.Tokens = dir + "/no" }, "", "http.auth.tokens: open "},
		"wrong tokens":  {func(h *config.HTTP) { h.Auth.Tokens = h.TLS.Key }, "", "http.auth.tokens: "},
		"no CA":         {func(h *config.HTTP) { h.Auth.Certificates.CA = file }, "", "http.auth.certificates.ca: "},
		"another CA":    {func(h *config.HTTP) { h.TLS.CA = other.Dir + "/ca.pem" }, "http.tls.cert: ", ""},
		"insecure":      {func(h *config.HTTP) { h.Insecure = true }, "http.insecure: it opens nothing", ""},
		"open to all":   {func(*config.HTTP) { _ = os.Chmod(file, 0o644) }, "http.auth.tokens: every user", ""},
		"no key of TLS": {func(h *config.HTTP) { h.TLS.Key = dir + "/no" }, "", "http.tls.cert: "},
	} {
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := &config.Config{Node: "a", Cluster: config.Cluster{Name: "deckle", Nodes: []config.Node{{Name: "a"}}},
			HTTP: config.HTTP{Listen: "127.0.0.1:80", TLS: blockOf(f, "a"), Auth: &config.HTTPAuth{Tokens: file,
				Certificates: &config.HTTPCertificates{CA: filepath.Join(f.Dir, "ca.pem"),
					Roles: []config.HTTPRole{{Name: "x", Role: "viewer"}}}}}}
		c.change(&cfg.HTTP)
		_, notices, err := CheckFiles(cfg, Deps{Logger: slog.New(slog.DiscardHandler)})
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: error %v, want %q", what, err, c.err)
		}
		if got := strings.Join(notices, "\n"); (got == "") != (c.notice == "") || !strings.Contains(got, c.notice) {
			t.Errorf("%s: %q, want %q", what, got, c.notice)
		}
	}
}
