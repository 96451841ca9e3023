package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node"
	"deckle/sim/testworld/clickhouse"
	"deckle/sim/testworld/objects"
)

// initWorld is what deckle init makes things in.
type initWorld struct {
	brokers []string
	store   string // address of an S3 store without the bucket lake
	click   string // address of a ClickHouse without databases
	server  *clickhouse.Server
	bucket  *objects.S3
}

func newInitWorld(t *testing.T, topics ...string) *initWorld {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(2, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	w := &initWorld{brokers: cluster.ListenAddrs(), bucket: &objects.S3{Bucket: "lake", Missing: true},
		server: clickhouse.New(clickhouse.Options{})}
	web := httptest.NewServer(w.bucket)
	t.Cleanup(web.Close)
	w.store = web.URL
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(ln) }()
	t.Cleanup(func() {
		_ = ln.Close()
		w.server.Close()
		<-served
	})
	w.click = ln.Addr().String()
	for _, name := range []string{"DECKLE_S3_ACCESS_KEY", "DECKLE_S3_SECRET_KEY"} {
		t.Setenv(name, "hunter2")
	}
	t.Setenv("DECKLE_CLICKHOUSE_PASSWORD", "")
	return w
}

func (w *initWorld) topics(t *testing.T) kadm.TopicDetails {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	topics, err := kadm.NewClient(cl).ListTopics(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return topics
}

func (w *initWorld) setting(t *testing.T, topic, key string) string {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	rcs, err := kadm.NewClient(cl).DescribeTopicConfigs(context.Background(), topic)
	if err != nil || len(rcs) != 1 {
		t.Fatal(rcs, err)
	}
	for _, c := range rcs[0].Configs {
		if c.Key == key {
			return c.MaybeValue()
		}
	}
	return ""
}

// initWith runs deckle init --json, and returns its exit code and what has become of each thing.
func initWith(t *testing.T, args ...string) (code int, made map[string]node.Made, out initialised, text string) {
	t.Helper()
	code, stdout, stderr := deckleRun(append([]string{"init", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(stdout), &out); err != nil {
		t.Fatalf("exit %d, %v: %s %s", code, err, stdout, stderr)
	}
	made = map[string]node.Made{}
	for _, s := range out.Steps {
		made[s.Subject] = s.Made
	}
	return code, made, out, stdout + stderr
}

// Three nodes at addresses that others reach: files, certificates, topics, bucket and database are made once, and are
// what the check demands; a second time nothing changes, not a byte.
func TestInitMakesAll(t *testing.T) {
	w, dir := newInitWorld(t), t.TempDir()
	file := filepath.Join(dir, "deckle.yaml")
	args := []string{"--config", file, "--brokers", strings.Join(w.brokers, ","), "--topic-partitions", "4",
		"--nodes", "a=192.0.2.1:7946,b=192.0.2.2:7946,c=192.0.2.3:7946", "--data-dir", filepath.Join(dir, "data"),
		"--s3-endpoint", w.store, "--s3-bucket", "lake", "--clickhouse", w.click, "--http-listen", "127.0.0.1:0"}
	code, made, out, text := initWith(t, append(args, "--dry-run")...)
	if left, _ := os.ReadDir(dir); code != exitOK || len(left) > 0 || len(w.topics(t)) > 0 || !w.bucket.Missing ||
		out.Check != nil {
		t.Fatalf("a dry run has made %v, exit %d: %s", left, code, text)
	}
	for _, subject := range []string{"file", "certificate of the CA", "certificate of node c", "kafka.topic",
		"kafka.dlq", "delta.s3.bucket", "clickhouse.database"} {
		if made[subject] != node.MadeToBe {
			t.Errorf("dry: %s: %q", subject, made[subject])
		}
	}

	_, made, out, text = initWith(t, append(args, "--yes")...)
	for _, subject := range []string{"file", "certificate of the CA", "certificate of node b", "kafka.topic",
		"kafka.dlq", "delta.s3.bucket", "clickhouse.database"} {
		if made[subject] != node.MadeNow {
			t.Errorf("%s: %q: %s", subject, made[subject], text)
		}
	}
	if strings.Contains(text, "hunter2") {
		t.Error("it shows a secret")
	}
	for _, f := range out.Check.Findings {
		wrong := f.Outcome == node.Failed || f.Outcome == node.Refused ||
			f.Outcome == node.Advice && strings.HasPrefix(f.Check, "topic ")
		if wrong && f.Check != "clickhouse" && f.Check != "open files" { // the model tells no version
			t.Errorf("check: %+v", f)
		}
	}
	topics := w.topics(t)
	if n := len(topics["web_clicks"].Partitions); n != 4 || len(topics["web_clicks.dlq"].Partitions) != 4 {
		t.Errorf("%d partitions: %v", n, topics.Names())
	}
	for key, want := range map[string]string{"cleanup.policy": "delete", "min.insync.replicas": "2",
		"message.timestamp.type": "LogAppendTime",
		"retention.ms":           "604800000"} {
		if got := w.setting(t, "web_clicks", key); got != want {
			t.Errorf("web_clicks has %s=%q, want %s", key, got, want)
		}
	}
	if got := w.setting(t, "web_clicks.dlq", "cleanup.policy"); got != "compact,delete" {
		t.Errorf("web_clicks.dlq has cleanup.policy=%q", got)
	}
	if err := w.server.Exec("analytics", "CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a"); err != nil {
		t.Errorf("database: %v", err)
	}

	before := everything(t, dir)
	_, made, _, text = initWith(t, append(args, "--yes")...)
	for subject, m := range made {
		if m != node.MadeThere && subject != "clickhouse.database" { // of which the model tells nothing
			t.Errorf("again: %s: %q: %s", subject, m, text)
		}
	}
	if after := everything(t, dir); !slices.Equal(before, after) {
		t.Error("a second time has changed files")
	}
}

// everything is the names and the content of all files below a folder.
func everything(t *testing.T, dir string) (all []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all = append(all, path+"\n"+string(text))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// A terminal is asked what no flag says; what would be made is shown, and nothing is before somebody has said yes. The
// source's topic is another's unless it is asked for, and a file that is there is what counts.
func TestInitAsks(t *testing.T) {
	w, dir := newInitWorld(t), t.TempDir()
	file, lake := filepath.Join(dir, "deckle.yaml"), filepath.Join(dir, "lake")
	ask := func(answers string) (code int, stdout, stderr string) {
		cmd := newRoot()
		var out, err bytes.Buffer
		cmd.SetArgs([]string{"init", "--config", file, "--http-listen", "127.0.0.1:0"})
		cmd.SetIn(strings.NewReader(answers))
		cmd.SetOut(&out)
		cmd.SetErr(&err)
		if e := cmd.Execute(); e != nil {
			return exitFailure, out.String(), err.String() + e.Error()
		}
		return exitOK, out.String(), err.String()
	}
	// nodes, brokers, user, topic, partitions, S3, lake, ClickHouse
	answers := "a=127.0.0.1:1\n" + w.brokers[0] + "\n\nclicks\n\n\n" + lake + "\n\n"
	code, out, text := ask(answers + "no\n")
	if left, _ := os.ReadDir(dir); code != exitFailure || len(left) > 0 || out != "" ||
		!strings.Contains(text, "would be made: "+file) || !strings.Contains(text, "nothing was made") {
		t.Fatalf("not confirmed: exit %d, %v, %s", code, left, text)
	}
	if code, _, text := ask(answers[:20]); code != exitFailure || !strings.Contains(text, "--yes") {
		t.Errorf("input has ended: %s", text)
	}
	// The topic is not there, and was not asked for: the check says so.
	code, out, text = ask(answers + "yes\n")
	if code != exitFailure || !strings.Contains(out, "! kafka.topic: not made: clicks") ||
		!strings.Contains(out, "✗ kafka.topic: ") || len(w.topics(t)) > 0 {
		t.Errorf("exit %d: %s%s", code, out, text)
	}
	if written, err := os.ReadFile(file); err != nil || !strings.Contains(string(written), "topic: \"clicks\"") {
		t.Errorf("%s, %v", written, err)
	}
	// Now the file counts, and what it names is made.
	code, made, _, text := initWith(t, "--config", file, "--yes", "--topic-partitions", "3", "--topic", "other")
	if topics := w.topics(t); code != exitOK || made["kafka.topic"] != node.MadeNow ||
		len(topics["clicks"].Partitions) != 3 || topics.Has("other") {
		t.Errorf("exit %d: %v, %s", code, topics.Names(), text)
	}
	code, made, _, text = initWith(t, "--config", file, "--yes", "--topic-partitions", "5")
	if code != exitOK || made["kafka.topic"] != node.MadeOther || len(w.topics(t)["clicks"].Partitions) != 3 {
		t.Errorf("exit %d: %s", code, text)
	}
}

// What cannot be made keeps nothing else from being made, and says what to do.
func TestInitRefused(t *testing.T) {
	w, dir := newInitWorld(t, "web_clicks"), t.TempDir()
	w.bucket.Bucket = "another" // its answer to any other is that there is none, also when it is made
	code, made, out, text := initWith(t, "--config", filepath.Join(dir, "deckle.yaml"), "--yes",
		"--brokers", w.brokers[0],
		"--s3-endpoint", w.store, "--s3-bucket", "lake", "--http-listen", "127.0.0.1:0", "--nodes", "a=127.0.0.1:1")
	if code != exitFailure || made["delta.s3.bucket"] != node.MadeNot || made["kafka.dlq"] != node.MadeNow ||
		!out.wrong() || !strings.Contains(text, "s3:CreateBucket") {
		t.Errorf("exit %d: %s", code, text)
	}
	for line, want := range map[string]string{
		"--yes":               "--brokers",
		"--yes --brokers k:1": "nothing to write to",
		"--yes --brokers k:1 --lake l --s3-endpoint http://s:1": "not both",
		"--yes --brokers k:1 --s3-bucket b --clickhouse c:1":    "go together",
		"--yes --brokers k:1 --lake l --nodes a":                "NAME=HOST:PORT",
		"--yes --brokers k --lake l":                            "kafka.brokers",
		"--yes --brokers k:1 --lake l --topic-partitions -1":    "1 to 10000",
		"--json": "--yes or --dry-run",
	} {
		args := append([]string{"init", "--config", filepath.Join(dir, "other.yaml")}, strings.Fields(line)...)
		if code, out, text := deckleRun(args...); code != exitUsage || out != "" || !strings.Contains(text, want) {
			t.Errorf("%s: exit %d, %s%s", line, code, out, text)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}
