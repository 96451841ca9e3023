package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/integration/services"
	"deckle/schema"
	newest "deckle/schema/level"
	"deckle/sinks"
	"deckle/sinks/delta"
	"deckle/sinks/delta/store"
	"deckle/state"
	"deckle/state/statetest"
)

// registered gives the events of an epoch, one for each of brands, as Kafka would.
type registered struct{ brands []string }

func (r registered) session(epoch uint64, i int) string { return fmt.Sprint("s", epoch*10+uint64(i)) }

// offset is that of an event of an epoch.
func (r registered) offset(epoch uint64, i int) int64 {
	return int64(epoch-1)*int64(len(r.brands)) + int64(i)
}

func (r registered) Events(_ context.Context, p *state.Plan, yield func(*event.Item) error) error {
	for epoch := p.A + 1; epoch <= p.B; epoch++ {
		for i := range r.brands {
			it := event.Item{Offset: r.offset(epoch, i), KafkaTimestamp: 1_650_000_000_000}
			it.ID[0], it.ID[1] = byte(epoch), byte(i)
			it.SessionID, it.Type, it.Timestamp = r.session(epoch, i), event.ArticleView, 1_650_000_000
			if err := yield(&it); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r registered) Originals(context.Context, []state.Position, func(int, []byte, bool) error) error {
	return errors.New("there are no dead letters")
}

// TestSparkRegisters: the tables, sessions partitioned by brand and date, are registered once by their location, in
// Spark's own catalog and in a Hive metastore, and are read by name from then on; what is written later shows without a
// further step. Spark is fetched for that (1 GB) if DECKLE_TEST_SPARK=1: make catalog-spark.
func TestSparkRegisters(t *testing.T) {
	cache, err := services.OpenCache(os.Stderr)
	must(t, err)
	spark, err := cache.TestSpark(t.Context())
	need(t, err)
	dir, catalogs := folder(t), t.TempDir()
	from := registered{[]string{"", "50% ü", "bild", "le monde/fr"}}
	d, err := delta.Open(t.Context(), delta.Options{Store: store.NewLocal(vfs.Default, dir, "test"), ClusterID: "c",
		Pipeline: "p", Level: newest.Lake, SessionsByBrand: true, Events: true,
		EventSource: func(uint32) sinks.EventSource { return from }})
	must(t, err)
	defer d.Close()

	type answer struct {
		Known                    []string
		Partitions               map[string][]string
		Sessions, Events, Joined [][]*string
		By                       map[string][]string
	}
	want := answer{By: map[string][]string{}, Partitions: map[string][]string{"events": {"event_date"},
		"sessions": {"opening_brand", "session_date"}}}
	row := func(values ...string) (r []*string) { // "" is null
		for _, v := range values {
			if r = append(r, nil); v != "" {
				r[len(r)-1] = &v
			}
		}
		return r
	}
	write := func(epoch uint64) {
		t.Helper()
		var of []schema.SessionRow
		want.Joined = nil
		for i, b := range from.brands {
			id := from.session(epoch, i)
			of = append(of, schema.SessionRow{SessionID: id, Origin: fmt.Sprint("0/", from.offset(epoch, i)),
				SessionDate: 19_000, OpeningBrand: b, Brand: "other", FirstClosed: epoch, Epoch: epoch,
				BatchID: schema.BatchID(0, epoch), Status: schema.StatusExpired, Start: 1_650_000_000,
				End: 1_650_000_001, TotalEvents: 1, Categories: "[]", CreatedAt: 1_700_000_000_000})
			want.Sessions, want.By[b] = append(want.Sessions, row(id, b, "2022-01-08")), append(want.By[b], id)
			want.Events = append(want.Events, row(id, "2022-04-15", fmt.Sprint(from.offset(epoch, i))))
			want.Joined = append(want.Joined, row(b, fmt.Sprint(epoch)))
		}
		n := int64(len(of))
		info := state.EpochInfo{Epoch: epoch, Level: newest.Lake, Events: n, Sessions: n,
			Ranges: []event.Range{{From: from.offset(epoch, 0), To: from.offset(epoch+1, 0)}}}
		for id, s := range map[state.SinkID]sinks.Sink{state.SinkEvents: d.Events(), state.SinkSessions: d.Sessions()} {
			p := statetest.NewPlan(state.Config{}, id, epoch-1, epoch, []state.EpochInfo{info},
				statetest.Content{Rows: of})
			p.Level = newest.Lake
			must(t, s.Write(t.Context(), p))
		}
	}
	ask := func(catalog string, known ...string) {
		t.Helper()
		at := filepath.Join(catalogs, catalog)
		must(t, os.MkdirAll(at, 0o755))
		args := slices.Concat([]string{spark.Jars, at, catalog, dir}, from.brands)
		cmd, err := spark.Command(t.Context(), t.TempDir(), "catalog_spark.py", args...)
		must(t, err)
		out, err := cmd.CombinedOutput()
		_, result, _ := bytes.Cut(out, []byte("RESULT "))
		var got answer
		if err != nil || json.Unmarshal(bytes.SplitN(result, []byte("\n"), 2)[0], &got) != nil {
			t.Fatalf("%s: %v: %s", catalog, err, out)
		}
		want.Known = append([]string{}, known...)
		if !reflect.DeepEqual(got, want) {
			a, _ := json.Marshal(got)
			b, _ := json.Marshal(want)
			t.Errorf("%s:\n got %s\nwant %s", catalog, a, b)
		}
	}
	write(1)
	ask("in-memory")
	ask("hive")
	write(2)
	ask("hive", "events", "sessions")
}
