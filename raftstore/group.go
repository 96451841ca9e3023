package raftstore

import (
	"context"
	"errors"
)

// ErrNotLeader says that an entry was certainly not committed and never will be: this node does not lead the group, or
// refused the entry before it was written.
var ErrNotLeader = errors.New("raftstore: not the leader")

// ErrUncertain says that an entry may or may not have been committed, or may still be.
var ErrUncertain = errors.New("raftstore: outcome uncertain")

// Leadership says whether this node leads a group, and since which term.
type Leadership struct {
	Leader bool
	Term   uint64
}

// Result is what became of a committed entry.
type Result struct {
	Value any // what StateMachine.Apply returned
	Index uint64
	Term  uint64
}

// Group is one shard's Raft group on this node.
type Group struct{}

// Leadership delivers changes of leadership; the latest value wins, and it has one receiver. After ErrNotLeader or
// ErrUncertain the receiver should wait here for its next turn: if the node still leads, a fresh value is delivered.
func (g *Group) Leadership() <-chan Leadership { return nil }

// IsLeader tells whether this node leads the group.
func (g *Group) IsLeader() bool { return false }

// Leader returns the leader's node name, "" if unknown.
func (g *Group) Leader() string { return "" }

// Barrier returns when every entry committed before the call has been applied here. It fails with ErrNotLeader or
// ErrUncertain where this node does not lead.
func (g *Group) Barrier(ctx context.Context) error { return ErrNotLeader }

// Propose enqueues an entry, in order; it does not wait for the commit. The entry must not be changed afterwards.
func (g *Group) Propose(entry []byte) *Future { return nil }

// StateMachine returns the group's state machine.
func (g *Group) StateMachine() StateMachine { return nil }

// TransferLeadership hands the group to the named node, and returns when this node no longer leads.
func (g *Group) TransferLeadership(ctx context.Context, node string) error { return ErrNotLeader }

// Future is an entry on its way.
type Future struct{}

// Wait returns the entry's result, or ErrNotLeader or ErrUncertain (wrapped). Both end the leadership for the caller.
// If ctx ends first, its error is returned along with ErrUncertain.
func (f *Future) Wait(ctx context.Context) (Result, error) { return Result{}, ErrNotLeader }
