package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"deckle/integration/services"
)

// sparkOptions say how the job of job.py runs.
type sparkOptions struct {
	Spark *services.Spark
	Kafka *services.Kafka
	MinIO *services.S3
	Click *services.ClickHouse

	Topic, Bucket, Prefix, Database string
	Dir                             string // of log, checkpoint and state; emptied first
	HeapMB                          int
	MaxOffsets                      int64    // records per batch
	Events                          int64    // the job ends once these are in both sinks; 0: when it is stopped
	Warm                            int64    // records that it processes first, for nothing, to warm the JVM up
	More                            []string // further arguments of job.py, for experiments
}

// sparkBatch is a batch that is in both sinks.
type sparkBatch struct {
	Batch       int64            `json:"batch"` // -1: no batch, the job is warm and begins
	EndedUnixNS int64            `json:"ended_unix_ns"`
	Events      int64            `json:"events"` // records of the topic up to its end
	Written     map[string]wrote `json:"written"`
}

// sparkRun is a job that was started.
type sparkRun struct {
	*services.Process
	progress string
}

const sparkJob = "integration/bench/job.py"

// startSpark starts the job from the root of the module. It is ready when its first batch is done.
func startSpark(o sparkOptions) (*sparkRun, error) {
	job, err := filepath.Abs(sparkJob)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.RemoveAll(o.Dir), os.MkdirAll(o.Dir, 0o755)); err != nil {
		return nil, err
	}
	r := &sparkRun{progress: filepath.Join(o.Dir, "progress.jsonl")}
	args := []string{
		o.Spark.Python, job, "--brokers", o.Kafka.Addr, "--topic", o.Topic, "--events", fmt.Sprint(o.Events),
		"--warm", fmt.Sprint(o.Warm), "--max-offsets", fmt.Sprint(o.MaxOffsets),
		"--endpoint", "http://" + o.MinIO.Addr, "--bucket", o.Bucket, "--prefix", o.Prefix,
		"--clickhouse", o.Click.Addr, "--clickhouse-user", o.Click.User, "--database", o.Database,
		"--dir", filepath.Join(o.Dir, "work"),
		"--jars", o.Spark.Jars, "--heap", fmt.Sprint(o.HeapMB), "--progress", r.progress,
	}
	r.Process = services.NewProcess("spark", o.Dir, []string{
		"SPARK_S3_ACCESS_KEY=" + o.MinIO.AccessKey, "SPARK_S3_SECRET_KEY=" + o.MinIO.SecretKey(),
		"SPARK_CLICKHOUSE_PASSWORD=" + o.Click.Password(), "SPARK_LOCAL_IP=127.0.0.1",
	}, append(args, o.More...)...)
	return r, r.Start()
}

// batches returns the batches so far; a line that is still being written is left for the next call.
func (r *sparkRun) batches() ([]sparkBatch, error) {
	data, err := os.ReadFile(r.progress)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []sparkBatch
	s := bufio.NewScanner(bytes.NewReader(data[:bytes.LastIndexByte(data, '\n')+1]))
	for s.Scan() {
		var b sparkBatch
		if err := json.Unmarshal(s.Bytes(), &b); err != nil {
			return nil, fmt.Errorf("%s: %w", r.progress, err)
		}
		list = append(list, b)
	}
	return list, s.Err()
}

// pids are the roots of the job's processes: Python, whose child is the JVM.
func (r *sparkRun) pids() []int {
	if pid := r.PID(); pid != 0 {
		return []int{pid}
	}
	return nil
}

// wait returns when the job has ended by itself, with its error.
func (r *sparkRun) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return errors.Join(ctx.Err(), r.stop())
	case <-r.Done():
	}
	if err := r.Err(); err != nil {
		return fmt.Errorf("the Spark job failed: %w; its log ends with:\n%s", err, r.Tail(4000))
	}
	return nil
}

// stop ends the job if it still runs.
func (r *sparkRun) stop() error { return r.Stop(time.Minute) }
