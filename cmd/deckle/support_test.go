package main

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/config"
	"deckle/node/web"
)

// serveConfigured serves a node that runs with a configuration.
func serveConfigured(t *testing.T, cfg *config.Config) (address string) {
	t.Helper()
	s := httptest.NewServer(web.NewHandler(twoOfThree(), web.Options{Gatherer: prometheus.NewRegistry(),
		Config: func() (any, string) { return cfg.Values(), config.ShowYAML(cfg.Values()) },
		Recent: func() []byte { return []byte("a line of the log\n") }}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func runCommand(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(context.Background(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func writeConfig(t *testing.T, more string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "deckle.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, `
node: a
data_dir: /var/lib/deckle
cluster: {nodes: [{name: a, address: "127.0.0.1:1"}]}
kafka: {brokers: ["127.0.0.1:1"]}
delta: {path: /srv/lake}
%s`, more), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A bundle is kept as a file that only its owner reads, and takes no file's place.
func TestSupportBundle(t *testing.T) {
	cfg, err := loadConfig(writeConfig(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	address, dir := serveConfigured(t, cfg), t.TempDir()
	t.Chdir(dir)
	code, stdout, stderr := runCommand("support-bundle", "--address", address)
	names, err := filepath.Glob("deckle-a-*.zip")
	if code != 0 || err != nil || len(names) != 1 || !strings.HasPrefix(stdout, names[0]+": ") {
		t.Fatalf("%d, %v, %q %q", code, names, stdout, stderr)
	}
	info, err := os.Stat(names[0])
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	data, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"log.txt": "a line of the log\n", "config.yaml": "path: /srv/lake",
		"process.json": `"goroutines": `, "ready.json": "it does not answer", "cluster.json": `"members"`} {
		f, err := z.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(f); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s, %v:\n%s", name, err, text)
		}
	}
	if code, _, stderr := runCommand("support-bundle", "--address", address, "--out", names[0]); code != 1 ||
		!strings.Contains(stderr, "exists") {
		t.Errorf("%d, %s", code, stderr)
	}
	code, stdout, _ = runCommand("support-bundle", "--address", address, "-o", "-")
	if code != 0 || !strings.HasPrefix(stdout, "PK") {
		t.Errorf("%d, %.20q", code, stdout)
	}
}

// The name that a node proposes cannot lead anywhere else.
func TestAttachment(t *testing.T) {
	for name, want := range map[string]string{"deckle-a.zip": "deckle-a.zip", "../../x.zip": "x.zip",
		"/etc/x.zip": "x.zip", `..\x.zip`: "other", "x": "other", "": "other", "..": "other", "c:x.zip": "other"} {
		h := http.Header{"Content-Disposition": {fmt.Sprintf("attachment; filename=%q", name)}}
		if got := attachment(h, "other"); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
	if got := attachment(http.Header{}, "other"); got != "other" {
		t.Errorf("no name becomes %q", got)
	}
}

// A file is compared with what a node runs with.
func TestConfigDiffWithNode(t *testing.T) {
	cfg, err := loadConfig(writeConfig(t, "log: {level: debug}\n"))
	if err != nil {
		t.Fatal(err)
	}
	address := serveConfigured(t, cfg)
	for more, want := range map[string]string{
		"log: {level: debug}\n": "0 ",
		"log: {level: warn}\nhttp: {listen: \"127.0.0.1:9\"}\n": "1 - log.level: debug\n+ log.level: warn\n" +
			"- http.listen: \"127.0.0.1:8080\"\n+ http.listen: \"127.0.0.1:9\"\n",
	} {
		code, stdout, stderr := runCommand("config", "diff", "--config", writeConfig(t, more), "--address", address)
		if got := fmt.Sprint(code, " ", stdout); len(got) != len(want) || stderr != "" && code == 0 {
			t.Errorf("%s: %s%s", more, got, stderr)
		}
	}
	path := writeConfig(t, "")
	if code, _, stderr := runCommand("config", "diff", "-c", path, path, "--address", address); code != 2 {
		t.Errorf("with OTHER and --address: %d, %s", code, stderr)
	}
	if code, _, stderr := runCommand("config", "diff", "-c", path, "--address", "127.0.0.1:1"); code != 1 ||
		!strings.Contains(stderr, "does not answer") {
		t.Errorf("no node: %d, %s", code, stderr)
	}
}
