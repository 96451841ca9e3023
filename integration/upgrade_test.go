package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"deckle/integration/services"
	newest "deckle/schema/level"
	"deckle/sim/testworld/clickhouse"
)

const (
	// released is the commit of v0.1.0: level 1 of every format.
	released = "bc3140c37ec6aa18b54eda1062030c74c8371b37"
	// levelTwo is the last commit whose newest level is 2.
	levelTwo = "1f05826a5ee6fd7710ba69f0bf141ee937593319"
)

var upgradeLevel2 = flag.Bool("upgrade-level2", false, "run TestUpgradeLevel2 (make upgrade)")

// TestUpgrade: a data folder and tables that v0.1.0 itself has made are taken over after an orderly stop, and nothing
// else is needed. The stream goes on all the while, late events of older sessions included, so sessions and images that
// v0.1.0 stored are read, go on and are revised. In the end every row of every table equals the truth, according to
// `deckle verify` and to two readers that nobody here wrote: nothing is lost, nothing is there twice.
//
// The broker and ClickHouse are models in this process, so that the test needs the history of the repository and no
// service. v0.1.0 is built from that history and not kept as files of test data: what it writes follows from the stream
// and from what the run happens to do, and a folder that was made once would only test one of them.
func TestUpgrade(t *testing.T) { upgrade(t, "v0.1.0", released) }

// TestUpgradeLevel2 does the same with a binary of level 2, whose records include those that v0.1.0 refuses. CI has no
// room for a second one.
func TestUpgradeLevel2(t *testing.T) {
	if !*upgradeLevel2 {
		t.Skip("run by make upgrade")
	}
	upgrade(t, "a binary of level 2", levelTwo)
}

func upgrade(t *testing.T, name, commit string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	dir := folder(t)
	cache, err := services.OpenCache(os.Stderr)
	must(t, err)
	old, err := cache.BuildCommit(ctx, "..", commit)
	if errors.Is(err, services.ErrNoHistory) {
		t.Skipf("NOTHING WAS UPGRADED: %v", err) // no service: a checkout of one commit cannot have it
	}
	need(t, err)
	now, err := services.BuildDeckle(ctx, "..", dir)
	must(t, err)

	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(6, topic))
	must(t, err)
	t.Cleanup(broker.Close)
	click := clickhouse.New(clickhouse.Options{})
	t.Cleanup(click.Close)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	go func() { _ = click.Serve(ln) }()
	node := single(t, dir, broker.ListenAddrs()[0], ln.Addr().String(), "path: "+filepath.Join(dir, "lake"))

	before := node(old)
	must(t, before.Start())
	t.Cleanup(func() { must(t, before.Kill()) })
	within(t, ctx, time.Minute, name+" to be ready", before.WaitReady)
	truth := filepath.Join(dir, "truth.jsonl")
	// The old binary makes the stream and compares: its truth is what both versions promise of its columns. Records
	// that v0.1.0 refuses and level 2 accepts are left out, and of the columns that level 2 adds nobody knows what is
	// right for a session that began before.
	sim := services.NewProcess("sim", dir, nil, old, "sim", "--brokers", broker.ListenAddrs()[0], "--topic", topic,
		"--rate", "400", "--for", "30s", "--sessions", "150", "--seed", "11", "--truth", truth,
		"--duplicates", "0.02", "--late", "0.02", "--out-of-order", "0.02")
	must(t, sim.Start())
	t.Cleanup(func() { must(t, sim.Kill()) })
	one := &services.Cluster{Nodes: []*services.Node{before}}
	flushed(t, ctx, one, 8)
	at := acked(t, ctx, one)
	end(t, before)

	// Today's binary, on the folder and the tables as they were left, while the stream goes on.
	after := node(now)
	must(t, after.Start())
	t.Cleanup(func() { must(t, after.Kill()) })
	within(t, ctx, time.Minute, "today's binary to be ready", after.WaitReady)
	one.Nodes[0] = after
	for sink, epochs := range acked(t, ctx, one) {
		if sum(epochs) < sum(at[sink]) {
			t.Errorf("%s: %s had acknowledged %v, today's binary knows of %v", sink, name, at[sink], epochs)
		}
	}
	flushed(t, ctx, one, sum(at["clickhouse"])/3+3)
	risen := level(ctx, t, one)
	produced(t, ctx, sim)
	equal(t, ctx, old, after.Config, truth)
	end(t, after)
	equal(t, ctx, old, after.Config, truth)
	if want := int(newest.Current); risen != want {
		t.Errorf("the shards are at level %d, want %d", risen, want)
	}
	// The old binary cannot read what is in the folder now, says so, and changes nothing.
	back := node(old)
	must(t, back.Start())
	t.Cleanup(func() { must(t, back.Kill()) })
	select {
	case <-back.Done():
	case <-time.After(time.Minute):
		t.Fatalf("%s runs on a folder of level %d:\n%s", name, risen, back.Tail(3000))
	}
	if text := back.Tail(3000); back.Err() == nil || !strings.Contains(text, "format version") {
		t.Errorf("%s on a folder of level %d: %v\n%s", name, risen, back.Err(), text)
	}
	equal(t, ctx, old, after.Config, truth)
}

// single returns a way to run one node on the same folder and the same tables with one binary or another. lake is the
// line of the configuration that says where the tables are.
func single(t *testing.T, dir, broker, click, lake string) func(binary string) *services.Node {
	t.Helper()
	raft, err := services.FreePort()
	must(t, err)
	http, err := services.FreePort()
	must(t, err)
	config := filepath.Join(dir, "deckle.yaml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `node: a
data_dir: %[1]s/data
cluster:
  shards: 3
  nodes:
    - {name: a, address: "127.0.0.1:%[2]d"}
kafka:
  brokers: ["%[3]s"]
  topic: %[4]s
  idle_after: 2s
  keyed: yes
session:
  grace: 2s
flush:
  interval: 1s
delta:
  %[7]s
  revision_interval: 1s
clickhouse:
  address: %[5]s
http:
  listen: 127.0.0.1:%[6]d
`, dir, raft, broker, topic, click, http, lake), 0o644))
	runs := 0
	return func(binary string) *services.Node {
		runs++
		return &services.Node{Name: "a", Config: config, DataDir: filepath.Join(dir, "data"),
			HTTP:    fmt.Sprintf("127.0.0.1:%d", http),
			Process: services.NewProcess(fmt.Sprintf("a-%d", runs), dir, nil, binary, "run", "--config", config)}
	}
}

// level returns the least level of the shards, after a time in which it may have risen: all members, which is one, have
// the binary of the newest level.
func level(ctx context.Context, t *testing.T, cl *services.Cluster) int {
	t.Helper()
	least := 0
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		var st struct {
			Shards []struct {
				Level int `json:"level"`
			} `json:"shards"`
		}
		must(t, cl.Nodes[0].Get(ctx, "/api/status", &st)) // the path that both versions have
		least = 0
		for i, s := range st.Shards {
			if i == 0 || s.Level < least {
				least = s.Level
			}
		}
		if least >= int(newest.Current) {
			break
		}
	}
	t.Logf("all shards are at level %d", least)
	return least
}

// flushed waits until ClickHouse and both sinks of Delta have acknowledged that many epochs of every shard.
func flushed(t *testing.T, ctx context.Context, cl *services.Cluster, epochs uint64) {
	t.Helper()
	within(t, ctx, 2*time.Minute, fmt.Sprintf("%d epochs", epochs), func(ctx context.Context) error {
		for {
			now := acked(t, ctx, cl)
			done := true
			for _, sink := range []string{"clickhouse", "events", "sessions", "revisions"} {
				done = done && len(now[sink]) == 3
				for _, epoch := range now[sink] {
					done = done && epoch >= epochs
				}
			}
			if done {
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%w; acknowledged are %v\n%s", ctx.Err(), now, cl.Nodes[0].Tail(3000))
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
}

// end stops a node in order: it must end by itself, without an error.
func end(t *testing.T, n *services.Node) {
	t.Helper()
	done := n.Done()
	must(t, n.Stop(time.Minute))
	<-done
	if err := n.Err(); err != nil {
		t.Fatalf("%s did not end in order: %v\n%s", n.Name, err, n.Tail(3000))
	}
}

// equal runs deckle verify.
func equal(t *testing.T, ctx context.Context, binary, config, truth string) {
	t.Helper()
	cmd := exec.CommandContext(ctx, binary, "verify", "--config", config, "--truth", truth, "--json")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var r report
	if err == nil {
		err = json.Unmarshal([]byte(lines[len(lines)-1]), &r)
	}
	if err != nil || !r.Equal || r.Sessions == 0 || r.Duplicates == 0 || r.Delta != r.Sessions {
		t.Fatalf("deckle verify: %v\n%s\n%s", err, out.Bytes(), errs.Bytes())
	}
	t.Logf("deckle verify: %d records, %d sessions, all equal", r.Produced, r.Sessions)
}
