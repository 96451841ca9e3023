package config

import (
	"bytes"
	"errors"
	"math/big"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// FuzzLoad: any text is a configuration that is complete and loads again from what it prints, or an Error that names
// a place in the file. Neither prints a secret.
func FuzzLoad(f *testing.F) {
	f.Add("node: a\n")
	f.Add("cluster: {nodes: [{name: a, address: 'x:1'}]}\nkafka: {sasl: {password: secret}}\n")
	f.Add("a: &x {b: *x}\n? {k: v}\n: [1, 2.5, !!int 3]\nlimits: {disk_bytes: 9KiB}\n---\nb: |\n  text\n")
	f.Add("node: a\ndata_dir: d\ncluster: {nodes: [{name: a, address: '1.2.3.4:7946'}]}\nkafka: {brokers: " +
		"['b:9092']}\n" +
		"delta: {s3: {endpoint: 'http://h:1', bucket: a-b, access_key: {env: PW}, secret_key: {file: /run/secret}}}\n" +
		"clickhouse: {address: 'c:9000', password: {env: PW}}\n")
	f.Add("node: a\ndata_dir: d\ncluster: {nodes: [{name: a, address: 'h:1'}], lease_timeout: 1h, shards: " +
		"-1}\nkafka: {brokers: [b], topic: ''}\ndelta: {path: p}\n")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := Load("deckle.yaml", testEnv, testFiles(text))
		if err != nil {
			bad, ok := errors.AsType[*Error](err)
			if !ok || bad.Path != "deckle.yaml" || len(bad.Problems) == 0 {
				t.Fatalf("untyped: %v", err)
			}
			lines := strings.Count(text, "\n") + strings.Count(text, "\r") + 1 // as YAML counts them
			for _, p := range bad.Problems {
				if p.Text == "" || p.Line > lines+1 {
					t.Errorf("problem %+v in a text of %d lines", p, lines)
				}
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "from-file") {
				t.Errorf("a secret shows: %v", err)
			}
			return
		}
		if len(cfg.problems()) > 0 {
			t.Errorf("accepted with problems %v", cfg.problems())
		}
		b, err := yaml.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("hunter2")) || bytes.Contains(b, []byte("from-file")) {
			t.Errorf("a secret is shown:\n%s", b)
		}
		complete := *cfg
		if err := complete.Complete(); err != nil || !reflect.DeepEqual(&complete, cfg) {
			t.Errorf("not complete: %v", err)
		}
	})
}

// FuzzParseBytes: a size is a whole number of bytes that fits, whatever its unit.
func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"0", "1", "256KiB", "9223372036854775807", "8388608TiB", "1 MB", "-1", "+1B", "1e3",
		"KiB", "1KiBKiB", "٣MB", " 1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseBytes(s)
		if err != nil {
			if !strings.Contains(err.Error(), "is not a size") {
				t.Fatal(err)
			}
			return
		}
		m := regexp.MustCompile(`^([0-9]+) *(|[KMGT]iB|[KMGT]B|B) *$`).FindStringSubmatch(s)
		if m == nil {
			t.Fatalf("%q is %d", s, n)
		}
		want, _ := new(big.Int).SetString(m[1], 10)
		base := int64(1000)
		if strings.HasSuffix(m[2], "iB") {
			base = 1024
		}
		if m[2] != "" {
			want.Mul(want, new(big.Int).Exp(big.NewInt(base), big.NewInt(int64(strings.IndexByte("BKMGT", m[2][0]))),
				nil))
		}
		if !want.IsInt64() || want.Int64() != n {
			t.Fatalf("%q is %d, want %s", s, n, want)
		}
	})
}
