package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/node/condition"
	"deckle/node/status"
)

const (
	budgetEvery = 2 * time.Second
	// A pause begins at the budget and ends below this share of it, so that it does not begin and end all the time; so
	// does what is near to a pause.
	resumeShare = 0.95
	// Sessions that have changed since the last cut stay in memory over the budget. A shard makes a cut early at half
	// as much again; intake pauses where cuts cannot keep up.
	memoryPause, memoryResume = 2.0, 1.5
)

// budget watches how much disk and memory the whole node uses, and says when intake must pause for it.
type budget struct {
	fs      vfs.FS
	dir     string // the data folder
	metrics *metrics
	list    *condition.Registry
	reserve *reserve

	limit        func() int64 // bytes of the data folder, as of the moment; 0: no budget
	sessionLimit int64        // bytes of sessions in memory
	sessions     func() int64 // bytes of sessions in memory now
	judged       atomic.Pointer[verdict]
}

// verdict is what one look at the budgets has shown.
type verdict struct {
	pause        string // why intake must rest, "" if it need not
	disk, memory string // what is near to a pause
	usage        usage
}

func (b *budget) last() verdict {
	if v := b.judged.Load(); v != nil {
		return *v
	}
	return verdict{}
}

// paused says why intake must rest on the whole node, "" if it need not.
func (b *budget) paused() string {
	// Over its budget a shard lets the state forget, which makes room on a full disk, too.
	if why := b.last().pause; status.PauseReason(why) == status.PauseDisk {
		return why
	}
	if why := b.reserve.full(); why != "" {
		return status.PauseFull + ": " + why
	}
	return b.last().pause
}

// cramped says why nothing may begin that needs room for scratch files, "" if it may: what room there is, and what is
// given up for it, is for the log.
func (b *budget) cramped() string {
	if why := b.paused(); status.PauseReason(why) == status.PauseFree {
		return why
	}
	return b.reserve.full()
}

// near says what is nearly used up, "" if nothing is.
func (b *budget) near() string {
	v := b.last()
	return cmp.Or(v.disk, v.memory)
}

func (b *budget) run(ctx context.Context) {
	for {
		b.judge()
		if !wait(ctx, budgetEvery) {
			return
		}
	}
}

// judge decides whether intake must pause, and shows what is near to a pause.
func (b *budget) judge() {
	before := b.last()
	share := func(kind string, pause, resume float64) float64 {
		if status.PauseReason(before.pause) == kind {
			return resume
		}
		return pause
	}
	near := func(text string) float64 {
		if text != "" {
			return condition.BudgetShare * resumeShare
		}
		return condition.BudgetShare
	}
	limit := b.limit()
	pause, disk, memory := "", "", ""
	b.reserve.keep()
	b.metrics.reserveBytes.Set(float64(b.reserve.held.Load()))
	used := folderBytes(b.fs, b.dir) - b.reserve.held.Load()
	b.metrics.diskBytes.Set(float64(used))
	free := int64(-1)
	text := fmt.Sprintf("the data folder holds %d MiB, its budget is %d MiB (limits.disk_bytes)", used>>20, limit>>20)
	if limit > 0 && float64(used) > float64(limit)*near(before.disk) {
		disk = text
	}
	if limit > 0 && float64(used) > float64(limit)*share(status.PauseDisk, 1, resumeShare) {
		pause = status.PauseDisk + ": " + text
	}
	if du, err := b.fs.GetDiskUsage(b.dir); err == nil {
		b.metrics.freeBytes.Set(float64(du.AvailBytes))
		free = int64(du.AvailBytes)
		low := float64(min(1<<30, du.TotalBytes/20))
		text := fmt.Sprintf("%d MiB are free on the data folder's file system", du.AvailBytes>>20)
		if disk == "" && float64(du.AvailBytes) < low/near(before.disk) {
			disk = fmt.Sprintf("%s, intake pauses at %d MiB", text, int64(low)>>20)
		}
		if pause == "" && float64(du.AvailBytes) < low*share(status.PauseFree, 1, 1/resumeShare) {
			pause = status.PauseFree + ": " + text
		}
	}
	sum := b.sessions()
	text = fmt.Sprintf("sessions take %d MiB, their budget is %d MiB (limits.session_memory_bytes)", sum>>20,
		b.sessionLimit>>20)
	if pause == "" && float64(sum) > float64(b.sessionLimit)*share(status.PauseMemory, memoryPause, memoryResume) {
		pause = status.PauseMemory + ": " + text
	}
	if status.PauseReason(pause) == status.PauseMemory ||
		float64(sum) > float64(b.sessionLimit)*memoryPause*near(before.memory) {
		memory = fmt.Sprintf("%s, intake pauses at %.0f times that", text, memoryPause)
	}
	b.list.Keep(condition.DiskFull, subjectNode, b.reserve.full())
	b.list.Keep(condition.DiskHigh, subjectNode, disk)
	b.list.Keep(condition.MemoryHigh, subjectNode, memory)
	u := usage{disk: status.Fill{Used: used, Limit: limit}, free: free, memory: processBytes(), files: openFilesNow(),
		sessions: status.Fill{Used: sum, Limit: b.sessionLimit}}
	b.judged.Store(&verdict{pause, disk, memory, u})
}

// sessionMemory adds up what the sessions of all shards take in memory.
func (n *Node) sessionMemory() int64 {
	var sum int64
	for _, s := range n.shardList() {
		sum += s.Store().Peek().MemoryBytes
	}
	return sum
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
