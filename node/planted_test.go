package node

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"deckle/node/access"
	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/sim/testworld/clickhouse"
	"deckle/sim/testworld/objects"
	"deckle/state"
)

// The planted texts: whatever shows one of them shows what it must not.
const (
	plantedKafka      = "planted-kafka-4711"
	plantedWrong      = "planted-wrong-4712"
	plantedS3         = "planted-s3-4713"
	plantedClickHouse = "planted-clickhouse-4714"
	plantedHMAC       = "planted-hmac-4715-of-thirty-two-bytes"
	plantedMail       = "planted.person@example.org"
	plantedName       = "Planted Person"
	plantedPhone      = "4915112345678"
)

// lockedBuffer is written to by many goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// plantedRecords are events with a person in every field in which a person may stand, and records that cannot be
// used, one for each field that has the person where something else belongs.
func plantedRecords() (rs []*kgo.Record) {
	const person = plantedName + " <" + plantedMail + ">, " + plantedPhone
	sound := func(i int) map[string]any {
		v := map[string]any{}
		if err := json.Unmarshal(nodetest.EventJSON("s", i, "article_view"), &v); err != nil {
			panic(err) // cannot happen: it was made by json.Marshal
		}
		return v
	}
	add := func(v any) {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err) // cannot happen: it has texts and numbers only
		}
		rs = append(rs, &kgo.Record{Key: []byte(plantedMail), Value: b})
	}
	all := sound(0)
	for _, f := range []string{"article_title", "page_url", "referrer", "email"} {
		all[f] = person
	}
	all["user_id"], all["metadata"] = plantedMail, map[string]any{"name": plantedName, "phone": plantedPhone}
	add(all)
	wrongs := []any{person, []string{person}, map[string]any{person: person}, strings.Repeat(person, 2000)}
	fields := []string{"event_id", "session_id", "user_id", "event_type", "timestamp", "brand", "category",
		"article_id", "article_title", "page_url", "referrer", "device_type", "engagement_metrics", "metadata",
		"read_progress"}
	for i, f := range fields {
		for j, wrong := range wrongs {
			// As texts these are good ones: the figures show them, and a session is asked for by its id.
			_, text := wrong.(string)
			if v := sound(1 + 4*i + j); !text || f != "session_id" && f != "brand" && f != "device_type" {
				v[f] = wrong
				add(v)
			}
		}
	}
	for _, broken := range []string{`{"email":"` + person, person, `["` + person + `"]`,
		`{"timestamp":"` + person + `","timestamp":1}`, "{\"a\":\"" + person + "\xff\"}"} {
		rs = append(rs, &kgo.Record{Key: []byte(person), Value: []byte(broken)})
	}
	return rs
}

func broken(v *state.View) (n int64) {
	for _, of := range v.DeadLetters {
		n += of
	}
	return n
}

// unzipped returns the files of a zip by name.
func unzipped(t *testing.T, data []byte) map[string]string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range z.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err = errors.Join(err, in.Close()); err != nil {
			t.Fatal(err)
		}
		files[f.Name] = string(text)
	}
	return files
}

// TestPlanted plants secrets wherever the configuration takes one, and persons in records good and bad, and runs every
// sink through success, failure and refusal at log level debug. None of the texts is in a log line, an error, the
// status, a page, the metrics, the audit log, what a panic would print, or, sealed, in the data folder.
func TestPlanted(t *testing.T) {
	t.Parallel()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, nodetest.Topic), kfake.EnableSASL(),
		kfake.Superuser("PLAIN", "deckle", plantedKafka))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	b := &nodetest.Broker{Cluster: fake, T: t, Opts: []kgo.Opt{kgo.SeedBrokers(fake.ListenAddrs()...),
		kgo.SASL(plain.Auth{User: "deckle", Pass: plantedKafka}.AsMechanism())}}
	b.Out, err = kgo.NewClient(append(b.Opts, kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.DefaultProduceTopic(nodetest.Topic))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Out.Close)
	b.Adm = kadm.NewClient(b.Out)

	var down atomic.Bool
	bucket := &objects.S3{Bucket: "lake", Fault: func(*http.Request, bool) int {
		if down.Load() {
			return http.StatusForbidden
		}
		return 0
	}}
	s3 := httptest.NewServer(bucket)
	t.Cleanup(s3.Close)
	click := clickhouse.New(clickhouse.Options{User: "deckle", Password: plantedClickHouse})
	t.Cleanup(click.Close)

	tokens := filepath.Join(t.TempDir(), "tokens")
	token, secret, err := access.NewToken(access.Admin, nil, "planted", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	text, err := access.FormatTokens([]*access.Token{token})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tokens, text, 0o600); err != nil {
		t.Fatal(err)
	}
	plantedToken := secret[13:] // behind its id, which may be told

	var logs lockedBuffer
	password, clickPassword := plantedKafka, plantedClickHouse
	c := newCluster(t, b, 1, func(cfg *config.Config) {
		cfg.Kafka.SASL = &config.SASL{Mechanism: "plain", User: "deckle", Password: config.SecretValue(password)}
		cfg.Delta = &config.Delta{RevisionInterval: 200 * time.Millisecond,
			S3: &config.S3{Endpoint: s3.URL, Bucket: "lake", Prefix: "p", AccessKey: config.SecretValue("access"),
				SecretKey: config.SecretValue(plantedS3)}}
		cfg.ClickHouse = &config.ClickHouse{Address: "clickhouse:9000", User: "deckle",
			Password: config.SecretValue(clickPassword)}
		cfg.Encryption = keyFiles("key1")
		cfg.HTTP.Auth = &config.HTTPAuth{Tokens: tokens}
		cfg.Rules.Privacy = []config.PrivacyRule{{Field: "reader.hashed", Action: "hash"}}
		cfg.Privacy.Keys = []config.KeyFile{{File: "hmac"}}
	})
	c.realSinks = true
	c.adapt = func(d *Deps) {
		d.Logger = slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
		d.RecentLog = func() []byte { return []byte(logs.String()) }
		d.ClickHouseDial = click.Dial
		d.ReadFile = func(name string) ([]byte, error) {
			switch name {
			case tokens:
				return os.ReadFile(name)
			case "hmac":
				return []byte(plantedHMAC + "\n"), nil
			}
			return keys(name)
		}
	}
	shown := map[string]string{}
	look := func(what string, n *Node) {
		audit, lines := auditOf(t, "n0")
		n.http.audit.Store(audit)
		h := n.Handler()
		ask := func(method, path, token, body string) {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(method, path, strings.NewReader(body))
			r.Host, r.RemoteAddr = "127.0.0.1", "127.0.0.1:40000"
			r.Header.Set("Content-Type", "application/json")
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			h.ServeHTTP(w, r)
			if token == secret && method == http.MethodGet && w.Code != http.StatusOK && path != "/readyz" {
				t.Errorf("%s: %s: %d %s", what, path, w.Code, w.Body) // there is nothing to look at
			}
			shown[fmt.Sprintf("%s %s %.5s… %d", what, path, token, w.Code)] = w.Body.String()
			if w.Header().Get("Content-Type") == "application/zip" {
				for name, text := range unzipped(t, w.Body.Bytes()) {
					shown[fmt.Sprintf("%s %s %s", what, path, name)] = text
				}
			}
		}
		for _, path := range []string{"/", "/api/v1/status", "/api/v1/analytics", "/api/status", "/metrics", "/readyz",
			"/version", "/api/v1/whoami", "/api/v1/encryption", "/api/v1/config", "/api/v1/support-bundle"} {
			ask(http.MethodGet, path, secret, "")
			ask(http.MethodGet, path, "x"+secret, "") // nearly right: an error must not show it
			ask(http.MethodGet, path, secret+"x", "")
		}
		ask(http.MethodPost, "/api/v1/login", "", `{"token":"`+secret+`"}`)
		ask(http.MethodPost, "/api/v1/login", "", `{"token":"`+secret+`x"}`)
		ask(http.MethodPost, "/api/v1/login", "", `{"tokens":"`+secret+`"}`)
		ask(http.MethodPost, "/api/v1/partitions/resume", secret, `{"partition":0}`)
		ask(http.MethodPost, "/api/v1/partitions/resume", secret+"x", `{"partition":0}`)
		shown[what+" audit"] = fmt.Sprintf("%+v", lines())
		for _, k := range n.Status().Conditions {
			shown[what+" condition "+string(k.ID)] = k.String()
		}
	}

	n := c.start(0)
	b.Produce(plantedRecords()...)
	end := func(session string) *kgo.Record { // so that it gets into the table of sessions
		return &kgo.Record{Key: []byte(plantedMail), Value: nodetest.EventJSON(session, 200, "session_end")}
	}
	b.Produce(end("s"))
	nodetest.Until(t, "a session is in its table", func() bool {
		return regexp.MustCompile(`sink=sessions .*rows=[1-9]`).MatchString(logs.String())
	})
	nodetest.Until(t, "every sink has everything", c.allAcked(state.SinkEvents, state.SinkSessions,
		state.SinkRevisions, state.SinkClickHouse, state.SinkDeadLetter))
	look("success", n)
	if n := c.sum(broken); n < 20 {
		t.Errorf("%d records were refused", n)
	}

	down.Store(true)
	click.SetHook(func(clickhouse.Query) clickhouse.Fault { return clickhouse.FailBefore(241) })
	b.Produce(plantedRecords()[:1]...)
	b.Produce(nodetest.Record(0, plantedMail, 7), end(plantedMail))
	nodetest.Until(t, "the sinks fail", func() bool {
		_, _, s := c.leader(0)
		return s.Failing["clickhouse"] != "" && s.Failing["sessions"] != "" && s.Failing["events"] != ""
	})
	look("failure", n)
	c.stop(0)

	// Refused: by the broker, and by ClickHouse.
	down.Store(false)
	click.SetHook(nil)
	clickPassword = plantedWrong
	n = c.start(0)
	nodetest.Until(t, "ClickHouse refuses", func() bool {
		_, _, s := c.leader(0)
		return s.Failing["clickhouse"]+s.Stopped["clickhouse"] != ""
	})
	look("refused by ClickHouse", n)
	c.stop(0)
	password = plantedWrong
	if n, err = c.open(0); err != nil {
		shown["an error"] = fmt.Sprintf("%v %+v", err, err)
	} else {
		c.nodes[0] = n
		nodetest.Until(t, "Kafka refuses", func() bool { return len(n.Status().Conditions) > 0 })
		look("refused by Kafka", n)
		c.stop(0)
	}

	// What a panic prints of a value, as it were: the configuration, and a key.
	cfg := c.config(0)
	func() {
		defer func() { shown["a panic"] = fmt.Sprint(recover()) }()
		panic(fmt.Sprintf("%v %+v %#v", cfg, cfg, *cfg.Kafka.SASL))
	}()
	for name, text := range folder(t, c.fs, "data") {
		shown["the file "+name] = text
	}
	shown["the logs"] = logs.String()
	for name, want := range map[string]string{"config.yaml": "topic: web_clicks", "log.txt": "level=DEBUG",
		"metrics.txt": "deckle_shard_leader", "cluster.json": `"members"`, "goroutines.txt": "deckle/",
		"ready.json": `"ready": true`, "status.json": `"shards"`, "version.json": "{", "about.txt": "support bundle",
		"commits.json": `"adds": 1`} {
		if text := shown["success /api/v1/support-bundle "+name]; !strings.Contains(text, want) {
			t.Errorf("%s of the bundle has no %q:\n%.500s", name, want, text)
		}
	}
	if !strings.Contains(shown["the logs"], "level=DEBUG") {
		t.Error("nothing was logged at level debug")
	}
	key, err := keys("key1")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(strings.TrimSpace(string(key)), ":")
	for what, text := range shown {
		for _, mark := range []string{plantedKafka, plantedWrong, plantedS3, plantedClickHouse, plantedToken, code,
			plantedHMAC, plantedMail, plantedName, plantedPhone} {
			for _, form := range []string{mark, base64.StdEncoding.EncodeToString([]byte(mark)),
				hex.EncodeToString([]byte(mark)), strings.ReplaceAll(mark, "@", "%40")} {
				if i := strings.Index(text, form); i >= 0 {
					t.Errorf("%s shows %s: %q", what, mark, text[max(i-300, 0):min(i+len(form)+100, len(text))])
					break
				}
			}
		}
	}
}
