package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/client_golang/prometheus"

	"deckle"
)

// TestCommands runs testdata/commands: the input is a command line, the output its exit code and what it prints. {good}
// and {bad} stand for configurations, {build} for the line that tells the version.
func TestCommands(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good.yaml", `
node: a
data_dir: /nowhere
cluster: {nodes: [{name: a, address: "127.0.0.1:1"}]}
kafka: {brokers: ["127.0.0.1:1"]}
delta: {path: /nowhere}
`)
	bad := write("bad.yaml", "node: a\nnoed: b\n")
	for _, name := range []string{
		"DECKLE_S3_ACCESS_KEY", "DECKLE_S3_SECRET_KEY", "DECKLE_CLICKHOUSE_PASSWORD", "DECKLE_KAFKA_PASSWORD",
	} {
		t.Setenv(name, "")
	}
	datadriven.RunTest(t, "testdata/commands", func(t *testing.T, d *datadriven.TestData) string {
		line := strings.NewReplacer("{good}", good, "{bad}", bad).Replace(strings.TrimSpace(d.Input))
		var stdout, stderr bytes.Buffer
		code := run(context.Background(), strings.Fields(line), &stdout, &stderr)
		out := "exit " + string(rune('0'+code)) + "\n"
		for name, b := range map[string]*bytes.Buffer{"stdout": &stdout} {
			if b.Len() > 0 {
				out += name + ":\n" + b.String()
			}
		}
		if stderr.Len() > 0 {
			out += "stderr:\n" + stderr.String()
		}
		lines := strings.Split(strings.NewReplacer(dir, "DIR", deckle.Build().String(), "{build}").Replace(out), "\n")
		for i := range lines {
			if lines[i] == "" && i < len(lines)-1 {
				lines[i] = "." // a blank line would end the expectation
			}
		}
		return strings.Join(lines, "\n")
	})
}

func TestVersionJSON(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), []string{"version", "--json"}, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit %d: %s", code, stderr.String())
	}
	var v map[string]any
	if err := json.Unmarshal(stdout.Bytes(), &v); err != nil || v["go"] == nil {
		t.Errorf("%v: %s", err, stdout.String())
	}
}

// TestBuildInfo looks at the one sample of the metric and at its labels.
func TestBuildInfo(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(newBuildInfo(deckle.BuildInfo{Version: "1.2.3", Revision: "abc", Go: "go1.26.0"}))
	families, err := reg.Gather()
	if err != nil || len(families) != 1 || len(families[0].GetMetric()) != 1 {
		t.Fatalf("%v, %v", families, err)
	}
	m := families[0].GetMetric()[0]
	got := fmt.Sprintf("%s %v", families[0].GetName(), m.GetGauge().GetValue())
	for _, l := range m.GetLabel() {
		got += fmt.Sprintf(" %s=%s", l.GetName(), l.GetValue())
	}
	if want := "deckle_build_info 1 goversion=go1.26.0 revision=abc version=1.2.3"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
