//go:build gofail

package cluster

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gofail "go.etcd.io/gofail/runtime"

	"deckle/node"
	"deckle/sim"
)

var (
	bugSeeds = flag.Int("bugseeds", 20, "how many seeds TestBugs tries until a planted bug must have been caught")
	bugFirst = flag.Uint64("bugfirst", 1, "the first of them")
	bugKeep  = flag.Bool("bugkeep", false, "run all of them, and tell how many catch the bug")
	bugOff   = flag.Bool("bugoff", false, "plant nothing: the same faults must find nothing")
)

// bug is a planted bug: a failpoint in the code, by its full name, and the faults that give it an occasion.
type bug struct {
	name   string
	points map[string]string // failpoint: term
	kinds  []string          // of faults; nil: all
	tune   func(o *Options)
}

// bugs are wrong on purpose, one at a time. Each must be caught.
var bugs = []bug{
	{name: "an fsync is skipped", points: map[string]string{"bugSkipFsync": "return"}},
	{name: "acknowledged before the quorum", points: map[string]string{"bugAckBeforeQuorum": "return"}},
	{name: "a commit without txn", points: map[string]string{"bugDeltaNoTxn": "return"}},
	{name: "timers are forgotten", points: map[string]string{"bugForgetTimer": "return"}},
	{name: "offsets in another batch than the sessions", points: map[string]string{"bugOffsetsApart": "return"},
		kinds: []string{"crash_at_write"}, tune: func(o *Options) { o.Faults, o.CheckpointBytes = 14, 8<<10 }},
	{name: "an epoch is flushed twice as increments", points: map[string]string{"bugTotalsTwice": "20.0%return"}},
	{name: "the log is truncated too early", points: map[string]string{"bugTruncateEarly": "return", "bugMarkEarly": "return"},
		kinds: []string{"crash", "crash_leader", "crash_all", "crash_at_write"}, tune: func(o *Options) { o.LogBytes = 8 << 10 }},
	{name: "a staged file is deleted after an ambiguous PUT", points: map[string]string{"bugDeleteStaged": "return"},
		kinds: []string{"store_slow", "isolate"}, tune: func(o *Options) { o.Faults = 14 }},
	{name: "purged before every sink has the last image", points: map[string]string{"bugPurgeEarly": "return"},
		tune: purging},
	{name: "a late WAL write stays", points: map[string]string{"bugLateWriteStays": "return"},
		kinds: []string{"stuck_sync"}, tune: busy},
	{name: "a wiped node keeps its server id", points: map[string]string{"bugSameIncarnation": "return"},
		kinds: []string{"wipe_witness"}},
	{name: "offsets left out of an epoch are dropped on a re-fetch", points: map[string]string{"bugForgetLeftOut": "return"},
		kinds: []string{"crash_leader", "store_slow"}, tune: repeating},
	// More than was asked for.
	{name: "acknowledged to the state before the sink has it", points: map[string]string{"bugAckUnwritten": "10.0%return"}},
	{name: "totals are written before the sessions", points: map[string]string{"bugClickHouseTotalsFirst": "return"}, tune: midInsert},
	{name: "images are superseded under an outstanding plan", points: map[string]string{"bugSupersedeEarly": "return"},
		kinds: []string{"store_slow", "store_down", "click_away", "click_late", "crash_leader"}, tune: func(o *Options) { o.Faults = 12 }},
	{name: "a snapshot claims more than it holds", points: map[string]string{"bugStaleSnapshot": "return"},
		kinds: []string{"wipe", "crash", "isolate"}},
	{name: "the ledger's row is written first", points: map[string]string{"bugClickHouseLedgerFirst": "return"}, tune: midInsert},
}

// TestBugs: each planted bug is caught, within -bugseeds seeds. With -bugoff the same faults find nothing, for there is nothing
// to be found: a bug is caught by what it does, not by what is done to it.
func TestBugs(t *testing.T) {
	for _, b := range bugs {
		t.Run(strings.ReplaceAll(b.name, " ", "_"), func(t *testing.T) {
			if !*bugOff {
				b.plant(t)
			}
			began, tried, first := time.Now(), 0, ""
			var caught []uint64
			for seed := *bugFirst; tried < *bugSeeds && (len(caught) == 0 || *bugKeep || *bugOff); seed++ {
				o := Options{Seed: seed, Kinds: b.kinds, EndAtFailure: true}
				if b.tune != nil {
					b.tune(&o)
				}
				r := simulateBug(t, o)
				tried++
				if r == nil || len(r.Failures) == 0 {
					continue
				}
				if caught = append(caught, seed); first == "" {
					first = fmt.Sprintf("seed %d: %s", seed, r.Failures[0])
				}
			}
			t.Logf("caught by %d of %d seeds, %v; %.1f s; %s", len(caught), tried, caught, time.Since(began).Seconds(), first)
			if (len(caught) > 0) == *bugOff {
				t.Errorf("%d of %d seeds fail", len(caught), tried)
			}
		})
	}
}

// plant switches the bug on for one test.
func (b *bug) plant(t *testing.T) {
	t.Helper()
	for name, term := range b.points {
		if err := gofail.Enable(name, term); err != nil {
			t.Fatalf("%s: %v (is this the overlay's build?)", name, err)
		}
		t.Cleanup(func() {
			if err := gofail.Disable(name); err != nil {
				t.Error(err)
			}
		})
	}
}

// simulateBug is simulate, but for what a planted bug may do to the Raft library: a log that contradicts itself leaves
// proposals without an answer, beyond the library's end, and those who wait for one would end all tests.
func simulateBug(t *testing.T, o Options) (r *Result) {
	t.Helper()
	defer watchTime(o.Seed)() // first, so that it sees only the panics that are not expected
	defer func() {
		if why := recover(); why != nil {
			if !strings.Contains(fmt.Sprint(why), "blocked goroutines remain") {
				panic(why)
			}
			t.Logf("seed %d: goroutines are left behind", o.Seed)
		}
	}()
	synctest.Test(t, func(t *testing.T) { r = Run(t.Context(), o) })
	if *verbose {
		r.history.print(os.Stderr)
	}
	return r
}

// busy has many entries on their way to the logs all the time, so that several of one shard wait for one sync, for a minute.
func busy(o *Options) {
	o.Faults, o.LogBytes, o.Shards, o.Events = 16, 8<<10, 2, 1500
	o.Workload = func(w *sim.Options) { w.Rate = 25 }
	o.Tune = func(cfg *node.Config) { cfg.Flush.Interval = 500 * time.Millisecond }
}

// repeating has much to leave out.
func repeating(o *Options) {
	o.Faults = 12
	o.Workload = func(w *sim.Options) { w.Faults.Duplicates = 0.1 }
}

// midInsert stops plans of ClickHouse between two of their inserts.
func midInsert(o *Options) {
	o.Kinds, o.Faults = []string{"click_before", "click_middle", "click_away", "crash_leader"}, 12
}

// purging lets sessions be purged while a sink is down.
func purging(o *Options) {
	o.Kinds, o.Faults, o.Purge = []string{"click_outage", "store_outage"}, 3, true
}
