package node

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/sim/testworld/objects"
)

// bucketless is a store whose bucket does not exist until somebody makes it.
type bucketless struct {
	*objects.Mem
	made atomic.Bool
}

func (s *bucketless) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if !s.made.Load() {
		return minio.ErrorResponse{Code: "NoSuchBucket", Message: "The specified bucket does not exist"}
	}
	return s.Mem.PutIfAbsent(ctx, key, data)
}

// TestNotFounded: a cluster whose bucket refuses the node is not founded, says why and what to do, and is founded once
// the bucket is there, without a restart, with nothing left of the looks at it; --force founds it at once.
func TestNotFounded(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T, force bool) (*bucketless, *Node) {
		st := &bucketless{Mem: objects.NewMem(nil)}
		c := newCluster(t, nodetest.NewBroker(t, 1), 1, func(cfg *config.Config) {
			cfg.Delta, cfg.ClickHouse = &config.Delta{RevisionInterval: time.Second, Path: "delta"}, nil
		})
		c.adapt = func(d *Deps) { d.openSink, d.DeltaStore, d.Force = nil, st, force }
		return st, c.start(0)
	}
	stopped := func(n *Node) string {
		for _, s := range n.Status().Shards {
			return s.Stopped["shard"]
		}
		return ""
	}
	created := func(n *Node) bool {
		store := n.Store(0)
		return store != nil && store.View().Configured
	}
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		st, n := open(t, false)
		nodetest.Until(t, "stopped", func() bool { return stopped(n) != "" })
		for _, want := range []string{"not founded", "delta.path", "does not exist", "create the bucket", "--force"} {
			if text := stopped(n); !strings.Contains(text, want) {
				t.Errorf("%q is not in %q", want, text)
			}
		}
		if created(n) || n.Status().Ready {
			t.Error("the cluster was founded although its bucket refuses it")
		}
		st.made.Store(true)
		nodetest.Until(t, "founded", func() bool { return created(n) && stopped(n) == "" && n.Status().Ready })
		for _, key := range st.Keys("deckle-probe") {
			t.Errorf("%s is left", key)
		}
	})
	t.Run("forced", func(t *testing.T) {
		t.Parallel()
		_, n := open(t, true)
		nodetest.Until(t, "founded", func() bool { return created(n) })
	})
}
