package state

import (
	"errors"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// formerDir is where the former state waits while Restore puts another one in its place.
func formerDir(dir string) string { return dir + ".old" }

// finishRestore ends a Restore, which may have been interrupted at any step. If dir is missing, the former state is put
// back; otherwise the former state is removed, once the name of dir is durable.
func finishRestore(fs vfs.FS, dir string) error {
	former := formerDir(dir)
	if _, err := fs.Stat(former); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("state: restore: %w", err)
	}
	_, err := fs.Stat(dir)
	back := errors.Is(err, os.ErrNotExist)
	if back {
		err = fs.Rename(former, dir)
	}
	if err == nil {
		err = syncDir(fs, fs.PathDir(dir))
	}
	if err == nil && !back {
		err = fs.RemoveAll(former)
	}
	if err != nil {
		return fmt.Errorf("state: restore: %w", err)
	}
	return nil
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
