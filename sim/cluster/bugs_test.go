//go:build gofail

package cluster

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gofail "go.etcd.io/gofail/runtime"
)

var (
	bugSeeds = flag.Int("bugseeds", 60, "how many seeds TestBugs tries until a planted bug must have been caught")
	bugKeep  = flag.Bool("bugkeep", false, "run all of them, and tell how many catch the bug")
)

// bug is a planted bug: a failpoint in the code, by its full name, and the faults that give it an occasion.
type bug struct {
	name   string
	points map[string]string // failpoint: term
	kinds  []string          // of faults; nil: all
	seeds  []uint64          // that catch it most of the time, where few do: they are tried first
	tune   func(o *Options)
}

// bugs are wrong on purpose, one at a time. Each must be caught.
var bugs = []bug{
	{name: "an fsync is skipped", points: map[string]string{"bugSkipFsync": "return"}},
	{name: "acknowledged before the quorum", points: map[string]string{"bugAckBeforeQuorum": "return"}},
	{name: "a commit without txn", points: map[string]string{"bugDeltaNoTxn": "return"}},
	{name: "timers are forgotten", points: map[string]string{"bugForgetTimer": "return"}},
	{name: "offsets in another batch than the sessions", points: map[string]string{"bugOffsetsApart": "return"},
		kinds: []string{"crash_at_write", "crash", "crash_all"}},
	{name: "an epoch is flushed twice as increments", points: map[string]string{"bugTotalsTwice": "20.0%return"}},
	{name: "the log is truncated too early", points: map[string]string{"bugTruncateEarly": "return", "bugMarkEarly": "return"},
		kinds: []string{"crash", "crash_leader", "crash_all", "crash_at_write"}, tune: func(o *Options) { o.LogBytes = 8 << 10 }},
	{name: "a staged file is deleted after an ambiguous PUT", points: map[string]string{"bugDeleteStaged": "return"},
		kinds: []string{"store_lost_answer", "store_late_put"}, seeds: []uint64{67}, tune: func(o *Options) { o.Faults = 10 }},
	{name: "purged before every sink has the last image", points: map[string]string{"bugPurgeEarly": "return"},
		tune: purging},
	{name: "a late WAL write stays", points: map[string]string{"bugLateWriteStays": "return"},
		kinds: []string{"slow_disk"}, tune: func(o *Options) { o.Faults, o.AuditEvery = 10, 100*time.Millisecond }},
	{name: "a wiped node keeps its server id", points: map[string]string{"bugSameIncarnation": "return"},
		kinds: []string{"wipe", "isolate", "crash", "cut_pair"}},
	{name: "offsets left out of an epoch are dropped on a re-fetch", points: map[string]string{"bugForgetLeftOut": "return"}},
	// More than was asked for.
	{name: "acknowledged to the state before the sink has it", points: map[string]string{"bugAckUnwritten": "10.0%return"}},
	{name: "totals are written before the sessions", points: map[string]string{"bugClickHouseTotalsFirst": "return"}},
	{name: "images are superseded under an outstanding plan", points: map[string]string{"bugSupersedeEarly": "return"}},
	{name: "a snapshot claims more than it holds", points: map[string]string{"bugStaleSnapshot": "return"},
		kinds: []string{"wipe", "crash", "isolate"}},
	{name: "the ledger's row is written first", points: map[string]string{"bugClickHouseLedgerFirst": "return"}},
}

// TestBugs: each planted bug is caught, within -bugseeds seeds.
func TestBugs(t *testing.T) {
	for _, b := range bugs {
		t.Run(strings.ReplaceAll(b.name, " ", "_"), func(t *testing.T) {
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
			var caught []uint64
			seeds, first := slices.Clone(b.seeds), ""
			for seed := uint64(1); len(seeds) < *bugSeeds; seed++ {
				if !slices.Contains(b.seeds, seed) {
					seeds = append(seeds, seed)
				}
			}
			tried := 0
			for _, seed := range seeds[:*bugSeeds] {
				if len(caught) > 0 && !*bugKeep {
					break
				}
				o := Options{Seed: seed, Kinds: b.kinds}
				if b.tune != nil {
					b.tune(&o)
				}
				r := simulate(t, o, false)
				tried++
				if len(r.Failures) > 0 {
					if caught = append(caught, seed); first == "" {
						first = fmt.Sprintf("seed %d: %s", seed, r.Failures[0])
					}
				}
			}
			if len(caught) == 0 {
				t.Fatalf("not caught by %d seeds", tried)
			}
			t.Logf("caught by %d of %d seeds, %v; %s", len(caught), tried, caught, first)
		})
	}
}

// purging lets sessions be purged while a sink is down.
func purging(o *Options) {
	o.Kinds, o.Faults, o.Purge = []string{"click_outage", "store_outage"}, 3, true
}
