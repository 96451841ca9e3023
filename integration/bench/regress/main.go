// Command regress says whether the stages have become slower: it runs the benchmarks of package stages on the tree of a
// recorded commit (the file baseline) and on this tree, alternating, and fails where a loss is both large and
// significant.
//
//	baseline commit ──git archive─► folder ──go test -c──► old ─┐
//	this tree ──────────────────────────────go test -c──► new ─┴─► alternating, -runs each
//
// Each tree runs its own benchmarks, because they name packages and types that move. So a benchmark must measure the
// same work under the same name for as long as the baseline is older than it; one that only one of the trees has is
// named and compared with nothing. The benchmark of ClickHouse's block is in the sink's package, since nothing outside
// of it makes a block.
//
// A loss is significant if benchstat would call it so: by the Mann-Whitney U test on ns/event, alpha 0.05. Only ratios
// within one call are compared, because machines differ and are shared. A stage that has lost is measured once more,
// alone, and fails if it loses again: of a dozen stages one may lose by chance.
package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"golang.org/x/perf/benchmath"
)

//go:embed baseline
var baseline string

const stages = "integration/bench/stages"

// packages have the benchmarks, one binary each.
var packages = []string{stages, "sinks/clickhouse"}

type options struct {
	runs   int
	time   string
	most   float64
	commit string
	ifAny  bool
}

// errNoBaseline says that the commit to compare with is not there.
var errNoBaseline = errors.New("no baseline")

func main() {
	var o options
	flag.IntVar(&o.runs, "runs", 10, "runs of each tree")
	flag.StringVar(&o.time, "benchtime", "200ms", "time of one benchmark in one run")
	flag.Float64Var(&o.most, "most", 1.25, "greatest ratio new/old that is no loss")
	flag.StringVar(&o.commit, "commit", strings.TrimSpace(baseline), "the commit to compare with")
	flag.BoolVar(&o.ifAny, "if-any", false, "succeed, and say so, if there is no history to compare with "+
		"(a checkout without .git, a shallow clone)")
	flag.Parse()
	err := run(context.Background(), o)
	if o.ifAny && errors.Is(err, errNoBaseline) {
		fmt.Println("NOTHING WAS COMPARED:", err)
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "regress:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	out, err := exec.CommandContext(ctx, "git", "cat-file", "-e", o.commit+"^{commit}").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: commit %s is not in this clone (is it shallow?): "+
			"fetch it, or name another with -commit: %w\n%s", errNoBaseline, o.commit, err, out)
	}
	dir, err := os.MkdirTemp("", "deckle-regress-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	old, now := filepath.Join(dir, "old"), filepath.Join(dir, "new")
	tree := filepath.Join(dir, "tree")
	if err := checkout(ctx, o.commit, tree); err != nil {
		return err
	}
	if err := build(ctx, tree, old); err != nil {
		return fmt.Errorf("the benchmarks do not build on the baseline; record a newer one: %w", err)
	}
	if err := build(ctx, ".", now); err != nil {
		return err
	}
	losses, err := compareAll(ctx, o, old, now, ".")
	if err != nil || len(losses) == 0 {
		return err
	}
	fmt.Println("measured once more:", strings.Join(slices.Sorted(maps.Keys(losses)), ", "))
	again, err := compareAll(ctx, o, old, now, "^Benchmark("+strings.Join(slices.Sorted(maps.Keys(losses)), "|")+")$")
	if err != nil || len(again) == 0 {
		return err
	}
	return fmt.Errorf("slower than %.12s: %s", o.commit, strings.Join(slices.Sorted(maps.Values(again)), "; "))
}

// compareAll runs the benchmarks that match in both trees, alternating, prints how long they took, and returns which
// have lost how much.
func compareAll(ctx context.Context, o options, old, now, match string) (losses map[string]string, err error) {
	got := map[string]*[2][]float64{}
	for i := range o.runs {
		order := []int{i % 2, 1 - i%2} // neither tree is always the first
		for _, which := range order {
			if err := measure(ctx, []string{old, now}[which], match, o.time, func(name string, ns float64) {
				if got[name] == nil {
					got[name] = new([2][]float64)
				}
				got[name][which] = append(got[name][which], ns)
			}); err != nil {
				return nil, err
			}
		}
	}
	return judge(o, got)
}

// checkout writes the tree of a commit.
func checkout(ctx context.Context, commit, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	archive := exec.CommandContext(ctx, "git", "archive", commit)
	tar := exec.CommandContext(ctx, "tar", "-x", "-C", dir)
	pipe, err := archive.StdoutPipe()
	if err != nil {
		return err
	}
	tar.Stdin = pipe
	if err := archive.Start(); err != nil {
		return err
	}
	if err := errors.Join(tar.Run(), archive.Wait()); err != nil {
		return fmt.Errorf("git archive %s | tar -x: %w", commit, err)
	}
	return nil
}

// build builds the test binaries of a tree into the folder to.
func build(ctx context.Context, tree, to string) error {
	for _, pkg := range packages {
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary(to, pkg), "./"+pkg)
		cmd.Dir = tree
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go test -c in %s: %w\n%s", tree, err, out)
		}
	}
	return nil
}

func binary(dir, pkg string) string {
	return filepath.Join(dir, strings.ReplaceAll(pkg, "/", "-")+".test")
}

// BenchmarkFold-2   	       7	 150748631 ns/op	      1570 ns/event …
var line = regexp.MustCompile(`^Benchmark(\S+?)(?:-\d+)?\s.*?([0-9.]+) ns/event`)

// measure runs those benchmarks of one tree that match.
func measure(ctx context.Context, dir, match, benchtime string, yield func(name string, ns float64)) error {
	found := 0
	for _, pkg := range packages {
		cmd := exec.CommandContext(ctx, binary(dir, pkg),
			"-test.run", "^$", "-test.bench", match, "-test.benchtime", benchtime)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("%s: %w\n%s%s", pkg, err, out, errs.Bytes())
		}
		for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
			if m := line.FindStringSubmatch(s.Text()); m != nil {
				ns, err := strconv.ParseFloat(m[2], 64)
				if err != nil {
					return err
				}
				yield(m[1], ns)
				found++
			}
		}
	}
	if found == 0 {
		return errors.New("no benchmark has reported ns/event")
	}
	return nil
}

// judge prints what was measured, and returns what has become slower.
func judge(o options, got map[string]*[2][]float64) (losses map[string]string, err error) {
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(t, "stage\told ns/event\tnew ns/event\tnew/old\tp\tn\n")
	losses = map[string]string{}
	compared := 0
	for _, name := range slices.Sorted(maps.Keys(got)) {
		x := got[name]
		if len(x[0]) == 0 || len(x[1]) == 0 {
			only := [...]string{"this tree", "the baseline"}[min(len(x[0]), 1)]
			fmt.Printf("%s: only %s has it, nothing to compare with\n", name, only)
			continue
		}
		compared++
		if len(x[0]) != o.runs || len(x[1]) != o.runs {
			return nil, fmt.Errorf("%s ran %d times on the old tree and %d times on the new one",
				name, len(x[0]), len(x[1]))
		}
		ratio, p := compare(x[0], x[1])
		_, _ = fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.2f\t%.3f\t%d\n", name, middle(x[0]), middle(x[1]), ratio, p, o.runs)
		if lost(ratio, p, o.most) {
			losses[name] = fmt.Sprintf("%s takes %.2f times as long (p=%.3f)", name, ratio, p)
		}
	}
	if compared == 0 {
		return nil, errors.New("the two trees have no benchmark in common")
	}
	return losses, t.Flush()
}

// compare returns the ratio of the medians and the probability that the two are the same.
func compare(old, now []float64) (ratio, p float64) {
	th := benchmath.DefaultThresholds
	a, b := benchmath.NewSample(slices.Clone(old), &th), benchmath.NewSample(slices.Clone(now), &th)
	return middle(now) / middle(old), benchmath.AssumeNothing.Compare(a, b).P
}

func lost(ratio, p, most float64) bool {
	return ratio > most && p < benchmath.DefaultThresholds.CompareAlpha
}

func middle(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
