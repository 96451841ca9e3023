//go:build unix

package store_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/sinks/delta/store"
)

// What is put into a local folder is its user's alone, or every user may read it if it is shared, whatever the umask
// is.
func TestModesOfLocal(t *testing.T) {
	before := syscall.Umask(0o077)
	defer syscall.Umask(before)
	for _, shared := range []bool{false, true} {
		root := filepath.Join(t.TempDir(), "above", "lake")
		s := store.NewLocal(vfs.Default, root, "t")
		folder, file := fs.FileMode(0o700), fs.FileMode(0o600)
		if shared {
			s.Share(os.Chmod)
			folder, file = 0o755, 0o644
		}
		if err := s.Put(t.Context(), "events/p=1/a", []byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := s.PutIfAbsent(t.Context(), "events/_delta_log/0.json", []byte("x")); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]fs.FileMode{"..": folder, "": folder, "events": folder, "events/p=1": folder,
			"events/p=1/a": file, "events/_delta_log/0.json": file} {
			if info, err := os.Stat(filepath.Join(root, path)); err != nil || info.Mode().Perm() != want {
				t.Errorf("shared %v: %q has %v, %v; want %v", shared, path, info.Mode(), err, want)
			}
		}
	}
}
