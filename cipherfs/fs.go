package cipherfs

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options of a layer. FS and at least one key are required.
type Options struct {
	FS   vfs.FS
	Keys []*Key // the first seals new files, all open old ones
	// Plain accepts files without a header: they are read as they are. Otherwise Prove refuses those that it knows, and
	// all others read as empty.
	Plain bool
	// NewPlain leaves new files plain, the identity aside: the way back from encryption. It accepts plain files, too.
	NewPlain bool
	// Lock is the path of the lock that its user holds on the folder: what Folder.Begin and Rewrite change, they change
	// under it. Optional.
	Lock   string
	Logger *slog.Logger // default: none

	// Discard are folders that Rewrite removes first instead of rewriting what is in them. Optional.
	Discard []string
	// Progress is called by Rewrite after each file: what is done, of all that there is to do. Optional.
	Progress func(done, all Count)

	chunk int       // of new files; 16 KiB if 0
	rand  io.Reader // of salts; crypto/rand if nil
}

func (o *Options) plain() bool { return o.Plain || o.NewPlain }

// FS is a file system whose files are sealed on the one below it. It seals what Create makes, opens what Open is
// given, and passes folders, names, links and locks through. It may be used from any goroutine.
type FS struct {
	below    vfs.FS
	keys     map[KeyID]*Key
	first    *Key
	plain    bool
	newPlain bool
	chunk    int
	rand     io.Reader
	log      *slog.Logger

	cache       cache
	handles     atomic.Uint64
	unauthentic atomic.Uint64
}

var _ vfs.FS = (*FS)(nil)

// New returns a layer over o.FS. It trusts the keys that it is given: Prove has to come first.
func New(o Options) (*FS, error) {
	if o.FS == nil || len(o.Keys) == 0 {
		return nil, errors.New("cipherfs: a file system and at least one key are required")
	}
	f := &FS{below: o.FS, keys: map[KeyID]*Key{}, first: o.Keys[0], plain: o.plain(), newPlain: o.NewPlain,
		chunk: o.chunk, rand: o.rand, log: o.Logger}
	for _, k := range o.Keys {
		f.keys[k.id] = k
	}
	if f.chunk == 0 {
		f.chunk = defaultChunk
	}
	if f.rand == nil {
		f.rand = rand.Reader
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	return f, nil
}

// Unauthentic counts how often bytes were read that were not what was sealed, and read as zeros.
func (f *FS) Unauthentic() uint64 { return f.unauthentic.Load() }

func (f *FS) given() (ids []KeyID) {
	for id := range f.keys {
		ids = append(ids, id)
	}
	return ids
}

// Create creates a file that is sealed with the first key. A salt of its own gives each file a key of its own.
func (f *FS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if f.newPlain && !isIdentity(f.below.PathBase(name)) {
		return f.below.Create(name, category)
	}
	return f.create(name, category)
}

// isIdentity tells of the file that is sealed first and unsealed last, or of its temporary name.
func isIdentity(base string) bool {
	return strings.TrimSuffix(base, temporarySuffix) == identityName
}

func (f *FS) create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	h := header{chunk: f.chunk, key: f.first.id}
	if _, err := io.ReadFull(f.rand, h.salt[:]); err != nil {
		return nil, fmt.Errorf("cipherfs: draw a salt: %w", err)
	}
	s, err := newSealer(h, f.first)
	if err != nil {
		return nil, err
	}
	below, err := f.below.Create(name, category)
	if err != nil {
		return nil, err
	}
	return &writer{sealer: s, f: below, name: name, x: scratches.Get().(*scratch)}, nil
}

// Open opens a file for reading.
func (f *FS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	below, err := f.below.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	info, err := below.Stat()
	if err != nil {
		return nil, errors.Join(err, below.Close())
	}
	if info.IsDir() {
		return below, nil
	}
	r := &reader{fs: f, f: below, name: name, id: f.handles.Add(1)}
	if err := r.begin(info.Size()); err != nil {
		return nil, errors.Join(err, below.Close())
	}
	if r.plain {
		return below, nil
	}
	return r, nil
}

// Stat describes a file or a folder; the size is that of the plain file.
func (f *FS) Stat(name string) (vfs.FileInfo, error) {
	info, err := f.below.Stat(name)
	if err != nil || info.IsDir() || info.Size() == 0 {
		return info, err
	}
	r, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	info, err = r.Stat()
	return info, errors.Join(err, r.Close())
}

// ReuseForWrite creates newname and removes oldname: no sealed file is written twice.
func (f *FS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if _, err := f.below.Stat(oldname); err != nil {
		return nil, err
	}
	if oldname != newname {
		if err := f.below.Remove(oldname); err != nil {
			return nil, err
		}
	}
	return f.Create(newname, category)
}

// OpenReadWrite is refused.
func (f *FS) OpenReadWrite(name string, _ vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	return nil, fmt.Errorf("open %s: %w", name, errRewrite)
}

// Unwrap returns nil: whoever asked for the file system below would write plain files to it.
func (f *FS) Unwrap() vfs.FS { return nil }

// The rest is passed through.

func (f *FS) Link(oldname, newname string) error           { return f.below.Link(oldname, newname) }
func (f *FS) OpenDir(name string) (vfs.File, error)        { return f.below.OpenDir(name) }
func (f *FS) Remove(name string) error                     { return f.below.Remove(name) }
func (f *FS) RemoveAll(name string) error                  { return f.below.RemoveAll(name) }
func (f *FS) Rename(oldname, newname string) error         { return f.below.Rename(oldname, newname) }
func (f *FS) MkdirAll(dir string, perm os.FileMode) error  { return f.below.MkdirAll(dir, perm) }
func (f *FS) Lock(name string) (io.Closer, error)          { return f.below.Lock(name) }
func (f *FS) List(dir string) ([]string, error)            { return f.below.List(dir) }
func (f *FS) PathBase(path string) string                  { return f.below.PathBase(path) }
func (f *FS) PathJoin(elem ...string) string               { return f.below.PathJoin(elem...) }
func (f *FS) PathDir(path string) string                   { return f.below.PathDir(path) }
func (f *FS) GetDiskUsage(p string) (vfs.DiskUsage, error) { return f.below.GetDiskUsage(p) }
