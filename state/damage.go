package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// DamageError says that files of the store cannot be read back as they were written: a checksum that does not fit, or a
// file that is gone. It is about this replica's disk alone. Whatever every replica would meet alike (an entry that does
// not decode, a batch too large) is none, or one bad entry would make all of them give up their folders.
type DamageError struct {
	Dir string
	Err error
}

// Error names the folder and what was found there.
func (e *DamageError) Error() string {
	return fmt.Sprintf("state: damaged files in %s: %v", e.Dir, e.Err)
}

// Unwrap returns what Pebble said.
func (e *DamageError) Unwrap() error { return e.Err }

// Damaged tells the owner of the folder, which knows errors only by their methods, that the folder is lost.
func (e *DamageError) Damaged() bool { return true }

// damaged makes a DamageError of an error of an open store if Pebble has blamed a file for it. Its mark "corruption"
// alone is not enough: it stands on broken batches and keys in memory, too.
func damaged(dir string, err error) error {
	var d *DamageError
	if err == nil || errors.As(err, &d) || pebble.ExtractDataCorruptionInfo(err) == nil {
		return err
	}
	return &DamageError{dir, err}
}

// damagedAtOpen does the same for an error of opening the store, which has nothing in memory yet: everything that is
// corrupt comes from a file, and a file that is missing was there. A lock, a full disk or a failed read is no damage.
func damagedAtOpen(dir string, err error) error {
	if pebble.IsCorruptionError(err) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, pebble.ErrDBNotPristine) {
		return &DamageError{dir, err}
	}
	return err
}

// verifyTables reads every block of every table in dir and compares it with its checksum. A copy that goes to another
// replica must not carry damage there which nobody has read here yet.
func verifyTables(fsys vfs.FS, dir string) error {
	names, err := fsys.List(dir)
	if err != nil {
		return fmt.Errorf("listing %s: %w", dir, err)
	}
	for _, n := range names {
		if !strings.HasSuffix(n, ".sst") {
			continue
		}
		if err := verifyTable(fsys, fsys.PathJoin(dir, n)); err != nil {
			if err = fmt.Errorf("table %s: %w", n, err); pebble.IsCorruptionError(err) {
				return &DamageError{dir, err}
			}
			return err
		}
	}
	return nil
}

func verifyTable(fsys vfs.FS, path string) error {
	f, err := fsys.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	src, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(context.Background(), src, sstable.ReaderOptions{})
	if err != nil {
		return errors.Join(err, src.Close())
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}
