package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/status"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/sim/testworld/objects"
	"deckle/sinks/delta"
	"deckle/sinks/delta/store"
	"deckle/state"
	"deckle/state/statetest"
)

// newTables opens Delta tables in memory, for as long as the test runs. write commits the session of an epoch, which
// are 1, 2 and so on.
func newTables(t *testing.T) (mem *objects.Mem, d *delta.Delta, write func(epoch uint64)) {
	t.Helper()
	mem = objects.NewMem(nil)
	d, err := delta.Open(t.Context(), delta.Options{Store: mem, ClusterID: "c", Pipeline: "p"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return mem, d, func(epoch uint64) {
		t.Helper()
		row := schema.SessionRow{SessionID: fmt.Sprint("s", epoch), Origin: "0/1", SessionDate: 20_000, Epoch: epoch,
			BatchID: schema.BatchID(0, epoch), Categories: "[]", PageEvents: "[]"}
		p := statetest.NewPlan(state.Config{}, state.SinkSessions, epoch-1, epoch, nil,
			statetest.Content{Rows: []schema.SessionRow{row}})
		if err := d.Sessions().Write(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
}

// A RESTORE by another tool becomes a condition on the node that leads shard 0, whose commands end it.
func TestRowsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, d, write := newTables(t)
		restore := func(version int, path string) {
			body := fmt.Sprintf(`{"commitInfo":{"operation":"RESTORE"}}`+"\n"+`{"remove":{"path":%q,"dataChange":true,`+
				`"deletionTimestamp":1,"size":1}}`+"\n", path)
			if err := mem.PutIfAbsent(t.Context(), fmt.Sprintf("sessions/_delta_log/%020d.json", version),
				[]byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		var leads atomic.Bool
		leads.Store(true)
		off := false
		deps := &Deps{}
		deps.complete()
		l := &lake{deps: deps, list: condition.New("n1", time.Now, deps.Logger),
			cfg:    func() *config.Config { return &config.Config{Delta: &config.Delta{Events: &off}} },
			leads:  func(uint32) bool { return leads.Load() },
			tables: func(context.Context) (*delta.Delta, error) { return d, nil },
			store:  func() (store.Store, error) { return mem, nil }}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go l.watchRemoved(ctx)
		text := func() string {
			time.Sleep(2 * removedLook)
			synctest.Wait()
			l.list.Ripen()
			list := l.list.Snapshot()
			if len(list) == 0 {
				return ""
			}
			return string(list[0].ID) + ", " + list[0].Subject + ": " + list[0].Text
		}
		file := func() string {
			for _, k := range mem.Keys("sessions/session_date=") {
				if strings.Contains(k, "/part-00000-2-") {
					return strings.TrimPrefix(k, "sessions/")
				}
			}
			return ""
		}
		write(1)
		write(2)
		if got := text(); got != "" {
			t.Fatalf("nobody has done anything: %s", got)
		}
		restore(3, file())
		if got := text(); !strings.HasPrefix(got, "rows-removed, table sessions: version 3, by another tool, has") ||
			!strings.Contains(got, "1 files with 1 rows") || !strings.Contains(got, "--version 2 --rows=again") {
			t.Fatalf("after a RESTORE: %q", got)
		}
		leads.Store(false)
		if got := text(); got != "" {
			t.Errorf("another node tells of it: %s", got)
		}
		leads.Store(true)
		ask := func(q status.TableRequest) (*status.TableOutcome, error) {
			q.Table = "sessions"
			return l.table(t.Context(), &q)
		}
		q := status.TableRequest{Op: status.TableRestore, Version: 2, Rows: "again", DryRun: true}
		if out, err := ask(q); err != nil || out.Committed != nil || out.Restored != 1 || *out.RestoredRows != 1 ||
			out.Version != 3 || out.Removed != 0 || text() == "" {
			t.Fatalf("a dry run: %+v, %v", out, err)
		}
		q.DryRun = false
		if out, err := ask(q); err != nil || out.Committed == nil || *out.Committed != 4 || text() != "" {
			t.Fatalf("restored: %+v, %v", out, err)
		}
		restore(5, file())
		if text() == "" {
			t.Error("a second RESTORE is not told")
		}
		q = status.TableRequest{Op: status.TableForget}
		if out, err := ask(q); err != nil || *out.Committed != 6 || text() != "" {
			t.Fatalf("forgotten: %+v, %v", out, err)
		}
		q = status.TableRequest{Op: status.TableRestore, Version: 99, Rows: "gone"}
		if _, err := ask(q); !errors.Is(err, status.ErrRefused) {
			t.Errorf("a version that there is not: %v", err)
		}
		if err := mem.Delete(t.Context(), "sessions/"+file()); err != nil {
			t.Fatal(err)
		}
		q.Version = 4
		if _, err := ask(q); !errors.Is(err, status.ErrRefused) || !strings.Contains(err.Error(), "is gone") {
			t.Errorf("a file that is gone: %v", err)
		}
		q = status.TableRequest{Op: status.TableRestore, Table: "events"}
		if _, err := l.table(t.Context(), &q); !errors.Is(err, status.ErrRefused) {
			t.Errorf("a table that there is not: %v", err)
		}
	})
}

// A table by brand that has more brands than publishers have tells of it on the node that leads shard 0, and of how
// many they are, until it has fewer.
func TestBrandsMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := objects.NewMem(nil)
		d, err := delta.Open(t.Context(), delta.Options{Store: mem, ClusterID: "c", Pipeline: "p", Level: level.Lake,
			SessionsByBrand: true})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		write := func(epoch uint64, brand string) {
			row := schema.SessionRow{SessionID: fmt.Sprint("s", epoch), Origin: "0/1", SessionDate: 20_000,
				Epoch: epoch, OpeningBrand: brand, BatchID: schema.BatchID(0, epoch), Categories: "[]",
				PageEvents: "[]"}
			p := statetest.NewPlan(state.Config{}, state.SinkSessions, epoch-1, epoch, nil,
				statetest.Content{Rows: []schema.SessionRow{row}})
			p.Level = level.Lake
			if err := d.Sessions().Write(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		var leads atomic.Bool
		deps := &Deps{}
		deps.complete()
		l := newLake(&lake{deps: deps, list: condition.New("n1", time.Now, deps.Logger), mostBrands: 2,
			leads:  func(uint32) bool { return leads.Load() },
			tables: func(context.Context) (*delta.Delta, error) { return d, nil }})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go l.watchBrands(ctx)
		want := func(what, text string, brands float64) {
			t.Helper()
			time.Sleep(2 * removedLook)
			synctest.Wait()
			l.list.Ripen()
			got := ""
			for _, c := range l.list.Snapshot() {
				got += string(c.ID) + ", " + c.Subject + ": " + c.Text
			}
			if !strings.HasPrefix(got, text) || (got == "") != (text == "") || testutil.ToFloat64(l.brands) != brands {
				t.Errorf("%s: %q, %v brands; want %q, %v", what, got, testutil.ToFloat64(l.brands), text, brands)
			}
		}
		write(1, "bild")
		write(2, "")
		write(3, "bild")
		leads.Store(true)
		want("two brands", "", 2)
		write(4, "a/b c")
		want("three brands", "brands-many, table sessions: its files have 3 brands, more than 2", 3)
		leads.Store(false)
		want("another node", "", 0)
		leads.Store(true)
		want("again", "brands-many, table sessions: its files have 3 brands", 3)
		gone := ""
		for _, k := range mem.Keys("sessions/opening_brand=a") {
			gone = strings.TrimPrefix(k, "sessions/")
		}
		body := fmt.Sprintf(`{"commitInfo":{"operation":"DELETE"}}`+"\n"+`{"remove":{"path":%q,"dataChange":true,`+
			`"deletionTimestamp":1,"size":1}}`+"\n", gone)
		if err := mem.PutIfAbsent(t.Context(), fmt.Sprintf("sessions/_delta_log/%020d.json", 5),
			[]byte(body)); err != nil {
			t.Fatal(err)
		}
		write(5, "bild")
		want("a brand less", "", 2)
	})
}
