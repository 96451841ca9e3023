//go:build unix

package main

import (
	"fmt"
	"syscall"
)

// keepCoresEmpty sees to it that the end of this process leaves no core dump: the keys, and what is sealed with them,
// would stand in it.
func keepCoresEmpty() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("turn off core dumps: %w", err)
	}
	return nil
}
