package shard

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/tap"
	"deckle/sinks"
	"deckle/state"
)

// Env is what the shards of a node share: everything that a shard needs of its node. It is never changed once the first
// shard runs.
type Env struct {
	Config *config.Config // complete, as of the node's start
	// Live returns the configuration of the moment, in which the keys may differ that a running node takes over; nil:
	// it is Config.
	Live      func() *config.Config
	ClusterID string
	Now       func() time.Time // carries a monotonic reading, or never goes back
	Kafka     *kafka.Client
	Watch     *kafka.Watch
	Sinks     Sinks
	Metrics   *Metrics
	Keys      Keys // with which rules hash
	// Conditions is the node's list of what is not as it should be.
	Conditions *condition.Registry
	// Written adds up what the shards write to their sinks.
	Written *Tally
	// Paused says why intake must rest on the whole node, "" if it need not; see status.Shard.Paused.
	Paused func() string
	// Near says what of the node's disk and memory budgets is nearly used up, "" if nothing is: partitions that run
	// ahead of their shard's clock wait then. It begins before Paused does.
	Near func() string
	// Founding says why a new cluster must not be founded yet, with an error that wraps ErrNotFounded, or that it could
	// not be found out; nil: it may always be.
	Founding func(context.Context) error
	// Created is how many partitions the topic had when the cluster was created, 0 while that is not known.
	Created func() int
	// Renewed returns a channel that is closed when a file of the configuration (a password, a certificate, a CA) has
	// come into use with another content, for the first time after the call; nil: no file changes.
	Renewed func() <-chan struct{}
	// Elsewhere says whether another shard than the given one has a live session with the id, by the replicas of this
	// node.
	Elsewhere func(shard uint32, id string) bool
	// Turns are those of the node; nil: there are no Delta tables, and each node cuts in its own part of the interval.
	Turns *Turns
	// ClickHouse is the gate of plans to ClickHouse; nil: all are written at once.
	ClickHouse *Gate
	// Tap is where people look at what passes; nil: nobody does.
	Tap *tap.Board
	// Tracer takes the trace of each plan; nil: there are none.
	Tracer trace.Tracer
	// Background runs work that may end after the leadership that began it. The node waits for it before it closes the
	// sinks and the state.
	Background func(work func())
}

// present is the configuration of the moment. What it returns is never changed.
func (e *Env) present() *config.Config {
	if e.Live == nil {
		return e.Config
	}
	return e.Live()
}

// Sinks opens the node's sinks, which all shards share.
type Sinks interface {
	// Get returns the sink, opening it if nobody has. After a *sinks.StopError, as after any error, the next call tries
	// again.
	Get(ctx context.Context, id state.SinkID) (sinks.Sink, error)
	// Events returns the sink of raw events if it is open and takes them while they arrive, else nil. It does not wait.
	Events() sinks.EventsSink
	// AwaitEvents waits a moment for the first attempt to open the sink of raw events, whatever comes of it.
	AwaitEvents(ctx context.Context)
}
