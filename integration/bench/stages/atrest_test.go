package stages

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"deckle/cipherfs"
	"deckle/schema"
	"deckle/state"
	"deckle/wal"
)

// counting counts the bytes that are written to files.
type counting struct {
	vfs.FS
	bytes *atomic.Int64
}

func (c counting) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := c.FS.Create(name, category)
	return countingFile{f, c.bytes}, err
}

type countingFile struct {
	vfs.File
	bytes *atomic.Int64
}

func (f countingFile) Write(p []byte) (int, error) {
	f.bytes.Add(int64(len(p)))
	return f.File.Write(p)
}

// Fd lets Pebble write its tables as on a real disk: without a sync in their middle.
func (f countingFile) Fd() uintptr { return 0 }

// cpuTime is what all threads of this process have used.
func cpuTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

var atRest = flag.Bool("at-rest", false, "run BenchmarkAtRest, of which one turn takes seconds")

// BenchmarkAtRest puts the entries into a log and applies them, with a Cut and a plan that is acknowledged every few
// entries, so that tables are written and compacted; over files in memory, with and without encryption in turns. It
// reports the median of the CPU time of the whole process, because compactions run beside, that of the differences, by
// how many per cent that is more, and the bytes that were written. make bench-at-rest runs it; with the other stages it
// would take a minute of each comparison and be compared with nothing.
func BenchmarkAtRest(b *testing.B) {
	if !*atRest {
		b.Skip("without -at-rest")
	}
	text := "deckle-key-1:" + base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	key, err := cipherfs.ParseKey([]byte(text))
	if err != nil {
		b.Fatal(err)
	}
	all := newStream(b).entries
	var bytes [2]atomic.Int64
	var used [3][]float64 // plain, sealed, the difference
	once := func(sealed int) float64 {
		var fs vfs.FS = counting{vfs.NewMem(), &bytes[sealed]}
		if sealed == 1 {
			if fs, err = cipherfs.New(cipherfs.Options{FS: fs, Keys: []*cipherfs.Key{key}}); err != nil {
				b.Fatal(err)
			}
		}
		runtime.GC()
		began := cpuTime(b)
		logAndApply(b, fs, all)
		took := float64((cpuTime(b) - began).Nanoseconds()) / records
		used[sealed] = append(used[sealed], took)
		return took
	}
	for i := 0; b.Loop(); i++ {
		if i%2 == 0 {
			used[2] = append(used[2], -once(0)+once(1))
		} else {
			used[2] = append(used[2], once(1)-once(0))
		}
	}
	for i, unit := range []string{"plain-ns/event", "sealed-ns/event", "more-ns/event"} {
		slices.Sort(used[i])
		b.ReportMetric(used[i][len(used[i])/2], unit)
	}
	b.ReportMetric(100*used[2][len(used[2])/2]/used[0][len(used[0])/2], "%-more")
	b.ReportMetric(float64(bytes[0].Load())/float64(len(used[0]))/records, "plain-B/event")
	b.ReportMetric(float64(bytes[1].Load())/float64(len(used[1]))/records, "sealed-B/event")
}

func logAndApply(b *testing.B, fs vfs.FS, all [][]byte) {
	log, err := wal.Open(context.Background(), wal.Options{FS: fs, Dir: "wal"})
	if err != nil {
		b.Fatal(err)
	}
	s := openShardOn(b, fs, state.SinkClickHouse)
	g := log.Group(1)
	for i, e := range all {
		if err := g.StoreLog(&raft.Log{Index: uint64(i + 1), Term: 1, Data: e}); err != nil {
			b.Fatal(err)
		}
		s.apply(e)
		if i%8 != 7 {
			continue
		}
		s.cut()
		p := s.plan(state.SinkClickHouse)
		if err := p.Sessions(func(*schema.SessionRow) error { return nil }); err != nil {
			b.Fatal(err)
		}
		s.apply(state.EncodeAck(state.SinkClickHouse, p.B))
		if err := p.Close(); err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(s.Checkpoint(context.Background()), s.Close(), log.Close()); err != nil {
		b.Fatal(err)
	}
}
