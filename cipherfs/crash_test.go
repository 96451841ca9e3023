package cipherfs

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestCrash cuts the power while files are written, with none, some or all of what was not synced on the disk: every
// synced byte is there, and of the others those that were written, or zeros.
func TestCrash(t *testing.T) {
	for seed := range uint64(400) {
		rng := newRand(seed)
		mem := vfs.NewCrashableMem()
		l := layer(t, mem)
		w, err := l.Create("f", vfs.WriteCategoryUnspecified)
		check(t, err)
		d, err := l.OpenDir("")
		check(t, err)
		check(t, errors.Join(d.Sync(), d.Close()))
		var all []byte
		synced := 0
		for range rng.IntN(20) {
			p := random(rng, rng.IntN(1+rng.IntN(2000)))
			_, err := w.Write(bytes.Clone(p))
			check(t, err)
			if all = append(all, p...); rng.IntN(3) == 0 {
				check(t, w.Sync())
				synced = len(all)
			}
		}
		unsynced := []int{0, 30, 70, 100}[seed%4]
		after := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rng})
		got := get(t, layer(t, after), "f")
		judge(t, fmt.Sprintf("seed %d", seed), got, all)
		if len(got) < synced || !bytes.Equal(got[:synced], all[:synced]) {
			t.Fatalf("seed %d: of %d synced bytes not all are there", seed, synced)
		}
		check(t, w.Close())
	}
}

// TestDamageOfPebble: damage in any file of a Pebble folder is noticed over a layer, or does no harm; in a manifest it
// may give an earlier state, as it may without a layer.
func TestDamageOfPebble(t *testing.T) {
	options := func(fs vfs.FS) *pebble.Options {
		return &pebble.Options{FS: fs, DisableWAL: true, Logger: quiet{}, FormatMajorVersion: pebble.FormatNewest,
			EventListener: &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}}}
	}
	mem := vfs.NewCrashableMem()
	whole := func(o *Options) { o.chunk = 0 }
	db, err := pebble.Open("db", options(layer(t, mem, whole)))
	check(t, err)
	for i := range 5 {
		check(t, db.Set([]byte("key"), fmt.Appendf(nil, "value %d", i), pebble.NoSync))
		check(t, db.Flush())
	}
	check(t, db.Close())
	names, err := mem.List("db")
	check(t, err)
	silent, noticed, earlier := 0, 0, 0
	for _, n := range names {
		name := mem.PathJoin("db", n)
		sealed := get(t, mem, name)
		if len(sealed) == 0 {
			continue
		}
		for at := 0; at < len(sealed); at += 1 + len(sealed)/40 {
			damaged := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: newRand(1)})
			b := bytes.Clone(sealed)
			b[at] ^= 0x40
			raw(t, damaged, name, b)
			v, err := value(layer(t, damaged, whole), options)
			switch {
			case err != nil:
				noticed++
			case v != "value 4" && strings.HasPrefix(n, "MANIFEST-"):
				earlier++ // Pebble takes a broken manifest for one that ends there; raftstore knows by its marker
			case v != "value 4":
				t.Errorf("%s, byte %d: Pebble reads %q, and does not notice", n, at, v)
			default:
				silent++
			}
		}
	}
	t.Logf("%d places were noticed, %d gave an earlier state, %d did no harm", noticed, earlier, silent)
	if noticed == 0 {
		t.Error("no damage was noticed")
	}
}

// TestTables: on a real disk Pebble writes a table without a sync in its middle, so that it is found by arithmetic. It
// asks the file for its descriptor to decide that.
func TestTables(t *testing.T) {
	l := layer(t, vfs.Default, func(o *Options) { o.chunk = 0 })
	dir := t.TempDir()
	o := &pebble.Options{FS: l, DisableWAL: true, Logger: quiet{}, FormatMajorVersion: pebble.FormatNewest,
		MemTableSize: 16 << 20}
	db, err := pebble.Open(dir, o)
	check(t, err)
	for i := range 300 {
		check(t, db.Set(fmt.Appendf(nil, "key %d", i), random(newRand(uint64(i)), 20_000), pebble.NoSync))
	}
	check(t, errors.Join(db.Flush(), db.Close()))
	names, err := l.List(dir)
	check(t, err)
	tables := 0
	for _, n := range names {
		if !strings.HasSuffix(n, ".sst") {
			continue
		}
		tables++
		f, err := l.Open(l.PathJoin(dir, n))
		check(t, err)
		info, err := f.Stat()
		check(t, err)
		if x := f.(*reader).index; len(x.rest) > 1 {
			t.Errorf("%s of %d bytes has %d chunks that are not found by arithmetic", n, info.Size(), len(x.rest))
		}
		check(t, f.Close())
	}
	if tables == 0 {
		t.Error("no table")
	}
}

// value opens the folder and reads the key.
func value(fs vfs.FS, options func(vfs.FS) *pebble.Options) (string, error) {
	db, err := pebble.Open("db", options(fs))
	if err != nil {
		return "", err
	}
	v, closer, err := db.Get([]byte("key"))
	text := string(v)
	if err == nil {
		err = closer.Close()
	}
	return text, errors.Join(err, db.Close())
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
