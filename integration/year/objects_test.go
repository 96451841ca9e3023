package year

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"deckle/sim/testworld/objects"
	"deckle/sinks/delta/store"
)

// kinds of requests.
const (
	putData = iota
	putCommit
	putChecksum
	putCheckpoint // and the hint
	get
	list
	remove
	kinds
)

var kindNames = [kinds]string{"PUT data", "PUT commit", "PUT checksum", "PUT checkpoint", "GET", "LIST", "DELETE"}

// counts are requests and their bytes by kind.
type counts struct {
	n, bytes [kinds]int64
}

func (c counts) minus(b counts) counts {
	for k := range kinds {
		c.n[k] -= b.n[k]
		c.bytes[k] -= b.bytes[k]
	}
	return c
}

// page is how many keys one request lists or removes.
const page = 1000

// bucket is a store of which the index is in memory. Objects lie one behind the other in segments, which are removed
// when nothing of them is left.
type bucket struct {
	dir string
	now func() time.Time

	mu      sync.Mutex
	folders map[string]*folder
	names   []string           // of the folders, ascending
	open    [streams]*segment  // to which objects are appended
	counts  map[string]*counts // by table
	number  int
}

// Objects that live for about the same time share segments.
const (
	ofLog = iota
	ofData
	streams

	segmentBytes = 64 << 20
	largeObject  = 256 << 10 // has a segment of its own
)

type folder struct{ objects []object } // ascending by name

type object struct {
	name     string
	segment  *segment
	off      int64
	size     int64
	modified time.Time
}

type segment struct {
	f    *os.File
	size int64
	live int // objects
}

func newBucket(dir string, now func() time.Time) *bucket {
	return &bucket{dir: dir, now: now, folders: map[string]*folder{}, counts: map[string]*counts{}}
}

// count notes a request. The caller holds the lock.
func (b *bucket) count(kind int, key string, bytes int64) {
	table, _, _ := strings.Cut(key, "/")
	c := b.counts[table]
	if c == nil {
		c = &counts{}
		b.counts[table] = c
	}
	c.n[kind]++
	c.bytes[kind] += bytes
}

// of returns what has been requested of a table so far.
func (b *bucket) of(table string) counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.counts[table]; c != nil {
		return *c
	}
	return counts{}
}

func putKind(key string) int {
	switch {
	case !strings.Contains(key, "/_delta_log/"):
		return putData
	case strings.HasSuffix(key, ".crc"):
		return putChecksum
	case strings.HasSuffix(key, ".json"):
		return putCommit
	}
	return putCheckpoint
}

// find returns the folder of a key and the place of its object. The caller holds the lock.
func (b *bucket) find(key string) (f *folder, at int, ok bool) {
	cut := strings.LastIndexByte(key, '/') + 1
	if f = b.folders[key[:cut]]; f == nil {
		return nil, 0, false
	}
	at, ok = slices.BinarySearchFunc(f.objects, key[cut:], func(o object, name string) int {
		return strings.Compare(o.name, name)
	})
	return f, at, ok
}

func (b *bucket) put(key string, data []byte, absent bool) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count(putKind(key), key, int64(len(data)))
	f, at, ok := b.find(key)
	if ok && absent {
		return fmt.Errorf("put %s: %w", key, store.ErrExists)
	}
	cut := strings.LastIndexByte(key, '/') + 1
	o := object{name: strings.Clone(key[cut:]), size: int64(len(data)), modified: b.now()}
	var err error
	if o.segment, o.off, err = b.write(key, data); err != nil {
		return err
	}
	switch {
	case ok:
		old := f.objects[at]
		f.objects[at] = o
		return b.drop(old.segment)
	case f == nil:
		f = &folder{}
		name := key[:cut]
		b.folders[name] = f
		i, _ := slices.BinarySearch(b.names, name)
		b.names = slices.Insert(b.names, i, name)
	}
	f.objects = slices.Insert(f.objects, at, o)
	return nil
}

func (b *bucket) write(key string, data []byte) (*segment, int64, error) {
	stream := ofData
	if strings.Contains(key, "/_delta_log/") {
		stream = ofLog
	}
	s := b.open[stream]
	if s == nil || s.size >= segmentBytes || len(data) >= largeObject {
		b.number++
		f, err := os.Create(filepath.Join(b.dir, fmt.Sprintf("segment-%d", b.number)))
		if err != nil {
			return nil, 0, err
		}
		s = &segment{f: f, live: 1} // one for being open
		if len(data) < largeObject {
			if old := b.open[stream]; old != nil {
				if err := b.drop(old); err != nil {
					return nil, 0, err
				}
			}
			b.open[stream] = s
		} else {
			s.live = 0
		}
	}
	off := s.size
	if _, err := s.f.WriteAt(data, off); err != nil {
		return nil, 0, err
	}
	s.size, s.live = s.size+int64(len(data)), s.live+1
	return s, off, nil
}

func (b *bucket) drop(s *segment) error {
	if s.live--; s.live > 0 {
		return nil
	}
	if err := s.f.Close(); err != nil {
		return err
	}
	return os.Remove(s.f.Name())
}

// Put implements store.Store.
func (b *bucket) Put(_ context.Context, key string, data []byte) error {
	return b.put(key, data, false)
}

// PutIfAbsent implements store.Store.
func (b *bucket) PutIfAbsent(_ context.Context, key string, data []byte) error {
	return b.put(key, data, true)
}

// PutStreamIfAbsent implements store.Store.
func (b *bucket) PutStreamIfAbsent(_ context.Context, key string, size int64, write func(io.Writer) error) error {
	data, err := objects.Streamed(size, write)
	if err != nil {
		return err
	}
	return b.put(key, data, true)
}

// Get implements store.Store.
func (b *bucket) Get(_ context.Context, key string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, at, ok := b.find(key)
	if !ok {
		b.count(get, key, 0)
		return nil, fmt.Errorf("get %s: %w", key, store.ErrNotFound)
	}
	o := &f.objects[at]
	b.count(get, key, o.size)
	data := make([]byte, o.size)
	_, err := o.segment.f.ReadAt(data, o.off)
	return data, err
}

// GetRange implements store.Store.
func (b *bucket) GetRange(_ context.Context, key string, off int64, p []byte) (r store.Range, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, at, ok := b.find(key)
	if !ok {
		b.count(get, key, 0)
		return r, fmt.Errorf("get %s: %w", key, store.ErrNotFound)
	}
	o := &f.objects[at]
	if off < 0 {
		off = max(0, o.size-int64(len(p)))
	}
	if off >= o.size {
		b.count(get, key, 0)
		return r, fmt.Errorf("get %s: %w", key, store.ErrRange)
	}
	r.N, r.Size = int(min(int64(len(p)), o.size-off)), o.size
	r.Image = fmt.Sprint(o.segment.f.Name(), o.off)
	b.count(get, key, int64(r.N))
	_, err = o.segment.f.ReadAt(p[:r.N], o.off+off)
	return r, err
}

// List implements store.Store.
func (b *bucket) List(_ context.Context, prefix, startAfter string, yield func(store.Info) error) error {
	b.mu.Lock()
	b.count(list, prefix, 0)
	b.mu.Unlock()
	for n := 1; ; n++ {
		infos := b.page(prefix, startAfter)
		for _, i := range infos {
			if err := yield(i); err != nil {
				return err
			}
		}
		if len(infos) < page {
			return nil
		}
		startAfter = infos[page-1].Key
		b.mu.Lock()
		b.count(list, prefix, 0)
		b.mu.Unlock()
	}
}

// page returns the next keys of a listing.
func (b *bucket) page(prefix, startAfter string) (infos []store.Info) {
	b.mu.Lock()
	defer b.mu.Unlock()
	from := max(prefix, startAfter)
	for _, name := range b.names {
		if !strings.HasPrefix(name, prefix) && !strings.HasPrefix(prefix, name) {
			continue
		}
		objects := b.folders[name].objects
		at := 0
		if rest, ok := strings.CutPrefix(from, name); ok {
			at, _ = slices.BinarySearchFunc(objects, rest, func(o object, s string) int {
				return strings.Compare(o.name, s)
			})
		} else if name < from {
			continue
		}
		for ; at < len(objects); at++ {
			o := &objects[at]
			key := name + o.name
			if !strings.HasPrefix(key, prefix) {
				break
			}
			if key <= startAfter {
				continue
			}
			if infos = append(infos, store.Info{Key: key, Size: o.size, Modified: o.modified}); len(infos) == page {
				return infos
			}
		}
	}
	return infos
}

// Delete implements store.Store.
func (b *bucket) Delete(_ context.Context, key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count(remove, key, 0)
	return b.remove(key)
}

// DeleteAll removes objects by one request, as S3 does.
func (b *bucket) DeleteAll(_ context.Context, keys []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count(remove, keys[0], 0)
	for _, key := range keys {
		if err := b.remove(key); err != nil {
			return err
		}
	}
	return nil
}

func (b *bucket) remove(key string) error {
	f, at, ok := b.find(key)
	if !ok {
		return nil
	}
	s := f.objects[at].segment
	if at == 0 {
		f.objects[0], f.objects = object{}, f.objects[1:] // the log is cleaned from its beginning on
	} else {
		f.objects = slices.Delete(f.objects, at, at+1)
	}
	if len(f.objects) == 0 {
		name := key[:strings.LastIndexByte(key, '/')+1]
		delete(b.folders, name)
		i, _ := slices.BinarySearch(b.names, name)
		b.names = slices.Delete(b.names, i, i+1)
	}
	return b.drop(s)
}

// String implements store.Store.
func (b *bucket) String() string { return "a year's bucket" }

// inFolder returns how many objects lie in a folder, and their bytes.
func (b *bucket) inFolder(name string) (n int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f := b.folders[name]; f != nil {
		for i := range f.objects {
			bytes += f.objects[i].size
		}
		n = len(f.objects)
	}
	return n, bytes
}

// close gives the segments back.
func (b *bucket) close(t *testing.T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := map[*segment]bool{}
	for _, f := range b.folders {
		for i := range f.objects {
			seen[f.objects[i].segment] = true
		}
	}
	for _, s := range b.open {
		if s != nil {
			seen[s] = true
		}
	}
	for s := range seen {
		if err := s.f.Close(); err != nil {
			t.Error(err)
		}
	}
}
