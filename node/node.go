package node

import (
	"context"
	"errors"

	"deckle/state"
)

// Node is one running member of a cluster.
type Node struct {
	cfg  *Config
	deps Deps
}

// Open opens the disk, joins or forms the cluster and starts everything in the background; it does not wait for a
// leader. cfg must be complete (Load or Complete).
func Open(ctx context.Context, cfg *Config, deps Deps) (*Node, error) {
	return nil, errors.New("node: not there yet")
}

// Wait returns after Close with nil, or with the error that should end the process.
func (n *Node) Wait() error { return nil }

// Close stops intake, hands leadership over and closes, until ctx ends at the latest.
func (n *Node) Close(ctx context.Context) error { return nil }

// Status tells where the node stands. It is cheap enough to be asked every second.
func (n *Node) Status() Status { return Status{} }

// Store returns the local replica of a shard, nil before its group runs.
func (n *Node) Store(shard uint32) *state.Store { return nil }
