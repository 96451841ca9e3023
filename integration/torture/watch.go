package main

import (
	"context"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go"

	"deckle/sim/history"
	"deckle/sinks/delta/store"
)

// watch has the readers that look at both sinks all the time.
type watch struct {
	found *history.Violations
	delta *deltaWatch
	click *clickWatch
	stop  context.CancelFunc
	done  sync.WaitGroup
}

func (w *world) clickConn() *clickConn {
	return &clickConn{password: w.click.Password, opts: ch.Options{
		Address: w.click.Addr, User: w.click.User, Database: database,
	}}
}

func (w *world) startWatch() (*watch, error) {
	client, err := w.minio.Client()
	if err != nil {
		return nil, err
	}
	st, err := store.NewS3(store.S3Options{Endpoint: "http://" + w.minio.Addr, Bucket: bucket, Region: "us-east-1",
		Credentials: w.minio.Credentials()})
	if err != nil {
		return nil, err
	}
	v := history.NewViolations()
	x := &watch{found: v, delta: newDeltaWatch(client, bucket, st, v.Add),
		click: &clickWatch{conn: w.clickConn(), db: database, history: history.NewClickHouse(v.Add)}}
	ctx, stop := context.WithCancel(context.Background())
	x.stop = stop
	x.done.Go(func() { x.delta.follow(ctx, "events") })
	x.done.Go(func() { x.delta.follow(ctx, "sessions") })
	x.done.Go(func() { x.delta.snapshots(ctx, 10*time.Second) })
	x.done.Go(func() { x.click.follow(ctx) })
	return x, nil
}
