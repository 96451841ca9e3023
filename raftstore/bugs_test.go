//go:build gofail

package raftstore

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestBugs: each planted bug of this package that no simulated fault could bring out, since it takes a liar, is caught
// by the test of that lie. Each runs in a process of its own, with the failpoint switched on.
func TestBugs(t *testing.T) {
	for point, test := range map[string]string{
		"bugSnapshotOfAnybody": "TestStrangers",           // who sends a snapshot is not looked at
		"bugForgetReplaced":    "TestReplacedIncarnation", // a restart forgets who was replaced
		"bugAnswersUnbound":    "TestFalseAnswers",        // the bound of terms holds for requests only
	} {
		t.Run(point, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+test+"$", "-test.timeout", "2m")
			cmd.Env = append(os.Environ(), "GOFAIL_FAILPOINTS="+point+"=return")
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: "+test) {
				t.Errorf("%s does not catch it: %v\n%s", test, err, out)
			}
		})
	}
}
