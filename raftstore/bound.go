package raftstore

import (
	"fmt"
	"sync/atomic"
)

// boundFactor is how often Options.WALBytes the log of a node may be long because of a held group.
const boundFactor = 4

// logBound keeps this node from taking entries for which it has no room: because the disk is full (Options.NoRoom), or
// because a held group would fill it. The log is one per node, and a held group keeps the segments of
// all groups from its marker on. Beyond the bound the node is as if it were away: it takes no entries, for any group,
// and leads none; it answers heartbeats, gives its vote, and has lost nothing that it promised. It catches up once the
// newer binary runs on it.
type logBound struct {
	limit int64        // bytes
	size  func() int64 // of the log, in bytes

	room func() error // why the disk is full, nil if it is not

	held atomic.Pointer[heldShard] // the first group that is held
}

type heldShard struct {
	shard uint32
	hold  *hold
}

// note remembers that a group is held.
func (b *logBound) note(shard uint32, h *hold) { b.held.CompareAndSwap(nil, &heldShard{shard, h}) }

// exceeded returns why no entries are taken, nil if they are. It is cheap while no group is held.
func (b *logBound) exceeded() error {
	if b.room != nil {
		if err := b.room(); err != nil {
			return err
		}
	}
	h := b.held.Load()
	if h == nil {
		return nil
	}
	if n := b.size(); n > b.limit {
		return fmt.Errorf("%w: %d bytes, the bound is %d, because shard %d keeps what it cannot read yet: %w",
			errLogBound, n, b.limit, h.shard, h.hold.err)
	}
	return nil
}
