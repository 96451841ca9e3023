package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/node/status"
)

const (
	budgetEvery = 2 * time.Second
	// A pause begins at the budget and ends below this share of it, so that it does not begin and end all the time.
	resumeShare = 0.95
	// Sessions that have changed since the last cut stay in memory over the budget. A shard makes a cut early at half
	// as much again; intake pauses where cuts cannot keep up.
	memoryPause, memoryResume = 2.0, 1.5
)

// budget watches how much disk and memory the whole node uses, and says when intake must pause for it.
type budget struct {
	fs      vfs.FS
	dir     string // the data folder
	log     *slog.Logger
	metrics *metrics

	limit        int64        // bytes of the data folder; 0: no budget
	sessionLimit int64        // bytes of sessions in memory
	sessions     func() int64 // bytes of sessions in memory now
	reason       atomic.Pointer[string]
}

func (b *budget) paused() string {
	if r := b.reason.Load(); r != nil {
		return *r
	}
	return ""
}

func (b *budget) run(ctx context.Context) {
	for {
		r := b.judge()
		if before := b.paused(); status.PauseReason(before) != status.PauseReason(r) {
			b.log.Warn("budget", "paused", r, "before", before)
		}
		b.reason.Store(&r)
		if !wait(ctx, budgetEvery) {
			return
		}
	}
}

// judge returns why intake must pause, "" if it need not.
func (b *budget) judge() string {
	share := func(kind string, pause, resume float64) float64 {
		if status.PauseReason(b.paused()) == kind {
			return resume
		}
		return pause
	}
	used := folderBytes(b.fs, b.dir)
	b.metrics.diskBytes.Set(float64(used))
	if b.limit > 0 && float64(used) > float64(b.limit)*share(status.PauseDisk, 1, resumeShare) {
		return fmt.Sprintf("%s: the data folder holds %d MiB, its budget is %d MiB (limits.disk_bytes)",
			status.PauseDisk, used>>20, b.limit>>20)
	}
	if du, err := b.fs.GetDiskUsage(b.dir); err == nil {
		b.metrics.freeBytes.Set(float64(du.AvailBytes))
		low := float64(min(1<<30, du.TotalBytes/20))
		if float64(du.AvailBytes) < low*share(status.PauseFree, 1, 1/resumeShare) {
			return fmt.Sprintf("%s: %d MiB are free on the data folder's file system",
				status.PauseFree, du.AvailBytes>>20)
		}
	}
	memory := b.sessions()
	if limit := b.sessionLimit; float64(memory) > float64(limit)*share(status.PauseMemory, memoryPause, memoryResume) {
		return fmt.Sprintf("%s: sessions take %d MiB, their budget is %d MiB (limits.session_memory_bytes)",
			status.PauseMemory, memory>>20, limit>>20)
	}
	return ""
}

// folderBytes adds up the sizes of the files below dir. Files that vanish meanwhile do not count.
func folderBytes(fs vfs.FS, dir string) int64 {
	names, err := fs.List(dir)
	if err != nil {
		return 0
	}
	var sum int64
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		info, err := fs.Stat(path)
		switch {
		case errors.Is(err, os.ErrNotExist) || err != nil:
		case info.IsDir():
			sum += folderBytes(fs, path)
		default:
			sum += info.Size()
		}
	}
	return sum
}

// wait waits for d, and says whether ctx goes on.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
