package shard

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/raftstore"
	"deckle/state"
)

// WantedSinks are the sinks that the configuration asks for, ascending.
func WantedSinks(cfg *config.Config) []state.SinkID {
	var ids []state.SinkID
	for id := range state.NumSinks {
		wanted := true
		switch id.Spec().Destination {
		case state.ToDelta:
			wanted = cfg.Delta != nil && (id != state.SinkEvents || cfg.Delta.Events == nil || *cfg.Delta.Events)
		case state.ToClickHouse:
			wanted = cfg.ClickHouse != nil
		}
		if wanted {
			ids = append(ids, id)
		}
	}
	return ids
}

// ErrNotFounded says that a shard is not created before somebody has acted: what it is to write to refuses the node.
var ErrNotFounded = errors.New("the cluster is not founded")

// configure makes sure that the shard has been created, and created as this node is configured.
func (l *leadership) configure(ctx context.Context) error {
	if view := l.store.View(); view.Configured {
		return l.checkConfig(&view.Config)
	}
	l.cond.setWaiting("waiting for the topic, to create the shard")
	wait, again := newBackoff(200*time.Millisecond, 10*time.Second), newBackoff(againFirst, againMost)
	for {
		cfg, err := l.newConfig(ctx)
		if err == nil {
			l.cond.setFailing("source", nil)
			l.cond.keep(condition.ShardStopped, l.cond.subject(), "")
			l.log.Info("creating the shard", "topic", cfg.Topic, "partitions", cfg.Partitions, "starts", cfg.Starts)
			if _, err := l.group.Propose(state.EncodeConfig(*cfg)).Wait(ctx); err != nil {
				return err
			}
			l.founded = true
			view := l.store.View()
			return l.checkConfig(&view.Config)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// Nothing exists yet: what was refused may be put right at any time.
		if kafka.Refused(err) || errors.Is(err, ErrNotFounded) {
			l.cond.setFailing("source", nil)
			l.cond.keep(condition.ShardStopped, l.cond.subject(), err.Error())
			if err := sleep(ctx, again.NextBackOff()); err != nil {
				return err
			}
			continue
		}
		l.cond.setFailing("source", err)
		l.log.Debug("the shard cannot be created yet", "error", err)
		if err := sleep(ctx, wait.NextBackOff()); err != nil {
			return err
		}
	}
}

// newConfig asks Kafka for what a new shard needs to know.
func (l *leadership) newConfig(ctx context.Context) (*state.Config, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cfg := l.Config
	info, err := l.Kafka.Describe(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := l.Kafka.CheckNew(ctx, cfg); err != nil {
		return nil, err
	}
	if l.Founding != nil {
		if err := l.Founding(ctx); err != nil {
			return nil, err
		}
	}
	c := &state.Config{
		ClusterID: l.ClusterID, Pipeline: cfg.Cluster.Pipeline, Shard: l.id, Shards: uint32(cfg.Cluster.Shards),
		Topic: cfg.Kafka.Topic, TopicID: info.ID, Sinks: WantedSinks(cfg),
		IdleTimeout: cfg.Session.IdleTimeout, Grace: cfg.Session.Grace, Retention: cfg.Session.Retention,
		MaxTimers: 5000,
	}
	for p := int(l.id); p < info.Partitions; p += cfg.Cluster.Shards {
		c.Partitions = append(c.Partitions, int32(p))
	}
	if c.Starts, err = l.Kafka.Starts(ctx, cfg.Kafka.Start == "latest", c.Partitions); err != nil {
		return nil, err
	}
	return c, nil
}

// Fixed are the values of a configuration that a shard keeps from its creation on.
func Fixed(cfg *config.Config) []raftstore.Setting {
	return settings(cfg.Cluster.Pipeline, cfg.Cluster.Shards, cfg.Kafka.Topic, &cfg.Session, WantedSinks(cfg))
}

// Founded are the same values as a shard was created with.
func Founded(c *state.Config) []raftstore.Setting {
	return settings(c.Pipeline, int(c.Shards), c.Topic, &config.Session{IdleTimeout: c.IdleTimeout, Grace: c.Grace,
		Retention: c.Retention}, c.Sinks)
}

func settings(pipeline string, shards int, topic string, s *config.Session, sinks []state.SinkID) []raftstore.Setting {
	return []raftstore.Setting{
		{Key: "cluster.pipeline", Value: pipeline}, {Key: "cluster.shards", Value: strconv.Itoa(shards)},
		{Key: "kafka.topic", Value: topic}, {Key: "session.idle_timeout", Value: s.IdleTimeout.String()},
		{Key: "session.grace", Value: s.Grace.String()}, {Key: "session.retention", Value: s.Retention.String()},
		{Key: "the sinks (delta, delta.events, clickhouse)", Value: fmt.Sprint(sinks)},
	}
}

// checkConfig compares what is fixed at creation with what this node is configured for.
func (l *leadership) checkConfig(c *state.Config) error {
	if text := raftstore.Differ(Fixed(l.Config), Founded(c), "in the shard"); text != "" {
		return stopf("%s: these were fixed when the shard was created. Set them back, or start a new cluster in an "+
			"empty folder", text)
	}
	if c.ClusterID != l.ClusterID {
		return stopf("the shard belongs to cluster %s, this node to %s", c.ClusterID, l.ClusterID)
	}
	return nil
}
