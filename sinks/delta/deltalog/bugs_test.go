//go:build gofail

package deltalog

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestBugs: each planted fault of the log is found by a test. Each runs in a process of its own, with its failpoint
// switched on.
func TestBugs(t *testing.T) {
	for _, bug := range []struct{ by, point, what string }{
		{"TestChangeFeed", "bugFeedMixed", "a commit with files of changes has files that others only add: readers " +
			"of the feed miss those rows"},
		{"TestRestoreByAnother", "bugRestoreUnnoticed", "nobody knows of a RESTORE who reads the log from a later " +
			"checkpoint: revisions stand on files that are gone"},
		{"TestTxnBack", "bugTxnBack", "a shard goes on whose txn was set back: rows are lost or doubled"},
		{"TestInCommitTimestamps", "bugStampMissing", "a commit without a timestamp in a table that has them"},
	} {
		t.Run(bug.point, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+bug.by+"$", "-test.timeout", "5m",
				"-test.failfast")
			cmd.Env = append(os.Environ(), "GOFAIL_FAILPOINTS="+bug.point+"=return")
			switch out, err := cmd.CombinedOutput(); {
			case err == nil:
				t.Errorf("%s: not found\n%s", bug.what, out)
			case strings.Contains(string(out), "panic:"):
				t.Errorf("%s: a panic\n%s", bug.what, out)
			default:
				t.Logf("%s: found by\n%.400s", bug.what, out)
			}
		})
	}
}
