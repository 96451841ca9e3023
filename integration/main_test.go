package integration

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"deckle/integration/services"
)

// need ends the test if this machine cannot have a service: it skips the test with a line that says so, or fails it if
// DECKLE_REQUIRE_SERVICES=1.
func need(t *testing.T, err error) {
	t.Helper()
	if services.MaySkip(err) {
		t.Skipf("skipped: %v", err)
	}
	must(t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// folder is the test's folder. It is kept under DECKLE_KEEP if that is set, so that logs and tables can be looked at.
func folder(t *testing.T) string {
	t.Helper()
	if keep := os.Getenv("DECKLE_KEEP"); keep != "" {
		dir, err := filepath.Abs(filepath.Join(keep, t.Name()))
		must(t, err)
		must(t, os.RemoveAll(dir))
		must(t, os.MkdirAll(dir, 0o755))
		return dir
	}
	return t.TempDir()
}

// world are the services of one test.
type world struct {
	ca     *services.Authority
	kafka  *services.Kafka
	minio  *services.S3
	click  *services.ClickHouse
	python string
	deckle string
}

const (
	topic  = "web_clicks"
	bucket = "lake"
)

func startWorld(ctx context.Context, t *testing.T, dir string) *world {
	t.Helper()
	cache, err := services.OpenCache(os.Stderr)
	must(t, err)
	f, err := cache.FetchServices(ctx, "..")
	need(t, err)
	w := &world{}
	w.python, err = cache.FetchPython(ctx)
	need(t, err)
	w.deckle, err = services.BuildDeckle(ctx, "..", dir)
	must(t, err)
	w.ca, err = services.NewAuthority(dir)
	must(t, err)
	w.kafka, err = services.StartKafka(ctx, f.KafkaLibs, filepath.Join(dir, "kafka"), w.ca)
	if w.kafka != nil {
		t.Cleanup(func() { must(t, w.kafka.Kill()) })
	}
	must(t, err)
	w.minio, err = services.StartMinIO(ctx, f.MinIO, filepath.Join(dir, "minio"), bucket, w.ca)
	if w.minio != nil {
		t.Cleanup(func() { must(t, w.minio.End()) })
	}
	must(t, err)
	w.click, err = services.StartClickHouse(ctx, f.Front, f.ClickHouse, filepath.Join(dir, "clickhouse"), w.ca)
	if w.click != nil {
		t.Cleanup(func() { must(t, w.click.Kill()) })
	}
	must(t, err)
	return w
}

// produced waits until the simulator has produced everything.
func produced(t *testing.T, ctx context.Context, sim *services.Process) {
	t.Helper()
	select {
	case <-sim.Done():
		if sim.Err() != nil {
			t.Fatalf("the simulator failed: %v\n%s", sim.Err(), sim.Tail(3000))
		}
	case <-ctx.Done():
		t.Fatalf("the simulator did not end:\n%s", sim.Tail(3000))
	}
}
