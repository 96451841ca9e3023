package node

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/goccy/go-yaml"
)

// FuzzLoad: any text is a configuration that is complete and loads again from what it prints, or a ConfigError that names
// a place in the file. No secret stands in what is printed of either.
func FuzzLoad(f *testing.F) {
	f.Add("node: a\n")
	f.Add("cluster: {nodes: [{name: a, address: 'x:1'}]}\nkafka: {sasl: {password: secret}}\n")
	f.Add("a: &x {b: *x}\n? {k: v}\n: [1, 2.5, !!int 3]\nlimits: {disk_bytes: 9KiB}\n---\nb: |\n  text\n")
	f.Add("node: a\ndata_dir: d\ncluster: {nodes: [{name: a, address: '1.2.3.4:7946'}]}\nkafka: {brokers: ['b:9092']}\n" +
		"delta: {s3: {endpoint: 'http://h:1', bucket: b, access_key: {env: PW}, secret_key: {file: /run/secret}}}\n" +
		"clickhouse: {address: 'c:9000', password: {env: PW}}\n")
	f.Add("node: a\ndata_dir: d\ncluster: {nodes: [{name: a, address: 'h:1'}], lease_timeout: 1h, shards: -1}\nkafka: {brokers: [b], topic: ''}\ndelta: {path: p}\n")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := Load("deckle.yaml", testEnv, testFiles(text))
		if err != nil {
			bad, ok := errors.AsType[*ConfigError](err)
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
				t.Errorf("a secret is told: %v", err)
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

// FuzzHTTP: whatever a client sends, as bytes, the answer is one of those that the handler documents, well formed; the
// figures of the state, which has been asked for by everybody, are still there.
func FuzzHTTP(f *testing.F) {
	for _, r := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET /api/session/s%2F1 HTTP/1.1\r\nHost: h\r\n\r\n", "GET /api/session/%00%ff HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /api/session/" + strings.Repeat("x", 65) + " HTTP/1.0\r\n\r\n", "GET /api/status?x=%zz HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST /api/analytics HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", "HEAD /readyz HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /metrics HTTP/1.1\r\nHost: h\r\nAccept: application/openmetrics-text;version=9\r\nAccept-Encoding: gzip, zstd\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "GET /api/../api/session/..%2f..%2f HTTP/1.1\r\nHost: h\r\n\r\n", "GET //livez HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /debug/pprof/heap?debug=1&gc=1 HTTP/1.1\r\nHost: h\r\n\r\n", "GET /debug/pprof/symbol?0x0+0x1 HTTP/1.1\r\nHost: h\r\n\r\n",
	} {
		f.Add([]byte(r))
	}
	src := newFakeSource()
	h := testHandler(src)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return // the server of the standard library refuses it
		}
		if p := r.URL.Path; strings.HasPrefix(p, "/debug/pprof") || strings.Contains(p, "//") {
			return // pprof is the standard library's, and takes seconds
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		switch w.Code {
		case 200, 400, 404, 405, 301, 307, 308, 406, 415:
		default:
			t.Fatalf("%q: status %d: %s", b, w.Code, w.Body)
		}
		if w.Header().Get("Content-Type") == "application/json" && r.Method == http.MethodGet {
			if !json.Valid(w.Body.Bytes()) {
				t.Fatalf("%q: not JSON: %s", b, w.Body)
			}
			if w.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Fatalf("%q: headers %v", b, w.Header())
			}
		}
		if id, ok := strings.CutPrefix(r.URL.Path, "/api/session/"); ok && w.Code == 200 && r.Method == http.MethodGet && id != "s/1" && r.URL.RawPath == "" {
			t.Fatalf("%q: session %q found: %s", b, id, w.Body)
		}
		if _, err := io.Copy(io.Discard, w.Result().Body); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzParseBytes: a size is a whole number of bytes that fits, whatever its unit.
func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"0", "1", "256KiB", "9223372036854775807", "8388608TiB", "1 MB", "-1", "+1B", "1e3", "KiB", "1KiBKiB", "٣MB", " 1"} {
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
			want.Mul(want, new(big.Int).Exp(big.NewInt(base), big.NewInt(int64(strings.IndexByte("BKMGT", m[2][0]))), nil))
		}
		if !want.IsInt64() || want.Int64() != n {
			t.Fatalf("%q is %d, want %s", s, n, want)
		}
	})
}

// FuzzBudgetFile: the file holds a positive number, or is damaged.
func FuzzBudgetFile(f *testing.F) {
	f.Add([]byte(`{"disk_bytes":1024}` + "\n"))
	f.Add([]byte(`{"disk_bytes":-1}`))
	f.Add([]byte(`{"disk_bytes":1e99}`))
	f.Add([]byte(`{"disk_bytes":5}{"disk_bytes":6}`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		fsys := vfs.NewMem()
		file, err := fsys.Create("budget", vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = file.Write(b)
		}
		if err = errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		n, err := readBudget(fsys, "budget")
		if err == nil && n <= 0 || err != nil && (!errors.Is(err, errBudgetFile) || errors.Is(err, fs.ErrNotExist)) {
			t.Fatalf("%q: %d, %v", b, n, err)
		}
	})
}
