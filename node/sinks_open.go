package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/shard"
	"deckle/schema/level"
	"deckle/sinks"
	"deckle/sinks/clickhouse"
	"deckle/sinks/deadletter"
	"deckle/sinks/delta"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
	"deckle/state"
	"deckle/trust"
)

// sinkWiring is what it takes to open the sinks of a node.
type sinkWiring struct {
	cfg       *config.Config
	deps      *Deps
	files     *trust.Files
	clusterID func() string      // known by the time a sink is opened
	level     func() level.Level // at which tables are made that are missing
	offer     delta.Offerer
	offered   func(table string, o deltalog.Outcome)
	kafka     *kafka.Client
	refetch   *kafka.Refetch
	keys      shard.Keys
	// undeliverable takes dead letters that their topic took in no form.
	undeliverable func(text string)
}

// slots says how each configured sink is opened. Nothing is opened here: a sink that is down at the start must not keep
// the others from working. Each opener checks what has to be true before the first write: a store that honours
// conditional puts, tables of this cluster that fit.
func (w *sinkWiring) slots() (sinkSlots, *deltaTables) {
	slots := sinkSlots{}
	tables := &deltaTables{open: w.openDelta, access: semaphore.NewWeighted(1)}
	for _, id := range shard.WantedSinks(w.cfg) {
		slot := newSinkSlot(id, w.deps.Now)
		slot.wrap = w.deps.WrapSink
		switch {
		case w.deps.openSink != nil:
			slot.open = func(context.Context) (sinks.Sink, error) { return w.deps.openSink(w.refetch, id) }
		case id == state.SinkClickHouse:
			slot.open = w.clickHouse()
		case id == state.SinkDeadLetter:
			slot.open = w.openDeadLetters
		default:
			slot.open = func(ctx context.Context) (sinks.Sink, error) { return tables.sink(ctx, id) }
		}
		slots[id] = slot
	}
	return slots, tables
}

// deltaTables opens the Delta tables once for the three sinks on them.
type deltaTables struct {
	open   func(context.Context) (*delta.Delta, error)
	access *semaphore.Weighted // one caller at a time opens; a wait for it ends with its context
	d      *delta.Delta
	opened atomic.Pointer[delta.Delta] // d, for those who do not wait
}

// committer is delta.Delta.Committer, nil while the tables are not open.
func (t *deltaTables) committer(table string) (log *deltalog.Log, partitions []string) {
	if d := t.opened.Load(); d != nil {
		return d.Committer(table)
	}
	return nil, nil
}

func (t *deltaTables) sink(ctx context.Context, id state.SinkID) (sinks.Sink, error) {
	d, err := t.get(ctx)
	if err != nil {
		return nil, err
	}
	switch id {
	case state.SinkEvents:
		return d.Events(), nil
	case state.SinkSessions:
		return d.Sessions(), nil
	case state.SinkRevisions:
		return d.Revisions(), nil
	}
	return nil, fmt.Errorf("node: %s is not a Delta sink", id)
}

// get returns the tables, and opens them if nobody has.
func (t *deltaTables) get(ctx context.Context) (*delta.Delta, error) {
	if err := t.access.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer t.access.Release(1)
	if t.d == nil {
		d, err := t.open(ctx)
		if err != nil {
			return nil, err
		}
		t.d = d
		t.opened.Store(d)
	}
	return t.d, nil
}

// close closes all tables, also those of sinks that were never used.
func (t *deltaTables) close() error {
	_ = t.access.Acquire(context.Background(), 1)
	defer t.access.Release(1)
	if t.d == nil {
		return nil
	}
	t.opened.Store(nil)
	return t.d.Close()
}

func (w *sinkWiring) openDelta(ctx context.Context) (*delta.Delta, error) {
	cfg := w.cfg.Delta
	st, err := w.deltaStore(cfg)
	if err != nil {
		return nil, &sinks.StopError{Err: err, Hint: "correct delta in the configuration"}
	}
	offer := w.offer
	if *cfg.CommitWait == 0 {
		offer = nil
	}
	return delta.Open(ctx, delta.Options{
		Offer: offer, Offered: w.offered,
		Store: st, Level: w.level(), ClusterID: w.clusterID(), Pipeline: w.cfg.Cluster.Pipeline, Node: w.cfg.Node,
		Events:          cfg.Events == nil || *cfg.Events,
		EventSource:     func(uint32) sinks.EventSource { return w.refetch },
		SessionsByBrand: cfg.Sessions.ByBrand(),
		Compression:     cfg.Compression, RevisionFilesPerPass: cfg.RevisionFilesPerPass,
		RevisionInterval: cfg.RevisionInterval,
		DeletionVectors:  cfg.DeletionVectors, VectorsFrom: cfg.DeletionVectorsFromBytes, MostHidden: w.deps.MostHidden,
		CheckpointInterval: cfg.CheckpointInterval, InCommitTimestamps: cfg.InCommitTimestamps,
		BufferMemoryBytes: w.cfg.Limits.BufferMemoryBytes, Now: w.deps.Now,
		Logger:     w.deps.Logger.With("part", "delta"),
		Registerer: latestRegisterer{w.deps.Registerer},
	})
}

func (w *sinkWiring) deltaStore(cfg *config.Delta) (store.Store, error) {
	if w.deps.DeltaStore != nil {
		return w.deps.DeltaStore, nil
	}
	if cfg.S3 == nil {
		if cfg.Path == "" {
			return nil, errors.New("neither delta.path nor delta.s3 is set")
		}
		local := store.NewLocal(w.deps.FS, cfg.Path, w.cfg.Node+"-"+strconv.Itoa(os.Getpid()))
		if cfg.Shared && w.deps.FS == vfs.Default {
			local.Share(os.Chmod)
		}
		return local, nil
	}
	tls, err := client(w.files, "delta.s3.tls", cfg.S3.TLS)
	if err != nil {
		return nil, err
	}
	keys, err := w.s3Keys(cfg.S3)
	if err != nil {
		return nil, err
	}
	opts := store.S3Options{Endpoint: cfg.S3.Endpoint, Bucket: cfg.S3.Bucket, Prefix: cfg.S3.Prefix,
		Region: cfg.S3.Region, TLS: tls, Credentials: keys}
	if opts.SSE, err = encryption(w.files, cfg.S3.SSE); err != nil {
		return nil, err
	}
	return store.NewS3(opts)
}

// s3Keys says where the keys of S3 come from. Those in files are asked for anew with each request.
func (w *sinkWiring) s3Keys(cfg *config.S3) (*credentials.Credentials, error) {
	k := &store.Keys{From: cfg.Credentials, File: cfg.File, Profile: cfg.Profile, STSEndpoint: cfg.STSEndpoint,
		RoleARN: cfg.RoleARN, ExternalID: cfg.ExternalID, TokenFile: cfg.TokenFile, Endpoint: cfg.Endpoint,
		Region: cfg.Region}
	for _, s := range []struct {
		key    string
		secret config.Secret
		to     *func() string
	}{{"access_key", cfg.AccessKey, &k.AccessKey}, {"secret_key", cfg.SecretKey, &k.SecretKey},
		{"session_token", cfg.SessionToken, &k.SessionToken}} {
		if !s.secret.IsSet() {
			continue
		}
		var err error
		if *s.to, err = password(w.files, "delta.s3."+s.key, s.secret); err != nil {
			return nil, err
		}
	}
	return k.Credentials()
}

// encryption is how the store is asked to encrypt. A key of ours is that of the start: what is written under it can be
// read under no other.
func encryption(files *trust.Files, e *config.SSE) (encrypt.ServerSide, error) {
	if e == nil {
		return nil, nil
	}
	var key []byte
	if e.Kind == "c" {
		text, err := password(files, "delta.s3.sse.key", e.Key)
		if err != nil {
			return nil, err
		}
		fixed := config.SSE{Key: config.SecretValue(text())}
		if key, err = fixed.CustomerKey(); err != nil {
			return nil, fmt.Errorf("delta.s3.sse.key: %w", err)
		}
	}
	return store.NewSSE(e.Kind, e.KMSKey, key)
}

// clickHouseOptions say where ClickHouse is, and what this node proves itself with there; wrong is the key of the
// configuration that an error is about.
func (w *sinkWiring) clickHouseOptions() (o clickhouse.Options, wrong string, err error) {
	cfg := w.cfg.ClickHouse
	wrong = "clickhouse.tls"
	tls, err := client(w.files, wrong, cfg.TLS)
	if err != nil {
		return o, wrong, err
	}
	wrong = "clickhouse.password"
	secret, err := password(w.files, wrong, cfg.Password)
	if err != nil {
		return o, wrong, err
	}
	return clickhouse.Options{Address: cfg.Address, Database: cfg.Database, User: cfg.User, Password: secret, TLS: tls,
		Compression: cfg.Compression, ReadTimeout: cfg.ReadTimeout, Dial: w.deps.ClickHouseDial}, "", nil
}

// clickHouse returns the opener of the ClickHouse sink: the sink is made once, and returned only when its schema is
// known to exist.
func (w *sinkWiring) clickHouse() func(context.Context) (sinks.Sink, error) {
	var sink *clickhouse.Sink // sinkSlot.get makes one call at a time
	return func(ctx context.Context) (sinks.Sink, error) {
		if sink == nil {
			o, wrong, err := w.clickHouseOptions()
			if err != nil {
				return nil, &sinks.StopError{Err: err, Hint: "correct " + wrong + " in the configuration"}
			}
			o.Level, o.ClusterID, o.Pipeline, o.NodeName = w.level(), w.clusterID(), w.cfg.Cluster.Pipeline, w.cfg.Node
			o.Logger, o.Registerer, o.Now = w.deps.Logger.With("part", "clickhouse"), w.deps.Registerer, w.deps.Now
			sink = clickhouse.New(o)
		}
		if err := sink.EnsureSchema(ctx); err != nil {
			return nil, err
		}
		return sink, nil
	}
}

func (w *sinkWiring) openDeadLetters(ctx context.Context) (sinks.Sink, error) {
	return deadletter.Open(ctx, deadletter.Options{
		Kafka: w.kafka.Options(), Topic: w.cfg.Kafka.Topic, DLQ: w.cfg.Kafka.DLQ, Retention: w.cfg.Kafka.DLQRetention,
		Originals: func(uint32) sinks.EventSource { return w.refetch }, PrivacyKey: w.keys.Key,
		Undeliverable: w.undeliverable,
		Logger:        w.deps.Logger.With("part", "deadletter"), Registerer: latestRegisterer{w.deps.Registerer},
		Now: w.deps.Now,
	})
}

// latestRegisterer lets a sink register its metrics again when it is opened again after an attempt that failed half
// way: the latest collector replaces the one before.
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
