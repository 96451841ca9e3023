package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"deckle/integration/services"
)

// TestCluster runs the whole path on real services. The simulator produces data with every fault. The nodes' ports are
// attacked. The leader of shard 0 is killed and restarted, then a node that does not lead it. ClickHouse is down for a
// minute while Delta goes on. In the end everything must equal the ground truth, according to `deckle verify` and to
// four readers that nobody here wrote.
func TestCluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	dir := folder(t)
	w := startWorld(ctx, t, dir)
	must(t, w.kafka.CreateTopic(ctx, topic, 6))
	cl, err := services.NewCluster(services.ClusterOptions{
		Binary: w.deckle, Dir: dir, Topic: topic, Bucket: bucket, Shards: 6, FlushInterval: 5 * time.Second,
		Grace: 5 * time.Second, IdleAfter: 5 * time.Second, RevisionInterval: 10 * time.Second,
		Guarded: true,
	}, w.kafka, w.minio, w.click)
	must(t, err)
	// In any order; no other command is needed.
	for _, i := range []int{2, 0, 1} {
		must(t, cl.Nodes[i].Start())
	}
	t.Cleanup(func() { must(t, cl.Stop()) })
	within(t, ctx, time.Minute, "the cluster to be ready", cl.WaitReady)

	truth := filepath.Join(dir, "truth.jsonl")
	sim := services.NewProcess("sim", dir, nil, w.deckle, "sim", "--brokers", w.kafka.Addr, "--topic", topic,
		"--rate", "1500", "--for", "110s", "--sessions", "1000", "--seed", "3", "--truth", truth,
		"--duplicates", "0.02", "--late", "0.01", "--malformed", "0.005", "--out-of-order", "0.02")
	must(t, sim.Start())
	t.Cleanup(func() { must(t, sim.Kill()) })
	progress(t, ctx, cl, 1, "clickhouse", "sessions", "events")

	attackPorts(t, ctx, cl)
	leader, follower := roles(t, ctx, cl)
	t.Logf("SIGKILL of %s, leader of shard 0, which comes back past strangers who hold every port", leader.Name)
	strangers, end := context.WithCancel(ctx)
	defer end()
	slowStrangers(strangers, cl)
	must(t, leader.Kill())
	progress(t, ctx, cl, 1, "events", "clickhouse")
	must(t, leader.Start())
	within(t, ctx, time.Minute, leader.Name+" to be ready again", leader.WaitReady)
	if counted(t, ctx, follower, "deckle_raft_connections_refused_total", "too_many") == 0 {
		t.Error("there were not more strangers than places")
	}
	end()

	t.Logf("SIGKILL of %s, not leader of shard 0", follower.Name)
	must(t, follower.Kill())
	progress(t, ctx, cl, 1, "events", "clickhouse")
	must(t, follower.Start())
	within(t, ctx, time.Minute, follower.Name+" to be ready again", follower.WaitReady)

	t.Log("ClickHouse down for a minute")
	must(t, w.click.Kill())
	down := time.Now()
	before := acked(t, ctx, cl)
	progress(t, ctx, cl, 3, "events")
	for sink, epochs := range acked(t, ctx, cl) {
		// What was under way may have been counted since.
		if sink == "clickhouse" && sum(epochs) > sum(before["clickhouse"])+6 {
			t.Errorf("clickhouse went from %v to %v while it was down", before["clickhouse"], epochs)
		}
	}
	sleepUntil(ctx, down.Add(time.Minute))
	must(t, w.click.Up(ctx))
	progress(t, ctx, cl, 1, "clickhouse")

	produced(t, ctx, sim)
	verify(t, ctx, cl, truth)
	independent(t, ctx, w, dir, truth)

	// The same again against a stopped cluster: the tables are all that is needed.
	must(t, cl.Stop())
	verify(t, ctx, cl, truth)
}

// within runs f, which must end within the time.
func within(t *testing.T, ctx context.Context, limit time.Duration, what string, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := time.Now()
	if err := f(ctx); err != nil {
		t.Fatalf("waiting for %s: %v", what, err)
	}
	t.Logf("%s: %s", what, time.Since(start).Round(time.Millisecond))
}

func sleepUntil(ctx context.Context, end time.Time) {
	select {
	case <-time.After(time.Until(end)):
	case <-ctx.Done():
	}
}

// status is what the tests read of /api/status, the path that v0.1.0 has, too.
type status struct {
	Shards []struct {
		Shard  uint32            `json:"shard"`
		Leader string            `json:"leader"`
		Acked  map[string]uint64 `json:"acked_epochs"`
	} `json:"shards"`
}

// statuses asks every node and returns the answers of those that answer.
func statuses(ctx context.Context, cl *services.Cluster) map[string]status {
	out := map[string]status{}
	for _, n := range cl.Nodes {
		var st status
		if err := n.Get(ctx, "/api/status", &st); err == nil {
			out[n.Name] = st
		}
	}
	return out
}

// acked returns, for each sink and shard, the greatest epoch that any node knows to be acknowledged.
func acked(t *testing.T, ctx context.Context, cl *services.Cluster) map[string]map[uint32]uint64 {
	t.Helper()
	out := map[string]map[uint32]uint64{}
	for _, st := range statuses(ctx, cl) {
		for _, s := range st.Shards {
			for sink, epoch := range s.Acked {
				if out[sink] == nil {
					out[sink] = map[uint32]uint64{}
				}
				out[sink][s.Shard] = max(out[sink][s.Shard], epoch)
			}
		}
	}
	return out
}

func sum(epochs map[uint32]uint64) (n uint64) {
	for _, e := range epochs {
		n += e
	}
	return n
}

// progress waits until each of the sinks has acknowledged n more epochs of every shard.
func progress(t *testing.T, ctx context.Context, cl *services.Cluster, n uint64, sinks ...string) {
	t.Helper()
	from := acked(t, ctx, cl)
	within(t, ctx, 2*time.Minute, fmt.Sprintf("%d more epochs of %v", n, sinks), func(ctx context.Context) error {
		for {
			now := acked(t, ctx, cl)
			done := true
			for _, sink := range sinks {
				done = done && len(now[sink]) == 6
				for shard, epoch := range now[sink] {
					done = done && epoch >= from[sink][shard]+n
				}
			}
			if done {
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%w; from %v to %v", ctx.Err(), from, now)
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
}

// roles returns the leader of shard 0 and another node.
func roles(t *testing.T, ctx context.Context, cl *services.Cluster) (leader, follower *services.Node) {
	t.Helper()
	name := ""
	for _, st := range statuses(ctx, cl) {
		for _, s := range st.Shards {
			if s.Shard == 0 && s.Leader != "" {
				name = s.Leader
			}
		}
	}
	for _, n := range cl.Nodes {
		if n.Name == name {
			leader = n
		} else {
			follower = n
		}
	}
	if leader == nil {
		t.Fatalf("shard 0 has no leader among the nodes: %q", name)
	}
	return leader, follower
}

// report is what the test reads of deckle verify --json.
type report struct {
	Produced    int64  `json:"produced_events"`
	Sessions    int64  `json:"produced_sessions"`
	Applied     int64  `json:"applied_events"`
	Duplicates  int64  `json:"duplicates"`
	DeadLetters int64  `json:"dead_letters"`
	DeltaEvents int64  `json:"delta_events"`
	Delta       int64  `json:"delta_sessions"`
	ClickHouse  *int64 `json:"clickhouse_sessions"`
	Equal       bool   `json:"equal"`
}

func verify(t *testing.T, ctx context.Context, cl *services.Cluster, truth string) {
	t.Helper()
	cmd := exec.CommandContext(ctx, cl.Binary, "verify", "--config", cl.Nodes[0].Config, "--truth", truth, "--json")
	cmd.Env = append(os.Environ(), cl.Env()...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	var r report
	if jsonErr := json.Unmarshal(lines[len(lines)-1], &r); jsonErr != nil {
		t.Fatalf("deckle verify: %v, %v\n%s\n%s", err, jsonErr, out.Bytes(), errs.Bytes())
	}
	if err != nil || !r.Equal {
		t.Fatalf("deckle verify: %v\n%s\n%s", err, out.Bytes(), errs.Bytes())
	}
	if r.Produced == 0 || r.Duplicates == 0 || r.DeadLetters == 0 ||
		r.Produced != r.Applied+r.Duplicates+r.DeadLetters ||
		r.DeltaEvents != r.Applied || r.Delta != r.Sessions || r.ClickHouse == nil || *r.ClickHouse != r.Sessions {
		t.Fatalf("deckle verify says equal, but its figures do not add up: %s", lines[len(lines)-1])
	}
	t.Logf("deckle verify: %d records = %d applied + %d duplicates + %d dead letters; %d sessions in both sinks",
		r.Produced, r.Applied, r.Duplicates, r.DeadLetters, r.Sessions)
}

// independent compares the tables with the truth by readers.py.
func independent(t *testing.T, ctx context.Context, w *world, dir, truth string) {
	t.Helper()
	mirror := filepath.Join(dir, "mirror") // DuckDB's extension reads local tables
	must(t, w.minio.Mirror(ctx, bucket, "", mirror))
	settings := filepath.Join(dir, "readers.json")
	b, err := json.Marshal(map[string]any{
		"truth": []string{truth}, "bucket": bucket, "mirror": mirror, "database": "analytics",
		"s3_endpoint": "http://" + w.minio.Addr, "s3_access_key": w.minio.AccessKey,
		"s3_secret_key": w.minio.SecretKey(),
		"clickhouse":    w.click.Addr, "clickhouse_user": w.click.User, "clickhouse_password": w.click.Password(),
	})
	must(t, err)
	must(t, os.WriteFile(settings, b, 0o600))
	cmd := exec.CommandContext(ctx, w.python, "readers.py", settings)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("the independent readers disagree: %v\n%s\n%s", err, out.Bytes(), errs.Bytes())
	}
	var readers map[string]map[string]struct {
		Rows  int64 `json:"rows"`
		Equal bool  `json:"equal"`
	}
	must(t, json.Unmarshal(out.Bytes(), &readers))
	tables := 0
	for reader, ts := range readers {
		for table, r := range ts {
			tables++
			if !r.Equal || r.Rows == 0 {
				t.Errorf("%s: %s: %+v", reader, table, r)
			}
			t.Logf("%s: %s equals the truth, %d rows", reader, table, r.Rows)
		}
	}
	if tables != 13 {
		t.Errorf("%d tables were compared, 13 expected", tables)
	}
}
