package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// tempPrefix hides unfinished files from List; readers of Delta skip names with a leading dot too.
	tempPrefix    = ".tmp-"
	writeCategory = vfs.DiskWriteCategory("delta")
)

// Local keeps objects as files below one folder. A put writes a temporary file in the same folder, syncs it, links
// (put-if-absent) or renames it to its name and syncs the folder.
type Local struct {
	fs   vfs.FS
	root string
	// unique makes the temporary names of this process distinct, owner those of several processes on one machine.
	unique  atomic.Uint64
	owner   string
	durable sync.Map                                  // folders whose names are on disk
	chmod   func(path string, mode fs.FileMode) error // nil: what is made is its user's alone
}

// NewLocal returns a store below root on fs; owner is a text unique to the process ([A-Za-z0-9_-]), used in the names
// of temporary files. It does no I/O; folders are made when first needed.
func NewLocal(fs vfs.FS, root, owner string) *Local {
	return &Local{fs: fs, root: fs.PathJoin(root), owner: owner}
}

// Share lets every user of the machine read what is put from now on, whatever the process's umask is: folders 0755,
// files 0644. chmod is os.Chmod.
func (l *Local) Share(chmod func(path string, mode fs.FileMode) error) { l.chmod = chmod }

// String implements Store.
func (l *Local) String() string { return "folder " + l.root }

// Put implements Store.
func (l *Local) Put(ctx context.Context, key string, data []byte) error {
	return l.put(ctx, key, bytesOf(data), func(temp, final string) error {
		if err := l.fs.Rename(temp, final); err != nil {
			return errors.Join(err, l.fs.Remove(temp))
		}
		return nil
	})
}

// PutIfAbsent implements Store.
func (l *Local) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	return l.put(ctx, key, bytesOf(data), l.link)
}

// PutStreamIfAbsent implements Store.
func (l *Local) PutStreamIfAbsent(ctx context.Context, key string, size int64, write func(io.Writer) error) error {
	return l.put(ctx, key, func(w io.Writer) error { return stream(w, size, write) }, l.link)
}

// link gives a file its name if that is free.
func (l *Local) link(temp, final string) error {
	err := l.fs.Link(temp, final)
	rerr := l.fs.Remove(temp)
	switch {
	case errors.Is(err, os.ErrExist):
		return ErrExists
	case err != nil:
		return err
	}
	return rerr
}

// bytesOf writes data.
func bytesOf(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// copies writes to a file in pieces of its own: a vfs.File may change the bytes that it is given, and they belong to
// the caller.
type copies struct {
	w   io.Writer
	buf [256 << 10]byte
}

func (c *copies) Write(p []byte) (written int, err error) {
	for {
		n := copy(c.buf[:], p)
		m, err := c.w.Write(c.buf[:n])
		if written += m; err != nil {
			return written, err
		}
		if p = p[n:]; len(p) == 0 {
			return written, nil
		}
	}
}

func (l *Local) put(ctx context.Context, key string, write func(io.Writer) error,
	publish func(temp, final string) error) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	dirs, name := splitKey(key)
	dir, err := l.makeDir(dirs)
	if err != nil {
		return fmt.Errorf("store: put %s: %w", key, err)
	}
	temp := l.fs.PathJoin(dir, fmt.Sprintf("%s%s-%d", tempPrefix, l.owner, l.unique.Add(1)))
	if err := l.writeFile(temp, write); err != nil {
		// Nothing but this call knows the temporary name, so removing it can hurt nobody.
		_ = l.fs.Remove(temp)
		return fmt.Errorf("store: put %s: %w", key, err)
	}
	if l.chmod != nil { // before it has a name under which somebody looks for it
		if err := l.chmod(temp, 0o644); err != nil {
			_ = l.fs.Remove(temp)
			return fmt.Errorf("store: put %s: %w", key, err)
		}
	}
	if err := publish(temp, l.fs.PathJoin(dir, name)); err != nil {
		if errors.Is(err, ErrExists) {
			return fmt.Errorf("put %s: %w", key, ErrExists)
		}
		return fmt.Errorf("store: put %s: %w", key, err)
	}
	if err := l.syncDir(dir); err != nil {
		return fmt.Errorf("store: put %s: %w", key, err)
	}
	return nil
}

func (l *Local) writeFile(path string, write func(io.Writer) error) error {
	f, err := l.fs.Create(path, writeCategory)
	if err != nil {
		return err
	}
	if err = write(&copies{w: f}); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// makeDir makes the folders of a key, and makes each one's name durable the first time this process meets it: one that
// exists may have been made by a process that died before it synced.
func (l *Local) makeDir(dirs []string) (string, error) {
	dir := l.root
	if err := l.durableDir(dir); err != nil {
		return "", err
	}
	for _, d := range dirs {
		dir = l.fs.PathJoin(dir, d)
		if err := l.durableDir(dir); err != nil {
			return "", err
		}
	}
	return dir, nil
}

func (l *Local) durableDir(dir string) error {
	if _, ok := l.durable.Load(dir); ok {
		return nil
	}
	parent := l.fs.PathDir(dir)
	if parent == dir {
		return nil // the root of the file system, or the working folder
	}
	if len(dir) < len(l.root) {
		// The folder is above the store's root. If it exists, it does not belong to this store and may not be readable.
		if _, err := l.fs.Stat(dir); err == nil {
			return nil
		}
	}
	if err := l.durableDir(parent); err != nil {
		return err
	}
	_, err := l.fs.Stat(dir)
	ours := err != nil || len(dir) >= len(l.root)
	if err := l.fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if l.chmod != nil && ours {
		info, err := l.fs.Stat(dir)
		if err == nil && info.Mode()&0o055 != 0o055 {
			err = l.chmod(dir, 0o755)
		}
		if err != nil {
			return err
		}
	}
	if err := l.syncDir(parent); err != nil {
		return err
	}
	l.durable.Store(dir, struct{}{})
	return nil
}

// SyncNames syncs the folder of key, and the first time the folders above it too. The process that linked an object
// which can be read there may have failed to sync the folder, or may have died before. The bytes of the object were
// synced before it got its name.
func (l *Local) SyncNames(ctx context.Context, key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	dirs, _ := splitKey(key)
	dir, err := l.makeDir(dirs)
	if err == nil {
		err = l.syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("store: sync the folder of %s: %w", key, err)
	}
	return nil
}

func (l *Local) syncDir(dir string) error {
	d, err := l.fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Get implements Store.
func (l *Local) Get(ctx context.Context, key string) ([]byte, error) {
	if err := CheckForeign(key); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := l.fs.Open(l.path(key), vfs.SequentialReadsOption)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("get %s: %w", key, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("store: get %s: %w", key, err)
	}
	data, err := readAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("store: get %s: %w", key, err)
	}
	return data, nil
}

// GetRange implements Store. An image is the file's time and size: objects are made anew, never changed.
func (l *Local) GetRange(ctx context.Context, key string, off int64, p []byte) (r Range, err error) {
	if err := CheckForeign(key); err != nil {
		return r, err
	}
	if err := ctx.Err(); err != nil {
		return r, err
	}
	f, err := l.fs.Open(l.path(key))
	if errors.Is(err, os.ErrNotExist) {
		return r, fmt.Errorf("get %s: %w", key, ErrNotFound)
	}
	if err != nil {
		return r, fmt.Errorf("store: get %s: %w", key, err)
	}
	r, err = readRange(f, off, p)
	if err = errors.Join(err, f.Close()); err != nil {
		return Range{}, fmt.Errorf("store: get %s: %w", key, err)
	}
	return r, nil
}

func readRange(f vfs.File, off int64, p []byte) (r Range, err error) {
	st, err := f.Stat()
	if err != nil {
		return r, err
	}
	r.Size, r.Image = st.Size(), fmt.Sprintf("%d-%d", st.ModTime().UnixNano(), st.Size())
	if off < 0 {
		off = max(0, r.Size-int64(len(p)))
	}
	if off >= r.Size {
		return r, ErrRange
	}
	r.N, err = f.ReadAt(p[:min(int64(len(p)), r.Size-off)], off)
	if errors.Is(err, io.EOF) && off+int64(r.N) == r.Size {
		err = nil
	}
	return r, err
}

func readAll(f vfs.File) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, st.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, err
	}
	return data, nil
}

// List implements Store.
func (l *Local) List(ctx context.Context, prefix, startAfter string, yield func(Info) error) error {
	dir := ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		dir = prefix[:i]
	}
	var found []Info
	if err := l.walk(ctx, dir, prefix, startAfter, &found); err != nil {
		return fmt.Errorf("store: list %s: %w", prefix, err)
	}
	slices.SortFunc(found, func(a, b Info) int { return cmp.Compare(a.Key, b.Key) })
	for _, info := range found {
		if err := yield(info); err != nil {
			return err
		}
	}
	return nil
}

func (l *Local) walk(ctx context.Context, dir, prefix, startAfter string, found *[]Info) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	names, err := l.fs.List(l.path(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		key := name
		if dir != "" {
			key = dir + "/" + name
		}
		if strings.HasPrefix(name, tempPrefix) || !strings.HasPrefix(key, prefix) &&
			!strings.HasPrefix(prefix, key+"/") {
			continue
		}
		// '0' follows '/': neither the file of this name nor anything in a folder of this name comes after startAfter.
		// The name alone decides, so that listing the end of a long log costs no stat of each file before it.
		if startAfter >= key+"0" {
			continue
		}
		st, err := l.fs.Stat(l.path(key))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return err
		}
		if st.IsDir() {
			if err := l.walk(ctx, key, prefix, startAfter, found); err != nil {
				return err
			}
		} else if key > startAfter && strings.HasPrefix(key, prefix) {
			*found = append(*found, Info{Key: key, Size: st.Size(), Modified: st.ModTime()})
		}
	}
	return nil
}

// Delete implements Store.
func (l *Local) Delete(ctx context.Context, key string) error {
	if err := CheckForeign(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := l.fs.Remove(l.path(key)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("store: delete %s: %w", key, err)
	}
	return nil
}

func (l *Local) path(key string) string {
	if key == "" {
		return l.root
	}
	return l.fs.PathJoin(append([]string{l.root}, strings.Split(key, "/")...)...)
}

func splitKey(key string) (dirs []string, name string) {
	els := strings.Split(key, "/")
	return els[:len(els)-1], els[len(els)-1]
}
