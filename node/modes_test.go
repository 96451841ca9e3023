//go:build unix

package node

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/node/condition"
	"deckle/node/config"
)

// What a data folder has that others can read is tightened, through a link to the folder, too; what links point to
// elsewhere is not ours. What cannot be looked at is told.
func TestTighten(t *testing.T) {
	dir := t.TempDir()
	create := func(path string, mode fs.FileMode, folder bool) string {
		t.Helper()
		path = filepath.Join(dir, path)
		var err error
		if folder {
			err = os.MkdirAll(path, 0o700)
		} else {
			err = os.WriteFile(path, nil, 0o600)
		}
		if err == nil {
			err = os.Chmod(path, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	elsewhere := create("elsewhere", 0o644, false)
	for _, path := range []string{"data", "data/shard-0"} {
		create(path, 0o755, true)
	}
	create("data/identity", 0o640, false)
	create("data/shard-0/x", 0o606, false)
	if err := os.Symlink(elsewhere, filepath.Join(dir, "data", "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("data", filepath.Join(dir, "way")); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if left := tighten(filepath.Join(dir, "way"), log); left != "" {
		t.Errorf("left: %s", left)
	}
	for path, want := range map[string]fs.FileMode{"data": 0o700, "data/shard-0": 0o700, "data/identity": 0o600,
		"data/shard-0/x": 0o600, "elsewhere": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
	if left := tighten(filepath.Join(dir, "none"), log); left != "" {
		t.Errorf("a folder that is not there yet: %s", left)
	}
	if left := tighten(filepath.Join(dir, "data", "identity", "x"), log); left == "" {
		t.Error("a folder that cannot be looked at is passed over")
	}
}

// A secret or a lake that others can read is a condition until it is mended; a lake that is shared on purpose is none.
func TestFilesOpen(t *testing.T) {
	dir := t.TempDir()
	secret, lake := filepath.Join(dir, "secret"), filepath.Join(dir, "lake")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(lake, 0o700); err != nil {
		t.Fatal(err)
	}
	deps := Deps{FS: vfs.Default, Logger: slog.New(slog.DiscardHandler)}
	deps.complete()
	deps.complete() // Run does, and Open again
	cfg := &config.Config{Delta: &config.Delta{Path: lake},
		ClickHouse: &config.ClickHouse{Password: config.Secret{File: secret}}}
	w := &fileWatch{cfg: cfg, deps: &deps, list: condition.New("a", time.Now, deps.Logger)}
	for _, row := range []struct {
		path   string
		mode   fs.FileMode
		shared bool
		want   string
	}{
		{secret, 0o604, false, "chmod o-rwx " + secret}, {secret, 0o640, false, ""},
		{secret, 0o602, false, "clickhouse.password"}, {secret, 0o600, false, ""},
		{lake, 0o755, true, ""}, {lake, 0o755, false, "delta.shared: true"}, {lake, 0o700, false, ""},
	} {
		if err := os.Chmod(row.path, row.mode); err != nil {
			t.Fatal(err)
		}
		cfg.Delta.Shared = row.shared
		w.lookModes()
		got := ""
		for _, c := range w.list.Snapshot() {
			if c.ID == condition.FilesOpen && c.Subject == row.path {
				got = c.Text
			}
		}
		if (got == "") != (row.want == "") || !strings.Contains(got, row.want) {
			t.Errorf("%s %v, shared %v: %q, want %q", row.path, row.mode, row.shared, got, row.want)
		}
	}
}
