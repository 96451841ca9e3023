package state

import (
	"context"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A checkpoint for which there is no room waits, and nothing counts as durable; what Apply needs is made all the same.
func TestCheckpointWithoutRoom(t *testing.T) {
	full := errors.New("full for the test")
	var asked []int64
	room := func(bytes int64) error {
		asked = append(asked, bytes)
		return full
	}
	s, err := Open(context.Background(), Options{FS: vfs.NewMem(), Dir: "shard", CheckpointBytes: 8 << 10,
		Room: func(bytes int64) error { return room(bytes) }})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	g := newGenerator(1)
	apply := func(index uint64) {
		entry := EncodeConfig(testConfig())
		if index > 1 {
			entry = g.entry()
		}
		res, err := s.Apply(index, 1, entry)
		must(t, err)
		g.learn(entry, res, s)
	}
	last := uint64(0)
	for last < 1000 && s.View().DirtyBytes == 0 {
		last++
		apply(last)
	}
	before, dirty := s.Durable(), s.View().DirtyBytes
	if err := s.Checkpoint(context.Background()); !errors.Is(err, full) || s.Durable() != before {
		t.Errorf("a checkpoint without room: %v; durable up to %d, then %d", err, before, s.Durable())
	}
	if len(asked) != 1 || asked[0] != dirty || dirty == 0 {
		t.Errorf("asked for %d bytes, %d are dirty", asked, dirty)
	}
	for last < 1000 {
		last++
		apply(last)
	}
	if len(asked) != 1 {
		t.Errorf("Apply has asked for room %d times", len(asked)-1)
	}
	room = func(int64) error { return nil }
	if err := s.Checkpoint(context.Background()); err != nil || s.Durable() != last {
		t.Errorf("with room: %v; durable up to %d of %d", err, s.Durable(), last)
	}
}
