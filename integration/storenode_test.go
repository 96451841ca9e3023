package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"deckle/integration/services"
	"deckle/sim/testworld/clickhouse"
)

// TestVersityNode: a node writes to versitygw over TLS. The node is killed with SIGKILL, and so is the store, for five
// seconds in which the node goes on reading. In the end the tables equal the truth, by `deckle verify`, delta-rs and
// DuckDB. (TestCluster does more with MinIO; broker and ClickHouse are models here.)
func TestVersityNode(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	dir := folder(t)
	cache, err := services.OpenCache(os.Stderr)
	must(t, err)
	versity, err := cache.FetchVersity(ctx)
	need(t, err)
	python, err := cache.FetchPython(ctx)
	need(t, err)
	binary, err := services.BuildDeckle(ctx, "..", dir)
	must(t, err)
	ca, err := services.NewAuthority(dir)
	must(t, err)
	st, err := services.StartVersity(ctx, versity, filepath.Join(dir, "versitygw"), bucket, ca)
	must(t, err)
	t.Cleanup(func() { must(t, st.End()) })
	access, secret := filepath.Join(dir, "s3-access"), filepath.Join(dir, "s3-secret")
	must(t, os.WriteFile(access, []byte(st.AccessKey), 0o600))
	must(t, os.WriteFile(secret, []byte(st.SecretKey()), 0o600))

	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(6, topic))
	must(t, err)
	t.Cleanup(broker.Close)
	click := clickhouse.New(clickhouse.Options{})
	t.Cleanup(click.Close)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	go func() { _ = click.Serve(ln) }()
	node := single(t, dir, broker.ListenAddrs()[0], ln.Addr().String(), fmt.Sprintf(
		"s3: {endpoint: \"https://%s\", bucket: %s, access_key: {file: %s}, secret_key: {file: %s}, tls: {ca: %s}}",
		st.Secure.Addr, bucket, access, secret, st.Secure.CA))(binary)
	must(t, node.Start())
	t.Cleanup(func() { must(t, node.Kill()) })
	within(t, ctx, time.Minute, "the node to be ready", node.WaitReady)
	one := &services.Cluster{Nodes: []*services.Node{node}}

	truth := filepath.Join(dir, "truth.jsonl")
	sim := services.NewProcess("sim", dir, nil, binary, "sim", "--brokers", broker.ListenAddrs()[0], "--topic", topic,
		"--rate", "300", "--for", "25s", "--sessions", "150", "--seed", "5", "--truth", truth,
		"--duplicates", "0.02", "--late", "0.02", "--out-of-order", "0.02")
	must(t, sim.Start())
	t.Cleanup(func() { must(t, sim.Kill()) })
	flushed(t, ctx, one, 3)
	must(t, node.Kill())
	must(t, node.Start())
	within(t, ctx, time.Minute, "the node to be ready again", node.WaitReady)
	must(t, st.Kill())
	time.Sleep(5 * time.Second)
	must(t, st.Up(ctx))
	flushed(t, ctx, one, sum(acked(t, ctx, one)["sessions"])/3+2)
	produced(t, ctx, sim)
	equal(t, ctx, binary, node.Config, truth)
	end(t, node)

	mirror, settings := filepath.Join(dir, "mirror"), filepath.Join(dir, "readers.json")
	must(t, st.Mirror(ctx, bucket, "", mirror))
	b, err := json.Marshal(map[string]any{"truth": []string{truth}, "mirror": mirror})
	must(t, err)
	must(t, os.WriteFile(settings, b, 0o600))
	if out, err := exec.CommandContext(ctx, python, "readers.py", settings).CombinedOutput(); err != nil {
		t.Fatalf("delta-rs and DuckDB: %v\n%s", err, out)
	}
}
