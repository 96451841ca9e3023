package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"deckle/trust/pki"
)

// certsConfig is a configuration that is good only once there are certificates: its other parts are not even there.
func certsConfig(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "deckle.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, `
node: a
cluster:
  name: main
  nodes:
    - {name: a, address: "node-a.example:7946"}
    - {name: b, address: "10.0.0.2:7946"}
    - {name: c, address: "node-c.example:7946", certificate: c.internal}
  tls: {ca: %[1]s/pki/ca.pem, cert: %[1]s/pki/a.pem, key: %[1]s/pki/a-key.pem}
kafka: {sasl: {password: {env: NOT_SET_ANYWHERE}}}
`, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func deckleRun(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(context.Background(), args, &out, &err)
	return code, out.String(), err.String()
}

// The two commands that a refusal shows, then a look, a rotation and its end, as the help has them.
func TestCerts(t *testing.T) {
	dir := t.TempDir()
	cfg, folder := certsConfig(t, dir), filepath.Join(dir, "pki")
	for _, line := range []string{
		"init --config CFG --dir DIR",
		"node a --config CFG --dir DIR", "node b --config CFG --dir DIR",
		"node c --config CFG --dir DIR --host c.example",
		"client prometheus --dir DIR", // the CA knows its cluster
		"node a --cluster main --host node-a.example --dir DIR --out DIR/a",
		"rotate --dir DIR",
		"node a --config CFG --dir DIR --force", "node b --config CFG --dir DIR --force",
		"node c --config CFG --dir DIR --force", "client prometheus --dir DIR --force",
		"rotate --finish --dir DIR",
	} {
		args := strings.Fields("certs " + strings.NewReplacer("CFG", cfg, "DIR", folder).Replace(line))
		if code, out, err := deckleRun(args...); code != exitOK || !strings.Contains(out, folder) || err != "" {
			t.Fatalf("%s: exit %d, %s%s", line, code, out, err)
		}
	}
	show := func(args ...string) []pki.Shown {
		t.Helper()
		code, out, err := deckleRun(append([]string{"certs", "show", "--json", "--dir", folder}, args...)...)
		var shown []pki.Shown
		if jerr := json.Unmarshal([]byte(out), &shown); code != exitOK || jerr != nil {
			t.Fatalf("exit %d, %v: %s%s", code, jerr, out, err)
		}
		return shown
	}
	taken := func(shown []pki.Shown) (list []string) {
		for _, s := range shown {
			list = append(list, filepath.Base(s.File)+" "+s.Kind+" "+s.TakenAs)
		}
		return list
	}
	if got, want := taken(show()), []string{"ca.pem ca ", "a.pem node a", "b.pem node b", "c.pem node c",
		"prometheus.pem client "}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := taken(show("--config", cfg)), []string{"ca.pem ca ", "a.pem node a"}; !slices.Equal(got, want) {
		t.Errorf("of the configuration: %q, want %q", got, want)
	}
	// c is known by its DNS name, which the command has taken from the configuration.
	c := show(filepath.Join(folder, "c.pem"), "--config", cfg)[0]
	if c.TakenAs != "c" || !slices.Contains(c.Names, "DNS:c.internal") ||
		!slices.Contains(c.Names, "DNS:node-c.example") {
		t.Errorf("%+v", c)
	}
	if b := show(filepath.Join(folder, "b.pem"))[0]; !slices.Contains(b.Names, "IP:10.0.0.2") {
		t.Errorf("%+v", b)
	}
	// What the former CA signed is out.
	if old := show(filepath.Join(folder, "a", "a.pem"), "--config", cfg)[0]; old.TakenAs != "" ||
		!strings.Contains(old.Refused, "authority") {
		t.Errorf("%+v", old)
	}
	_, text, _ := deckleRun("certs", "show", "--dir", folder)
	for _, want := range []string{"/b.pem: node b of cluster main", "taken   as node b", "taken   as no node: ",
		"364 days left"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// Each mistake is named, with an exit code, and makes nothing.
func TestCertsMistakes(t *testing.T) {
	dir := t.TempDir()
	cfg, folder := certsConfig(t, dir), filepath.Join(dir, "pki")
	noName := filepath.Join(dir, "noname.yaml")
	if err := os.WriteFile(noName, []byte(`
cluster: {pipeline: My_Job, nodes: [{name: a, address: "127.0.0.1:1"}]}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	byURI := filepath.Join(dir, "uri.yaml")
	if err := os.WriteFile(byURI, []byte(`
cluster: {nodes: [{name: a, address: "127.0.0.1:1", certificate: "spiffe://corp/a"}]}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte(`
cluster: {name: Main, nodes: [{name: a, address: "127.0.0.1:1", certificate: "*.example"}]}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		line string
		code int
		want string
	}{
		{"node a --dir DIR --cluster main", exitFailure, "deckle certs init"},
		{"show --dir DIR", exitFailure, "deckle certs init"},
		{"init --dir DIR", exitUsage, "--config FILE or --cluster NAME is missing"},
		{"init --dir DIR --cluster Main", exitUsage, "no name of a cluster"},
		{"init --dir DIR --cluster main --config CFG", exitUsage, "not both"},
		{"init --dir DIR --cluster main --days 0", exitUsage, "--days 0"},
		{"init --dir DIR --config NONAME", exitUsage, "cluster.name is missing"},
		{"init --dir DIR --config BAD", exitUsage, "cluster.name: \"Main\""},
		{"init --dir DIR --config BAD", exitUsage, "wildcard"},
		{"init --dir DIR --config /does/not/exist", exitUsage, "no such file"},
		{"init --dir DIR --cluster main", exitOK, ""},
		{"init --dir DIR --cluster main", exitFailure, "--force"},
		{"node --dir DIR", exitUsage, "NAME"},
		{"node a b --dir DIR", exitUsage, "NAME"},
		{"node d --dir DIR --config CFG", exitUsage, `the name "d"`},
		{"node a --dir DIR --config URI", exitUsage, "spiffe://corp/a"},
		{"node a --dir DIR --cluster other", exitFailure, `of cluster "main", not of "other"`},
		{"node a --dir DIR --days 4000", exitFailure, "valid until"},
		{"node a/b --dir DIR", exitFailure, "no name"},
		{"rotate --finish --dir DIR", exitFailure, "no rotation"},
		{"rotate --finish --days 3 --dir DIR", exitUsage, "--days"},
		{"show /does/not/exist --dir DIR", exitFailure, "no such file"},
		{"show CFG --dir DIR", exitFailure, "no PEM certificate"},
		{"frob", exitUsage, "unexpected argument"},
		{"", exitUsage, "name a command"},
	} {
		line := strings.NewReplacer("CFG", cfg, "NONAME", noName, "DIR", folder, "BAD", bad, "URI", byURI).
			Replace(row.line)
		code, out, err := deckleRun(append([]string{"certs"}, strings.Fields(line)...)...)
		if code != row.code || !strings.Contains(err, row.want) {
			t.Errorf("%s: exit %d, %s%s; want exit %d, %q", row.line, code, out, err, row.code, row.want)
		}
	}
	if files, _ := os.ReadDir(folder); len(files) != 2 {
		t.Errorf("mistakes have made %v", files)
	}
}
