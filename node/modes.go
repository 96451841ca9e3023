package node

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/node/condition"
)

// What others than a file's owner may do by its mode.
const (
	openToAny    = 0o077 // of whom some may be of its group
	openToOthers = 0o007
)

// tighten takes from everybody but their owner what they may do with the files and folders below dir: an earlier
// version, or a copy, has made them. It returns what could not be tightened, "" for nothing. Links are left alone.
func tighten(dir string, log *slog.Logger) (left string) {
	if runtime.GOOS == "windows" { // modes mean nothing there
		return ""
	}
	root, err := filepath.EvalSymlinks(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ""
	case err != nil:
		return err.Error()
	}
	var tightened, open int
	var first error
	keep := func(err error) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a file may go meanwhile
			if open++; first == nil {
				first = err
			}
		}
	}
	keep(filepath.WalkDir(root, func(path string, d fs.DirEntry, unread error) error {
		if d == nil {
			keep(unread)
			return nil
		}
		info, err := d.Info()
		switch {
		case err != nil:
			keep(err)
		case d.Type()&fs.ModeSymlink != 0:
		case info.Mode()&openToAny == 0: // what this user cannot read of it, no other can: lost+found, for example
		case unread != nil:
			keep(unread)
		default:
			if err := closeToOthers(path, info.Mode()); err != nil {
				keep(fmt.Errorf("mode %04o: %w", info.Mode().Perm(), err))
			} else {
				tightened++
			}
		}
		return nil
	}))
	if tightened > 0 {
		log.Info("what others could read in the data folder is this user's alone now", "dir", dir, "changed", tightened)
	}
	if open > 0 {
		return fmt.Sprintf("%d files or folders are open to other users of the machine, or may be, and could not be "+
			"tightened; the first: %v", open, first)
	}
	return ""
}

// tightenData has the data folder be its user's alone.
func (w *fileWatch) tightenData() {
	if w.deps.FS == vfs.Default {
		w.list.Keep(condition.FilesOpen, w.cfg.DataDir, tighten(w.cfg.DataDir, w.deps.Logger))
	}
}

// closeToOthers changes a mode, and looks whether it has: some file systems have one for all files.
func closeToOthers(path string, mode fs.FileMode) error {
	if err := os.Chmod(path, mode&^openToAny); err != nil {
		return err
	}
	if info, err := os.Lstat(path); err != nil || info.Mode()&openToAny == 0 {
		return err
	}
	return fmt.Errorf("chmod %s: the file system keeps the mode", path)
}

// lookModes brings the conditions about files that others can read up to date: secrets and keys, and a local lake.
func (w *fileWatch) lookModes() {
	for _, s := range w.cfg.SecretFiles() {
		text := ""
		if info, err := w.deps.stat(s.Path); err == nil && info.Mode()&openToOthers != 0 {
			text = fmt.Sprintf("%s (%s): every user of the machine can read or change it (mode %04o): chmod o-rwx %s",
				s.Path, s.Key, info.Mode().Perm(), s.Path)
		}
		w.list.Keep(condition.FilesOpen, s.Path, text)
	}
	d := w.cfg.Delta
	if d == nil || d.Path == "" || d.Shared || w.deps.FS != vfs.Default {
		return
	}
	text := ""
	if info, err := w.deps.stat(d.Path); err == nil && info.Mode()&openToOthers != 0 {
		text = fmt.Sprintf("delta.path: every user of the machine can read what is in it, or list it (mode %04o). "+
			"Either chmod -R go-rwx %s, or delta.shared: true", info.Mode().Perm(), d.Path)
	}
	w.list.Keep(condition.FilesOpen, d.Path, text)
}
