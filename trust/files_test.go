package trust

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/trust/pki"
)

var start = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// world is files in memory, a clock and a log.
type world struct {
	t   *testing.T
	mu  sync.Mutex
	has map[string][]byte
	at  time.Time
	log bytes.Buffer
	*Files
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, has: map[string][]byte{}, at: start}
	w.Files = NewFiles(func(path string) ([]byte, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if b, ok := w.has[path]; ok {
			return slices.Clone(b), nil
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}, func() time.Time { return w.at },
		slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	return w
}

// put writes files, name and content in turns, without a look.
func (w *world) put(files map[string][]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.Copy(w.has, files)
}

// after lets time pass, and looks.
func (w *world) after(d time.Duration) {
	w.at = w.at.Add(d)
	w.Look()
}

// authority is a CA of a test; days is how long what it makes is valid.
func authority(t testing.TB) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA("main", start, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func bundle(t testing.TB, cas ...*pki.CA) (text []byte) {
	t.Helper()
	for _, ca := range cas {
		cert, _, err := ca.PEM()
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, cert...)
	}
	return text
}

// pair returns the files of a node.
func pair(t testing.TB, ca *pki.CA, name string, days int) map[string][]byte {
	t.Helper()
	cert, key, err := ca.Node("main", name, []string{"host." + name, "127.0.0.1"}, start, days)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"cert": cert, "key": key}
}

var block = Block{Roots: "ca", Cert: "cert", Key: "key"}

// meet connects a client and a server, and returns what each has seen of the other.
func meet(server, client *tls.Config) (ofServer, ofClient tls.ConnectionState, err error) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	for _, end := range []net.Conn{a, b} { // a pipe has no buffer: what nobody reads would be waited for
		_ = end.SetDeadline(time.Now().Add(10 * time.Second))
	}
	s, c := tls.Server(a, server), tls.Client(b, client)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("x"))
		}
		if err != nil {
			a.Close()
		}
		done <- err
	}()
	err = c.Handshake()
	if err == nil {
		_, err = c.Read(make([]byte, 1)) // in TLS 1.3 the client learns of a refusal later
	}
	if err != nil {
		b.Close()
	}
	err = errors.Join(err, <-done)
	return s.ConnectionState(), c.ConnectionState(), err
}

func named(c *tls.Config, host string) *tls.Config {
	c = c.Clone()
	c.ServerName = host
	return c
}

func (w *world) state(key string) FileState {
	w.t.Helper()
	for _, s := range w.State() {
		if s.Key == key {
			return s
		}
	}
	w.t.Fatalf("no file of %s", key)
	return FileState{}
}

// Two CAs are rotated while both sides go on: at each step the handshakes succeed that should, and no others. Nothing
// is restarted, and both configurations were made once (Server) or are asked for anew (Client).
func TestRotation(t *testing.T) {
	w := newWorld(t)
	one, two := authority(t), authority(t)
	w.put(pair(t, one, "a", 300))
	w.put(map[string][]byte{"ca": bundle(t, one)})
	m, err := w.TLS("cluster.tls", block)
	if err != nil {
		t.Fatal(err)
	}
	changed, told := 0, 0
	m.Changed(func() { changed++ })
	w.Changed(func() { told++ })
	server := m.Server(tls.RequireAndVerifyClientCert, nil)
	_ = m.Client()                                             // what a client got before does not stay
	other := func(ca *pki.CA, trusts ...*pki.CA) *tls.Config { // a side that has what ca made, and knows trusts
		v := newWorld(t)
		v.put(pair(t, ca, "b", 300))
		v.put(map[string][]byte{"ca": bundle(t, trusts...)})
		n, err := v.TLS("x", block)
		if err != nil {
			t.Fatal(err)
		}
		return n.Client()
	}
	meets := func(step string, client *tls.Config, want bool) {
		t.Helper()
		if _, _, err := meet(server, named(client, "host.a")); (err == nil) != want {
			t.Errorf("%s: %v", step, err)
		}
	}
	meets("before", other(one, one), true)
	meets("of the second CA, before", other(two, one, two), false)

	w.put(map[string][]byte{"ca": bundle(t, two, one)})
	meets("not looked yet", other(two, one, two), false)
	w.after(LookEvery)
	meets("both CAs", other(one, one), true)
	meets("both CAs, of the second", other(two, one, two), true)

	next := pair(t, two, "a", 300)
	w.put(map[string][]byte{"cert": next["cert"]}) // between the two writes of a rotation
	w.after(LookEvery)
	meets("half a pair: the former is shown", other(one, one), true)
	if s := w.state("cluster.tls.cert"); s.Err == nil || s.Unusable {
		t.Errorf("half a pair: %+v", s)
	}
	w.put(next)
	w.after(LookEvery)
	meets("the new pair, to who knows the first CA alone", other(one, one), false)
	meets("the new pair", other(one, one, two), true)

	w.put(map[string][]byte{"ca": bundle(t, two)})
	w.after(LookEvery)
	meets("the first CA is out", other(one, one, two), false)
	meets("the second remains", other(two, two), true)
	if changed != 3 || told != 3 {
		t.Errorf("%d and %d changes were told, want 3: the bundle, the pair, the bundle", changed, told)
	}
	// And this side as a client.
	v := newWorld(t)
	v.put(pair(t, two, "b", 300))
	v.put(map[string][]byte{"ca": bundle(t, two)})
	n, err := v.TLS("x", block)
	if err != nil {
		t.Fatal(err)
	}
	if _, seen, err := meet(n.Server(tls.RequireAndVerifyClientCert, nil), named(m.Client(), "host.b")); err != nil ||
		len(seen.PeerCertificates) != 1 || seen.PeerCertificates[0].DNSNames[0] != "host.b" {
		t.Errorf("as a client: %v", err)
	}
	if first, again := m.Client(), m.Client(); first != again {
		t.Error("nothing has changed, and the configuration is another one: connections would be made anew")
	}
}

// Go verifies no chain when a session is resumed, so a CA that was taken away would go on (invariant 2). A client that
// would like to resume is not let, and check sees every connection.
func TestNothingIsResumed(t *testing.T) {
	w := newWorld(t)
	ca := authority(t)
	w.put(pair(t, ca, "a", 300))
	w.put(map[string][]byte{"ca": bundle(t, ca)})
	m, err := w.TLS("x", block)
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	server := m.Server(tls.RequireAndVerifyClientCert, func(tls.ConnectionState) error { checked++; return nil })
	client := named(m.Client(), "host.a")
	if client.ClientSessionCache != nil {
		t.Error("a client has a cache of sessions")
	}
	client.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	for i := range 3 {
		_, seen, err := meet(server, client)
		if err != nil || seen.DidResume || checked != i+1 {
			t.Errorf("connection %d: %v, resumed %v, checked %d", i, err, seen.DidResume, checked)
		}
	}
}

// What cannot be used is not used, for each way in which a file can be wrong; what was in use stays, somebody is told
// after a minute, and it ends when the file is right again, or as it was.
func TestUnusable(t *testing.T) {
	ca := authority(t)
	good, goodPair := bundle(t, ca), pair(t, ca, "a", 300)
	other := pair(t, authority(t), "a", 300)
	for what, wrong := range map[string]map[string][]byte{
		"gone":                {"ca": nil},
		"empty":               {"ca": {}},
		"no PEM":              {"ca": []byte("x")},
		"a key for a CA":      {"ca": goodPair["key"]},
		"cut off":             {"ca": append(slices.Clone(good), good[:len(good)-40]...)},
		"UTF-16":              {"ca": []byte("\xff\xfe-\x00")},
		"another key":         {"key": other["key"]},
		"another certificate": {"cert": other["cert"]},
		"no certificate":      {"cert": nil},
	} {
		w := newWorld(t)
		w.put(goodPair)
		w.put(map[string][]byte{"ca": good})
		m, err := w.TLS("x", block)
		if err != nil {
			t.Fatal(err)
		}
		before, leaf := m.Client(), m.Leaf()
		key := "x.cert"
		for name, text := range wrong {
			if name == "ca" {
				key = "x.ca"
			}
			w.put(map[string][]byte{name: text})
			if text == nil {
				w.mu.Lock()
				delete(w.has, name)
				w.mu.Unlock()
			}
		}
		for range 6 { // looks of one minute
			w.after(LookEvery)
			if s := w.state(key); s.Err == nil || s.Unusable {
				t.Errorf("%s, within a minute: %+v", what, s)
			}
		}
		w.after(LookEvery)
		if s := w.state(key); s.Err == nil || !s.Unusable || !s.Since.Equal(start) {
			t.Errorf("%s, after a minute: %+v", what, s)
		}
		if m.Client() != before || m.Leaf() != leaf {
			t.Errorf("%s: it is in use", what)
		}
		if n := strings.Count(w.log.String(), "cannot be used"); n != 1 {
			t.Errorf("%s: told %d times:\n%s", what, n, w.log.String())
		}
		w.put(goodPair)
		w.put(map[string][]byte{"ca": good})
		w.after(LookEvery)
		if s := w.state(key); s.Err != nil || s.Unusable || m.Client() != before {
			t.Errorf("%s, as it was: %+v", what, s)
		}
		want := fmt.Sprintf("deckle_file_reloads_total{key=%q,result=\"refused\"} 1", key)
		if text := exposition(t, w.Files); !strings.Contains(text, want) || strings.Contains(text, `"used"} 1`) {
			t.Errorf("%s:\n%s", what, text)
		}
	}
}

// At the start each of them is an error, with key and path.
func TestUnusableAtTheStart(t *testing.T) {
	ca := authority(t)
	for what, row := range map[string]struct {
		lacks string
		block Block
		want  string
	}{
		"ca":         {"ca", block, "x.ca: open ca: "},
		"cert":       {"cert", block, "x.cert: open cert: "},
		"key":        {"key", block, "x.cert: open key: "},
		"half":       {"", Block{Cert: "cert"}, "come together"},
		"wrong pair": {"", Block{Cert: "cert", Key: "ca"}, "x.cert: cert and ca: "},
	} {
		w := newWorld(t)
		w.put(pair(t, ca, "a", 300))
		w.put(map[string][]byte{"ca": bundle(t, ca)})
		delete(w.has, row.lacks)
		if _, err := w.TLS("x", row.block); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", what, err)
		}
		if len(w.State()) > 0 {
			t.Errorf("%s: half of it is watched: %+v", what, w.State())
		}
		// Whoever asks again once the file is there gets it: a sink does.
		w.put(pair(t, ca, "a", 300))
		w.put(map[string][]byte{"ca": bundle(t, ca)})
		m, err := w.TLS("x", block)
		if err != nil {
			t.Errorf("%s, later: %v", what, err)
		}
		if again, err := w.TLS("x", block); again != m || err != nil || len(w.State()) != 2 {
			t.Errorf("%s, asked for twice: %v, %+v", what, err, w.State())
		}
	}
}

// Neither times nor inodes decide: a file is overwritten in place with its times set back, replaced by a rename, or its
// folder is swapped by a symbolic link as Kubernetes does.
func TestWaysOfChanging(t *testing.T) {
	dir := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(dir+"/v1/secret", "one\n")
	if err := os.Symlink("v1", dir+"/data"); err != nil {
		t.Fatal(err)
	}
	f := NewFiles(os.ReadFile, time.Now, slog.New(slog.DiscardHandler))
	s, err := f.Text("x", dir+"/data/secret")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir + "/v1/secret")
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range []struct {
		want string
		do   func() error
	}{
		{"two", func() error {
			write(dir+"/v1/secret", "two\n")
			return os.Chtimes(dir+"/v1/secret", info.ModTime(), info.ModTime())
		}},
		{"three", func() error {
			write(dir+"/v1/new", "three\r\n")
			return os.Rename(dir+"/v1/new", dir+"/v1/secret")
		}},
		{"four", func() error {
			write(dir+"/v2/secret", "\xef\xbb\xbffour")
			return errors.Join(os.Symlink("v2", dir+"/next"), os.Rename(dir+"/next", dir+"/data"))
		}},
	} {
		if err := way.do(); err != nil {
			t.Fatal(err)
		}
		if f.Look(); s.Value() != way.want {
			t.Errorf("%q, want %q", s.Value(), way.want)
		}
	}
}

// A secret shows in no way of printing it, and the content of a file in no error and no line of the log (invariant 3).
func TestSecretsNeverShow(t *testing.T) {
	w := newWorld(t)
	w.put(map[string][]byte{"s": []byte("hunter2\n")})
	s, err := w.Text("kafka.sasl.password", "s")
	if err != nil || s.Value() != "hunter2" {
		t.Fatal(s.Value(), err)
	}
	j, err := json.Marshal(struct{ S *Text }{s})
	if err != nil {
		t.Fatal(err)
	}
	w.log.Reset()
	slog.New(slog.NewTextHandler(&w.log, nil)).Info("x", "s", s)
	for _, text := range []string{string(j), s.String(), fmt.Sprint(s), w.log.String(),
		fmt.Sprintf("%v %+v %#v %s %q %x", s, s, s, s, s, s)} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "68756e74") || !strings.Contains(text, hidden) {
			t.Errorf("a secret shows, or nothing stands for it: %s", text)
		}
	}
	// Files that are confused with each other.
	for _, b := range []Block{{Roots: "s"}, {Cert: "s", Key: "s"}} {
		if _, err := w.TLS("x", b); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%+v: %v", b, err)
		}
	}
	w.put(map[string][]byte{"s": []byte("\n")})
	w.after(LookEvery)
	if s.Value() != "hunter2" || w.state("kafka.sasl.password").Err == nil ||
		strings.Contains(w.log.String(), "hunter2") {
		t.Errorf("an empty secret: %q, %s", s.Value(), w.log.String())
	}
}

// The file of tokens closes: who deletes it means that. It opens again with the file, also if it is the former one.
func TestClosing(t *testing.T) {
	w := newWorld(t)
	var has []string
	parse := func(b []byte) error {
		if bytes.Contains(b, []byte("broken")) {
			return errors.New("is broken")
		}
		has = strings.Fields(string(b))
		return nil
	}
	w.put(map[string][]byte{"tokens": []byte("a b")})
	if err := w.Closing("http.auth.tokens", "tokens", parse, func() { has = nil }); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []func(){
		func() { delete(w.has, "tokens") },
		func() { w.has["tokens"] = []byte("broken") },
	} {
		wrong()
		for range 6 {
			if w.after(LookEvery); len(has) != 2 {
				t.Fatalf("closed within a minute: %q", has)
			}
		}
		if w.after(LookEvery); has != nil {
			t.Errorf("open after a minute: %q", has)
		}
		w.put(map[string][]byte{"tokens": []byte("a b")})
		if w.after(LookEvery); len(has) != 2 {
			t.Errorf("the file is back, and %q", has)
		}
	}
}

// When a certificate expires: the first of a chain; of a bundle the first that has not, since any one may do.
func TestExpiry(t *testing.T) {
	w := newWorld(t)
	short, err := pki.NewCA("main", start, 10)
	if err != nil {
		t.Fatal(err)
	}
	long := authority(t)
	w.put(pair(t, long, "a", 20))
	w.put(map[string][]byte{"ca": bundle(t, long, short)})
	m, err := w.TLS("x", block)
	if err != nil {
		t.Fatal(err)
	}
	day := func(n int) time.Time { return start.AddDate(0, 0, n) }
	for now, want := range map[int][2]time.Time{0: {day(10), day(20)}, 11: {day(1000), day(20)},
		21: {day(1000), day(20)}, 1001: {day(1000), day(20)}} {
		w.at = day(now)
		if got := [2]time.Time{w.state("x.ca").NotAfter, w.state("x.cert").NotAfter}; !got[0].Equal(want[0]) ||
			!got[1].Equal(want[1]) {
			t.Errorf("on day %d: %v, want %v", now, got, want)
		}
	}
	for now, good := range map[int]bool{9: true, 21: false} {
		w.at = day(now)
		if err := m.VerifyOwn(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth); (err == nil) != good {
			t.Errorf("on day %d: %v", now, err)
		}
	}
	text := exposition(t, w.Files)
	want := fmt.Sprintf("deckle_certificate_expiry_timestamp_seconds{key=%q} %v", "x.cert", float64(day(20).Unix()))
	if !strings.Contains(text, want) {
		t.Errorf("%s\nhas no %s", text, want)
	}
}

// Run looks by itself, every ten seconds.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := "one"
		f := NewFiles(func(string) ([]byte, error) { return []byte(text), nil }, time.Now,
			slog.New(slog.DiscardHandler))
		s, err := f.Text("x", "x")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		text = "two"
		go f.Run(ctx)
		time.Sleep(LookEvery - 1)
		synctest.Wait()
		before := s.Value()
		time.Sleep(2 * time.Nanosecond)
		synctest.Wait()
		if before != "one" || s.Value() != "two" {
			t.Errorf("%q, then %q", before, s.Value())
		}
		cancel()
	})
}

func exposition(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			fmt.Fprintf(&b, "%s{%s} %v\n", f.GetName(), strings.Join(labels, ","),
				m.GetGauge().GetValue()+m.GetCounter().GetValue())
		}
	}
	return b.String()
}
