package node

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FuzzBudgetFile: the file holds a positive number, or is damaged.
func FuzzBudgetFile(f *testing.F) {
	f.Add([]byte(`{"disk_bytes":1024}` + "\n"))
	f.Add([]byte(`{"disk_bytes":-1}`))
	f.Add([]byte(`{"disk_bytes":1e99}`))
	f.Add([]byte(`{"disk_bytes":5}{"disk_bytes":6}`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		fsys := vfs.NewMem()
		file, err := fsys.Create("budget", vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = file.Write(b)
		}
		if err = errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		n, err := readBudget(fsys, "budget")
		if err == nil && n <= 0 || err != nil && (!errors.Is(err, errBudgetFile) || errors.Is(err, fs.ErrNotExist)) {
			t.Fatalf("%q: %d, %v", b, n, err)
		}
	})
}
