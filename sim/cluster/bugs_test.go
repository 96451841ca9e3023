//go:build gofail

package cluster

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	gofail "go.etcd.io/gofail/runtime"

	"deckle/node/config"
	"deckle/sim"
)

var (
	bugSeeds = flag.Int("bugseeds", 20, "how many seeds TestBugs tries until a planted bug must have been caught")
	bugFirst = flag.Uint64("bugfirst", 1, "the first of them")
	bugKeep  = flag.Bool("bugkeep", false, "run all of them, and tell how many catch the bug")
	bugOne   = flag.String("bugone", "", "run -seed alone with this bug, as TestBugs has each of its processes do")
	bugOff   = flag.Bool("bugoff", false, "plant nothing: the same faults must find nothing")
)

// bug is a planted bug: a failpoint in the code, by its full name, and the faults that bring it out.
type bug struct {
	name   string
	points map[string]string // failpoint: term
	kinds  []string          // of faults; nil: all
	tune   func(o *Options)
}

// bugs are errors on purpose, planted one at a time. Each must be caught.
var bugs = []bug{
	{name: "an fsync is skipped", points: map[string]string{"bugSkipFsync": "return"}},
	{name: "acknowledged before the quorum", points: map[string]string{"bugAckBeforeQuorum": "return"}},
	{name: "a commit without txn", points: map[string]string{"bugDeltaNoTxn": "return"}},
	{name: "timers are forgotten", points: map[string]string{"bugForgetTimer": "return"}},
	{name: "offsets in another batch than the sessions", points: map[string]string{"bugOffsetsApart": "return"},
		kinds: []string{"crash_at_write"}, tune: func(o *Options) { o.Faults, o.CheckpointBytes = 14, 8<<10 }},
	{name: "an epoch is flushed twice as increments", points: map[string]string{"bugTotalsTwice": "20.0%return"}},
	{name: "the log is truncated too early", points: map[string]string{"bugTruncateEarly": "return",
		"bugMarkEarly": "return"},
		kinds: []string{"crash", "crash_leader", "crash_all",
			"crash_at_write"}, tune: func(o *Options) { o.LogBytes = 8 << 10 }},
	{name: "a staged file is deleted after an ambiguous PUT", points: map[string]string{"bugDeleteStaged": "return"},
		kinds: []string{"store_slow", "isolate"}, tune: func(o *Options) { o.Faults = 14 }},
	{name: "purged before every sink has the last image", points: map[string]string{"bugPurgeEarly": "return"},
		tune: purging},
	{name: "a late WAL write stays", points: map[string]string{"bugLateWriteStays": "return"},
		kinds: []string{"stuck_sync"}, tune: busy},
	{name: "a wiped node keeps its server id", points: map[string]string{"bugSameIncarnation": "return"},
		kinds: []string{"wipe_witness"}},
	{name: "offsets left out of an epoch are dropped on a re-fetch",
		points: map[string]string{"bugForgetLeftOut": "return"},
		kinds:  []string{"crash_leader", "store_slow"}, tune: repeating},
	{name: "what lies behind an error is taken", points: map[string]string{"bugReadBehindError": "return",
		"bugErrorPasses": "return"},
		kinds: []string{"skipped_batches"}, tune: func(o *Options) { o.Faults = 12 }},
	{name: "the last record is not compared", points: map[string]string{"bugNotCompared": "return"},
		kinds: []string{"broker_restored"}, tune: func(o *Options) { o.Faults = 2 }},
	{name: "a row is compacted twice", points: map[string]string{"bugCompactTwice": "return"}},
	{name: "a revision brings a deleted row back", points: map[string]string{"bugDeletedComesBack": "return"},
		kinds: []string{"foreign_delete", "crash_leader", "store_lost_answer"}, tune: deleting},
	{name: "a revision brings a hidden row back", points: map[string]string{"bugVectorIgnoredWhole": "return"},
		kinds: []string{"foreign_delete", "crash_leader", "store_lost_answer"}, tune: deleting},
	{name: "a new deletion vector lacks what was hidden before", points: map[string]string{"bugVectorForgets": "return"},
		kinds: []string{"crash_leader", "store_lost_answer"}, tune: hiding},
	{name: "what is replaced by an image in another file is not hidden",
		points: map[string]string{"bugVectorTwin": "return"}, kinds: []string{"crash_leader", "store_lost_answer"},
		tune: hiding},
	// More than was asked for.
	{name: "acknowledged to the state before the sink has it",
		points: map[string]string{"bugAckUnwritten": "10.0%return"}},
	{name: "totals are written before the sessions", points: map[string]string{"bugClickHouseTotalsFirst": "return"},
		tune: midInsert},
	{name: "images are superseded under an outstanding plan", points: map[string]string{"bugSupersedeEarly": "return"},
		kinds: []string{"store_slow", "store_down", "click_away", "click_late",
			"crash_leader"}, tune: func(o *Options) { o.Faults = 12 }},
	{name: "a snapshot claims more than it holds", points: map[string]string{"bugStaleSnapshot": "return"},
		kinds: []string{"wipe", "crash", "isolate"}},
	{name: "the ledger's row is written first", points: map[string]string{"bugClickHouseLedgerFirst": "return"},
		tune: midInsert},
	{name: "a segment of a session leaves the memory before it is written",
		points: map[string]string{"bugSegmentUnwritten": "return"}, tune: hugeSessions},
	{name: "the horizon passes what a silent partition still has",
		points: map[string]string{"bugHorizonPasses": "return"},
		kinds:  []string{"silent_partition"}, tune: shortMemory},
	{name: "a gap of raw events takes what lies beside it", points: map[string]string{"bugGapTakesRange": "return"},
		kinds: []string{"raw_events_lost", "crash_leader"}},
	{name: "a letter that does not fit holds up the others",
		points: map[string]string{"bugLetterHoldsOthers": "return"},
		kinds:  []string{"letters_small"}, tune: manyLetters},
	{name: "a session belongs to the user who arrives first",
		points: map[string]string{"bugUserByArrival": "return"}, tune: manyLogins},
	{name: "a rule does not know an escaped name", points: map[string]string{"bugEscapedName": "return"}},
	{name: "an epoch that is fetched again is decoded by the present rules",
		points: map[string]string{"bugPresentRules": "return"},
		kinds:  []string{"rules", "store_outage", "store_down", "crash_leader"}, tune: changingRules},
	{name: "an HMAC key is forgotten before every sink has its epochs",
		points: map[string]string{"bugKeyForgotten": "return"},
		kinds:  []string{"rules", "store_outage", "crash_leader"}, tune: changingRules},
	{name: "the list of suppressed readers is forgotten with the process",
		points: map[string]string{"bugForgetSuppressed": "return"},
		kinds:  []string{"readers", "restart", "crash_leader"}, tune: suppressing},
	{name: "a record of a suppressed reader becomes a letter",
		points: map[string]string{"bugSuppressedLetter": "return"}, kinds: []string{"readers"}, tune: suppressing},
	{name: "what suppressed readers have left is let in by a re-fetch",
		points: map[string]string{"bugSuppressedNotLeft": "return"},
		kinds:  []string{"readers", "store_down", "crash_leader"}, tune: suppressing},
	{name: "a batch that an older list has judged is applied", // the change does not pass the intake, as if that rested
		points: map[string]string{"bugOldList": "return", "listPastIntake": "return"}, kinds: []string{"readers"},
		tune: suppressing},
	{name: "a txn is lost in the shared commit",
		points: map[string]string{"bugSharedTxnLost": "return"}, tune: sharing},
	{name: "a txn is lost in the shared commit, and no node looks",
		points: map[string]string{"bugSharedTxnLost": "return", "bugSharedTrusted": "return"}, tune: sharing},
	{name: "an add is lost in the shared commit",
		points: map[string]string{"bugSharedAddLost": "return"}, tune: sharing},
	{name: "an add is lost in the shared commit, and no node looks",
		points: map[string]string{"bugSharedAddLost": "return", "bugSharedTrusted": "return"}, tune: sharing},
	{name: "acknowledged on the committer's word, which comes before the commit",
		points: map[string]string{"bugSharedWord": "return", "bugSharedTrusted": "return"}, tune: sharing},
	{name: "a partition that was added is read from its end", points: map[string]string{"bugAddedFromEnd": "return"},
		kinds: []string{"partitions"}},
	{name: "a letter has the value as it came", points: map[string]string{"bugLetterWhole": "return"}},
}

// TestBugs: each planted bug is caught, within -bugseeds seeds. With -bugoff the same faults find nothing, because
// there is nothing to find: a bug is caught by its effect, and not because of the faults.
//
// Each seed runs in a process of its own, which ends with the first failure: after what a bug has done to a log, the
// Raft library may leave promises without an answer, or try again for ever.
func TestBugs(t *testing.T) {
	if *bugOne != "" {
		runBug(t)
		return
	}
	for _, b := range bugs {
		t.Run(strings.ReplaceAll(b.name, " ", "_"), func(t *testing.T) {
			began, tried, first := time.Now(), 0, ""
			var caught []uint64
			for seed := *bugFirst; tried < *bugSeeds && (len(caught) == 0 || *bugKeep || *bugOff); seed++ {
				failure, err := b.try(t.Context(), seed)
				tried++
				switch {
				case failure != "":
					if caught = append(caught, seed); first == "" {
						first = fmt.Sprintf("seed %d: %s", seed, failure)
					}
				case err != nil && *bugOff:
					t.Errorf("seed %d: %v", seed, err)
				case err != nil: // it has failed, but no line says why
					t.Logf("seed %d: %v", seed, err)
				}
			}
			t.Logf("caught by %d of %d seeds, %v; %.1f s; %s", len(caught), tried, caught, time.Since(began).Seconds(),
				first)
			if (len(caught) > 0) == *bugOff {
				t.Errorf("%d of %d seeds fail", len(caught), tried)
			}
		})
	}
}

// failureMark begins the line by which the process of a seed reports what it has found.
const failureMark = "FAILURE "

// try runs one seed in a process of its own and returns the first failure, or why the process has not ended well.
func (b *bug) try(ctx context.Context, seed uint64) (failure string, _ error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, standstill+time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "-test.run=^TestBugs$", "-bugone="+b.name, fmt.Sprint("-seed=", seed),
		fmt.Sprint("-bugoff=", *bugOff), fmt.Sprint("-history=", *verbose))
	var out, told bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &told
	err = cmd.Run()
	for line := range strings.Lines(out.String()) {
		if text, ok := strings.CutPrefix(line, failureMark); ok {
			failure = strings.TrimSpace(text)
			break
		}
	}
	if *verbose {
		_, _ = os.Stderr.Write(told.Bytes())
	}
	if failure == "" && err != nil {
		return "", fmt.Errorf("%w: %s%s", err, out.String(), told.String())
	}
	return failure, nil
}

// runBug is the process of one seed.
func runBug(t *testing.T) {
	i := slices.IndexFunc(bugs, func(b bug) bool { return b.name == *bugOne })
	if i < 0 {
		t.Fatalf("no bug %q", *bugOne)
	}
	b := bugs[i]
	if !*bugOff {
		b.plant(t)
	}
	// If two logs contradict each other, the library tries again and again without a pause: virtual time goes on only
	// if there is latency.
	o := Options{Seed: *oneSeed, Kinds: b.kinds, Latency: time.Millisecond}
	if b.tune != nil {
		b.tune(&o)
	}
	o.OnFailure = func(failure string) {
		fmt.Printf("%s%s\n", failureMark, strings.ReplaceAll(failure, "\n", " "))
		if !*verbose {
			os.Exit(0)
		}
	}
	simulate(t, o)
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

// busy keeps many entries on their way to the logs for a minute, so that several of one shard wait for the same sync.
func busy(o *Options) {
	o.Faults, o.LogBytes, o.Shards, o.Events = 16, 8<<10, 2, 1500
	o.Workload = func(w *sim.Options) { w.Rate = 25 }
	o.Tune = func(cfg *config.Config) { cfg.Flush.Interval = 500 * time.Millisecond }
}

// repeating has many duplicates, which are left out.
func repeating(o *Options) {
	o.Faults = 12
	o.Workload = func(w *sim.Options) { w.Faults.Duplicates = 0.1 }
}

// hugeSessions has sessions whose events are more than an image keeps.
func hugeSessions(o *Options) {
	o.Workload = func(w *sim.Options) { w.Faults.Huge = 0.3 }
}

// manyLogins has sessions of two users, whose records come out of order.
func manyLogins(o *Options) {
	o.Workload = func(w *sim.Options) { w.Faults.Readers, w.Faults.OutOfOrder, w.Faults.Late = 0.9, 0.3, 0.1 }
}

// changingRules has the rules change while epochs wait for their sinks.
func changingRules(o *Options) {
	o.Faults, o.Events = 10, 2000
	o.Workload = func(w *sim.Options) { w.Faults.Private = 0.8 }
}

// suppressing has the list of suppressed readers change often, and many records that name readers in odd ways.
func suppressing(o *Options) {
	o.Faults = 14
	o.Workload = func(w *sim.Options) { w.Faults.Doubtful = 0.1 }
}

// sharing has one commit for all nodes, and the node that makes it in trouble.
func sharing(o *Options) {
	o.Kinds, o.Faults = []string{"cut_committer", "pause_committer", "lose_share", "crash_leader"}, 10
	o.Tune = func(cfg *config.Config) { cfg.Delta.CommitWait = nil }
}

// deleting has many sessions that change after they were closed, while another tool deletes rows.
func deleting(o *Options) {
	o.Faults = 12
	o.Workload = func(w *sim.Options) { w.Faults.Late = 0.2 }
}

// hiding has many sessions that change after they were closed, and revisions that hide their rows.
func hiding(o *Options) {
	deleting(o)
	o.Tune = func(cfg *config.Config) { cfg.Delta.DeletionVectors, cfg.Delta.DeletionVectorsFromBytes = true, 1 }
}

// manyLetters has many records that cannot be used.
func manyLetters(o *Options) {
	o.Workload = func(w *sim.Options) { w.Faults.Malformed = 0.05 }
}

// midInsert stops plans of ClickHouse between two of their inserts.
func midInsert(o *Options) {
	o.Kinds, o.Faults = []string{"click_before", "click_middle", "click_away", "crash_leader"}, 12
}

// purging lets sessions be purged while a sink is down.
// shortMemory has sessions end and be forgotten within seconds, so that a partition which is away for longer has what
// is older than the retention.
func shortMemory(o *Options) {
	o.Faults, o.Purge, o.Events = 3, true, 2500
	o.Tune = func(cfg *config.Config) {
		cfg.Session = config.Session{IdleTimeout: 8 * time.Second, Grace: time.Second, Retention: 10 * time.Second}
		cfg.Rules.Clock = config.Clock{Slack: 2 * time.Second, LeaveOut: 5 * time.Second}
	}
}

func purging(o *Options) {
	o.Kinds, o.Faults, o.Purge = []string{"click_outage", "store_outage"}, 3, true
}
