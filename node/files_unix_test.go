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
		several       bool
		warning, fail string
	}{
		{1 << 20, 6, true, "", ""},
		{6256, 6, true, "", ""},
		{4096, 6, true, "may open 4096 files; a node of 6 shards may come to need 6256", ""},
		{368, 6, true, "may come to need 6256", ""},
		{367, 6, true, "", "needs at least 368"},
		{112, 1, false, "may come to need 1256", ""},
		{111, 1, false, "", "may open 111 files, and a node of 1 shards needs at least 112"},
	} {
		warning, err := judgeFiles(tc.limit, tc.shards, tc.several)
		if !strings.Contains(warning, tc.warning) || (warning == "") != (tc.warning == "") ||
			(err == nil) != (tc.fail == "") || err != nil && !strings.Contains(err.Error(), tc.fail) {
			t.Errorf("%d, %d shards: %q, %v", tc.limit, tc.shards, warning, err)
		}
	}
}

// Strangers get a part of the descriptors that storage and the other connections do not need, however few or many
// there are.
func TestConnectionsOf(t *testing.T) {
	for _, tc := range []struct {
		limit, least uint64
		wanted, want int
	}{
		{1 << 20, 368, 0, 512}, {400, 112, 0, 72}, {368, 368, 0, 8}, {100, 368, 0, 8}, {1 << 62, 0, 0, 512},
		{400, 112, 8, 8}, {400, 112, 100, 100}, {400, 112, 1000, 144}, {368, 368, 1000, 8}, {1 << 20, 368, 4096, 4096},
	} {
		if got := connectionsOf(tc.limit, tc.least, tc.wanted); got != tc.want {
			t.Errorf("%+v: %d", tc, got)
		}
	}
}
