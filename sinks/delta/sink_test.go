package delta

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sim/testworld/objects"
	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
	"deckle/state"
	"deckle/state/statetest"
)

// The events of applied batches come from the buffer without a second read, whichever epochs a plan joins. Epochs that
// the buffer has not received completely, or has dropped, come from the source.
func TestEventsBuffer(t *testing.T) {
	for _, limit := range []int64{256 << 20, 30_000, 1} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			m := newModel(1, 2)
			mem := objects.NewMem(nil)
			opts := testOptions(mem, m.rng)
			opts.BufferMemoryBytes = limit
			read := 0
			opts.EventSource = func(shard uint32) sinks.EventSource { read++; return sourceOf{m, shard} }
			d := mustOpen(t, opts)
			defer d.Close()
			buf := d.Events().Buffer(1)
			for round := range 12 {
				plan, batches := m.eventEpochs(1, 1+round%3)
				p := plan()
				for i, epoch := range p.Epochs {
					for _, b := range batches[i] {
						if err := buf.Append(&b, epoch.LeftOut); err != nil {
							t.Fatal(err)
						}
					}
					buf.Seal(epoch.Epoch, round != 5)
				}
				for range 2 { // repeating changes nothing
					if err := d.Events().Write(context.Background(), plan()); err != nil {
						t.Fatal(err)
					}
				}
			}
			if limit == 256<<20 && read != 1 || limit == 1 && read < 10 {
				t.Errorf("the source was read %d times", read)
			}
			if limit > 30_000 && d.events.pool.used != 0 {
				t.Errorf("%d bytes are still held after everything was written", d.events.pool.used)
			}
			buf.Discard()
			if d.events.pool.used != 0 || len(d.events.pool.sealed) != 0 {
				t.Errorf("%d bytes are still held after Discard", d.events.pool.used)
			}
			checkEvents(t, mem, m)
			checkStats(t, mem)
		})
	}
}

// checkStats reads every file of events again and compares add.stats.
func checkStats(t *testing.T, mem *objects.Mem) {
	t.Helper()
	log, err := deltalog.Open(context.Background(),
		deltalog.Options{Store: mem, Name: "events", KeepFiles: true, KeepStats: true})
	if err != nil {
		t.Fatal(err)
	}
	tab := openTable(t, mem, "events")
	log.View(func(s *deltalog.Snapshot) {
		for f := range s.All() {
			cols := eventsTable.newStats()
			rows := int64(0)
			err := tab.ReadEvents(context.Background(), []*File{f}, func(r *EventRow) error {
				rows++
				for i := range declared.eventColumns[level.Current] {
					if at := eventsTable.statOf[declared.eventColumns[level.Current][i].place]; at >= 0 {
						count(&cols[at], declared.eventColumns[level.Current][i].value(&r.Item))
					}
				}
				cols[eventsTable.statOf[placeBatchID]].Int(int64(r.BatchID))
				return nil
			})
			if want := deltalog.Stats(rows, cols); err != nil || f.Stats != want {
				t.Errorf("%s: %v\n got %s\nwant %s", f.Path, err, f.Stats, want)
			}
		}
	})
}

func TestPlanInsideTheLog(t *testing.T) {
	mem := objects.NewMem(nil)
	m := newModel(2, 1)
	d := mustOpen(t, testOptions(mem, m.rng))
	defer d.Close()
	plan := func(a, b uint64, rows ...schema.SessionRow) *state.Plan {
		return statetest.NewPlan(state.Config{}, state.SinkSessions, a, b, nil, statetest.Content{Rows: rows})
	}
	ctx := context.Background()
	if err := d.Sessions().Write(ctx, plan(0, 3, m.sessionRow(0, 2, 1))); err != nil {
		t.Fatal(err)
	}
	if v, err := d.Sessions().Position(ctx, 0); err != nil || v != 3 {
		t.Fatalf("position %d, %v", v, err)
	}
	var stop *sinks.StopError
	if err := d.Sessions().Write(ctx, plan(2, 5, m.sessionRow(0, 3, 2))); !errors.As(err, &stop) {
		t.Fatalf("a plan of another history: %v", err)
	}
	row := m.sessionRow(0, 4, 3)
	row.TimeOnPageSec = math.MaxInt64 + 1
	var refused *sinks.RefusedError
	err := d.Sessions().Write(ctx, plan(3, 5, m.sessionRow(0, 4, 2), row))
	if !errors.As(err, &refused) || refused.RowKey != row.Key() || !json.Valid(refused.Row) {
		t.Fatalf("a number that fits no long: %v", err)
	}
	if v, _ := d.Sessions().Position(ctx, 0); v != 3 {
		t.Fatalf("position %d after a refusal", v)
	}
	if err := d.Sessions().Write(ctx, plan(3, 5)); err != nil { // nothing to write
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var stop *sinks.StopError
	mem := objects.NewMem(nil)
	mem.Unconditional = true
	if _, err := Open(context.Background(), testOptions(mem, rng)); !errors.As(err, &stop) ||
		!errors.Is(err, store.ErrUnconditional) {
		t.Errorf("a store without conditional put: %v", err)
	}
	mem = objects.NewMem(nil)
	if err := mustOpen(t, testOptions(mem, rng)).Close(); err != nil {
		t.Fatal(err)
	}
	opts := testOptions(mem, rng)
	opts.ClusterID = "c2"
	if _, err := Open(context.Background(), opts); !errors.As(err, &stop) {
		t.Errorf("another cluster's table: %v", err)
	}
	opts = testOptions(mem, rng)
	opts.Compression = "lzma"
	if _, err := Open(context.Background(), opts); err == nil {
		t.Error("an unknown compression was accepted")
	}
}

// A pass rewrites each file once, and at most RevisionFilesPerPass files per commit. Only the last commit has the txn,
// and an older image never replaces a newer one.
func TestRevisions(t *testing.T) {
	mem := objects.NewMem(nil)
	m := newModel(3, 1)
	opts := testOptions(mem, m.rng)
	opts.FileBytes = 0 // the default: all rows in one window
	d := mustOpen(t, opts)
	defer d.Close()
	ctx := context.Background()
	var rows []schema.SessionRow
	for epoch := uint64(1); epoch <= 5; epoch++ {
		var of []schema.SessionRow
		for i := range 4 {
			r := m.sessionRow(0, epoch, int(epoch)*10+i)
			r.SessionDate = 19_000
			of, m.closed[r.Key()] = append(of, r), r
		}
		rows = append(rows, of...)
		if err := d.Sessions().Write(ctx, statetest.NewPlan(state.Config{}, state.SinkSessions, epoch-1, epoch, nil,
			statetest.Content{Rows: of})); err != nil {
			t.Fatal(err)
		}
	}
	revise := func(a, b, epoch uint64, inserted int) *state.Plan {
		var out []schema.SessionRow
		for i := 0; i < len(rows); i += 2 {
			r := rows[i]
			m.image(&r, 0, epoch)
			out = append(out, r)
		}
		if inserted > 0 {
			r := m.sessionRow(0, 3, 1000+inserted)
			r.SessionDate = 19_000
			m.image(&r, 0, epoch)
			out = append(out, r)
		}
		return statetest.NewPlan(state.Config{}, state.SinkRevisions, a, b, nil, statetest.Content{Rows: out})
	}
	keep := func(p *state.Plan) *state.Plan {
		_ = p.Sessions(func(r *schema.SessionRow) error { m.closed[r.Key()] = *r; return nil })
		return p
	}
	before := openTable(t, mem, "sessions").Snapshot().Version
	if err := d.Revisions().Write(ctx, keep(revise(5, 9, 9, 1))); err != nil {
		t.Fatal(err)
	}
	var removes, txns []int
	for _, k := range mem.Keys("sessions/_delta_log/0") {
		if strings.HasSuffix(k, ".json") && k > fmt.Sprintf("sessions/_delta_log/%020d.json", before) {
			data, _ := mem.Get(ctx, k)
			removes = append(removes, strings.Count(string(data), `{"remove"`))
			txns = append(txns, strings.Count(string(data), `{"txn"`))
		}
	}
	if fmt.Sprint(removes, txns) != "[2 2 1] [0 0 1]" {
		t.Errorf("files replaced %v, txns %v", removes, txns)
	}
	checkSessions(t, mem, m)
	// An older plan under a later number changes no row; a repeated plan changes nothing at all.
	if err := d.Revisions().Write(ctx, revise(9, 10, 8, 0)); err != nil {
		t.Fatal(err)
	}
	checkSessions(t, mem, m)
	n := len(mem.Keys("sessions/session_date="))
	err := d.Revisions().Write(ctx, revise(9, 10, 11, 0))
	if err != nil || len(mem.Keys("sessions/session_date=")) != n {
		t.Fatalf("a repeated plan wrote something, or %v", err)
	}
	// A file that another tool has rewritten has no tags: its rows are still found.
	tab := openTable(t, mem, "sessions")
	f := tab.Snapshot().Files[0]
	v := tab.Snapshot().Version + 1
	data, _ := mem.Get(ctx, "sessions/"+f.Path)
	mem.Overwrite("sessions/session_date=2022-01-08/optimized.parquet", data)
	mem.Overwrite(fmt.Sprintf("sessions/_delta_log/%020d.json", v), replaceCommit(f.Path, int64(len(data))))
	if err := d.Revisions().Write(ctx, keep(revise(10, 12, 12, 2))); err != nil {
		t.Fatal(err)
	}
	checkSessions(t, mem, m)
	checkLog(t, mem, "sessions")
}

func FuzzDataFile(f *testing.F) {
	m := newModel(4, 1)
	r, _ := declared.sessionRow(declared.sessions[level.First],
		&schema.SessionRow{SessionID: "s", Status: schema.StatusClosed}, nil)
	c, _ := codec("snappy")
	sessions, _, err := declared.encodeSessions(declared.sessions[level.First], []sessionRow{r}, c, nil)
	if err != nil {
		f.Fatal(err)
	}
	e := declared.newEventsEncoder(level.First, 0, c)
	it := m.item(0)
	if err := e.add(&it, 1); err != nil {
		f.Fatal(err)
	}
	file, err := e.finish(1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sessions)
	f.Add(file.data)
	f.Add(file.data[:len(file.data)-20])
	f.Fuzz(func(t *testing.T, data []byte) {
		var bad *deltalog.CorruptionError
		var stop *sinks.StopError // other types
		err := eachRow("k", data, sessionsTable.file, sessionsTable.later, func(r parquet.Row) error {
			_ = declared.image(sessionRow(r).clone(), partition{})
			return nil
		})
		if err != nil && !errors.As(err, &bad) && !errors.As(err, &stop) {
			t.Fatalf("untyped: %v", err)
		}
		err = eachRow("k", data, eventsTable.file, eventsTable.later, func(r parquet.Row) error {
			_, _ = declared.event(r, 0)
			return nil
		})
		if err != nil && !errors.As(err, &bad) && !errors.As(err, &stop) {
			t.Fatalf("untyped: %v", err)
		}
	})
}
