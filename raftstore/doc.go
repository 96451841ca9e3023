// Package raftstore replicates the shards' state machines: hashicorp/raft, one group a shard, over one port and one log.
// See docs/design.md §5.
package raftstore
