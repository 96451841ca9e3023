//go:build linux || darwin

package node

import (
	"strings"
	"syscall"
	"testing"
)

// A low soft limit is raised to the hard one: a node that ends for want of descriptors, after hours, has damaged
// nothing and served nobody.
func TestFilesAreRaised(t *testing.T) {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	low := syscall.Rlimit{Cur: before.Max / 2, Max: before.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err) // any process may lower its own soft limit
	}
	limit, ok := raiseFiles()
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if !ok || limit != before.Max {
		t.Errorf("limit %d, %v; hard is %d", limit, ok, before.Max)
	}
}

func TestJudgeFiles(t *testing.T) {
	for _, tc := range []struct {
		limit         uint64
		shards        int
		warning, fail string
	}{
		{1 << 20, 6, "", ""},
		{6256, 6, "", ""},
		{4096, 6, "may open 4096 files; a node of 6 shards may come to need 6256", ""},
		{255, 6, "", "needs at least 256"},
		{96, 1, "may come to need 1256", ""},
		{24, 1, "", "may open 24 files, and a node of 1 shards needs at least 96"},
	} {
		warning, err := judgeFiles(tc.limit, tc.shards)
		if !strings.Contains(warning, tc.warning) || (warning == "") != (tc.warning == "") ||
			(err == nil) != (tc.fail == "") || err != nil && !strings.Contains(err.Error(), tc.fail) {
			t.Errorf("%d, %d shards: %q, %v", tc.limit, tc.shards, warning, err)
		}
	}
}
