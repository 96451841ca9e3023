package raftstore

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A sealed file is one line of JSON and one line with its CRC32C. It is replaced as a whole, durably: a crash leaves
// the old one or the new one.

// writeSealed replaces a sealed file, durably.
func writeSealed(fsys vfs.FS, path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("raftstore: encode %s: %w", path, err)
	}
	b = fmt.Appendf(append(b, '\n'), "%08x\n", crc32.Checksum(b, castagnoli))
	tmp := path + temporarySuffix
	if err := writeFile(fsys, tmp, b); err != nil {
		return err
	}
	if err := fsys.Rename(tmp, path); err != nil {
		return fmt.Errorf("raftstore: rename %s: %w", path, err)
	}
	return syncDir(fsys, fsys.PathDir(path))
}

// readSealed reads a sealed file of at most 1 MiB into v. A missing file gives an error that is fs.ErrNotExist, one
// that does not fit its checksum errSealBroken.
func readSealed(fsys vfs.FS, path string, v any) error {
	f, err := fsys.Open(path)
	if err != nil {
		return fmt.Errorf("raftstore: open %s: %w", path, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("raftstore: read %s: %w", path, err)
	}
	if err := unseal(b, v); err != nil {
		return fmt.Errorf("raftstore: %s: %w", path, err)
	}
	return nil
}

func unseal(b []byte, v any) error {
	body, seal, ok := bytes.Cut(b, []byte("\n"))
	if !ok || string(seal) != fmt.Sprintf("%08x\n", crc32.Checksum(body, castagnoli)) {
		return fmt.Errorf("%w: checksum", errSealBroken)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: %w", errSealBroken, err)
	}
	return nil
}

func writeFile(fsys vfs.FS, path string, b []byte) error {
	f, err := fsys.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("raftstore: create %s: %w", path, err)
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("raftstore: write %s: %w", path, err)
	}
	return nil
}

func syncDir(fsys vfs.FS, dir string) error {
	d, err := fsys.OpenDir(dir)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("raftstore: sync folder %s: %w", dir, err)
	}
	return nil
}

func exists(fsys vfs.FS, path string) (bool, error) {
	switch _, err := fsys.Stat(path); {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, fmt.Errorf("raftstore: stat %s: %w", path, err)
	}
}

// makeDir creates a folder, and its parents, and makes their names durable. The name of a folder that is there already
// is made durable too, as far as access rights allow: the process that created it may have ended before it did so, and
// a power cut would then take the whole node.
func makeDir(fsys vfs.FS, dir string) error {
	var created []string
	for d := dir; ; d = fsys.PathDir(d) {
		ok, err := exists(fsys, d)
		if err != nil {
			return err
		}
		if ok || d == fsys.PathDir(d) {
			break
		}
		created = append(created, d)
	}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("raftstore: create %s: %w", dir, err)
	}
	parent := func(d string) string { return cmp.Or(fsys.PathDir(d), ".") }
	for _, d := range created {
		if err := syncDir(fsys, parent(d)); err != nil {
			return err
		}
	}
	if len(created) == 0 {
		if err := syncDir(fsys, parent(dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

// removeAll removes a file or a folder with all that is in it; one that is not there is no error.
func removeAll(fsys vfs.FS, path string) error {
	if err := fsys.RemoveAll(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("raftstore: remove %s: %w", path, err)
	}
	return nil
}
