//go:build unix

package main

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// ownFilesOnly has every file and folder that the process makes from now on be its user's alone, whoever makes it.
func ownFilesOnly() { syscall.Umask(0o077) }

// keepOwner gives a file the owner and the group of the one in whose place it comes.
func keepOwner(f *os.File, old fs.FileInfo) error {
	was, ok := old.Sys().(*syscall.Stat_t)
	info, err := f.Stat()
	if err != nil || !ok {
		return err
	}
	if now, ok := info.Sys().(*syscall.Stat_t); ok && now.Uid == was.Uid && now.Gid == was.Gid {
		return nil
	}
	if err := f.Chown(int(was.Uid), int(was.Gid)); err != nil {
		return fmt.Errorf("it belongs to another user or group, who would lose it: %w", err)
	}
	return nil
}
