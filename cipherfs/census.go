package cipherfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// census is what the first bytes of a folder's files say.
type census struct {
	sealed   map[KeyID][]string // files by the key that they are sealed with
	plain    []string           // files that begin, or end, like one of our plain formats
	unknown  []string           // files with neither
	broken   []string           // files that were begun by a layer, without a whole header: a crash may leave one so
	leftover []string           // temporary files of an interrupted Rewrite
	size     map[string]int64   // bytes on disk, of all of these but the leftover ones
}

// needed returns, by id, one of the files that need a key.
func (c *census) needed() map[KeyID]string {
	needed := map[KeyID]string{}
	for id, paths := range c.sealed {
		needed[id] = paths[0]
	}
	return needed
}

// take reads the beginning of every file below dir. A folder that is missing has none. Files that vanish meanwhile do
// not count, so it can be done beside a running node.
func take(fsys vfs.FS, dir string, outside []string) (*census, error) {
	c := &census{sealed: map[KeyID][]string{}, size: map[string]int64{}}
	names, err := fsys.List(dir)
	if err == nil {
		err = c.walk(fsys, dir, names, func(path, name string) bool {
			return unsealed[name] && path == fsys.PathJoin(dir, name) || slices.Contains(outside, path)
		})
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cipherfs: look at %s: %w", dir, err)
	}
	return c, nil
}

func (c *census) walk(fsys vfs.FS, dir string, names []string, skip func(path, name string) bool) error {
	slices.Sort(names)
	for _, name := range names {
		path := fsys.PathJoin(dir, name)
		if skip(path, name) {
			continue
		}
		info, err := fsys.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		case info.IsDir():
			within, unread := fsys.List(path)
			if errors.Is(unread, fs.ErrPermission) {
				continue // lost+found, say; a folder of ours is met by its owner
			}
			if err = unread; err == nil {
				err = c.walk(fsys, path, within, skip)
			}
		case !info.Mode().IsRegular(): // to open a pipe would wait for its other end
		case strings.HasSuffix(name, rewriteSuffix):
			c.leftover = append(c.leftover, path)
		case info.Size() > 0:
			err = c.count(fsys, path, info.Size())
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (c *census) count(fsys vfs.FS, path string, size int64) error {
	f, err := fsys.Open(path)
	if err != nil {
		return err
	}
	first, err := readPiece(f, 0, headerBytes)
	var last []byte
	if err == nil && !isSealed(first) {
		last, err = readPiece(f, max(size-8, 0), 8)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	c.size[path] = size
	h, err := decodeHeader(first)
	switch {
	case err == nil:
		c.sealed[h.key] = append(c.sealed[h.key], path)
	case !errors.Is(err, errHeader):
		return fmt.Errorf("%s: %w", path, err)
	case isSealed(first):
		c.broken = append(c.broken, path)
	case isPlain(first, last):
		c.plain = append(c.plain, path)
	default:
		c.unknown = append(c.unknown, path)
	}
	return nil
}

// readPiece reads up to n bytes.
func readPiece(f io.ReaderAt, off int64, n int) ([]byte, error) {
	b := make([]byte, n)
	n, err := f.ReadAt(b, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

// endings are of Pebble's tables and value files.
var endings = []string{
	"\xf0\x9f\xaa\xb3\xf0\x9f\xaa\xb3", "\xf7\xcf\xf4\x85\xb7\x41\xe2\x88",
	"\xf0\x9f\xaa\xb3\xf0\x9f\xa6\x80",
}

// isPlain tells whether a file begins, or ends, like one of the formats that a node writes: a segment of the log, JSON,
// a table, options or a manifest of Pebble.
func isPlain(first, last []byte) bool {
	return bytes.HasPrefix(first, []byte("DECKLWAL")) || bytes.HasPrefix(first, []byte("{")) ||
		bytes.HasPrefix(first, []byte("[Version]")) || bytes.Contains(first, []byte("leveldb.BytewiseComparator")) ||
		slices.Contains(endings, string(last))
}
