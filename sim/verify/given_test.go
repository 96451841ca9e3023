package verify

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/schema/level"
	"deckle/sim"
	"deckle/sinks"
	"deckle/sinks/delta"
	"deckle/sinks/delta/store"
	"deckle/state"
	"deckle/state/statetest"
)

// Raw events that an operator has given up may be missing in table events, and the table says which, also after its
// checkpoints: they are counted and named, and are no difference. More than those, the sink does not leave out.
func TestGivenUpRowsAreNamed(t *testing.T) {
	w := build(t, true)
	st := store.NewLocal(vfs.Default, t.TempDir(), "test")
	items := eventItems(t, w)
	n := slices.IndexFunc(items, func(it event.Item) bool { return it.Partition != items[0].Partition })
	parts := []memorySource{items[:n], items[n:]}
	gap := Gap{items[10].Partition, items[10].Offset, items[14].Offset + 1}
	var source memorySource
	sink, err := delta.Open(t.Context(), delta.Options{Store: st, ClusterID: "c", Pipeline: "p", Events: true,
		CheckpointInterval: 1, EventSource: func(uint32) sinks.EventSource { return source }})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	write := func(epoch uint64, has memorySource) error {
		all := parts[epoch-1]
		p := statetest.NewPlan(state.Config{ClusterID: "c", Pipeline: "p", Shards: 1}, state.SinkEvents, epoch-1, epoch,
			[]state.EpochInfo{{Epoch: epoch, Ranges: ranges(all), Events: int64(len(all))}}, statetest.Content{})
		p.Level = level.Current
		p.EventGaps = []state.EventsGap{{Gap: state.Gap{Partition: gap.Partition, From: gap.From, To: gap.To}}}
		source = has
		return sink.Events().Write(t.Context(), p)
	}
	// Of five rows in the gap, the table gets one: a re-fetch may have more than it must.
	first := slices.Concat(parts[0][:11], parts[0][15:])
	lost := int(gap.To - gap.From) // offsets of the gap, those included that make no row
	if err := write(1, parts[0][:len(parts[0])-lost-1]); err == nil {
		t.Fatal("more rows are missing than were given up, and the sink writes the others")
	}
	if err := write(1, first); err != nil {
		t.Fatal(err)
	}
	if err := write(2, parts[1]); err != nil {
		t.Fatal(err)
	}
	r, err := OpenDelta(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := Verify(t.Context(), Options{Truth: []sim.Source{w.truth}, More: []Table{{Name: DeltaEvents,
		Source: "events", Kind: Events, Reader: r}}, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	got := rep.Tables[DeltaEvents]
	if !rep.Equal || got.GivenUp != 4 || got.Rows != got.Want-4 || !slices.Equal(got.Gaps, []Gap{gap}) {
		t.Fatalf("%+v, %v", got, rep.Differences)
	}
	var text bytes.Buffer
	if err := rep.Write(&text); err != nil ||
		!strings.Contains(text.String(), "4 given up by operators\n    given up: ") {
		t.Errorf("%s, %v", &text, err)
	}
}

// withGaps is a reader of tables of which operators have given up offsets.
type withGaps struct {
	fake
	gaps []Gap
}

func (g withGaps) Gaps(context.Context, string) ([]Gap, error) { return g.gaps, nil }

// What is missing beside the gaps is lost, and what a table has of them must be right, and there once.
func TestGapsHideNothingElse(t *testing.T) {
	w := build(t, true)
	rows := w.tables["events"]
	offset, err := strconv.ParseInt(rows[20][eventOffset], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	partition, err := strconv.ParseInt(rows[20][eventPartition], 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gaps := []Gap{{int32(partition), offset, offset + 1}}
	inside, outside := keyOfRow("events", rows[20]), keyOfRow("events", rows[30])
	without := slices.Delete(slices.Clone(rows), 30, 31)
	for name, c := range map[string]struct {
		rows [][]string
		want planted // of kind "": equal
		gone int64
	}{
		"all there":           {rows, planted{}, 0},
		"given up":            {slices.Delete(slices.Clone(rows), 20, 21), planted{}, 1},
		"another one":         {without, planted{"e", Lost, outside, ""}, 0},
		"twice":               {append(slices.Clone(rows), rows[20]), planted{"e", Doubled, inside, ""}, 0},
		"both":                {slices.Delete(slices.Clone(without), 20, 21), planted{"e", Lost, outside, ""}, 1},
		"another value of it": {changed(rows, 20, "city"), planted{"e", Changed, inside, "city"}, 0},
	} {
		rep, err := Verify(t.Context(), Options{Truth: []sim.Source{w.truth}, More: []Table{{Name: "e",
			Source: "events", Kind: Events, Reader: withGaps{fake{"events": c.rows}, gaps}}}, Limit: 10})
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case rep.Tables["e"].GivenUp != c.gone:
			t.Errorf("%s: %+v", name, rep.Tables)
		case c.want.kind == "" && !rep.Equal:
			t.Errorf("%s: %v", name, rep.Differences)
		case c.want.kind != "":
			if err := c.want.find(rep); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// changed is a copy of the rows, of which one has another value in a column.
func changed(rows [][]string, i int, column string) [][]string {
	rows = slices.Clone(rows)
	rows[i] = slices.Clone(rows[i])
	rows[i][slices.Index(sim.EventColumns, column)] = "Atlantis"
	return rows
}
