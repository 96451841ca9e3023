package deltalog

import (
	"fmt"
	"testing"

	"deckle/sinks/delta/store/storetest"
)

// A hint at a checkpoint that another tool made in several parts, or that is gone, does not keep this one from making
// its own.
func TestForeignHint(t *testing.T) {
	for _, hint := range []string{
		`{"version":%d,"size":3,"parts":2}`, // a multi-part one
		`{"version":%d,"size":3}`,           // gone, or a V2 one under another name
	} {
		for _, at := range []int64{5, 10, 12} { // before, at and after the version of the next own checkpoint
			t.Run(fmt.Sprintf(hint, at), func(t *testing.T) {
				mem := storetest.NewMem(nil)
				opts := writerOptions(mem)
				opts.Metrics = NewMetrics(nil)
				l := open(t, opts)
				commit := func(to int64) {
					for v := snapshot(l).Version + 1; v <= to; v++ {
						submit(t, l, &Change{AppID: "x", Version: v, Last: true, Adds: []Add{add(fmt.Sprintf("f%d", v), Origin{})}})
					}
					l.keeper.wait.Wait()
				}
				commit(9)
				mem.Overwrite("t/_delta_log/_last_checkpoint", fmt.Appendf(nil, hint, at))
				commit(10)
				if keys := mem.Keys("t/_delta_log/00000000000000000010.checkpoint"); len(keys) != 1 {
					t.Fatal("no checkpoint of version 10")
				}
				commit(20) // builds on it
				if keys := mem.Keys("t/_delta_log/00000000000000000020.checkpoint"); len(keys) != 1 {
					t.Fatal("no checkpoint of version 20")
				}
				if s := snapshot(open(t, writerOptions(mem))); s.Checkpoint != 20 || len(s.Files) != 20 {
					t.Fatalf("checkpoint %d, %d files", s.Checkpoint, len(s.Files))
				}
			})
		}
	}
}
