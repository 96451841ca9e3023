package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"deckle/trust/pki"
)

// The commands ask a node that is guarded: on its machine with the token that it has put there, over TLS with exactly
// the certificate of its configuration; from elsewhere with a token and a CA. A token is shown to nobody else.
func TestGuardedCommands(t *testing.T) {
	dir := t.TempDir()
	f := &pki.Folder{Dir: filepath.Join(dir, "pki")}
	if _, err := f.Init("main", 100, false); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := f.Node(pki.Leaf{Name: name, Hosts: []string{"127.0.0.1"}, Days: 10}); err != nil {
			t.Fatal(err)
		}
	}
	var shown []string
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown = append(shown, r.Header.Get("Authorization"))
		_, _ = io.WriteString(w, `{"shards":[]}`)
	})
	serve := func(name string) string {
		srv := httptest.NewUnstartedServer(h)
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		if name == "" {
			srv.Start()
		} else {
			cert, err := tls.LoadX509KeyPair(filepath.Join(f.Dir, name+".pem"), filepath.Join(f.Dir, name+"-key.pem"))
			if err != nil {
				t.Fatal(err)
			}
			srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
			srv.StartTLS()
		}
		t.Cleanup(srv.Close)
		return srv.Listener.Addr().String()
	}
	a, b, plain := serve("a"), serve("b"), serve("")
	config := func(name, listen, more string) string {
		path := filepath.Join(dir, name+".yaml")
		if err := os.WriteFile(path, fmt.Appendf(nil, `
node: a
data_dir: %[1]s/%[2]s
cluster: {nodes: [{name: a, address: "127.0.0.1:1"}]}
kafka: {brokers: ["127.0.0.1:1"]}
delta: {path: %[1]s/delta}
http: {listen: %[3]q%[4]s}
`, dir, name, listen, more), 0o600); err != nil {
			t.Fatal(err)
		}
		data := filepath.Join(dir, name)
		if err := os.MkdirAll(data, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(data, "local-token"), []byte("local\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const auth = ", auth: {tokens: /nowhere}"
	guard := fmt.Sprintf(", tls: {cert: %[1]s/a.pem, key: %[1]s/a-key.pem}", f.Dir)
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(f.Dir, "ca.pem")
	lost := config("lost", plain, auth)
	if err := os.Remove(filepath.Join(dir, "lost", "local-token")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args  string
		code  int
		token string // that the node was shown; "-" if it was not asked
		err   string
	}{
		{"--config " + config("open", plain, ""), exitOK, "", ""},
		{"--config " + config("tokens", plain, auth), exitOK, "Bearer local", ""},
		{"--config " + config("guarded", a, guard+auth), exitOK, "Bearer local", ""},
		{"--config " + config("guarded", a, guard+auth) + " --token-file " + token, exitOK, "Bearer mine", ""},
		{"--config " + config("other", b, guard+auth), exitFailure, "-",
			"another certificate than that of http.tls.cert"},
		{"--config " + lost, exitFailure, "-", "token for commands on its machine"},
		{"--address " + a + " --ca " + ca + " --token-file " + token, exitOK, "Bearer mine", ""},
		{"--address https://" + a + " --ca " + ca, exitOK, "", ""},
		{"--address https://" + a + " --token-file " + token, exitFailure, "-", "unknown authority"},
		{"--address " + a + " --ca " + token, exitUsage, "-", "no PEM certificate"},
		{"--ca " + ca, exitUsage, "-", "--ca is for --address"},
		{"--address " + plain + " --token-file " + token, exitOK, "Bearer mine", ""},
		{"--address 192.0.2.1:80 --token-file " + token, exitUsage, "-",
			"a token is not sent to 192.0.2.1 without TLS"},
		{"--address node.example:80 --token-file " + token, exitUsage, "-", "a token is not sent"},
		{"--address " + plain + " --token-file " + dir + "/nothing", exitUsage, "-", "--token-file"},
	} {
		shown = nil
		code, out, err := deckleRun(strings.Fields("partitions status " + c.args)...)
		got := "-"
		if len(shown) > 0 {
			got = shown[0]
		}
		if code != c.code || got != c.token || !strings.Contains(err, c.err) || strings.Contains(err+out, "mine") {
			t.Errorf("%s: exit %d, token %q\n%s%s", c.args, code, got, out, err)
		}
	}
}
