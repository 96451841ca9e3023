package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seeds   = flag.Int("seeds", 6, "how many seeds TestSim runs")
	first   = flag.Uint64("first", 1, "the first of them")
	oneSeed = flag.Uint64("seed", 0, "run this seed alone (repeat it with -count)")
	outFile = flag.String("out", "", "write the summary of TestSim as JSON to this file")
	verbose = flag.Bool("history", false, "print the history of every run, not only of those that fail")
)

// summary is what TestSim prints and writes.
type summary struct {
	Seeds  int            `json:"seeds"`
	First  uint64         `json:"first"`
	Faults map[string]int `json:"faults"` // injected, by kind
	Events int64          `json:"events"` // records whose outcome was compared with the truth
	Looks  int64          `json:"looks"`  // at replicas and tables, while they ran
	// Compactions is how many versions of the Delta tables were made by compaction.
	Compactions int64     `json:"compactions"`
	Hidden      int64     `json:"hidden"`  // versions with deletion vectors that Deckle has made
	Deleted     int64     `json:"deleted"` // rows, by the foreign tool, and how many of them were revised afterwards
	Revised     int64     `json:"revised"`
	Virtual     float64   `json:"virtual_seconds"`
	Seconds     float64   `json:"seconds"`
	Failures    []failure `json:"failures"`
}

type failure struct {
	Seed uint64   `json:"seed"`
	What []string `json:"what"`
}

// simulate runs one seed in a bubble of its own. The history of one that fails is printed.
func simulate(t *testing.T, o Options) (r *Result) {
	t.Helper()
	if slices.Contains(o.Kinds, "broker_restored") {
		o.BrokerDir = t.TempDir()
	}
	o.Beat = new(atomic.Int64)
	defer watchTime(o.Seed, o.Beat, standstill)()
	synctest.Test(t, func(t *testing.T) { r = Run(t.Context(), o) })
	if beats := float64(o.Beat.Load()); beats < r.Virtual-2 {
		t.Errorf("%.0f beats in %.0f s of virtual time: the watch would take such a run for one that stands still",
			beats, r.Virtual)
	}
	if len(r.Failures) > 0 || *verbose {
		r.history.print(os.Stderr)
	}
	return r
}

// standstill is how much real time may pass without a second of virtual time: many times what a whole seed takes. It is
// no bound for a seed, because beside many others, on a machine with other work, one takes minutes and stands still
// nowhere.
const standstill = 3 * time.Minute

// watchTime ends the process when the virtual time of a seed stands still (see doc.go), and prints the goroutines that
// hold it: those of a bubble that wait for something else than their bubble. beat counts the seed's virtual seconds,
// and most is how much real time may pass without one. The function that it returns, to be deferred, ends the watch; if
// goroutines outlive their seed it prints them.
func watchTime(seed uint64, beat *atomic.Int64, most time.Duration) func() {
	over := make(chan struct{})
	go func() {
		for s := (stillness{}); s.still < most; s.look(beat.Load()) {
			select {
			case <-over:
				return
			case <-time.After(lookAtTime):
			}
		}
		fmt.Fprintf(os.Stderr, "the virtual time of seed %d has stood still for %v; the goroutines that hold it, or "+
			"others':\n\n", seed, most)
		printStacks(func(state string) bool { return !strings.Contains(state, "durable") })
		os.Exit(2) // a test cannot be failed from here while its goroutines hang
	}()
	return func() {
		close(over)
		if why := recover(); why != nil {
			if strings.Contains(fmt.Sprint(why), "blocked goroutines remain") {
				fmt.Fprintf(os.Stderr,
					"seed %d has left goroutines; all that are in a bubble, those of other seeds too:\n\n", seed)
				printStacks(func(string) bool { return true })
			}
			panic(why)
		}
	}
}

// lookAtTime is how often the watch looks.
const lookAtTime = time.Second

// stillness is for how long a count has not moved.
type stillness struct {
	last  int64
	still time.Duration
}

// look takes the count that stands there lookAtTime after the one before.
func (s *stillness) look(now int64) {
	if now != s.last {
		*s = stillness{last: now}
	} else {
		s.still += lookAtTime
	}
}

// A slow run is no standstill, however long it takes.
func TestSlowIsNotStill(t *testing.T) {
	s := stillness{}
	for i, x := range []struct {
		now  int64
		want time.Duration
	}{{0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, 2}, {2, 0}, {7, 0}, {7, 1}} {
		if s.look(x.now); s.still != x.want*lookAtTime {
			t.Errorf("look %d: still for %v", i, s.still)
		}
	}
}

// A goroutine that waits for something outside its bubble holds the virtual time. The process ends then, and says which
// one it is; without the watch such a seed would end with the timeout of the whole package, and name none. It ends in a
// process of its own.
func TestStandstillIsTold(t *testing.T) {
	if os.Getenv(standsStill) != "" {
		var beats atomic.Int64
		defer watchTime(4711, &beats, 2*lookAtTime)()
		synctest.Test(t, func(*testing.T) {
			defer beat(&beats)()
			time.Sleep(5500 * time.Millisecond)
			fmt.Fprintln(os.Stderr, beats.Load(), "beats")
			holdTime()
		})
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "-test.run=^TestStandstillIsTold$")
	cmd.Env = append(os.Environ(), standsStill+"=1")
	out, err := cmd.CombinedOutput()
	if end, ok := errors.AsType[*exec.ExitError](err); !ok || end.ExitCode() != 2 {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"5 beats\n", "the virtual time of seed 4711 has stood still for 2s",
		"cluster.holdTime("} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not told: %s", want, out)
		}
	}
}

const standsStill = "DECKLE_TEST_STANDS_STILL"

// holdTime waits for what is no part of a bubble.
func holdTime() {
	var held sync.Mutex
	held.Lock()
	held.Lock()
}

// printStacks prints the goroutines of bubbles whose state, the first line of their stack, is wanted.
func printStacks(wanted func(state string) bool) {
	stacks := make([]byte, 256<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if state, _, _ := strings.Cut(stack, "\n"); strings.Contains(state, "synctest bubble") && wanted(state) {
			fmt.Fprintf(os.Stderr, "%s\n\n", stack)
		}
	}
}

// TestSim runs the whole cluster under seeded faults: -seeds, -first, -seed, -out.
func TestSim(t *testing.T) {
	if testing.Short() && *seeds == 6 {
		*seeds = 2 // the race detector is slow
	}
	list := make([]uint64, 0, *seeds)
	for i := range uint64(*seeds) {
		list = append(list, *first+i)
	}
	if *oneSeed != 0 {
		list = []uint64{*oneSeed}
	}
	began := time.Now()
	sum := summary{Seeds: len(list), First: list[0], Faults: map[string]int{}, Failures: []failure{}}
	var mu sync.Mutex
	t.Run("seed", func(t *testing.T) {
		for _, seed := range list {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				r := simulate(t, Options{Seed: seed})
				mu.Lock()
				defer mu.Unlock()
				sum.add(r)
				for _, f := range r.Failures {
					t.Error(f)
				}
			})
		}
	})
	sum.Seconds = time.Since(began).Seconds()
	if err := sum.write(*outFile); err != nil {
		t.Error(err)
	}
	if sum.Events == 0 && len(sum.Failures) == 0 {
		t.Error("nothing was compared")
	}
}

func (s *summary) add(r *Result) {
	for k, n := range r.Faults {
		s.Faults[k] += n
	}
	s.Events += r.Events
	s.Looks += r.Looks
	s.Compactions += r.Compactions
	s.Hidden += r.Hidden
	s.Deleted += r.Deleted
	s.Revised += r.Revised
	s.Virtual += r.Virtual
	if len(r.Failures) > 0 {
		s.Failures = append(s.Failures, failure{r.Seed, r.Failures})
	}
}

func (s *summary) write(file string) error {
	var kinds []string
	for _, k := range slices.Sorted(maps.Keys(s.Faults)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", k, s.Faults[k]))
	}
	fmt.Printf("seeds %d (from %d), events %d, looks %d, compactions %d, versions that hide rows %d, rows deleted %d "+
		"and %d of them revised, virtual %.0f s, real %.1f s, failures %d\nfaults: %s\n",
		s.Seeds, s.First, s.Events, s.Looks, s.Compactions, s.Hidden, s.Deleted, s.Revised, s.Virtual, s.Seconds,
		len(s.Failures), strings.Join(kinds, ", "))
	if file == "" {
		return nil
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// Package time must keep the wall clock where offWall looks for it.
func TestClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, s := range []int64{1, -1, 86400 * 3, -86400 * 3, 86400 * 400, 0} {
			now := time.Now()
			before := offWall(now, 0)
			time.Sleep(1500 * time.Millisecond)
			after := offWall(time.Now(), s)
			if d := after.Sub(before); d != 1500*time.Millisecond {
				t.Errorf("by %d s: %v have passed instead of 1.5 s", s, d)
			}
			if d := after.UnixNano() - now.UnixNano(); d != s*1e9+1.5e9 {
				t.Errorf("by %d s: the wall clock has moved by %d ns", s, d)
			}
			if d := after.Round(0).Sub(before.Round(0)); d != time.Duration(s)*time.Second+1500*time.Millisecond {
				t.Errorf("by %d s: by the wall clock %v have passed", s, d)
			}
		}
	})
}

// Without faults everything holds, too.
func TestWithoutFaults(t *testing.T) {
	r := simulate(t, Options{Seed: 1, Faults: -1})
	for _, f := range r.Failures {
		t.Error(f)
	}
	if r.Events == 0 || r.Looks == 0 {
		t.Errorf("nothing was compared: %+v", r)
	}
}
