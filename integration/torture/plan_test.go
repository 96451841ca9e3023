package main

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"deckle/integration/failpoint/overlay"
)

// points are the failpoints of the module at which a node can be stopped.
func points(t *testing.T) []string {
	t.Helper()
	o, err := overlay.Write("../..", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return o.Stops()
}

func kindsOf(rs []round) (kinds []string, kills int) {
	for _, r := range rs {
		kinds = append(kinds, r.kind)
		kills += r.kills
	}
	return kinds, kills
}

func TestPlan(t *testing.T) {
	all := points(t)
	if len(all) < 11 {
		t.Fatalf("only %d failpoints: %v", len(all), all)
	}
	draw := func(seed uint64, o options) []string {
		kinds, kills := kindsOf(plan(rand.New(rand.NewPCG(seed, 1)), all, o))
		if kills < o.kills {
			t.Errorf("%d kills planned, %d asked for", kills, o.kills)
		}
		return kinds
	}
	for seed := range uint64(20) {
		long := draw(seed, options{kills: 100})
		if !slices.Equal(long, draw(seed, options{kills: 100})) {
			t.Fatalf("seed %d: two plans", seed)
		}
		short := draw(seed, options{kills: 5, short: true})
		must, _ := kinds(all)
		for _, r := range must {
			if !slices.Contains(long, r.kind) {
				t.Errorf("seed %d: no round %q", seed, r.kind)
			}
			if has := slices.Contains(short, r.kind); has != isShort(r.kind) {
				t.Errorf("seed %d: round %q in a short plan: %v", seed, r.kind, has)
			}
		}
		for kind := range shortLinks {
			if !slices.Contains(short, kind) {
				t.Errorf("a short plan wants %q, which there is not", kind)
			}
		}
	}
	for _, short := range []bool{false, true} {
		merged := 0
		for _, kind := range draw(3, options{kills: 5, short: short}) {
			if strings.HasPrefix(kind, "kill at "+compactionPoints) {
				merged++
			}
		}
		if merged < 3 {
			t.Errorf("short %v: %d kills of compaction", short, merged)
		}
	}
	if slices.Equal(draw(1, options{kills: 20}), draw(2, options{kills: 20})) {
		t.Error("two seeds, one plan")
	}
	only := draw(1, options{kills: 3, only: "kill leader"})
	if !slices.Equal(only, []string{"kill leader", "kill leader", "kill leader"}) {
		t.Errorf("only: %v", only)
	}
}

// Where rows are hidden by deletion vectors the nodes are killed there, too; where they are not, no round waits for it.
func TestVectors(t *testing.T) {
	all := points(t)
	for _, on := range []bool{false, true} {
		o := options{kills: 100, vectors: on}
		drawn, _ := kindsOf(plan(rand.New(rand.NewPCG(3, 1)), stops(all, o), o))
		if slices.Contains(drawn, "kill at deltaVectorsPut") != on {
			t.Errorf("vectors %t: %q", on, drawn)
		}
	}
	seen := map[bool]int{}
	for seed := range uint64(100) {
		o := options{seed: seed}
		if err := o.setVectors("drawn"); err != nil {
			t.Fatal(err)
		}
		seen[o.vectors]++
		if o.setVectors("on") != nil || !o.vectors || o.setVectors("off") != nil || o.vectors ||
			o.setVectors("some") == nil {
			t.Fatal("the flag says something else")
		}
	}
	if seen[true] < 30 || seen[false] < 30 {
		t.Errorf("drawn are %v", seen)
	}
}

func TestPlanAgainstABug(t *testing.T) {
	kinds, _ := kindsOf(plan(rand.New(rand.NewPCG(1, 1)), points(t), options{bug: "bugDeltaNoTxn"}))
	for _, want := range []string{
		"kill at deltaCommitPut", "kill at clickhouseLedgerInserted", "kill at clickhouseSessionsInserted",
		"kill leader",
	} {
		if !slices.Contains(kinds, want) {
			t.Errorf("no round %q among %v", want, kinds)
		}
	}
}

func TestReport(t *testing.T) {
	good := func() *report {
		r := newReport(options{})
		r.VerifyEqual, r.ReadersAgree = true, true
		for _, d := range []time.Duration{3, 1, 2} {
			r.add("kill leader", &result{kills: 1, recovery: &recovery{
				events: d * time.Second, clickhouse: time.Second, sessions: time.Minute,
			}})
		}
		r.add("kill at deltaCompactStaged", &result{kills: 1})
		r.complete(3)
		return r
	}
	if r := good(); !r.Passed || r.Recovery != (stat{2000, 3000, 3}) || r.RecoveryClick != (stat{1000, 1000, 3}) ||
		r.Kills != 4 || r.KilledCompactions != 1 {
		t.Errorf("%+v", r)
	}
	for name, spoil := range map[string]func(*report){
		"lost": func(r *report) { r.Lost = 1 }, "duplicated": func(r *report) { r.Duplicated = 1 },
		"sessions":   func(r *report) { r.MismatchedSessions = 1 },
		"rollups":    func(r *report) { r.MismatchedRollups = 1 },
		"violations": func(r *report) { r.Violations = 1 }, "verify": func(r *report) { r.VerifyEqual = false },
		"readers":       func(r *report) { r.ReadersAgree = false },
		"failures":      func(r *report) { r.Failures = []string{"x"} },
		"too few kills": func(r *report) { r.Kills = 2 },
	} {
		r := good()
		spoil(r)
		if r.complete(3); r.Passed {
			t.Errorf("%s: passed", name)
		}
	}
}
