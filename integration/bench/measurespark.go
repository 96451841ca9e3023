package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"deckle/sim"
	"deckle/sim/verify"
)

// The settings with which the job is fastest, by docs/performance.md.
const (
	sparkHeapMB = 1536
	sparkBatchN = 300_000
)

// measureSpark is one run of the job. Its window is the whole backlog: the job warms itself up before (with the same
// records, into tables that are thrown away), because a JVM needs many more records than Deckle to reach its full
// speed.
func (w *world) measureSpark(ctx context.Context, b *backlog) (f *figures, err error) {
	w.runs++
	name := fmt.Sprintf("spark_%d", w.runs)
	batches := (b.records + sparkBatchN - 1) / sparkBatchN
	o := sparkOptions{
		Spark: w.spark, Kafka: w.kafka, MinIO: w.minio, Click: w.click,
		Topic: b.topic, Bucket: bucket, Prefix: name, Database: name,
		Dir: filepath.Join(w.dir, name), HeapMB: sparkHeapMB, Warm: max(w.opts.sparkWarm, b.records), Events: b.records,
		MaxOffsets: b.records/batches + 1000, // batches of one size: a last one of a few records would cost seconds
	}
	r, err := startSpark(o)
	if err != nil {
		return nil, err
	}
	memory := followPeak(ctx, r.pids())
	defer func() { _ = r.Kill() }() // it may have ended by itself
	f = &figures{Written: map[string]wrote{}}
	var began time.Time
	var before, now time.Duration
	for f.Events == 0 {
		if err := sim.Pause(ctx, sampleEvery); err != nil {
			return nil, fmt.Errorf("bench: the Spark job did not end: %w\n%s", err, r.Tail(4000))
		}
		select {
		case <-r.Done():
			return nil, fmt.Errorf("bench: the Spark job has ended early: %w\n%s", r.Err(), r.Tail(4000))
		default:
		}
		if now, err = cpuOf(r.pids()); err != nil {
			return nil, err
		}
		list, err := r.batches()
		if err != nil {
			return nil, err
		}
		for _, batch := range list {
			switch {
			case batch.Batch < 0 && began.IsZero():
				began, before = time.Now(), now
			case batch.Batch >= 0 && batch.Events >= b.records:
				f.Events, f.WallSeconds = b.records, time.Since(began).Seconds()
				f.AppliedSeconds, f.CPUSeconds = f.WallSeconds, (now - before).Seconds()
			}
		}
		if f.Events > 0 {
			for _, batch := range list {
				for table, n := range batch.Written {
					f.Written[table] = wrote{f.Written[table].Rows + n.Rows, f.Written[table].Bytes + n.Bytes}
				}
			}
		}
	}
	f.PeakRSS = memory.end()
	f.EventsPerCPUSecond = float64(f.Events) / f.CPUSeconds
	if err := r.wait(ctx); err != nil {
		return nil, err
	}
	f.Equal, err = w.sparkEqual(ctx, o, b)
	return f, err
}

func (w *world) sparkEqual(ctx context.Context, o sparkOptions, b *backlog) (equal bool, err error) {
	tables, closeAll, err := sparkTables(ctx, o)
	if err != nil {
		return false, err
	}
	defer func() {
		if cerr := closeAll(); err == nil {
			err = cerr
		}
	}()
	tables.Truth = []sim.Source{b.truth}
	rep, err := verify.Verify(ctx, tables)
	if err != nil {
		return false, err
	}
	if !rep.Equal {
		w.say("Spark's tables are not equal to the truth: %v", rep.Differences[:min(len(rep.Differences), 5)])
	}
	return rep.Equal, nil
}
