package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/sinks"
	"deckle/state"
)

// leader is one leadership of a shard.
type leader struct {
	*shard
	log      *slog.Logger
	halt     context.CancelCauseFunc // ends this leadership; a *stopError stops the shard
	pipe     *pipeline
	flushers []*flusher

	// sealed is the last closed epoch that the intake knows of, whose buffer is sealed and whose arrivals are noted: the
	// flushers go no further, although the state may be.
	sealed atomic.Uint64

	// buf holds the events of the open epoch; bufWhole says that it has seen all of them. Of the intake goroutine.
	buf      sinks.EventsBuffer
	bufWhole bool
	// behind says that this leadership has not yet read what had gathered before it. Of the intake goroutine.
	behind bool

	mu      sync.Mutex
	sinkTo  map[state.SinkID]map[int32]int64 // the offsets that each sink has reached
	offsets chan map[int32]int64             // for Kafka's group; the latest wins
}

// kick lets every flusher look whether there is something to do.
func (l *leader) kick() {
	for _, f := range l.flushers {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

func (l *leader) discard() {
	if l.buf != nil {
		l.buf.Discard()
	}
}

// wantedSinks are the sinks that the configuration asks for, ascending.
func wantedSinks(cfg *config.Config) []state.SinkID {
	var ids []state.SinkID
	if d := cfg.Delta; d != nil {
		if d.Events == nil || *d.Events {
			ids = append(ids, state.SinkEvents)
		}
		ids = append(ids, state.SinkSessions, state.SinkRevisions)
	}
	if cfg.ClickHouse != nil {
		ids = append(ids, state.SinkClickHouse)
	}
	return append(ids, state.SinkDeadLetter)
}

// configure makes sure that the shard has been created, and created as this node is configured.
func (l *leader) configure(ctx context.Context) error {
	if view := l.store.View(); view.Configured {
		return l.checkConfig(&view.Config)
	}
	l.setWaiting("waiting for the topic, to create the shard")
	wait := newBackoff(200*time.Millisecond, 10*time.Second)
	for {
		cfg, err := l.newConfig(ctx)
		if err == nil {
			l.setFailing("source", nil)
			l.log.Info("creating the shard", "topic", cfg.Topic, "partitions", cfg.Partitions, "starts", cfg.Starts)
			if _, err := l.group.Propose(state.EncodeConfig(*cfg)).Wait(ctx); err != nil {
				return err
			}
			view := l.store.View()
			return l.checkConfig(&view.Config)
		}
		if errors.Is(err, kafka.ErrUnkeyed) {
			return stopf("%v", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l.setFailing("source", err)
		l.log.Warn("the shard cannot be created yet", "error", err)
		if err := sleep(ctx, wait.NextBackOff()); err != nil {
			return err
		}
	}
}

// newConfig asks Kafka for what a new shard needs to know.
func (l *leader) newConfig(ctx context.Context) (*state.Config, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	n, cfg := l.n, l.n.cfg
	info, err := n.kafka.Describe(ctx)
	if err != nil {
		return nil, err
	}
	if err := n.kafka.CheckKeys(ctx, cfg.Kafka.Keyed, cfg.Cluster.Shards); err != nil {
		return nil, err
	}
	c := &state.Config{
		ClusterID: n.raft.ClusterID(), Pipeline: cfg.Cluster.Pipeline, Shard: l.id, Shards: uint32(cfg.Cluster.Shards),
		Topic: cfg.Kafka.Topic, TopicID: info.ID, Sinks: wantedSinks(cfg),
		IdleTimeout: cfg.Session.IdleTimeout, Grace: cfg.Session.Grace, Retention: cfg.Session.Retention, MaxTimers: 5000,
	}
	for p := int(l.id); p < info.Partitions; p += cfg.Cluster.Shards {
		c.Partitions = append(c.Partitions, int32(p))
	}
	if c.Starts, err = n.kafka.Starts(ctx, cfg.Kafka.Start == "latest", c.Partitions); err != nil {
		return nil, err
	}
	return c, nil
}

// checkConfig compares what is fixed at creation with what this node is configured for.
func (l *leader) checkConfig(c *state.Config) error {
	cfg := l.n.cfg
	for _, f := range []struct {
		name         string
		fixed, wants any
	}{
		{"cluster.pipeline", c.Pipeline, cfg.Cluster.Pipeline},
		{"cluster.shards", int(c.Shards), cfg.Cluster.Shards},
		{"kafka.topic", c.Topic, cfg.Kafka.Topic},
		{"session.idle_timeout", c.IdleTimeout, cfg.Session.IdleTimeout},
		{"session.grace", c.Grace, cfg.Session.Grace},
		{"session.retention", c.Retention, cfg.Session.Retention},
		{"the sinks", fmt.Sprint(c.Sinks), fmt.Sprint(wantedSinks(cfg))},
	} {
		if f.fixed != f.wants {
			return stopf("%s was fixed at %v when the shard was created, and is configured as %v: set it back, or start a "+
				"new cluster in an empty folder", f.name, f.fixed, f.wants)
		}
	}
	if id := l.n.raft.ClusterID(); c.ClusterID != id {
		return stopf("the shard belongs to cluster %s, this node to %s", c.ClusterID, id)
	}
	return nil
}

// reached notes that a sink has everything below the given offsets, and sends what every sink of the stream has to
// Kafka's group.
func (l *leader) reached(id state.SinkID, p *state.Plan) {
	l.mu.Lock()
	defer l.mu.Unlock()
	to := l.sinkTo[id]
	if to == nil {
		to = map[int32]int64{}
		l.sinkTo[id] = to
	}
	for _, r := range p.Ranges() {
		to[r.Partition] = max(to[r.Partition], r.To)
	}
	all := maps.Clone(to)
	for _, other := range p.Config.Sinks {
		if !slices.Contains(measured, other) {
			continue
		}
		for part, o := range all {
			if min(o, l.sinkTo[other][part]) == 0 {
				delete(all, part)
			} else {
				all[part] = min(o, l.sinkTo[other][part])
			}
		}
	}
	if len(all) == 0 {
		return
	}
	select {
	case <-l.offsets: // an older one that nobody has taken yet
	default:
	}
	l.offsets <- all
}

// commitOffsets writes the group's offsets for lag tools. Nobody reads them back; errors are only logged.
func (l *leader) commitOffsets(ctx context.Context) {
	for {
		select {
		case all := <-l.offsets:
			cctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			err := l.n.kafka.CommitOffsets(cctx, l.n.cfg.Kafka.Group, all)
			cancel()
			if ctx.Err() != nil {
				return
			}
			result := "ok"
			if err != nil {
				result = "error"
				l.log.Warn("group offsets, for lag tools only, were not written", "group", l.n.cfg.Kafka.Group, "error", err)
			}
			l.n.metrics.groupCommits.WithLabelValues(result).Inc()
		case <-ctx.Done():
			return
		}
	}
}
