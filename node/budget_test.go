package node

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/node/status"
)

func (c *cluster) memFS() *vfs.MemFS { return c.fs.(*vfs.MemFS) }

func setFree(fs *vfs.MemFS, avail, total uint64) {
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: avail, TotalBytes: total, UsedBytes: total - avail})
}

func writeTestFile(t *testing.T, fs vfs.FS, path string, bytes int) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = f.Write(make([]byte, bytes)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// paused says whether shard 0's intake rests for a kind of reason; "" if it does not rest.
func (c *cluster) paused(kind string) func() bool {
	return func() bool {
		_, n, s := c.leader(0)
		return n != nil && s.State.Configured && status.PauseReason(s.Paused) == kind
	}
}

// pauseAndResume makes intake rest, checks that it takes nothing meanwhile and says so, and that it goes on by itself.
func (c *cluster) pauseAndResume(t *testing.T, kind string, begin, end func()) {
	t.Helper()
	before := c.sum(applied)
	begin()
	nodetest.Until(t, "paused for "+kind, c.paused(kind))
	for i := range 10 {
		c.b.Produce(nodetest.Record(0, "s-"+kind, i))
	}
	// The records are seen and not taken: the lag shows them while intake rests.
	nodetest.Until(t, "lag", lagIs(c, 10))
	if got := c.sum(applied); got != before || !c.paused(kind)() {
		t.Errorf("%s: applied %d, then %d, while paused", kind, before, got)
	}
	if st := c.nodes[0].Status(); !st.Ready || !strings.Contains(strings.Join(st.Reasons, "\n"), "paused: "+kind) {
		t.Errorf("%s: ready %v, reasons %v", kind, st.Ready, st.Reasons)
	}
	end()
	nodetest.Until(t, "resumed after "+kind, func() bool { return c.paused("")() && c.sum(applied) == before+10 })
}

func TestIntakePausesForDiskAndResumes(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	const budget = 64 << 20
	c := newCluster(t, b, 1, func(cfg *config.Config) { cfg.Limits.DiskBytes = budget })
	setFree(c.memFS(), 100<<30, 1<<40)
	c.start(0)
	b.Produce(nodetest.Record(0, "first", 0))
	nodetest.Until(t, "applied", func() bool { return c.sum(applied) == 1 })
	dir := c.nodes[0].cfg.DataDir
	ballast := c.fs.PathJoin(dir, "ballast")
	c.pauseAndResume(t, status.PauseDisk, func() { writeTestFile(t, c.fs, ballast, budget) }, func() {
		if err := c.fs.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	})
	c.pauseAndResume(t, status.PauseFree, func() {
		setFree(c.memFS(), 1<<30-1, 1<<40)
	}, func() { setFree(c.memFS(), 2<<30, 1<<40) })
	c.checkExact(t, 21, 0, 0)
}

// Sessions that have changed since the last cut cannot leave the memory: when they fill it, a cut comes before its
// time.
func TestFullMemoryMakesCuts(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	const limit = 1 << 20
	interval := time.Hour
	c := newCluster(t, b, 1, func(cfg *config.Config) {
		cfg.Limits.SessionMemoryBytes = limit
		cfg.Flush.Interval = interval
	})
	c.start(0)
	epochs := func() uint64 { _, _, s := c.leader(0); return s.State.LastClosed }
	i := 0
	nodetest.Until(t, "two early cuts", func() bool {
		if behind := int64(i) - c.sum(applied); behind < 1000 {
			var rs []*kgo.Record
			for range 1000 { // sessions of one event
				rs = append(rs, nodetest.Record(0, fmt.Sprint("m", i), i))
				i++
			}
			b.Produce(rs...)
		}
		return epochs() >= 2
	})
	nodetest.Until(t, "all is applied", func() bool { return c.sum(applied) == int64(i) })
	nodetest.Until(t, "memory is let go", func() bool {
		_, n, _ := c.leader(0)
		return n != nil && n.sessionMemory() <= limit*memoryResume
	})
	c.stop(0)
	interval = time.Second
	c.start(0) // for the last cut: an hour would be too long to wait
	c.checkExact(t, i, 0, 0)
}

// A pause begins at a limit and ends below it, so that it does not begin and end all the time; so does what is near to
// it, which the shards are told.
func TestBudgetHysteresis(t *testing.T) {
	fs := vfs.NewMem()
	if err := fs.MkdirAll("d", 0o755); err != nil {
		t.Fatal(err)
	}
	m, err := newMetrics(prometheus.NewRegistry(), new(rereadFS))
	if err != nil {
		t.Fatal(err)
	}
	var memory int64
	list := condition.New("a", time.Now, nodetest.Log(t))
	none, _ := openReserve(fs, "d", 0, nodetest.Log(t))
	b := &budget{reserve: none, fs: fs, dir: "d", metrics: m, list: list, limit: func() int64 { return 1000 },
		sessionLimit: 1000,
		sessions: func() int64 {
			return memory
		}}
	for i, step := range []struct {
		used        int
		avail, disk uint64
		memory      int64
		want        string
		near        string // conditions that hold
	}{
		{1000, 2 << 30, 1 << 40, 0, "", "disk"},
		{1001, 2 << 30, 1 << 40, 0, status.PauseDisk, "disk"},
		{1000, 2 << 30, 1 << 40, 0, status.PauseDisk, "disk"},
		{951, 2 << 30, 1 << 40, 0, status.PauseDisk, "disk"},
		{950, 2 << 30, 1 << 40, 0, "", "disk"},
		{1000, 1 << 30, 1 << 40, 0, "", "disk"},
		{1000, 1<<30 - 1, 1 << 40, 0, status.PauseFree, "disk"},
		{1000, 1 << 30, 1 << 40, 0, status.PauseFree, "disk"},
		{1000, 1<<30 + 1<<27, 1 << 40, 0, "", "disk"},
		{1000, 51, 1000, 0, "", "disk"}, // a small disk: a twentieth of it must be free
		{1000, 49, 1000, 0, status.PauseFree, "disk"},
		{1001, 49, 1000, 0, status.PauseDisk, "disk"},
		{761, 2 << 30, 1 << 40, 1600, "", "disk"},
		{760, 2 << 30, 1 << 40, 1600, "", ""},
		{800, 2 << 30, 1 << 40, 1600, "", ""},
		{801, 2 << 30, 1 << 40, 1601, "", "disk memory"},
		{800, 2 << 30, 1 << 40, 1521, "", "disk memory"},
		{0, 1 << 30, 1 << 31, 0, "", ""},
		{0, 2 << 30, 1 << 40, 2000, "", "memory"},
		{0, 2 << 30, 1 << 40, 2001, status.PauseMemory, "memory"},
		{0, 2 << 30, 1 << 40, 1501, status.PauseMemory, "memory"},
		{0, 2 << 30, 1 << 40, 1500, "", ""},
		{0, 2 << 30, 1 << 40, 2000, "", "memory"},
		{1001, 2 << 30, 1 << 40, 2001, status.PauseDisk, "disk memory"},
	} {
		writeTestFile(t, fs, "d/used", step.used)
		setFree(fs, step.avail, step.disk)
		memory = step.memory
		b.judge()
		if why := b.paused(); status.PauseReason(why) != step.want {
			t.Errorf("step %d: %q, want %q", i, why, step.want)
		}
		var ids []string
		for _, c := range list.Snapshot() {
			ids = append(ids, strings.TrimSuffix(string(c.ID), "-high"))
		}
		slices.Sort(ids)
		if near := strings.Join(ids, " "); near != step.near {
			t.Errorf("step %d: near %q, want %q", i, near, step.near)
		}
		if (b.near() != "") != (step.near != "") {
			t.Errorf("step %d: the shards are told %q", i, b.near())
		}
	}
}

func TestDiskBudgetIsDecidedOnce(t *testing.T) {
	fs := vfs.NewCrashableMem()
	if err := fs.MkdirAll("d", 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := fs.OpenDir("")
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Sync(); err != nil {
		t.Fatal(err)
	}
	want := func(fs vfs.FS, configured, bytes int64) {
		t.Helper()
		if got, err := diskBudget(fs, fs, "d", configured, nodetest.Log(t)); err != nil || got != bytes {
			t.Errorf("budget %d, want %d: %v", got, bytes, err)
		}
	}
	want(fs, 0, 0) // unknown free space is no decision
	setFree(fs, 1000, 2000)
	want(fs, 70, 70) // neither is a configured budget
	want(fs, 0, 500)
	setFree(fs, 10, 2000)
	want(fs, 0, 500)
	want(fs, 70, 70)
	// So it is after a power failure that loses everything that was not synced.
	cut := fs.CrashClone(vfs.CrashCloneCfg{})
	setFree(cut, 20, 2000)
	want(cut, 0, 500)

	for _, damage := range []string{"", "{", `{"disk_bytes":0}`, `{"disk_bytes":"x"}`} {
		fs := vfs.NewMem()
		if err := fs.MkdirAll("d", 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := fs.Create("d/"+budgetName, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, damage); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		setFree(fs, 4000-uint64(len(damage)), 8000)
		want(fs, 0, 2000)
		setFree(fs, 1, 8000)
		want(fs, 0, 2000)
	}
}

// A whole node uses the stored budget after a restart on a disk that has filled up.
func TestDiskBudgetOutlivesARestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nodetest.NewBroker(t, 1), 1, func(cfg *config.Config) { cfg.Limits.DiskBytes = 0 })
	setFree(c.memFS(), 100<<30, 1<<40)
	first := c.start(0).budget.limit()
	c.stop(0)
	setFree(c.memFS(), 10<<30, 1<<40)
	if again := c.start(0).budget.limit(); again != first || first < 50<<30 {
		t.Errorf("budget %d, then %d", first, again)
	}
}

// TestBudgetReloaded: a changed limits.disk_bytes counts while the node runs, and taken out of the file it is the
// budget that is decided for the folder.
func TestBudgetReloaded(t *testing.T) {
	c := newCluster(t, nodetest.NewBroker(t, 1), 1, nil)
	signals := make(chan os.Signal)
	var bytes atomic.Int64
	c.adapt = func(d *Deps) {
		d.Reread, d.Reload = signals, func() (*config.Config, error) {
			cfg := *c.config(0)
			cfg.Limits.DiskBytes = bytes.Load()
			return &cfg, nil
		}
	}
	n := c.start(0)
	c.ready()
	for _, want := range []int64{1, 1 << 40} {
		bytes.Store(want)
		signals <- syscall.SIGHUP
		nodetest.Until(t, "the limit", func() bool { return n.budget.limit() == want })
		nodetest.Until(t, "pause or none", func() bool { return (n.budget.paused() != "") == (want == 1) })
	}
	bytes.Store(0)
	signals <- syscall.SIGHUP
	nodetest.Until(t, "no limit", func() bool { return n.budget.limit() == 0 }) // in memory: nothing tells what is free
}
