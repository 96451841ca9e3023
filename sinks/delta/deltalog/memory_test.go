package deltalog

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"deckle/sinks/delta/store"
)

var (
	memoryFiles = flag.Int("memory-files", 20_000, "live files of the table of TestLogMemory")
	memoryChild = flag.String("memory-child", "", "what a process that TestLogMemory has started does")
	memoryTable = flag.String("memory-table", "", "folder of its table")
)

// vmHWM is the largest resident set of this process so far, in MB.
func vmHWM(t *testing.T) float64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skipf("no figures of memory on this system: %v", err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return kb / 1024
}

// fileOf is a file as Deckle names and tags one, with statistics like those of sessions.
func fileOf(rng *mrand.Rand, i int) (path, date, stats string, o Origin) {
	date = time.Date(2026, 1, 1+i%365, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
	o = Origin{Tagged: true, Shard: uint32(i % 6), From: uint64(i), To: uint64(i + 1)}
	path = fmt.Sprintf("d=%s/part-%05d-%d-%016x.parquet", date, o.Shard, o.To, rng.Uint64())
	id := func() string { return fmt.Sprintf("%016x%016x", rng.Uint64(), rng.Uint64()) }
	at := func() string {
		return time.UnixMilli(1767225600000 + rng.Int64N(3e10)).UTC().Format("2006-01-02T15:04:05.000Z")
	}
	stats = fmt.Sprintf(`{"numRecords":%d,"minValues":{"batch_id":%d,"brand":"bild","country":"DE","created_at":"%s",`+
		`"revision":0,"session_id":"%s","session_start":"%s","total_events":1,"user_id":%d},`+
		`"maxValues":{"batch_id":%d,"brand":"welt","country":"US","created_at":"%s","revision":3,"session_id":"%s",`+
		`"session_start":"%s","total_events":%d,"user_id":%d},`+
		`"nullCount":{"batch_id":0,"brand":0,"country":0,"created_at":0,"revision":0,"session_id":0,"session_start":0,`+
		`"total_events":0,"user_id":0}}`, 1+rng.IntN(900), i, at(), id(), at(), rng.IntN(1e6), i, at(), id(), at(),
		rng.IntN(900), rng.IntN(1e9))
	return path, date, stats, o
}

// memoryTableOf makes a table of n files, as a checkpoint of version 1 and a tail of commits.
func memoryTableOf(t *testing.T, dir string, n int) {
	t.Helper()
	opts := memoryOptions(dir)
	l := open(t, opts)
	rng := mrand.New(mrand.NewPCG(1, 1))
	buf := &output{b: make([]byte, 0, n*256), most: 1 << 40}
	s := snapshot(l)
	c := &checkpointer{txns: map[string]Txn{}, protocol: s.Protocol, metaData: s.Metadata,
		w: parquet.NewGenericWriter[checkpointRow](buf, parquet.DataPageVersion(1),
			parquet.DefaultEncoding(&parquet.Plain), parquet.Compression(opts.Codec),
			parquet.MaxRowsPerRowGroup(rowsPerGroup))}
	for i := range n {
		path, date, stats, o := fileOf(rng, i)
		err := c.writeAdd([]byte(path), rng.Int64N(2e5), 1767225600000+rng.Int64N(3e10), []byte(stats),
			sortedPairs(map[string]string{"d": date}), sortedPairs(o.Tags()), nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(c.own(), c.w.Close()); err != nil {
		t.Fatal(err)
	}
	submit(t, l, &Change{Parts: on(l, "x", 1), Last: true, Adds: []Add{add("first", Origin{})}})
	ctx := context.Background()
	err := errors.Join(opts.Store.Put(ctx, l.checkpointKey(1), buf.b),
		opts.Store.Put(ctx, l.root+lastCheckpoint, []byte(`{"version":1,"size":1}`)))
	if err != nil {
		t.Fatal(err)
	}
	for v := int64(2); v <= 20; v++ {
		path, date, stats, o := fileOf(rng, n+int(v))
		submit(t, l, &Change{Parts: on(l, "x", v), Last: true, Adds: []Add{{Path: path,
			PartitionValues: map[string]string{"d": date}, Size: 1e5, DataChange: true, Stats: stats, Tags: o.Tags()}}})
	}
	t.Logf("a checkpoint of %d files has %.1f MB", n, float64(len(buf.b))/1e6)
}

func memoryOptions(dir string) Options {
	opts := writerOptions(nil)
	opts.Store, opts.Rand = store.NewLocal(vfs.Default, dir, "memory"), rand.Reader
	opts.Codec = &zstd.Codec{Level: zstd.SpeedFastest}
	opts.CheckpointInterval = 1 << 30
	return opts
}

// TestLogMemory measures, in processes of their own, the memory that a writer needs to open a table, of which it keeps
// the files (sessions) or not (events), and to make a checkpoint of it: the largest resident set of the whole process.
// make log-memory does so with a million files, and holds them to the limits; fewer files must stay below, too.
func TestLogMemory(t *testing.T) {
	if *memoryChild != "" {
		memoryWork(t)
		return
	}
	vmHWM(t)
	dir := t.TempDir()
	memoryTableOf(t, dir, *memoryFiles)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		what  string
		limit float64
	}{
		{"nothing", 200}, {"open events", 200}, {"open sessions", 200}, {"checkpoint events", 300},
		{"checkpoint sessions", 300},
	} {
		start := time.Now()
		cmd := exec.CommandContext(t.Context(), exe, "-test.run", "^TestLogMemory$", "-memory-child", tc.what,
			"-memory-table", dir)
		out, err := cmd.CombinedOutput()
		var got struct{ MB float64 }
		_, line, _ := bytes.Cut(out, []byte("RESULT "))
		line, _, _ = bytes.Cut(line, []byte("\n"))
		if err = errors.Join(err, json.Unmarshal(line, &got)); err != nil {
			t.Fatalf("%s: %v\n%s", tc.what, err, out)
		}
		used := cmd.ProcessState
		t.Logf("%-20s %6.1f MB at most, %5.1f s of CPU, %5.1f s", tc.what, got.MB,
			(used.UserTime() + used.SystemTime()).Seconds(), time.Since(start).Seconds())
		if got.MB > tc.limit {
			t.Errorf("%s: %.1f MB, want at most %.0f", tc.what, got.MB, tc.limit)
		}
	}
}

// memoryWork is what a process does that TestLogMemory has started.
func memoryWork(t *testing.T) {
	what, table, _ := strings.Cut(*memoryChild, " ")
	if what != "nothing" {
		opts := memoryOptions(*memoryTable)
		opts.KeepFiles = table == "sessions"
		l := open(t, opts)
		s := snapshot(l)
		if s.Version != 20 || s.totals.files < 20_000 && s.Len() == 0 {
			t.Fatalf("version %d, %d files", s.Version, s.totals.files)
		}
		if what == "checkpoint" {
			if err := l.WriteCheckpoint(t.Context(), s.Version, s.Checkpoint); err != nil {
				t.Fatal(err)
			}
			if err := opts.Store.Delete(t.Context(), l.checkpointKey(s.Version)); err != nil {
				t.Fatal(err)
			}
			if err := opts.Store.Put(t.Context(), l.root+lastCheckpoint, []byte(`{"version":1,"size":1}`)); err != nil {
				t.Fatal(err)
			}
		}
	}
	fmt.Printf("RESULT {\"MB\":%.1f}\n", vmHWM(t))
}
