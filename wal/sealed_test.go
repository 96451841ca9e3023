package wal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/cipherfs/cipherfstest"
)

// TestCrashSealed is TestCrash over encryption at rest: the rule of torn tails needs that no synced byte shares a chunk
// with a later one, and that what lies behind a torn place can be read. Beside it, no nonce comes twice under a key
// (TestNonce of the design), whatever the crashes leave.
func TestCrashSealed(t *testing.T) {
	if cipherfstest.Enabled() {
		t.Skip("it puts in a layer of its own")
	}
	base := seed(t)
	var r cipherfstest.Recorder
	t.Cleanup(func() { r.Check(t) })
	for _, unsynced := range []int{0, 30, 70, 100} {
		for run := range uint64(2) {
			t.Run(fmt.Sprintf("unsynced=%d/%d", unsynced, run), func(t *testing.T) {
				t.Parallel()
				crashRun(t, newRand(base, uint64(unsynced)<<32|run|1<<40), unsynced, func(fs vfs.FS) vfs.FS {
					return cipherfstest.Sealed(fs, &r)
				})
			})
		}
	}
}

// TestDamageSealed flips a bit of every third byte of a log's sealed files. Damage that a crash cannot have done is a
// CorruptError, and changes nothing; in the newest segment the last write may be lost, as it may without encryption.
func TestDamageSealed(t *testing.T) {
	if cipherfstest.Enabled() {
		t.Skip("it puts in a layer of its own")
	}
	disk := vfs.NewCrashableMem()
	l := mustOpen(t, cipherfstest.Sealed(disk, nil), func(o *Options) { o.SegmentBytes = 1 << 10 })
	last := uint64(0)
	for more := 3; more > 0; {
		last++
		check(t, l.Group(1).StoreLog(entry(last, 1, fmt.Sprintf("the entry of index %d", last))))
		if l.Stats().Segments == 4 {
			more--
		}
	}
	disk = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: newRand(1, 1)})
	check(t, l.Close())
	noticed, harmless := 0, 0
	for seq, sealed := range segments(t, disk) {
		for at := range sealed {
			if at%5 != int(seq) && testing.Short() || at%3 != int(seq)%3 {
				continue
			}
			try := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: newRand(1, 1)})
			b := slices.Clone(sealed)
			b[at] ^= 1 << (at % 8)
			writeFile(t, try, "wal/"+segmentName(seq), b)
			before := segments(t, try)
			l, err := Open(context.Background(), options(cipherfstest.Sealed(try, nil)))
			if err != nil {
				if _, ok := errors.AsType[*CorruptError](err); !ok {
					t.Fatalf("segment %d, byte %d: %v", seq, at, err)
				}
				for s, b := range segments(t, try) {
					if !slices.Equal(b, before[s]) {
						t.Fatalf("segment %d, byte %d: segment %d was changed", seq, at, s)
					}
				}
				noticed++
				continue
			}
			n, err := l.Group(1).LastIndex()
			check(t, err)
			if n != last && (seq != 4 || n != last-1) {
				t.Fatalf("segment %d, byte %d: the log ends at entry %d of %d, and nobody has noticed", seq, at, n,
					last)
			}
			harmless++
			check(t, l.Close())
		}
	}
	t.Logf("%d flips were noticed, %d lost the last write or nothing", noticed, harmless)
	if noticed < 10*harmless/2 {
		t.Errorf("only %d flips were noticed, %d were not", noticed, harmless)
	}
}
