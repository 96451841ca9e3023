//go:build gofail

package delta

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestBugs: each planted fault loses a row or makes it stand twice, and the property test of compaction finds it. Each
// runs in a process of its own, with its failpoint switched on.
func TestBugs(t *testing.T) {
	for _, bug := range []struct{ point, what string }{
		{"bugCompactTwice", "a row compacted twice: one of the files stays live"},
		{"bugRemovesUnchecked=return;bugRemovesGone", "a compaction outruns a revision: files are not " +
			"looked at again before the commit"},
		{"bugOriginsLost", "the tags of a compacted file deny rows that it has: a revision inserts them once more"},
		{"bugVacuumYoung", "a file vacuumed too early: between its upload and its commit"},
	} {
		t.Run(bug.point, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestCompactionKeepsRows$",
				"-test.timeout", "5m")
			cmd.Env = append(os.Environ(), "GOFAIL_FAILPOINTS="+bug.point+"=return")
			if out, err := cmd.CombinedOutput(); err == nil {
				t.Errorf("%s: not found\n%s", bug.what, out)
			} else if strings.Contains(string(out), "panic:") {
				t.Errorf("%s: a panic\n%s", bug.what, out)
			} else {
				t.Logf("%s: found by\n%.400s", bug.what, out)
			}
		})
	}
}
