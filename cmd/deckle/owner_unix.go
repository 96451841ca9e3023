//go:build unix

package main

import (
	"fmt"
	"os"
	"syscall"
)

// checkOwner refuses to change a folder for another user: what is written there would belong to this one, and the node
// could not read it.
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && int(s.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, and what this process writes would belong to user %d: run the "+
			"command as the user of the node, e.g. with sudo -u", dir, s.Uid, os.Geteuid())
	}
	return nil
}
