package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node"
)

// checkWith runs deckle check --json, and returns its exit code and what it says.
func checkWith(t *testing.T, args ...string) (code int, c checked, text string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(context.Background(), append([]string{"check", "--json"}, args...), &stdout, &stderr)
	if err := json.Unmarshal(stdout.Bytes(), &c); err != nil {
		t.Fatalf("exit %d, %v: %s %s", code, err, stdout.String(), stderr.String())
	}
	return code, c, stdout.String()
}

// outcomes returns how a check came out, the worst first.
func (c *checked) outcomes(name string) (list []string) {
	for _, f := range c.Findings {
		if f.Check == name {
			list = append(list, string(f.Outcome)+" "+f.Text+" "+f.Todo)
		}
	}
	return list
}

// Everything is tried, whatever is wrong before it: each fault shows as what it is, and what is right as right.
func TestCheckConnect(t *testing.T) {
	brokers, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.SeedTopics(4, "web_clicks"))
	if err != nil {
		t.Fatal(err)
	}
	defer brokers.Close()
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte("<Error><Code>NoSuchBucket</Code><Message>none such</Message></Error>"))
	}))
	defer store.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := gone.Addr().String()
	_ = gone.Close()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	dir := t.TempDir()
	file := filepath.Join(dir, "deckle.yaml")
	t.Setenv("CHECK_SECRET", "hunter2")
	if err := os.WriteFile(file, fmt.Appendf(nil, `
node: a
data_dir: %s/data
cluster:
  nodes: [{name: a, address: "127.0.0.1:1"}, {name: b, address: "127.0.0.1:2"}, {name: c, address: "127.0.0.1:3"}]
  listen: "127.0.0.1:0"
  shards: 1
kafka: {brokers: [%q, %q]}
delta: {s3: {endpoint: %q, bucket: lake, access_key: {env: CHECK_SECRET}, secret_key: {env: CHECK_SECRET}}}
clickhouse: {address: %q, password: {env: CHECK_SECRET}}
http: {listen: %q}
`, dir, brokers.ListenAddrs()[0], nobody, store.URL, nobody, taken.Addr()), 0o600); err != nil {
		t.Fatal(err)
	}
	code, c, text := checkWith(t, "--config", file)
	if code != exitFailure || c.Good || strings.Contains(text, "hunter2") {
		t.Errorf("exit %d, good %v: %s", code, c.Good, text)
	}
	for name, wants := range map[string][]string{
		"configuration": {"ok"}, "open files": {""}, "data_dir": {""}, "cluster.listen": {"ok"},
		"http.listen":              {"failed"},
		"node b":                   {"unknown"},
		"node c":                   {"unknown"},
		"kafka.topic":              {"ok web_clicks has 4 partitions"},
		"delta.s3":                 {"refused", "create the bucket"},
		"clock":                    {"notice", "behind this machine's"},
		"clickhouse":               {"failed", "refused"}, // the connection is
		"kafka.dlq":                {"ok"},
		"certificates and secrets": {"ok"},
	} {
		all := strings.Join(c.outcomes(name), "\n")
		for _, want := range wants {
			if all == "" || !strings.Contains(all, want) {
				t.Errorf("%s: %q, want %q", name, all, want)
			}
		}
	}
	var up, down int
	for _, f := range c.outcomes("kafka.brokers") {
		if strings.HasPrefix(f, "ok") {
			up++
		} else if strings.Contains(f, nobody) {
			down++
		}
	}
	if up != 3 || down != 1 { // the one that is named and runs, and both that it names
		t.Errorf("%d brokers answer, %d do not: %q", up, down, c.outcomes("kafka.brokers"))
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v, %v stay", err, left)
	}
	var plain bytes.Buffer
	if err := c.print(&plain, false); err == nil || !strings.Contains(plain.String(), "✗ delta.s3: ") ||
		!strings.Contains(plain.String(), "✓ kafka.topic: ") || !strings.Contains(plain.String(), " are wrong\n") {
		t.Errorf("%v: %s", err, plain.String())
	}
}

// A lake that takes conditional puts, and a sample of records: types, letters and their reasons, and nothing of them.
func TestCheckSample(t *testing.T) {
	brokers, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "web_clicks"))
	if err != nil {
		t.Fatal(err)
	}
	defer brokers.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for i, value := range []string{`{"event_id":"planted`, `{}`, `[]`, ``} {
		r := &kgo.Record{Topic: "web_clicks", Key: []byte("k"), Value: []byte(value)}
		if i == 3 {
			r.Key, r.Value = nil, nil
		}
		if err := cl.ProduceSync(context.Background(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "deckle.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, `
node: a
data_dir: %[1]s/data
cluster: {nodes: [{name: a, address: "127.0.0.1:1"}]}
kafka: {brokers: [%[2]q]}
delta: {path: %[1]s/lake}
http: {listen: "127.0.0.1:0"}
`, dir, brokers.ListenAddrs()[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	code, c, text := checkWith(t, "--config", file, "--level", "sample")
	s := c.Sample
	if code != exitOK || !c.Good || s == nil || s.Records != 4 || s.Keyed != 3 || s.Empty != 1 ||
		s.Letters["malformed"] != 2 || s.Letters["missing_field"] != 1 || strings.Contains(text, "planted") {
		t.Fatalf("exit %d: %s", code, text)
	}
	if all := c.outcomes("delta.path"); len(all) != 1 || !strings.HasPrefix(all[0], string(node.Fine)) {
		t.Errorf("%q", all)
	}
	var plain bytes.Buffer
	if err := c.print(&plain, false); err != nil || !strings.Contains(plain.String(), "50.0 %  dead letter malformed") {
		t.Errorf("%v: %s", err, plain.String())
	}
}

// CI has none of the node's secrets, and still finds what is wrong with the file.
func TestCheckStatic(t *testing.T) {
	file := filepath.Join(t.TempDir(), "deckle.yaml")
	text := `
node: ${CHECK_NODE}
data_dir: /nowhere
cluster: {nodes: [{name: a, address: "127.0.0.1:1"}]}
kafka: {brokers: ["127.0.0.1:1"]}
clickhouse: {address: "127.0.0.1:1", password: {file: /nowhere/password}}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, c, out := checkWith(t, "--config", file, "--level", "static")
	if code != exitOK || len(c.outcomes("node")) != 1 || len(c.outcomes("clickhouse.password")) != 1 {
		t.Errorf("exit %d: %s", code, out)
	}
	if err := os.WriteFile(file, []byte(text+"flush: {interval: 0s}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), []string{"check", "--config", file, "--level", "static"}, &stdout,
		&stderr); code != exitUsage || !strings.Contains(stderr.String(), "flush.interval") {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
}
