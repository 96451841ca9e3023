package rights

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/integration/services"
)

const (
	topic  = "web_clicks"
	dlq    = topic + ".dlq"
	group  = "deckle-deckle"
	bucket = "lake"
	prefix = "deckle"
)

// TestRights: with the rights of deploy/rights a node does all that it is there for, and says of none that it lacks it;
// without any one of them it says which. The files name no right that is not needed.
func TestRights(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	w := newWorld(ctx, t)
	binary, err := w.cache.FetchMinIO(ctx)
	need(t, err)
	w.minio, err = services.StartMinIO(ctx, binary, t.TempDir(), bucket, nil)
	if w.minio != nil {
		t.Cleanup(func() { must(t, w.minio.Kill()) })
	}
	must(t, err)
	w.grant()
	lists := w.broker.lists(ctx, t)
	if len(lists) != 6 {
		t.Fatalf("%d lists: %+v", len(lists), lists)
	}
	w.produce("s-1", `{"event_id":"00000000-0000-4000-8000-000000000001","session_id":"s-1","user_id":7,`+
		`"event_type":"search","timestamp":`+fmt.Sprint(time.Now().Unix())+`}`)
	w.produce("s-2", "a letter")

	lake, err := w.minio.Client()
	must(t, err)
	all := w.run("all", policy(t, bucket, prefix, ""))
	w.letters(1)
	w.await(all, "a table's commit", func() bool {
		for o := range lake.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
			if strings.HasSuffix(o.Key, "/_delta_log/00000000000000000001.json") {
				return true
			}
		}
		return false
	})
	w.await(all, "the group's offset", func() bool {
		o, err := w.broker.admin.FetchOffsets(ctx, group)
		at, ok := o.Lookup(topic, 0)
		return err == nil && ok && at.At == 2
	})
	must(t, all.Stop(time.Minute))
	if log := all.Tail(1 << 20); strings.Contains(log, "lacks") || strings.Contains(log, "not compacted") {
		t.Errorf("with all rights: %s", log)
	}

	for i := range lists {
		d := &lists[i]
		kind := map[bool]string{true: "group", false: "topic"}[d.Type.String() == "GROUP"]
		right := fmt.Sprintf("%s on %s %q", camel(d.Operation.String()), kind, d.Name)
		if d.Operation.String() == "CREATE" {
			_, err := w.broker.admin.DeleteTopics(ctx, dlq)
			must(t, err)
		}
		_, err := w.broker.admin.DeleteACLs(ctx, one(d))
		must(t, err)
		w.says(fmt.Sprint("kafka-", i), policy(t, bucket, prefix, ""), "lacks the right "+right,
			"deploy/rights/kafka.sh")
		_, err = w.broker.admin.CreateACLs(ctx, one(d))
		must(t, err)
	}
	for i, action := range []string{"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"} {
		w.says(fmt.Sprint("s3-", i), policy(t, bucket, prefix, action), action, "deploy/rights/s3-policy.json")
	}
}

// camel is an operation as kafka-acls.sh has it: DescribeConfigs for DESCRIBE_CONFIGS.
func camel(operation string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(operation, "_") {
		b.WriteString(part[:1] + strings.ToLower(part[1:]))
	}
	return b.String()
}

type world struct {
	t      *testing.T
	ctx    context.Context
	cache  *services.Cache
	deckle string
	broker *broker
	minio  *services.S3
}

// newWorld starts a broker and builds the binary.
func newWorld(ctx context.Context, t *testing.T) *world {
	t.Helper()
	cache, err := services.OpenCache(os.Stderr)
	must(t, err)
	libs, err := cache.FetchKafka(ctx)
	need(t, err)
	w := &world{t: t, ctx: ctx, cache: cache}
	w.deckle, err = services.BuildDeckle(ctx, "../..", t.TempDir())
	must(t, err)
	w.broker = startBroker(ctx, t, libs)
	return w
}

// grant makes the topic and gives deckle the rights that the script names with these options.
func (w *world) grant(options ...string) {
	w.t.Helper()
	_, err := w.broker.admin.CreateTopic(w.ctx, 1, 1, nil, topic)
	must(w.t, err)
	args := append([]string{"--bootstrap-server", w.broker.addr, "--user", "deckle", "--topic", topic}, options...)
	grant := exec.CommandContext(w.ctx, "../../deploy/rights/kafka.sh", append(args, "--run")...)
	grant.Env = append(os.Environ(), "KAFKA_ACLS="+w.broker.acls)
	if out, err := grant.CombinedOutput(); err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
}

// run starts a node with a folder, and so a cluster, of its own. Its tables are in a folder of the prefix.
func (w *world) run(name, policy string) *services.Node {
	w.t.Helper()
	dir := w.t.TempDir()
	session(w.t, w.minio, policy, dir)
	return w.node(dir, fmt.Sprintf(`
  revision_interval: 1s
  s3:
    endpoint: http://%[2]s
    bucket: %[3]s
    prefix: %[4]s/%[5]s
    access_key: {file: %[1]s/access}
    secret_key: {file: %[1]s/secret}
    session_token: {file: %[1]s/token}`, dir, w.minio.Addr, bucket, prefix, name))
}

// local starts a node whose tables are on its own disk.
func (w *world) local() *services.Node {
	w.t.Helper()
	dir := w.t.TempDir()
	return w.node(dir, fmt.Sprintf(" {path: %s/lake}", dir))
}

// node starts a node whose folder, and its configuration, are in dir; delta is the block of that name.
func (w *world) node(dir, delta string) *services.Node {
	w.t.Helper()
	raft, err := services.FreePort()
	must(w.t, err)
	http, err := services.FreePort()
	must(w.t, err)
	path := filepath.Join(dir, "deckle.yaml")
	must(w.t, os.WriteFile(filepath.Join(dir, "password"), []byte(secret), 0o600))
	must(w.t, os.WriteFile(path, fmt.Appendf(nil, `node: a
data_dir: %[1]s/data
cluster: {nodes: [{name: a, address: "127.0.0.1:%[2]d"}]}
kafka:
  brokers: ["%[3]s"]
  topic: %[4]s
  idle_after: 1s
  sasl: {mechanism: scram-sha-512, user: deckle, password: {file: %[1]s/password}}
flush: {interval: 500ms}
delta:%[5]s
http: {listen: "127.0.0.1:%[6]d"}
`, dir, raft, w.broker.addr, topic, delta, http), 0o600))
	n := &services.Node{Name: "a", Config: path, DataDir: filepath.Join(dir, "data"),
		HTTP:    fmt.Sprintf("127.0.0.1:%d", http),
		Process: services.NewProcess("a", dir, nil, w.deckle, "run", "--config", path)}
	must(w.t, n.Start())
	w.t.Cleanup(func() { must(w.t, n.Kill()) })
	return n
}

// says runs a node that lacks a right, until its status or its log says so.
func (w *world) says(name, policy string, words ...string) {
	w.t.Helper()
	n := w.run(name, policy)
	began := time.Now()
	w.await(n, strings.Join(words, " … "), func() bool {
		body, _ := n.Read(w.ctx, "/api/v1/status")
		for line := range strings.Lines(strings.ReplaceAll(string(body), "},", "},\n") + "\n" + n.Tail(1<<20)) {
			line = strings.ReplaceAll(line, `\"`, `"`)
			has := true
			for _, word := range words {
				has = has && strings.Contains(line, word)
			}
			if has {
				return true
			}
		}
		return false
	})
	w.t.Logf("%s: said after %s", words[0], time.Since(began).Round(100*time.Millisecond))
	must(w.t, n.Kill())
}

func (w *world) await(n *services.Node, what string, ok func() bool) {
	w.t.Helper()
	for range 400 {
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	body, _ := n.Read(w.ctx, "/api/v1/status")
	w.t.Errorf("waited in vain: %s\n%s\n%s", what, body, n.Tail(6000))
}

func (w *world) produce(key, value string) {
	w.t.Helper()
	cl, err := kgo.NewClient(append(w.broker.as(), kgo.DefaultProduceTopic(topic))...)
	must(w.t, err)
	defer cl.Close()
	must(w.t, cl.ProduceSync(w.ctx, &kgo.Record{Key: []byte(key), Value: []byte(value)}).FirstErr())
}

// letters waits until the dead letters have so many records.
func (w *world) letters(n int64) {
	w.t.Helper()
	for range 300 {
		ends, err := w.broker.admin.ListEndOffsets(w.ctx, dlq)
		if end, ok := ends.Lookup(dlq, 0); err == nil && ok && end.Offset >= n {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Errorf("no %d letters", n)
}
