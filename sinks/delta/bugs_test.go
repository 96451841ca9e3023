//go:build gofail

package delta

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestBugs: each planted fault loses a row, brings one back or makes it stand twice, and a property test finds it: of
// compaction, of shared commits, or of deletion. Each runs in a process of its own, with its failpoint switched on.
func TestBugs(t *testing.T) {
	const compaction, sharing = "TestCompactionKeepsRows", "TestSharedCommits"
	const deletion, hidden, hiding = "TestDeletedStaysDeletedProperty", "TestHiddenRows", "TestHide"
	for _, bug := range []struct{ by, point, what string }{
		{compaction, "bugCompactTwice", "a row compacted twice: one of the files stays live"},
		{compaction, "bugRemovesUnchecked=return;bugRemovesGone", "a compaction outruns a revision: files are not " +
			"looked at again before the commit"},
		{compaction, "bugOriginsLost", "the tags of a compacted file deny rows that it has: a revision inserts them " +
			"once more"},
		{compaction, "bugOthersLost", "values of another tool's columns are left out of a compacted file"},
		{compaction, "bugVacuumYoung", "a file vacuumed too early: between its upload and its commit"},
		{sharing, "bugSharedTxnLost", "the last txn of a shared commit is lost"},
		{sharing, "bugSharedTrusted=return;bugSharedTxnLost", "the same, and no node looks"},
		{sharing, "bugSharedAddLost", "the last add of a shared commit is lost"},
		{sharing, "bugSharedTrusted=return;bugSharedAddLost", "the same, and no node looks"},
		{sharing, "bugSharedSplit", "an offer of which a part is in the log is committed whole"},
		{sharing, "bugSharedTrusted", "acknowledged on the committer's word"},
		{sharing, "bugJoinedRowsLost", "a shard's events are lost in a file of several: no such file is committed"},
		{sharing, "bugJoinedUncounted=return;bugJoinedRowsLost", "the same, and nobody counts the rows"},
		{sharing, "bugJoinedUncounted=return;bugJoinedSessionsLost", "a session is lost in a file of several shards"},
		{sharing, "bugOriginsLost", "the tags of a file miss a shard: a revision inserts its rows once more"},
		{sharing, "bugJoinedStatsNarrow", "a bound of a file of several shards is too narrow"},
		{sharing, "bugPassTxnLost", "the commit of a pass for several shards moves the txn of one of them"},
		{sharing, "bugPassOfOne", "a pass for several shards has the rows of one of them"},
		{deletion, "bugDeletedComesBack", "a revision writes a row that another tool has deleted"},
		{hidden, "bugVectorUnchecked", "rows are hidden between the reading of a file and its replacement"},
		{hiding, "bugVectorForgets", "a new deletion vector lacks what was hidden before"},
		{hiding, "bugVectorTwin", "the image that is replaced by one in another file is not hidden"},
		{"TestHideBesideAnother", "bugVectorUnchecked", "two revisions of a file have other vectors, both are taken"},
		{"TestHideObeys", "bugVectorsUnwanted", "rows are hidden in a table whose readers do not know it any more"},
		{hidden, "bugVectorIgnored", "what a vector hides is found by ranges"},
		{hidden, "bugVectorIgnoredWhole", "what a vector hides is read in whole files"},
		{"TestCompactionOfHidden", "bugCompactHidden", "compaction writes what a vector hides"},
		{deletion, "bugUnwrittenStands", "a row that was never written is taken for a deleted one: it is lost"},
	} {
		t.Run(bug.point, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+bug.by+"$",
				"-test.timeout", "5m", "-test.failfast")
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
