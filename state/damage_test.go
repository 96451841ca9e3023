package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"deckle/cipherfs/cipherfstest"
)

// damageRig is a closed store, with what its state was at every index, and what its checkpoints left on disk.
type damageRig struct {
	fs    *vfs.MemFS
	sums  map[uint64]uint64
	last  uint64
	files []string
	g     *generator
}

func newDamageRig(t *testing.T, seed, entries uint64) *damageRig {
	r := &damageRig{fs: vfs.NewMem(), sums: map[uint64]uint64{}, g: newGenerator(seed)}
	s, err := Open(context.Background(), Options{FS: cipherfstest.Over(r.fs), Dir: "shard", CheckpointBytes: 8 << 10})
	must(t, err)
	r.sums[0], err = s.Checksum()
	must(t, err)
	for r.last < entries {
		entry := EncodeConfig(testConfig())
		if r.last > 0 {
			entry = r.g.entry()
		}
		r.last++
		res, err := s.Apply(r.last, 1, entry)
		must(t, err)
		r.g.learn(entry, res, s)
		r.sums[r.last], err = s.Checksum()
		must(t, err)
	}
	must(t, s.Checkpoint(context.Background()))
	must(t, s.Close())
	r.files, err = r.fs.List("shard")
	must(t, err)
	return r
}

// copyFS returns a copy of the rig's disk.
func (r *damageRig) copyFS(t *testing.T) *vfs.MemFS {
	t.Helper()
	to := vfs.NewMem()
	_, err := vfs.Clone(r.fs, to, "", "")
	must(t, err)
	return to
}

func flip(t *testing.T, fsys vfs.FS, path string, bit int64) {
	t.Helper()
	f, err := fsys.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	must(t, err)
	var b [1]byte
	_, err = f.ReadAt(b[:], bit/8)
	must(t, err)
	b[0] ^= 1 << (bit % 8)
	_, err = f.WriteAt(b[:], bit/8)
	must(t, errors.Join(err, f.Close()))
}

// use opens the store, reads all of it, and lets it go on until everything has been compacted and copied. It returns
// the index and the checksum that the open state had, and the first error, whether returned or reported.
func use(fsys vfs.FS, g *generator) (index, sum uint64, err error) {
	var mu sync.Mutex
	var reported error
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		err = errors.Join(reported, err)
	}()
	s, err := Open(context.Background(), Options{FS: cipherfstest.Over(fsys), Dir: "shard", OnFatal: func(err error) {
		mu.Lock()
		defer mu.Unlock()
		reported = errors.Join(reported, err)
	}})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	index, _ = s.Applied()
	if sum, err = s.Checksum(); err != nil {
		return index, sum, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// no compaction is begun, and so none ends, if damage was seen before
	if err = s.db.Compact(ctx, []byte{0}, []byte{255}, false); err != nil {
		return index, sum, err
	}
	for i := range uint64(20) {
		if _, err = s.Apply(index+i+1, 1, g.entry()); err != nil {
			return index, sum, err
		}
	}
	_, _, err = s.Snapshot("copy")
	return index, sum, err
}

// TestBitFlips flips one bit, in every file of the folder, at many places. The result is either a DamageError or an
// earlier state: that of the last checkpoint, or, where Pebble takes a broken MANIFEST for one that ends there, of one
// before it, which raftstore finds out by its marker.
func TestBitFlips(t *testing.T) {
	for _, seed := range seeds(t, 1) {
		rng := rand.New(rand.NewPCG(seed, 4))
		r := newDamageRig(t, seed, 200)
		count := map[string]int{}
		for _, name := range r.files {
			st, err := r.fs.Stat("shard/" + name)
			must(t, err)
			kind := strings.Trim(name, "0123456789.")
			tries := 12
			if testing.Short() {
				tries = 3
			}
			if st.Size() == 0 {
				continue
			}
			for range tries {
				bit := rng.Int64N(st.Size() * 8)
				fsys := r.copyFS(t)
				flip(t, fsys, "shard/"+name, bit)
				index, sum, err := use(fsys, newGenerator(seed))
				what := fmt.Sprintf("seed %d: bit %d of %s (%d bytes)", seed, bit, name, st.Size())
				var d *DamageError
				switch {
				case errors.As(err, &d):
					count[kind+" damage"]++
				case kind == "OPTIONS-" && refusedOptions(err):
					count[kind+" refused"]++
				case err != nil:
					t.Errorf("%s: %v", what, err)
				case sum != r.sums[index]:
					t.Errorf("%s: state %x at index %d, was %x", what, sum, index, r.sums[index])
				case index == r.last:
					count[kind+" no effect"]++
				default:
					count[kind+" earlier state"]++
				}
			}
		}
		t.Log(count)
		if count["sst damage"] == 0 || count["sst earlier state"] > 0 {
			t.Errorf("seed %d: %v", seed, count)
		}
	}
}

// A table that was cut off, or has grown, is damage: the folder is given up and made anew. It was taken for an error
// that may pass, and the node failed at each start.
func TestTableOfAnotherSize(t *testing.T) {
	r := newDamageRig(t, 3, 60)
	tables := 0
	for _, name := range r.files {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		tables++
		st, err := r.fs.Stat("shard/" + name)
		must(t, err)
		sizes := []int64{0, 1, st.Size() / 2, st.Size() - 1}
		if !cipherfstest.Enabled() { // what is behind the last page of a sealed file is not read
			sizes = append(sizes, st.Size()+1)
		}
		for _, size := range sizes {
			fsys := r.copyFS(t)
			f, err := fsys.Open("shard/" + name)
			must(t, err)
			data, err := io.ReadAll(f)
			must(t, errors.Join(err, f.Close()))
			f, err = fsys.Create("shard/"+name, vfs.WriteCategoryUnspecified)
			must(t, err)
			_, err = f.Write(append(data, 'x')[:size])
			must(t, errors.Join(err, f.Close()))
			_, _, err = use(fsys, newGenerator(3))
			if _, damage := errors.AsType[*DamageError](err); !damage {
				t.Errorf("%s with %d bytes of %d: %v", name, size, st.Size(), err)
			}
		}
	}
	if tables == 0 {
		t.Error("there is no table")
	}
}

// refusedOptions says that Open has refused what OPTIONS says: the name of a comparer or a merger, or a folder for the
// log, which we never have. The file has no checksum, so the folder might as well belong to another program.
func refusedOptions(err error) bool {
	_, ok := errors.AsType[pebble.ErrMissingWALRecoveryDir](err)
	return ok || err != nil && strings.Contains(err.Error(), "name from file")
}

// TestBitFlipsInOptions flips every bit of the three lines whose damage makes Open refuse. TestBitFlips covers all
// other lines.
func TestBitFlipsInOptions(t *testing.T) {
	if cipherfstest.Enabled() {
		t.Skip("a bit of a sealed file is not one of a line")
	}
	r := newDamageRig(t, 1, 20)
	at := slices.IndexFunc(r.files, func(name string) bool { return strings.HasPrefix(name, "OPTIONS-") })
	name := "shard/" + r.files[at]
	f, err := r.fs.Open(name)
	must(t, err)
	text, err := io.ReadAll(f)
	must(t, errors.Join(err, f.Close()))
	for _, line := range []string{"  wal_dir=\n", "  comparer=leveldb.BytewiseComparator\n",
		"  merger=pebble.concatenate\n"} {
		refused := 0
		from := strings.Index(string(text), line)
		if from < 0 {
			t.Fatalf("no %q in %s", line, text)
		}
		for bit := 8 * from; bit < 8*(from+len(line)); bit++ {
			fsys := r.copyFS(t)
			flip(t, fsys, name, int64(bit))
			s, err := Open(context.Background(), Options{FS: fsys, Dir: "shard"})
			_, damage := errors.AsType[*DamageError](err)
			switch {
			case err == nil:
				must(t, s.Close())
			case refusedOptions(err):
				refused++
			case !damage:
				t.Errorf("bit %d of %q: %v", bit-8*from, line, err)
			}
		}
		if refused == 0 {
			t.Errorf("no bit of %q was refused", line)
		}
	}
}

// TestMissingFiles removes each file of the folder in turn.
func TestMissingFiles(t *testing.T) {
	r := newDamageRig(t, 1, 200)
	for _, name := range r.files {
		fsys := r.copyFS(t)
		must(t, fsys.Remove("shard/"+name))
		index, sum, err := use(fsys, newGenerator(1))
		var d *DamageError
		switch {
		case errors.As(err, &d):
			t.Logf("%s: damage", name)
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case sum != r.sums[index]:
			t.Errorf("%s: state %x at index %d, was %x", name, sum, index, r.sums[index])
		case strings.HasSuffix(name, ".sst"):
			t.Errorf("%s is gone, and nobody notices", name)
		default:
			t.Logf("%s: state of index %d of %d", name, index, r.last)
		}
	}
}

// compact leaves nothing for a compaction to do: one that begins as soon as the store is opened reads all of its
// tables, and where it comes depends on how fast the machine is.
func (r *damageRig) compact(t *testing.T) {
	t.Helper()
	s, err := Open(context.Background(), Options{FS: cipherfstest.Over(r.fs), Dir: "shard"})
	must(t, err)
	must(t, s.db.Compact(context.Background(), []byte{0}, []byte{255}, false))
	must(t, s.Close())
	r.files, err = r.fs.List("shard")
	must(t, err)
}

// TestSnapshotOfDamage: damage that nobody has read yet must not go to another replica. The bits are flipped where
// neither opening the store nor making the copy reads.
func TestSnapshotOfDamage(t *testing.T) {
	r := newDamageRig(t, 1, 800)
	r.compact(t)
	rng := rand.New(rand.NewPCG(1, 5))
	unseen, rounds := 0, 200
	if testing.Short() { // the race detector makes each ten times as long
		rounds = 40
	}
	for range rounds {
		fsys := r.copyFS(t)
		var largest string
		var size int64
		for _, name := range r.files {
			if st, err := fsys.Stat("shard/" + name); err != nil || strings.HasSuffix(name, ".sst") &&
				st.Size() > size {
				must(t, err)
				largest, size = name, st.Size()
			}
		}
		flip(t, fsys, "shard/"+largest, rng.Int64N(size*8))
		s, err := Open(context.Background(), Options{FS: cipherfstest.Over(fsys), Dir: "shard"})
		if err != nil {
			continue
		}
		_, _, err = s.Snapshot("copy")
		var d *DamageError
		if err != nil && !errors.As(err, &d) {
			t.Fatal(err)
		}
		if err != nil && d.Dir == "copy" {
			unseen++
		}
		if _, serr := s.Checksum(); serr != nil && err == nil {
			t.Fatalf("a snapshot was made of a state that cannot be read: %v", serr)
		}
		must(t, s.Close())
	}
	t.Logf("%d of %d were found by reading the copy", unseen, rounds)
	// Over encryption a bit takes 16 KiB with it, of which Open reads some in nearly every place.
	if unseen == 0 && !cipherfstest.Enabled() {
		t.Fatal("no copy was refused")
	}
}

// TestDamageEndsCompactions: without our scheduler, Pebble would repeat a compaction that meets damage at once and for
// ever, and no virtual time would pass.
func TestDamageEndsCompactions(t *testing.T) {
	if cipherfstest.Enabled() {
		t.Skip("the index is in the same chunk as the blocks")
	}
	r := newDamageRig(t, 1, 200)
	for _, name := range r.files {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		st, err := r.fs.Stat("shard/" + name)
		must(t, err)
		for off := range st.Size() / 2 { // the blocks, not the index
			flip(t, r.fs, "shard/"+name, off*8)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var told atomic.Int64
		s := &Store{opts: Options{FS: r.fs, Dir: "shard", OnFatal: func(error) { told.Add(1) }},
			log: slog.New(slog.DiscardHandler)}
		cache := pebble.NewCache(1 << 20)
		defer cache.Unref()
		o := s.pebbleOptions(cache)
		o.L0CompactionThreshold = 1
		db, err := pebble.Open("shard", o)
		must(t, err)
		// these tables span all others, wherever those are, so that none can be moved without being read
		for range 3 {
			must(t, errors.Join(db.Set([]byte{0}, nil, pebble.NoSync), db.Set([]byte{255}, nil, pebble.NoSync)))
			must(t, db.Flush())
		}
		time.Sleep(time.Second)
		if told.Load() == 0 {
			t.Error("no compaction has met the damage")
		}
		must(t, db.Close())
	})
}

// TestNoDamage: an error that every replica would meet is not damage.
func TestNoDamage(t *testing.T) {
	s, err := Open(context.Background(), Options{FS: vfs.NewMem(), Dir: "shard",
		OnFatal: func(err error) { t.Error(err) }})
	must(t, err)
	_, err = s.Apply(1, 1, EncodeConfig(testConfig()))
	must(t, err)
	entry := newGenerator(1).entry()
	_, aerr := s.Apply(2, 1, entry[:len(entry)-1])
	_, _, serr := s.Snapshot("shard")
	must(t, s.Close())
	var d *DamageError
	for _, err := range []error{aerr, serr, damaged("shard", pebble.ErrBatchTooLarge),
		damaged("shard", pebble.ErrClosed)} {
		if err == nil || errors.As(err, &d) {
			t.Errorf("%v", err)
		}
	}
	// A folder that another process has open, and a folder on a disk that cannot be read, are as good as before.
	fsys := vfs.NewMem()
	s, err = Open(context.Background(), Options{FS: fsys, Dir: "shard"})
	must(t, err)
	must(t, s.Close())
	failing := errorfs.Wrap(fsys, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
			return syscall.EIO
		}
		return nil
	}))
	if _, err := Open(context.Background(), Options{FS: failing, Dir: "shard"}); err == nil || errors.As(err, &d) {
		t.Errorf("open of a disk that cannot be read gave %v", err)
	}
}
