//go:build unix

package node

import (
	"os"
	"syscall"

	"deckle/node/status"
)

// raiseFiles raises the number of files that the process may open to the hard limit, and returns what it is now.
func raiseFiles() (limit uint64, ok bool) {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 0, false
	}
	if r.Cur < r.Max {
		raised := syscall.Rlimit{Cur: r.Max, Max: r.Max}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			r = raised
		}
	}
	return uint64(r.Cur), true //nolint:unconvert // an int64 on some systems
}

// openFilesNow tells how many files the process has open, and how many it may have; zero if the system does not tell.
func openFilesNow() (f status.Fill) {
	d, err := os.Open("/dev/fd")
	if err != nil {
		return f
	}
	names, err := d.Readdirnames(-1)
	_ = d.Close()
	var r syscall.Rlimit
	if err != nil || syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return f
	}
	return status.Fill{Used: int64(len(names) - 1), Limit: int64(r.Cur)} // but for the one that was read
}
