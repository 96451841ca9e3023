package state

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/schema"
)

var timers = flag.Int("timers", 200_000,
	"how many sessions of TestMillionTimers are open when the stream stops; CI has a million")

// unsynced is a file system whose syncs do nothing. This test crashes nothing, and would only spend its time waiting
// for the disk.
type unsynced struct{ vfs.FS }

type unsyncedFile struct{ vfs.File }

func (unsyncedFile) Sync() error                { return nil }
func (unsyncedFile) SyncData() error            { return nil }
func (unsyncedFile) SyncTo(int64) (bool, error) { return false, nil }

func loose(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return unsyncedFile{f}, nil
}

func (u unsynced) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return loose(u.FS.Create(name, c))
}

func (u unsynced) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return loose(u.FS.OpenReadWrite(name, c, o...))
}

func (u unsynced) OpenDir(name string) (vfs.File, error) { return loose(u.FS.OpenDir(name)) }

// crowd is one shard with more open sessions than fit into memory, on a real disk. It cuts as the node does: when the
// sessions that have changed hold more than one and a half times the budget.
type crowd struct {
	t     *testing.T
	s     *Store
	opts  Options
	index uint64
	next  [2]int64
	now   int64
	heap  uint64 // the most that was in use after a Cut

	expired []bool // by the number in the session's id: ClickHouse has been given it as expired
	shown   int
}

func (c *crowd) open() {
	s, err := Open(context.Background(), c.opts)
	must(c.t, err)
	c.s = s
	c.index, _ = s.Applied()
}

// reopen restarts with the whole log applied, so that the timers are in Pebble alone.
func (c *crowd) reopen() {
	must(c.t, c.s.Checkpoint(context.Background()))
	must(c.t, c.s.Close())
	c.open()
}

func (c *crowd) apply(entry []byte) any {
	c.t.Helper()
	c.index++
	res, err := c.s.Apply(c.index, 1, entry)
	must(c.t, err)
	return res
}

// batch sends one event for each of a number of new sessions.
func (c *crowd) batch(from, n int) {
	c.t.Helper()
	e := &BatchEntry{Now: c.now * 1000}
	for p := range int32(2) {
		first := c.next[p]
		for i := from + int(p); i < from+n; i += 2 {
			id := uint64(i) + 1
			e.Batch.Items = append(e.Batch.Items, event.Item{Partition: p, Offset: c.next[p],
				KafkaTimestamp: c.now * 1000, Event: event.Event{
					ID: event.ID{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}, SessionID: strconv.Itoa(i),
					UserID: id,
					Type:   event.Search, Timestamp: c.now, Brand: "bild",
				}})
			c.next[p]++
		}
		e.Batch.Ranges = append(e.Batch.Ranges, event.Range{Partition: p, From: first, To: c.next[p], LeaderEpoch: 1})
	}
	if res := c.apply(AppendBatch(nil, e)).(*BatchResult); res.Rejected || res.Applied != int64(n) {
		c.t.Fatalf("%+v of %d sessions", res, n)
	}
}

// cut closes the epoch and gives it to the only sink.
func (c *crowd) cut() {
	c.t.Helper()
	c.apply(EncodeCut(c.now*1000, 0, 0))
	plan := c.apply(EncodePlan(SinkClickHouse, 0)).(*PlanResult)
	if plan.B == 0 {
		c.t.Fatal("nothing was cut")
	}
	p, err := c.s.OpenPlan(SinkClickHouse)
	must(c.t, err)
	must(c.t, p.Sessions(func(r *schema.SessionRow) error {
		if r.Status != schema.StatusExpired {
			return nil
		}
		i, err := strconv.Atoi(r.SessionID)
		switch {
		case err != nil:
			return err
		case c.expired[i]:
			return fmt.Errorf("session %d expires twice", i)
		case r.TotalEvents != 1 || r.UserID != uint64(i)+1 || r.Start != t0 || r.End != t0:
			return fmt.Errorf("session %d: %+v", i, r)
		}
		c.expired[i] = true
		c.shown++
		return nil
	}))
	must(c.t, p.Close())
	c.apply(EncodeAck(SinkClickHouse, plan.B))
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	c.heap = max(c.heap, m.HeapInuse)
}

// TestMillionTimers: a million sessions (-timers) are open when the stream stops. Two hours later it goes on, and a
// million timers are due at once. Each entry fires a bounded number of them, the clock waits for the others, memory
// stays bounded, a restart in the middle neither loses nor repeats a timer, and each session expires once.
func TestMillionTimers(t *testing.T) {
	n := *timers
	if testing.Short() { // the race detector makes each ten times as long
		n = min(n, 20_000)
	}
	const budget, batch, maxTimers = 64 << 20, 5000, defaultMaxTimers
	c := &crowd{t: t, now: t0, expired: make([]bool, n), opts: Options{
		FS: unsynced{vfs.Default}, Dir: t.TempDir() + "/shard", SessionMemoryBytes: budget, CheckpointBytes: 64 << 20,
	}}
	c.open()
	defer func() { must(t, c.s.Close()) }()
	c.apply(EncodeConfig(Config{
		ClusterID: "c", Pipeline: "p", Shards: 1, Topic: "t", Partitions: []int32{0, 1}, Starts: []int64{0, 0},
		Sinks: []SinkID{SinkClickHouse}, IdleTimeout: 30 * time.Minute, Grace: 30 * time.Second,
		Retention: 6 * time.Hour,
	}))
	began := time.Now()
	over := func() bool { v := c.s.View(); return v.OpenSessions > 0 && v.MemoryBytes > budget*3/2 }
	for i := 0; i < n; i += batch {
		if c.batch(i, batch); over() {
			c.cut()
		}
	}
	c.cut()
	if v := c.s.View(); v.OpenStatus != int64(n) || c.shown > 0 {
		t.Fatalf("%d sessions are open, %d have expired", v.OpenStatus, c.shown)
	}
	t.Logf("open after %v", time.Since(began))
	c.reopen()

	c.now += 2 * 60 * 60
	c.expired = append(c.expired, false, false)
	c.batch(n, 2)
	var most, memory int64
	entries, last := 1, int64(n)
	for restarted := false; ; entries++ {
		v := c.s.View()
		most, memory, last = max(most, last-v.OpenStatus), max(memory, v.MemoryBytes), v.OpenStatus
		if !v.TimersDue {
			break
		}
		if v.Clock > t0+30*60+30 {
			t.Fatalf("with %d sessions open the clock is at %d", v.OpenStatus, v.Clock-t0)
		}
		if over() {
			c.cut()
		}
		if !restarted && v.OpenStatus < int64(n/2) {
			restarted = true
			c.reopen()
		}
		c.apply(AppendBatch(nil, &BatchEntry{Now: c.now * 1000}))
	}
	c.cut()
	v := c.s.View()
	t.Logf("%d timers in %d entries after %v: at most %d an entry, %d bytes of sessions, %d of heap", c.shown, entries,
		time.Since(began), most, memory, c.heap)
	if c.shown != n || v.OpenStatus != 2 || v.LiveSessions != int64(n)+2 || v.Clock != c.now {
		t.Errorf("%d of %d have expired, %d are open, %d live, the clock is at %d", c.shown, n, v.OpenStatus,
			v.LiveSessions, v.Clock-t0)
	}
	if most > maxTimers || entries < n/maxTimers {
		t.Errorf("%d timers in %d entries, up to %d in one", n, entries, most)
	}
	// A Cut comes after the entry that passes the limit.
	if memory > budget*3/2+maxTimers*2000 {
		t.Errorf("sessions took %d bytes of memory", memory)
	}
}
