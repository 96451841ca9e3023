package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// A zero in the file is an error, or stays a zero: no key gets a value that nobody has asked for, whichever key it is.
func TestExplicitZero(t *testing.T) {
	const base = `
node: a
data_dir: /data
cluster: {nodes: [{name: a, address: "10.0.0.1:7946"}]}
kafka: {brokers: ["k1:9092"], sasl: {mechanism: plain, user: u, password: {env: PW}}}
delta: {s3: {endpoint: "http://h:1", bucket: lake, access_key: {env: PW}, secret_key: {env: PW}}}
clickhouse: {address: "c:9000"}
http: {auth: {tokens: t, oidc: {issuer: "https://i", audience: a, claim: c, roles: [{name: n, role: viewer}]}}}
`
	tested, refused := 0, 0
	eachKey(reflect.TypeFor[Config](), "", func(key string, field reflect.StructField) {
		var value any
		switch {
		case strings.Contains(key, "["):
			return // the list of nodes is not optional
		case field.Type == durationType:
			value = "0s"
		case field.Type.Kind() == reflect.String:
			value = ""
		case field.Type.Kind() == reflect.Int || field.Type.Kind() == reflect.Int64:
			value = 0
		case field.Type.Kind() == reflect.Bool || field.Type == reflect.TypeFor[*bool]():
			value = false
		default:
			return // a block
		}
		tested++
		var file map[string]any
		if err := yaml.Unmarshal([]byte(base), &file); err != nil {
			t.Fatal(err)
		}
		give(file, key)
		block, path := file, strings.Split(key, ".")
		for _, name := range path[:len(path)-1] {
			inner, ok := block[name].(map[string]any)
			if !ok {
				inner = map[string]any{}
				block[name] = inner
			}
			block = inner
		}
		block[path[len(path)-1]] = value
		text, err := yaml.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := Load("deckle.yaml", testEnv, testFiles(string(text)))
		if err != nil {
			refused++
			if !strings.Contains(err.Error(), ": "+key+": ") {
				t.Errorf("%s: %#v gives an error of another key: %v", key, value, err)
			}
			return
		}
		v := reflect.ValueOf(cfg)
		for _, name := range path {
			for v.Kind() == reflect.Pointer {
				v = v.Elem()
			}
			for i := range v.NumField() {
				if v.Type().Field(i).Tag.Get("yaml") == name {
					v = v.Field(i)
					break
				}
			}
		}
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if !v.IsZero() {
			t.Errorf("%s: %#v silently becomes %v", key, value, v)
		}
	})
	if tested < 45 || refused < 35 {
		t.Errorf("%d keys tested, %d refused", tested, refused)
	}
}

// give adds to a file what a key needs beside it.
func give(file map[string]any, key string) {
	switch {
	case key == "delta.s3.sse.kms_key":
		file["delta"].(map[string]any)["s3"].(map[string]any)["sse"] = map[string]any{"kind": "kms"}
	case strings.HasPrefix(key, "kafka.sasl.kerberos."):
		file["kafka"].(map[string]any)["sasl"] = map[string]any{"mechanism": "gssapi",
			"kerberos": map[string]any{"principal": "p", "keytab": "/k"}}
	case strings.HasPrefix(key, "kafka.sasl.oauth."):
		source := map[string]any{"token_file": "/t"}
		if key == "kafka.sasl.oauth.token_file" {
			source = map[string]any{"token_url": "https://i", "client_id": "c",
				"client_secret": map[string]any{"env": "PW"}}
		}
		file["kafka"].(map[string]any)["sasl"] = map[string]any{"mechanism": "oauthbearer", "oauth": source}
	}
}

// Where a zero stands for "decided elsewhere", the file must not say it either.
func TestZeroDiskBudget(t *testing.T) {
	text := leastConfig + "limits: {disk_bytes: 0, unflushed_epochs: 0}\n"
	_, err := Load("deckle.yaml", testEnv, testFiles(text))
	if err == nil || !strings.Contains(err.Error(), "limits.disk_bytes: must not be 0") ||
		strings.Contains(err.Error(), "unflushed_epochs") {
		t.Errorf("%v", err)
	}
}

// A zero of a Config built in Go is a key that is missing, as ever.
func TestZeroInGo(t *testing.T) {
	cfg := Config{Node: "a", DataDir: "/d", Cluster: Cluster{Nodes: []Node{{Name: "a", Address: "127.0.0.1:1"}}},
		Kafka: Kafka{Brokers: []string{"k:1"}}, Delta: &Delta{Path: "/delta"}}
	if err := cfg.Complete(); err != nil || cfg.Session.Grace != 30*time.Second {
		t.Errorf("%v, grace %v", err, cfg.Session.Grace)
	}
}
