package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/integration/services"
	"deckle/sim"
)

const (
	bucket     = "lake"
	partitions = 4
)

// world is what all runs use.
type world struct {
	opts  options
	root  string // the module's folder
	dir   string
	began time.Time

	cache  *services.Cache
	binary string
	spark  *services.Spark
	kafka  *services.Kafka
	minio  *services.S3
	click  *services.ClickHouse
	runs   int

	lines sync.Mutex
}

func (w *world) say(format string, args ...any) {
	w.lines.Lock()
	defer w.lines.Unlock()
	fmt.Fprintf(os.Stderr, "%7.1f s  %s\n", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
}

// start fetches, builds and starts the services.
func (w *world) start(ctx context.Context) (err error) {
	if w.cache, err = services.OpenCache(os.Stderr); err != nil {
		return err
	}
	f, err := w.cache.FetchServices(ctx, w.root)
	if err != nil {
		return err
	}
	if w.binary, err = services.BuildDeckle(ctx, w.root, w.dir); err != nil {
		return err
	}
	if w.kafka, err = services.StartKafka(ctx, f.KafkaLibs, filepath.Join(w.dir, "kafka"), nil); err != nil {
		return err
	}
	if w.minio, err = services.StartMinIO(ctx, f.MinIO, filepath.Join(w.dir, "minio"), bucket, nil); err != nil {
		return err
	}
	w.click, err = services.StartClickHouse(ctx, f.Front, f.ClickHouse, filepath.Join(w.dir, "clickhouse"), nil)
	return err
}

// end stops the services that start has started.
func (w *world) end() error {
	var errs []error
	if w.click != nil {
		errs = append(errs, w.click.Kill())
	}
	if w.minio != nil {
		errs = append(errs, w.minio.Kill())
	}
	if w.kafka != nil {
		errs = append(errs, w.kafka.Kill())
	}
	return errors.Join(errs...)
}

// backlog is a topic full of records.
type backlog struct {
	topic   string
	records int64 // session_ends included
	bytes   int64 // of their values
	truth   sim.TruthFile
}

// liveSessions is how many sessions of the backlog are live at the same time. Each has 12 events.
const liveSessions = 2000

// fill produces a backlog of n records into a topic of its own, with the timestamps that 2,000 events per second would
// have given them.
func (w *world) fill(ctx context.Context, n int64) (*backlog, error) {
	w.runs++
	b := &backlog{topic: fmt.Sprintf("backlog-%d", w.runs)}
	err := w.kafka.CreateTopic(ctx, b.topic, partitions)
	if err != nil {
		return nil, err
	}
	b.truth = sim.TruthFile(filepath.Join(w.dir, b.topic+".truth.jsonl"))
	var truth *sim.Truth
	if w.opts.profile == "" {
		if truth, err = sim.CreateTruth(string(b.truth)); err != nil {
			return nil, err
		}
	}
	s, err := sim.Open(ctx, sim.Options{
		Topic: b.topic, KafkaOpts: []kgo.Opt{kgo.SeedBrokers(w.kafka.Addr)},
		Events: n, Sessions: liveSessions, Seed: w.opts.seed, Faults: w.opts.faults,
		Start: time.Now().Add(-time.Duration(n) * time.Second / 2000).Truncate(time.Second),
	}, truth)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if _, err := s.Run(ctx); err != nil {
		return nil, err
	}
	st := s.Stats()
	b.records, b.bytes = st.Acked, st.Bytes
	if truth != nil {
		_, err = truth.Close()
	}
	return b, err
}
