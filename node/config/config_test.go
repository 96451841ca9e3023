package config

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/goccy/go-yaml"
)

// testEnv is the environment that test configurations see, testFiles their files.
func testEnv(name string) (string, bool) {
	v, ok := map[string]string{"PW": "hunter2", "EMPTY": "",
		"KEY32": "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnQ="}[name]
	return v, ok
}

func testFiles(text string) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		switch path {
		case "deckle.yaml":
			return []byte(text), nil
		case "/run/secret":
			return []byte("from-file\r\n"), nil
		case "/run/empty":
			return []byte("\n"), nil
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
}

// TestConfig runs testdata/config: "load" prints what is wrong or "ok", "patch" does so for the minimal good file with
// one line replaced or added, "show" prints the complete configuration.
func TestConfig(t *testing.T) {
	datadriven.Walk(t, "testdata/config", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			cfg, err := Load("deckle.yaml", testEnv, testFiles(d.Input+"\n"))
			switch {
			case err != nil:
				return err.Error() + "\n"
			case d.Cmd == "show":
				b, err := yaml.Marshal(cfg)
				if err != nil {
					t.Fatal(err)
				}
				return string(b)
			}
			return "ok\n"
		})
	})
}

// uncommented returns the example with every key that is commented out as a key.
func uncommented(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		body := strings.TrimLeft(line, " ")
		indent := line[:len(line)-len(body)]
		if rest, ok := strings.CutPrefix(body, "# "); ok && strings.Contains(rest, ":") &&
			!strings.Contains(rest, ": deckle run") &&
			!strings.HasPrefix(rest, "Check") && !strings.HasPrefix(rest, "order") &&
			!strings.HasPrefix(rest, "of bytes") &&
			!strings.HasPrefix(rest, "path:") {
			line = indent + rest
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}

func TestExampleLoads(t *testing.T) {
	text, err := os.ReadFile("../../deckle.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	env := func(string) (string, bool) { return "x", true }
	plain, err := Load("deckle.yaml", env, testFiles(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if len(plain.Cluster.Nodes) != 3 || plain.Cluster.Shards != 6 {
		t.Errorf("nodes %d shards %d", len(plain.Cluster.Nodes), plain.Cluster.Shards)
	}
	// What the comments call the default must be the default: with the comments taken away nothing may change but what
	// is an option that is off.
	full, err := Load("deckle.yaml", env, testFiles(uncommented(string(text))))
	if err != nil {
		t.Fatal(err)
	}
	full.Cluster.Listen, full.Cluster.TLS = plain.Cluster.Listen, plain.Cluster.TLS
	full.Kafka.TLS, full.Kafka.SASL = nil, nil
	full.Limits.DiskBytes, full.Encryption, full.Debug.Listen = 0, nil, ""
	full.Tracing = nil
	full.Rules.Consent, full.Privacy = nil, Privacy{}
	full.HTTP = HTTP{Listen: full.HTTP.Listen, MaxConnections: full.HTTP.MaxConnections, Open: full.HTTP.Open,
		Audit: full.HTTP.Audit}
	full.Delta.S3.TLS, full.Delta.S3.SSE, full.ClickHouse.TLS = nil, nil, nil
	full.Delta.S3.SessionToken = Secret{}
	got, _ := yaml.Marshal(full)
	want, _ := yaml.Marshal(plain)
	if string(got) != string(want) {
		t.Errorf("the example's comments do not show the defaults\nwith comments as keys:\n%s\nwithout:\n%s", got, want)
	}
}

// The example names every key there is. The keys of TLS blocks and of secrets are listed once, at its top; of path and
// s3 it shows only the latter. A rule of exclude or privacy and a node's certificate stand in comments, since there is
// none by default, and so does what belongs to other credentials than static.
func TestExampleNamesEveryKey(t *testing.T) {
	text, err := os.ReadFile("../../deckle.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, d, err := parse([]byte(uncommented(string(text))), testEnv, false)
	if err != nil || len(d.problems) > 0 {
		t.Fatal(err, d.problems)
	}
	eachKey(reflect.TypeFor[Config](), "", func(key string, _ reflect.StructField) {
		if strings.HasPrefix(key, "kafka.sasl.oauth") || strings.HasPrefix(key, "kafka.sasl.kerberos") {
			if !strings.Contains(string(text), key[strings.LastIndex(key, ".")+1:]) {
				t.Errorf("%s is not in a comment of the example", key)
			}
			return
		}
		if _, ok := d.places[key]; !ok && key != "delta.path" && key != "cluster.nodes[0].certificate" &&
			!strings.HasPrefix(key, "rules.exclude[") && !strings.HasPrefix(key, "rules.privacy[") && !inComments[key] {
			t.Errorf("%s is not in the example", key)
		}
		if inComments[key] && !strings.Contains(string(text), key[strings.LastIndex(key, ".")+1:]) {
			t.Errorf("%s is not in a comment of the example", key)
		}
	})
}

// inComments are keys that the example names in comments alone.
var inComments = map[string]bool{"delta.s3.file": true, "delta.s3.profile": true, "delta.s3.sts_endpoint": true,
	"delta.s3.role_arn": true, "delta.s3.token_file": true, "delta.s3.external_id": true, "delta.s3.sse.kms_key": true,
	"delta.s3.sse.key": true}

// eachKey calls f with every key below the struct type t, blocks of TLS and secrets as one key each.
func eachKey(t reflect.Type, key string, f func(key string, field reflect.StructField)) {
	for field := range t.Fields() {
		ft := field.Type
		name := strings.TrimPrefix(key+"."+field.Tag.Get("yaml"), ".")
		f(name, field)
		switch ft.Kind() {
		case reflect.Pointer:
			ft = ft.Elem()
		case reflect.Slice:
			ft, name = ft.Elem(), name+"[0]"
		}
		if ft.Kind() == reflect.Struct && ft != reflect.TypeFor[TLS]() && ft != secretType {
			eachKey(ft, name, f)
		}
	}
}

// A default tag is what the file would say: it decodes, and to something else than zero.
func TestDefaultTags(t *testing.T) {
	n := 0
	eachKey(reflect.TypeFor[Config](), "", func(key string, field reflect.StructField) {
		text, ok := field.Tag.Lookup("default")
		if !ok {
			return
		}
		n++
		v := reflect.New(field.Type).Elem()
		if err := setText(v, field.Tag.Get("yaml"), text); err != nil || v.IsZero() {
			t.Errorf("%s: default %q: %v, %v", key, text, v, err)
		}
	})
	if n < 30 {
		t.Errorf("only %d defaults found", n)
	}
}

func TestSecretsNeverShow(t *testing.T) {
	s := SecretValue("hunter2")
	cfg := Config{Kafka: Kafka{SASL: &SASL{Password: s}}, ClickHouse: &ClickHouse{Password: s}}
	y, err := yaml.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	j, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{
		string(y), string(j), s.String(), s.LogValue().String(), fmt.Sprint(s, &s),
		fmt.Sprintf("%v %+v %#v %s %q %x", s, s, s, s, s, s),
		fmt.Sprintf("%v %+v %#v", *cfg.ClickHouse, *cfg.ClickHouse, *cfg.ClickHouse),
	}
	for _, text := range texts {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "68756e74") || !strings.Contains(text, "***") {
			t.Errorf("a secret shows, or nothing stands for it: %s", text)
		}
	}
	if s.Value() != "hunter2" {
		t.Errorf("Value() = %q", s.Value())
	}
}

func TestSecretSources(t *testing.T) {
	for src, want := range map[string]string{"{env: PW}": "hunter2", "{file: /run/secret}": "from-file"} {
		cfg, err := Load("deckle.yaml", testEnv, testFiles(strings.ReplaceAll(`
node: a
data_dir: /d
cluster: {nodes: [{name: a, address: "127.0.0.1:1"}]}
kafka: {brokers: ["k:9092"]}
clickhouse: {address: "c:9000", password: SRC}
`, "SRC", src)))
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.ClickHouse.Password.Value(); got != want {
			t.Errorf("%s: %q", src, got)
		}
	}
}

func TestCompleteIsIdempotent(t *testing.T) {
	cfg := Config{
		Node: "a", DataDir: "/d", Cluster: Cluster{Nodes: []Node{{Name: "a", Address: "127.0.0.1:1"}}},
		Kafka: Kafka{Brokers: []string{"k:1"}}, Delta: &Delta{Path: "/delta"},
		Session: Session{Grace: 2 * time.Second},
	}
	if err := cfg.Complete(); err != nil {
		t.Fatal(err)
	}
	once, _ := yaml.Marshal(cfg)
	if err := cfg.Complete(); err != nil {
		t.Fatal(err)
	}
	if twice, _ := yaml.Marshal(cfg); string(once) != string(twice) {
		t.Errorf("second Complete changed\n%s\nto\n%s", once, twice)
	}
	if cfg.Session.Grace != 2*time.Second || cfg.Cluster.Shards != 1 || cfg.Cluster.Listen != "127.0.0.1:1" {
		t.Errorf("%+v", cfg)
	}
	cfg.Delta = nil
	if err := cfg.Complete(); err == nil || !strings.Contains(err.Error(), "configuration: delta: is missing") {
		t.Errorf("err = %v", err)
	}
}
