// Command local runs Deckle over real services on loopback ports of one machine, for trying it out: `make up` starts
// Kafka, MinIO, ClickHouse, three nodes and the simulator, and `make down` ends exactly those.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"deckle/integration/services"
)

const (
	folder = ".local"
	topic  = "web_clicks"
	bucket = "lake"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "local:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 1 {
		switch args[0] {
		case "fetch":
			return fetchAll(ctx, out)
		case "up":
			return up(ctx, out)
		case "down":
			return down(out)
		}
	}
	if len(args) > 2 && args[0] == "engine" && args[1] == "--" {
		return engine(ctx, args[2:], out)
	}
	return errors.New("usage: go run ./integration/local fetch|up|down|engine -- COMMAND [ARG…]")
}

// engine runs a command with a ClickHouse engine and a Python that has Delta readers to test against; the command finds
// both in its environment. Where the machine cannot have one, the command runs without it: its tests then skip what
// needs it, or fail if DECKLE_REQUIRE_SERVICES=1. What the environment already names, for example a real server, is
// left as it is.
func engine(ctx context.Context, args []string, out io.Writer) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Env = out, os.Stderr, os.Environ()
	if os.Getenv("DECKLE_TEST_PYTHON") == "" {
		python, err := readers(ctx, out)
		var missing *services.MissingError
		switch {
		case errors.As(err, &missing):
			_, _ = fmt.Fprintf(out, "no Delta readers: %v\n", err)
		case err != nil:
			return err
		default:
			cmd.Env = append(cmd.Env, "DECKLE_TEST_PYTHON="+python)
		}
	}
	if os.Getenv("DECKLE_TEST_CLICKHOUSE") != "" {
		return cmd.Run()
	}
	dir, err := os.MkdirTemp("", "deckle-engine-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	c, err := startEngine(ctx, dir, out)
	var missing *services.MissingError
	switch {
	case errors.As(err, &missing):
		_, _ = fmt.Fprintf(out, "no ClickHouse engine: %v\n", err)
	case err != nil:
		return err
	default:
		defer func() { _ = c.Kill() }()
		cmd.Env = append(cmd.Env, "DECKLE_TEST_CLICKHOUSE="+c.Addr, "DECKLE_TEST_CLICKHOUSE_USER="+c.User,
			"DECKLE_TEST_CLICKHOUSE_PASSWORD="+c.Password())
	}
	return cmd.Run()
}

// readers returns a Python that has Delta readers.
func readers(ctx context.Context, out io.Writer) (string, error) {
	cache, err := services.OpenCache(out)
	if err != nil {
		return "", err
	}
	return cache.FetchPython(ctx)
}

func startEngine(ctx context.Context, dir string, out io.Writer) (*services.ClickHouse, error) {
	cache, err := services.OpenCache(out)
	if err != nil {
		return nil, err
	}
	lib, err := cache.FetchClickHouse(ctx)
	if err != nil {
		return nil, err
	}
	front, err := cache.BuildFront(ctx, ".")
	if err != nil {
		return nil, err
	}
	return services.StartClickHouse(ctx, front, lib, dir, nil)
}

func fetch(ctx context.Context, out io.Writer) (f services.Fetched, err error) {
	c, err := services.OpenCache(out)
	if err != nil {
		return f, err
	}
	if f, err = c.FetchServices(ctx, "."); err != nil {
		return f, err
	}
	_, err = c.FetchPython(ctx)
	return f, err
}

// fetchAll fetches what the tests have besides.
func fetchAll(ctx context.Context, out io.Writer) error {
	if _, err := fetch(ctx, out); err != nil {
		return err
	}
	c, err := services.OpenCache(out)
	if err != nil {
		return err
	}
	_, err = c.FetchVersity(ctx)
	return err
}

func pidFile() string { return filepath.Join(folder, "running.json") }

func up(ctx context.Context, out io.Writer) (err error) {
	if rs, err := services.ReadRunning(pidFile()); err != nil || len(rs) > 0 {
		return errors.Join(err, fmt.Errorf("%s lists running processes: end them with make down first", pidFile()))
	}
	f, err := fetch(ctx, out)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(filepath.Join(folder, time.Now().UTC().Format("20060102-150405")))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var running []services.Running
	started := func(p *services.Process) error {
		r, err := services.Remember(p)
		running = append(running, r)
		return errors.Join(err, services.WriteRunning(pidFile(), running))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, down(out))
		}
	}()
	services.Detach = true
	k, err := services.StartKafka(ctx, f.KafkaLibs, filepath.Join(dir, "kafka"), nil)
	if k != nil {
		err = errors.Join(err, started(k.Process))
	}
	if err != nil {
		return err
	}
	if err := k.CreateTopic(ctx, topic, 6); err != nil {
		return err
	}
	m, err := services.StartMinIO(ctx, f.MinIO, filepath.Join(dir, "minio"), bucket, nil)
	if m != nil {
		err = errors.Join(err, started(m.Process))
	}
	if err != nil {
		return err
	}
	c, err := services.StartClickHouse(ctx, f.Front, f.ClickHouse, filepath.Join(dir, "clickhouse"), nil)
	if c != nil {
		err = errors.Join(err, started(c.Process))
	}
	if err != nil {
		return err
	}
	binary, err := services.BuildDeckle(ctx, ".", dir)
	if err != nil {
		return err
	}
	cl, err := services.NewCluster(services.ClusterOptions{
		Binary: binary, Dir: dir, Topic: topic, Bucket: bucket, Shards: 6, FlushInterval: 10 * time.Second,
		Grace: 30 * time.Second, IdleAfter: 30 * time.Second, RevisionInterval: time.Minute,
		Secure: true,
	}, k, m, c)
	if err != nil {
		return err
	}
	for _, n := range cl.Nodes {
		if err := errors.Join(n.Start(), started(n.Process)); err != nil {
			return err
		}
	}
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := cl.WaitReady(wait); err != nil {
		return err
	}
	truth := filepath.Join(dir, "truth.jsonl")
	sim := services.NewProcess("sim", dir, nil, binary, "sim", "--brokers", k.Addr, "--topic", topic, "--rate", "1000",
		"--duplicates", "0.01", "--late", "0.005", "--malformed", "0.002", "--out-of-order", "0.02", "--truth", truth)
	if err := errors.Join(sim.Start(), started(sim)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, `
Kafka       %[1]s   topic %[2]s, dead letters %[2]s.dlq
            kcat -b %[1]s -C -t %[2]s.dlq -f '%%k %%h\n'
MinIO       http://%[3]s   bucket %[4]s, tables events and sessions; user %[5]s, password %[6]s
            AWS_ACCESS_KEY_ID=%[5]s AWS_SECRET_ACCESS_KEY=%[6]s AWS_ENDPOINT_URL=http://%[3]s AWS_ALLOW_HTTP=true \
              python3 -c "import deltalake; print(deltalake.DeltaTable('s3://%[4]s/sessions').to_pyarrow_table())"
ClickHouse  %[7]s   database analytics, user %[8]s, password %[9]s (native protocol)
            SELECT * FROM analytics.brand_analytics
nodes       http://%[10]s  http://%[11]s  http://%[12]s   page, /readyz, /metrics, /api/v1/status
            TLS between them: %[18]s certs show --dir %[14]s/pki
simulator   1000 events/s; what must come out: %[13]s
data, logs  %[14]s

Compare with the truth: end the simulator (kill %[16]d), then
            %[17]s \
              %[18]s verify --config %[15]s --truth %[13]s
End all of it: make down
`, k.Addr, topic, m.Addr, bucket, m.AccessKey, m.SecretKey(), c.Addr, c.User, c.Password(),
		cl.Nodes[0].HTTP, cl.Nodes[1].HTTP, cl.Nodes[2].HTTP, truth, dir, cl.Nodes[0].Config, sim.PID(),
		strings.Join(cl.Env(), " "), binary)
	return err
}

// down ends what up started, in reverse order: the simulator, the nodes, the services.
func down(out io.Writer) error {
	rs, err := services.ReadRunning(pidFile())
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range slices.Backward(rs) {
		ran, err := r.End(30 * time.Second)
		errs = append(errs, err)
		if ran {
			_, _ = fmt.Fprintf(out, "ended %s (process %d)\n", r.Name, r.PID)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.Remove(pidFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
