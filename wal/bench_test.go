package wal

import (
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// BenchmarkStoreLogs appends single entries with real fsyncs. Each group waits for its own entry, and truncates now and
// then as a checkpoint would.
func BenchmarkStoreLogs(b *testing.B) {
	for _, groups := range []int{1, 6} {
		for _, size := range []int{1 << 10, 180 << 10} {
			b.Run(fmt.Sprintf("groups=%d/bytes=%d", groups, size), func(b *testing.B) {
				l := mustOpen(b, vfs.Default, func(o *Options) {
					o.Dir, o.SegmentBytes = b.TempDir(), DefaultSegmentBytes
				})
				data := make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				b.ResetTimer()
				var wg sync.WaitGroup
				for id := range groups {
					wg.Go(func() {
						g := l.Group(uint64(id))
						for i := uint64(1); i <= uint64(b.N/groups+1); i++ {
							if err := g.StoreLog(&raft.Log{Index: i, Term: 1, Data: data}); err != nil {
								b.Error(err)
								return
							}
							if i%1000 == 0 {
								if err := g.DeleteRange(1, i-100); err != nil {
									b.Error(err)
								}
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				s := l.Stats()
				b.ReportMetric(s.EntriesPerFsync, "entries/fsync")
				check(b, l.Close())
			})
		}
	}
}
