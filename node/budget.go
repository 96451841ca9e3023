package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/node/status"
	"deckle/state"
)

const (
	budgetEvery = 2 * time.Second
	// Pausing begins at the budget and ends below this share of it, so that it does not flutter.
	resumeShare = 0.95
	// Sessions that have changed since the last cut stay in memory over the budget. A shard makes a cut early at half as
	// much again (holdsTooMuch); intake pauses where cuts cannot keep up.
	memoryPause, memoryResume = 2.0, 1.5
	forceEvery                = 10 * time.Second
)

// budget watches what the whole node may use of disk and memory.
type budget struct {
	n      *Node
	limit  int64        // bytes of the data folder
	memory func() int64 // bytes of sessions in memory
	reason atomic.Pointer[string]
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
			b.n.deps.Logger.Warn("budget", "paused", r, "before", before)
		}
		b.reason.Store(&r)
		if sleep(ctx, budgetEvery) != nil {
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
	used := folderBytes(b.n.deps.FS, b.n.cfg.DataDir)
	b.n.metrics.diskBytes.Set(float64(used))
	if b.limit > 0 && float64(used) > float64(b.limit)*share(status.PauseDisk, 1, resumeShare) {
		return fmt.Sprintf("%s: the data folder holds %d MiB, its budget is %d MiB (limits.disk_bytes)", status.PauseDisk, used>>20, b.limit>>20)
	}
	if du, err := b.n.deps.FS.GetDiskUsage(b.n.cfg.DataDir); err == nil {
		b.n.metrics.freeBytes.Set(float64(du.AvailBytes))
		if low := float64(min(1<<30, du.TotalBytes/20)); float64(du.AvailBytes) < low*share(status.PauseFree, 1, 1/resumeShare) {
			return fmt.Sprintf("%s: %d MiB are free on the data folder's file system", status.PauseFree, du.AvailBytes>>20)
		}
	}
	memory := b.memory()
	if limit := b.n.cfg.Limits.SessionMemoryBytes; float64(memory) > float64(limit)*share(status.PauseMemory, memoryPause, memoryResume) {
		return fmt.Sprintf("%s: sessions take %d MiB, their budget is %d MiB (limits.session_memory_bytes)", status.PauseMemory, memory>>20, limit>>20)
	}
	return ""
}

// sessionMemory adds up what the sessions of all shards take in memory.
func (n *Node) sessionMemory() int64 {
	var sum int64
	for _, s := range n.shardList() {
		sum += s.store.Peek().MemoryBytes
	}
	return sum
}

// folderBytes adds up the files below dir. Files that vanish meanwhile count nothing.
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

// judgePause decides whether intake rests, and under disk pressure lets the state forget earlier.
func (in *intake) judgePause(view *state.View) {
	why := in.n.budget.paused()
	if status.PauseReason(why) == status.PauseDisk {
		in.forceHorizon(view)
	}
	if limit := in.n.cfg.Limits.UnflushedEpochs; why == "" && limit > 0 {
		for _, id := range view.Config.Sinks {
			if id == state.SinkRevisions {
				continue // trails by a pass, by design
			}
			if behind := int64(view.LastClosed) - int64(view.Sinks[id].Acked); behind > int64(limit) {
				why = fmt.Sprintf("%s: sink %s is %d epochs behind, %d are allowed (limits.unflushed_epochs)", status.PauseEpochs, id, behind, limit)
				break
			}
		}
	}
	if status.PauseReason(why) != status.PauseReason(in.pausedFor) {
		if why != "" {
			in.log.Warn("intake pauses", "reason", why)
		} else {
			in.log.Info("intake resumes", "paused_for", in.pausedFor)
		}
	}
	in.pausedFor = why
}

// holdsTooMuch says that the sessions that have changed since the last cut, which stay in memory until the next one, are too
// many for the budget: the cut is due then, whatever the flush interval, and no timer fires until it has let them go. After
// hours without a leader all timers come due at once, and each brings its session to memory.
func (in *intake) holdsTooMuch(view *state.View) bool {
	share := float64(in.n.cfg.Limits.SessionMemoryBytes) / float64(max(in.n.cfg.Cluster.Shards, 1))
	return view.OpenSessions > 0 && float64(view.MemoryBytes) > share*memoryResume
}

// forceHorizon makes the state forget closed sessions earlier, by an eighth of the retention at a time, where every sink
// has them: otherwise it would free nothing. Where there is nothing more to forget it repeats itself: each such entry makes a
// checkpoint, with the deletions that wait for one, and Pebble gives room back only after some of them, when it compacts.
// Nothing else would come while intake rests.
func (in *intake) forceHorizon(view *state.View) {
	now := in.n.deps.Now()
	limit := view.Clock - int64((in.cfg.IdleTimeout+in.cfg.Grace)/time.Second)
	behind := slices.ContainsFunc(view.Config.Sinks, func(id state.SinkID) bool { return view.Sinks[id].Acked+1 < view.LastClosed })
	if view.Clock == 0 || behind || now.Sub(in.forced) < forceEvery || in.inFlight > in.limit() {
		return
	}
	in.forced = now
	to := max(view.Horizon, min(limit, view.Horizon+max(int64(in.cfg.Retention/time.Second)/8, 1)))
	if to > view.Horizon {
		in.log.Warn("disk pressure: the horizon is forced up", "from", view.Horizon, "to", to)
		in.n.metrics.horizonForced.WithLabelValues(in.label()).Inc()
	}
	in.dirty = true
	in.send(entryHorizon, nil, state.EncodeHorizon(to), now)
}
