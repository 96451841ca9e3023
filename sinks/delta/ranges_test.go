package delta

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/parquet-go/parquet-go"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sim/testworld/objects"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
	"deckle/state"
	"deckle/state/statetest"
)

// counting counts the bytes that are read of data files.
type counting struct {
	*objects.Mem
	bytes, requests atomic.Int64
}

func (c *counting) Get(ctx context.Context, key string) ([]byte, error) {
	b, err := c.Mem.Get(ctx, key)
	if bytes.HasSuffix([]byte(key), []byte(".parquet")) {
		c.bytes.Add(int64(len(b)))
		c.requests.Add(1)
	}
	return b, err
}

func (c *counting) GetRange(ctx context.Context, key string, off int64, p []byte) (store.Range, error) {
	r, err := c.Mem.GetRange(ctx, key, off, p)
	c.bytes.Add(int64(r.N))
	c.requests.Add(1)
	return r, err
}

func idOf(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(n)*2654435761, n) }

// large is a file as compaction makes it, of rows that hardly pack, and its add.
func large(t *testing.T, m *model, n int) ([]byte, *deltalog.Add) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	cdc, _ := codec("zstd")
	r := &compactRows{tables: &declared.sessions, codec: cdc}
	var b bytes.Buffer
	e := r.begin(level.First, nil).Encode(&b)
	ids := make([]string, n)
	for i := range ids {
		ids[i] = idOf(i)
	}
	slices.Sort(ids)
	noise := make([]byte, 960)
	row := m.sessionRow(0, 5, 0)
	row.SessionDate = 19_000
	for i, id := range ids {
		for j := 0; j < len(noise); j += 8 {
			copy(noise[j:], fmt.Sprintf("%016x", rng.Uint64())[:8])
		}
		row.SessionID, row.Brand = id, []string{"bild", "welt"}[2*i/n]
		row.PageEvents = base64.StdEncoding.EncodeToString(noise)
		sr, err := declared.sessionRow(declared.sessions[level.First], &row, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Write([]parquet.Row{parquet.Row(sr)}); err != nil {
			t.Fatal(err)
		}
		if (i+1)%60_000 == 0 {
			if err := e.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	stats, err := e.Close()
	if err != nil {
		t.Fatal(err)
	}
	origins := []deltalog.Origin{{Tagged: true, From: 0, To: 100}, {Tagged: true, Shard: 1, From: 0, To: 100}}
	return b.Bytes(), &deltalog.Add{Path: "session_date=2022-01-08/part-compact-1.parquet", Size: int64(b.Len()),
		PartitionValues: map[string]string{"session_date": "2022-01-08"}, Stats: stats, Tags: deltalog.TagsOf(origins)}
}

// A row that a large file may have, and does not, costs a few pages of three columns; and so does one that it has in
// its newest image.
func TestRevisionReadsLittle(t *testing.T) {
	rows := 100_000
	if testing.Short() {
		rows = 10_000
	}
	m := newModel(3, 1)
	mem := &counting{Mem: objects.NewMem(nil)}
	opts := testOptions(mem, m.rng)
	d := mustOpen(t, opts)
	defer d.Close()
	data, add := large(t, m, rows)
	if err := mem.Put(t.Context(), "sessions/"+add.Path, data); err != nil {
		t.Fatal(err)
	}
	if err := d.sessions.log.Submit(t.Context(), &deltalog.Change{Last: true,
		Parts: []deltalog.Part{{AppID: "x", Version: 1}},
		Adds:  []deltalog.Add{*add}}); err != nil {
		t.Fatal(err)
	}
	epoch := uint64(4) // older than what stands
	for _, n := range []int{1, 10} {
		var revised []schema.SessionRow
		for i := range n {
			r := m.sessionRow(0, 5, 0)
			r.SessionDate = 19_000
			if r.SessionID = idOf(i * 1000); i%2 == 1 {
				r.SessionID = idOf(rows + i) // not there: it is inserted
			} else {
				r.Origin = "0/0"
			}
			m.image(&r, 0, epoch)
			r.Epoch, r.BatchID = epoch, schema.BatchID(0, epoch)
			revised = append(revised, r)
		}
		mem.bytes.Store(0)
		mem.requests.Store(0)
		plan := statetest.NewPlan(state.Config{}, state.SinkRevisions, epoch+uint64(n), epoch+uint64(n)+1, nil,
			statetest.Content{Rows: revised})
		if err := d.Revisions().Write(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
		got, req := mem.bytes.Load(), mem.requests.Load()
		if most := int64(512<<10 + n*400<<10); got > most {
			t.Errorf("%d rows: %d bytes of a file of %d were read, want at most %d", n, got, len(data), most)
		}
		t.Logf("%d rows of a file of %d MiB: %d KiB read in %d requests", n, len(data)>>20, got>>10, req)
	}
	if openTable(t, mem, "sessions").Snapshot().Records != int64(rows+5) {
		t.Errorf("%d rows, want %d", openTable(t, mem, "sessions").Snapshot().Records, rows+5)
	}
}

// What is found by ranges is what is found by reading all of it, whichever keys are asked for; and a file that is
// damaged anywhere is an error, or gives rows, and never a panic.
func TestReadWhere(t *testing.T) {
	m := newModel(4, 1)
	data, add := large(t, m, 3000)
	rng := rand.New(rand.NewPCG(9, 9))
	mem := objects.NewMem(nil)
	mem.Overwrite("f.parquet", data)
	all := map[string]int{}
	var places []string
	sound := true
	err := eachRow("f", data, sessionKeys, nil, func(r parquet.Row) error {
		places = append(places, string(r[0].ByteArray()))
		all[string(r[0].ByteArray())]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(mem *objects.Mem, keys []string) (map[string]int, error) {
		got := map[string]int{}
		_, err := deltalog.ReadWhere(t.Context(), mem, "f.parquet", add.Size, &deltalog.Lookup{Keys: keys,
			Columns: []string{"session_id", "origin", "batch_id"}}, func(place int64, r []parquet.Value) error {
			if at := places[place%int64(len(places))]; sound && at != string(r[0].ByteArray()) {
				t.Fatalf("row %d is of %q, want %q", place, r[0].ByteArray(), at)
			}
			if len(r) != 3 || r[1].Kind() != parquet.ByteArray || r[2].Kind() != parquet.Int64 {
				t.Fatalf("row %+v", r)
			}
			got[string(r[0].ByteArray())]++
			return nil
		})
		return got, err
	}
	for range 100 {
		var keys []string
		for range rng.IntN(6) {
			keys = append(keys, []string{idOf(rng.IntN(3500)), "", "~"}[rng.IntN(12)/5])
		}
		slices.Sort(keys)
		got, err := ask(mem, keys)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			if got[k] != all[k] {
				t.Fatalf("%q: %d rows by ranges, %d in all", k, got[k], all[k])
			}
		}
	}
	sound = false
	failed := 0
	for range 400 {
		bad := bytes.Clone(data)
		for range 1 + rng.IntN(3) {
			at := rng.IntN(len(bad))
			if rng.IntN(2) == 0 {
				at = len(bad) - 1 - rng.IntN(20_000) // where lengths and offsets are
			}
			bad[at] ^= 1 << rng.IntN(8)
		}
		w := objects.NewMem(nil)
		w.Overwrite("f.parquet", bad)
		if _, err := ask(w, []string{idOf(rng.IntN(3000))}); err != nil {
			if _, ok := errors.AsType[*deltalog.CorruptionError](err); !ok {
				t.Fatalf("%v is no CorruptionError", err)
			}
			failed++
		}
	}
	if failed < 10 {
		t.Errorf("%d of 400 damaged files were noticed", failed)
	}
	stop := errors.New("stop")
	if _, err := deltalog.ReadWhere(t.Context(), mem, "f.parquet", add.Size, &deltalog.Lookup{Keys: []string{idOf(1)},
		Columns: []string{"session_id"}}, func(int64, []parquet.Value) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the caller's error is %v", err)
	}
}
