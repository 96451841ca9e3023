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

// DamageError says that files of the store cannot be read back as they were written: a checksum does not fit, or a file
// is gone. It concerns the disk of this replica alone. An error that every replica would meet (an entry that does not
// decode, a batch that is too large) is not damage; otherwise one bad entry would make all replicas give up their
// folders.
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

// Damaged tells the owner of the folder that the folder is lost. The owner knows errors by their methods only.
func (e *DamageError) Damaged() bool { return true }

// damaged turns an error of an open store into a DamageError if Pebble blames a file for it. Pebble's mark "corruption"
// is not enough: Pebble also marks broken batches and keys in memory with it.
func damaged(dir string, err error) error {
	var d *DamageError
	if err == nil || errors.As(err, &d) || pebble.ExtractDataCorruptionInfo(err) == nil {
		return err
	}
	return &DamageError{dir, err}
}

// damagedAtOpen does the same for an error of opening the store. Nothing is in memory yet, so everything corrupt comes
// from a file, and a file that is missing once existed. A lock, a full disk or a failed read is not damage.
func damagedAtOpen(dir string, err error) error {
	if pebble.IsCorruptionError(err) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, pebble.ErrDBNotPristine) ||
		otherSize(err) {
		return &DamageError{dir, err}
	}
	return err
}

// otherSize says that a table is of another size than the MANIFEST has: it was cut off, or the beginning of a sealed
// file does not fit its key any more, whose size is not known then. Pebble marks the error with nothing, so there is
// its text alone; TestTableOfAnotherSize fails if a newer Pebble has another one.
func otherSize(err error) bool {
	return err != nil && strings.Contains(err.Error(), "object size mismatch")
}

// verifyTables reads every block of every table in dir and compares it with its checksum. Otherwise a copy could carry
// damage that nobody has read yet to another replica.
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
