package kafka

import (
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/node/nodetest"
)

// A partition whose commit is refused holds back the offset of no other.
func TestRefusedCommitHoldsBackNobody(t *testing.T) {
	b := nodetest.NewBroker(t, 3)
	c, ctx := clientOf(b), nodetest.Context(t)
	f := b.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Topic: nodetest.Topic, Partitions: []int32{1},
		Err: kerr.OffsetMetadataTooLarge, Count: -1})
	defer f.Remove()
	for i := range int64(2) {
		err := c.CommitOffsets(ctx, "lag", map[int32]int64{0: 10 + i, 1: 20 + i, 2: 30 + i})
		if !errors.Is(err, kerr.OffsetMetadataTooLarge) || !strings.Contains(err.Error(), "/1 ") ||
			strings.Contains(err.Error(), "/0 ") {
			t.Fatalf("the refused partition is not named, or another is: %v", err)
		}
		got, err := b.Adm.FetchOffsets(ctx, "lag")
		if err != nil {
			t.Fatal(err)
		}
		for p, want := range map[int32]int64{0: 10 + i, 2: 30 + i} {
			if o, ok := got.Lookup(nodetest.Topic, p); !ok || o.At != want {
				t.Errorf("partition %d is at %v, want %d", p, o.At, want)
			}
		}
		if o, ok := got.Lookup(nodetest.Topic, 1); ok && o.At >= 0 {
			t.Errorf("the refused partition is at %d", o.At)
		}
	}
}

// A refusal for want of a right says of which group.
func TestCommitWithoutRight(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	f := b.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.GroupAuthorizationFailed,
		Count: -1})
	defer f.Remove()
	err := clientOf(b).CommitOffsets(nodetest.Context(t), "lag", map[int32]int64{0: 1})
	if err == nil || !strings.Contains(err.Error(), `Read on group "lag"`) {
		t.Fatalf("%v", err)
	}
}
