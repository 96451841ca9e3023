//go:build gofail

package vacuum

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestBugs: each planted fault of vacuum loses a file that is needed, and a test finds it. Each runs in a
// process of its own, with its failpoints switched on.
func TestBugs(t *testing.T) {
	for _, points := range [][]string{
		{"bugVacuumLogFirst", "bugVacuumNoLook"},          // a snapshot from before the listing says what is live
		{"bugVacuumAgeAlone"},                             // age alone decides
		{"bugVacuumNewestOnly", "bugVacuumForgetRemoved"}, // only what is live now is kept, not inside the retention
		{"bugVacuumYoung"},                                // age is not asked: what is staged goes
		{"bugVacuumVector"},                               // deletion vectors are not looked at
	} {
		t.Run(strings.Join(points, ","), func(t *testing.T) {
			test := "TestVacuumKeepsWhatIsNeeded"
			if points[0] == "bugVacuumVector" {
				test = "TestVectorsStay"
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+test+"$", "-test.timeout", "2m")
			cmd.Env = append(os.Environ(), "GOFAIL_FAILPOINTS="+strings.Join(points, "=return;")+"=return")
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: "+test) {
				t.Errorf("%s does not find it: %v\n%s", test, err, out)
			}
		})
	}
}
