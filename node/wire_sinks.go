package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"deckle/node/config"
	"deckle/sinks"
	"deckle/sinks/clickhouse"
	"deckle/sinks/deadletter"
	"deckle/sinks/delta"
	"deckle/sinks/delta/store"
	"deckle/state"
)

// sinkSlots says how each configured sink is opened. Nothing is opened here: a sink that is down at start must not keep
// the others from working. Each opener checks what has to be true before the first write: a store that honours
// conditional puts, tables of this cluster that fit.
func (n *Node) sinkSlots() map[state.SinkID]*sinkSlot {
	slots := map[state.SinkID]*sinkSlot{}
	n.delta = &deltaTables{n: n, turn: semaphore.NewWeighted(1)}
	for _, id := range wantedSinks(n.cfg) {
		slot := newSinkSlot(id, n.deps.Now)
		slot.wrap = n.deps.WrapSink
		switch {
		case n.deps.openSink != nil:
			slot.open = func(context.Context) (sinks.Sink, error) { return n.deps.openSink(n, id) }
		case id == state.SinkClickHouse:
			slot.open = n.clickHouse()
		case id == state.SinkDeadLetter:
			slot.open = n.openDeadLetters
		default:
			slot.open = func(ctx context.Context) (sinks.Sink, error) { return n.delta.sink(ctx, id) }
		}
		slots[id] = slot
	}
	return slots
}

// deltaTables opens the Delta tables once for the three sinks on them.
type deltaTables struct {
	n    *Node
	turn *semaphore.Weighted // of whoever opens them; a wait for it ends with its context
	d    *delta.Delta
}

func (t *deltaTables) sink(ctx context.Context, id state.SinkID) (sinks.Sink, error) {
	if err := t.turn.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer t.turn.Release(1)
	if t.d == nil {
		d, err := t.n.openDelta(ctx)
		if err != nil {
			return nil, err
		}
		t.d = d
	}
	switch id {
	case state.SinkEvents:
		return t.d.Events(), nil
	case state.SinkSessions:
		return t.d.Sessions(), nil
	case state.SinkRevisions:
		return t.d.Revisions(), nil
	}
	return nil, fmt.Errorf("node: %s is not a Delta sink", id)
}

// close closes the tables, those of sinks that nobody has asked for included.
func (t *deltaTables) close() error {
	_ = t.turn.Acquire(context.Background(), 1)
	defer t.turn.Release(1)
	if t.d == nil {
		return nil
	}
	return t.d.Close()
}

func (n *Node) openDelta(ctx context.Context) (*delta.Delta, error) {
	cfg := n.cfg.Delta
	st, err := n.deltaStore(cfg)
	if err != nil {
		return nil, &sinks.StopError{Err: err, Hint: "correct delta in the configuration"}
	}
	return delta.Open(ctx, delta.Options{
		Store: st, ClusterID: n.raft.ClusterID(), Pipeline: n.cfg.Cluster.Pipeline, Node: n.cfg.Node,
		Events:      cfg.Events == nil || *cfg.Events,
		EventSource: func(uint32) sinks.EventSource { return n.refetch },
		Compression: cfg.Compression, RevisionFilesPerPass: cfg.RevisionFilesPerPass, CheckpointInterval: cfg.CheckpointInterval,
		BufferMemoryBytes: n.cfg.Limits.BufferMemoryBytes, Now: n.deps.Now, Logger: n.deps.Logger.With("part", "delta"),
		Registerer: latestRegisterer{n.deps.Registerer},
	})
}

func (n *Node) deltaStore(cfg *config.Delta) (store.Store, error) {
	if n.deps.DeltaStore != nil {
		return n.deps.DeltaStore, nil
	}
	if cfg.S3 == nil {
		if cfg.Path == "" {
			return nil, errors.New("neither delta.path nor delta.s3 is set")
		}
		return store.NewLocal(n.deps.FS, cfg.Path, n.cfg.Node+"-"+strconv.Itoa(os.Getpid())), nil
	}
	tls, err := cfg.S3.TLS.Client(os.ReadFile)
	if err != nil {
		return nil, fmt.Errorf("delta.s3: %w", err)
	}
	opts := store.S3Options{Endpoint: cfg.S3.Endpoint, Bucket: cfg.S3.Bucket, Prefix: cfg.S3.Prefix, Region: cfg.S3.Region, TLS: tls}
	if cfg.S3.AccessKey.IsSet() || cfg.S3.SecretKey.IsSet() {
		opts.Credentials = store.StaticCredentials(cfg.S3.AccessKey.Value(), cfg.S3.SecretKey.Value())
	}
	return store.NewS3(opts)
}

// clickHouse returns the opener of the ClickHouse sink: made once, its schema ensured before it is given out.
func (n *Node) clickHouse() func(context.Context) (sinks.Sink, error) {
	var sink *clickhouse.Sink // calls are one at a time (sinkSlot.get)
	return func(ctx context.Context) (sinks.Sink, error) {
		if sink == nil {
			cfg := n.cfg.ClickHouse
			tls, err := cfg.TLS.Client(os.ReadFile)
			if err != nil {
				return nil, &sinks.StopError{Err: fmt.Errorf("clickhouse: %w", err), Hint: "correct clickhouse.tls in the configuration"}
			}
			sink = clickhouse.New(clickhouse.Options{
				Address: cfg.Address, Database: cfg.Database, User: cfg.User, Password: cfg.Password.Value(), TLS: tls,
				Compression: cfg.Compression, ReadTimeout: cfg.ReadTimeout, ClusterID: n.raft.ClusterID(),
				Pipeline: n.cfg.Cluster.Pipeline, NodeName: n.cfg.Node, Logger: n.deps.Logger.With("part", "clickhouse"),
				Registerer: n.deps.Registerer, Now: n.deps.Now, Dial: n.deps.ClickHouseDial,
			})
		}
		if err := sink.EnsureSchema(ctx); err != nil {
			return nil, err
		}
		return sink, nil
	}
}

func (n *Node) openDeadLetters(ctx context.Context) (sinks.Sink, error) {
	return deadletter.Open(ctx, deadletter.Options{
		Kafka: n.kafka.Options(), Topic: n.cfg.Kafka.Topic, DLQ: n.cfg.Kafka.DLQ,
		Originals: func(uint32) sinks.EventSource { return n.refetch },
		Logger:    n.deps.Logger.With("part", "deadletter"), Registerer: latestRegisterer{n.deps.Registerer}, Now: n.deps.Now,
	})
}

// latestRegisterer lets a sink that is opened again, because the first attempt failed half way, register its metrics
// again: the latest collector counts.
type latestRegisterer struct{ prometheus.Registerer }

// Register implements prometheus.Registerer.
func (r latestRegisterer) Register(c prometheus.Collector) error {
	err := r.Registerer.Register(c)
	if twice, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		r.Unregister(twice.ExistingCollector)
		err = r.Registerer.Register(c)
	}
	return err
}

// MustRegister implements prometheus.Registerer.
func (r latestRegisterer) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}
