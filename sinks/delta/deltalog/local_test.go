package deltalog

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"deckle/sinks/delta/store"
)

// On the local store a commit can be read before its name is durable: when the sync of the folder has failed, or when
// its writer is slow or has died between the link and the sync. A writer that reads such a commit must sync the folder
// before it takes the commit for done.
func TestCommitReadIsDurable(t *testing.T) {
	ctx := context.Background()
	errSync := errors.New("injected")
	change := func() *Change {
		return &Change{Parts: []Part{{AppID: "x", Version: 1}}, Last: true, Adds: []Add{add("f", Origin{})}}
	}
	for name, tc := range map[string]func(t *testing.T, first, second func() *Log, failing *atomic.Int64){
		"own, after a failed sync": func(t *testing.T, first, _ func() *Log, failing *atomic.Int64) {
			l := first()
			failing.Store(1)
			submit(t, l, change())
			if failing.Load() != 0 {
				t.Error("no sync failed")
			}
		},
		"another's, at open": func(t *testing.T, first, second func() *Log, failing *atomic.Int64) {
			l := first()
			failing.Store(1 << 30)
			if err := l.Submit(ctx, change()); err == nil {
				t.Error("acknowledged without a sync")
			}
			submit(t, second(), change())
		},
		"another's, at refresh": func(t *testing.T, first, second func() *Log, failing *atomic.Int64) {
			l, other := first(), second()
			failing.Store(1 << 30)
			if err := l.Submit(ctx, change()); err == nil {
				t.Error("acknowledged without a sync")
			}
			if err := other.Refresh(ctx); err != nil {
				t.Fatal(err)
			}
			submit(t, other, change())
		},
		"own, after many failed syncs": func(t *testing.T, first, _ func() *Log, failing *atomic.Int64) {
			l := first()
			failing.Store(1 << 30)
			if err := l.Submit(ctx, change()); err == nil {
				t.Error("acknowledged without a sync")
			}
			if err := l.Refresh(ctx); err == nil || l.snap.txn("x") == 1 {
				t.Errorf("a commit was taken for done without a sync: %v", err)
			}
			failing.Store(0)
			submit(t, l, change())
		},
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			var failing atomic.Int64 // how many syncs of the log folder fail from now on
			bad := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == errorfs.OpFileSync && strings.HasSuffix(op.Path, "_delta_log") ||
					op.Kind == errorfs.OpOpenDir && strings.HasSuffix(op.Path, "_delta_log") {
					if n := failing.Load(); n > 0 {
						failing.Store(n - 1)
						return errSync
					}
				}
				return nil
			}))
			on := func(fs vfs.FS, owner string) func() *Log {
				return func() *Log {
					opts := writerOptions(nil)
					opts.Store = store.NewLocal(fs, "root", owner)
					return open(t, opts)
				}
			}
			tc(t, on(bad, "p1"), on(mem, "p2"), &failing)
			after := writerOptions(nil)
			after.Store = store.NewLocal(mem.CrashClone(vfs.CrashCloneCfg{}), "root", "p3")
			if s := open(t, after).snap; s.txn("x") != 1 || s.File("f") == nil {
				t.Fatalf("an acknowledged commit is lost: version %d", s.Version)
			}
		})
	}
}
