package delta

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/sim/testworld/objects"
	"deckle/sinks"
	"deckle/sinks/delta/deltalog"
	"deckle/state"
	"deckle/state/statetest"
)

// piecesOf encodes events as the files of so many shards, two epochs of each.
func piecesOf(tb testing.TB, items []event.Item, shards int32, codecName string) (pieces []piece) {
	tb.Helper()
	c, err := codec(codecName)
	if err != nil {
		tb.Fatal(err)
	}
	for shard := range shards {
		for epoch := range uint64(2) {
			e := declared.newEventsEncoder(level.Lake, 19_000, c)
			half := items[int(epoch)*len(items)/2:][:len(items)/2]
			for i := range half {
				if half[i].Partition%shards == shard {
					if err := e.add(&half[i], -1); err != nil {
						tb.Fatal(err)
					}
				}
			}
			f, err := e.finish(int64(schema.BatchID(uint32(shard), epoch+1)))
			if err != nil {
				tb.Fatal(err)
			}
			pieces = append(pieces, piece{f, deltalog.Origin{Tagged: true, Shard: uint32(shard), From: epoch,
				To: epoch + 1}})
		}
	}
	return pieces
}

// chunk is a column chunk of a file: its bytes, and what the file says about it.
type chunk struct {
	data  []byte
	meta  format.ColumnMetaData // without places in the file
	index format.ColumnIndex
	pages []format.PageLocation // from the chunk's beginning
}

// chunksOf returns the chunks of a file by row group and column.
func chunksOf(t *testing.T, data []byte) (groups [][]chunk) {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	indexes, offsets := f.ColumnIndexes(), f.OffsetIndexes()
	for _, g := range f.Metadata().RowGroups {
		var row []chunk
		for i := range g.Columns {
			m := g.Columns[i].MetaData
			from := m.DataPageOffset
			if m.DictionaryPageOffset > 0 {
				from = m.DictionaryPageOffset
			}
			at := len(groups)*len(g.Columns) + i
			c := chunk{data: data[from : from+m.TotalCompressedSize], meta: m, index: indexes[at],
				pages: slices.Clone(offsets[at].PageLocations)}
			c.meta.DataPageOffset, c.meta.DictionaryPageOffset = c.meta.DataPageOffset-from, 0
			for j := range c.pages {
				c.pages[j].Offset -= from
			}
			row = append(row, c)
		}
		groups = append(groups, row)
	}
	return groups
}

// TestJoinFiles: a joined file has the row groups of its parts, byte for byte, by partition and then by epoch, with the
// same statistics and page indexes; its rows are theirs, found by ranges, too; and its bounds are those of one file.
func TestJoinFiles(t *testing.T) {
	items, next := dayOfEvents(36_000, 300), [6]int64{}
	for i := range items { // fewer partitions, so that their columns have several pages
		p := &items[i].Partition
		*p %= int32(len(next))
		items[i].Offset = next[*p]
		next[*p]++
	}
	for _, name := range []string{"zstd", "none"} {
		pieces := piecesOf(t, items, 3, name)
		c, err := codec(name)
		if err != nil {
			t.Fatal(err)
		}
		joined, err := joinFiles(pieces, c)
		if err != nil {
			t.Fatal(err)
		}
		type part struct {
			partition int32
			columns   []chunk
		}
		var want []part
		for _, p := range pieces {
			for i, g := range chunksOf(t, p.data) {
				want = append(want, part{p.groups[i], g})
			}
		}
		slices.SortStableFunc(want, func(a, b part) int { return cmp.Compare(a.partition, b.partition) })
		got := chunksOf(t, joined.data)
		if len(got) != len(want) || len(joined.groups) != len(want) {
			t.Fatalf("%s: %d row groups, want %d", name, len(got), len(want))
		}
		pages := 0
		for i := range want {
			for j := range want[i].columns {
				pages = max(pages, len(got[i][j].pages))
				if !reflect.DeepEqual(got[i][j], want[i].columns[j]) {
					t.Fatalf("%s: column %d of row group %d differs from that of its part", name, j, i)
				}
			}
		}
		if pages < 2 {
			t.Errorf("no column chunk has several pages: the test shows little")
		}
		// The rows, and the bounds of all.
		whole := declared.newEventsEncoder(level.Lake, 19_000, c)
		last, rows := state.Position{Partition: -1}, 0
		err = eachRow("k", joined.data, eventsTable.file, eventsTable.later, func(r parquet.Row) error {
			e, err := declared.event(r, 19_000)
			if err != nil {
				return err
			}
			at := state.Position{Partition: e.Partition, Offset: e.Offset}
			if comparePositions(last, at) >= 0 {
				t.Errorf("%v follows %v", at, last)
			}
			last = at
			rows++
			return whole.add(&e.Item, int64(e.BatchID))
		})
		if err != nil || rows != len(items) || joined.rows != int64(rows) {
			t.Fatalf("%s: %d rows, said to be %d, want %d: %v", name, rows, joined.rows, len(items), err)
		}
		if got, want := deltalog.Stats(joined.rows, joined.cols), deltalog.Stats(whole.rows, whole.stats); got != want {
			t.Errorf("%s: statistics\n got %s\nwant %s", name, got, want)
		}
		checkLookup(t, joined, items[len(items)/2].SessionID)
	}
}

// checkLookup finds the rows of a session by ranges, by means of the page indexes.
func checkLookup(t *testing.T, f *dataFile, session string) {
	t.Helper()
	st := objects.NewMem(nil)
	if err := st.Put(t.Context(), "f", f.data); err != nil {
		t.Fatal(err)
	}
	find := func(to *[][3]int64) func(int64, []parquet.Value) error { // place, partition and offset
		return func(place int64, r []parquet.Value) error {
			if textOf(r[0]) == session {
				*to = append(*to, [3]int64{place, r[1].Int64(), r[2].Int64()})
			}
			return nil
		}
	}
	var got, want [][3]int64
	columns := []string{"session_id", "kafka_partition", "kafka_offset"}
	read, err := deltalog.ReadWhere(t.Context(), st, "f", int64(len(f.data)),
		&deltalog.Lookup{Columns: columns, Keys: []string{session}}, find(&got))
	if err != nil {
		t.Fatal(err)
	}
	see, place := find(&want), int64(-1)
	err = eachRow("f", f.data, eventsTable.file, eventsTable.later, func(r parquet.Row) error {
		place++
		return see(place, []parquet.Value{r[eventsTable.place(columns[0])], r[eventsTable.place(columns[1])],
			r[eventsTable.place(columns[2])]})
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("session %s: %v by ranges, want %v", session, got, want)
	}
	if read >= int64(len(f.data)) {
		t.Errorf("%d of %d bytes were read", read, len(f.data))
	}
}

// TestJoinLimits: which files are made of the rows of several plans.
func TestJoinLimits(t *testing.T) {
	small, big := dayOfEvents(200, 5), dayOfEvents(2000, 5)
	of := func(items []event.Item, shard uint32) (l []*looseEvents) {
		for _, p := range piecesOf(t, items, 1, "none") {
			p.origin.Shard = shard
			l = append(l, &looseEvents{files: []*dataFile{p.dataFile}, origin: p.origin})
		}
		return l[:1]
	}
	first, many := of(small, 0)[0], []*looseEvents(nil)
	for shard := range uint32(deltalog.MaxParts + 1) {
		o := deltalog.Origin{Tagged: true, Shard: shard, To: 1}
		many = append(many, &looseEvents{files: first.files, origin: o})
	}
	for name, tc := range map[string]struct {
		plans []*looseEvents
		file  int64
		want  int
	}{
		"all in one":          {slices.Concat(of(small, 0), of(small, 1), of(small, 2)), 1 << 20, 1},
		"beyond FileBytes":    {slices.Concat(of(small, 0), of(big, 1), of(small, 2)), of(big, 1)[0].size() + 1, 3},
		"two and one":         {slices.Concat(of(small, 0), of(small, 1), of(small, 2)), of(small, 1)[0].size() * 2, 2},
		"too many row groups": {slices.Concat(of(small, 0), of(small, 1), of(small, 2)), 1 << 20, 3},
		"too many shards":     {many, 16 << 20, 2},
	} {
		mem := objects.NewMem(nil)
		opts := testOptions(mem, newModel(1, 1).rng)
		opts.Compression, opts.FileBytes, opts.join.groups = "none", tc.file, 1000
		if name == "too many row groups" {
			opts.join.groups = 2*len(tc.plans[0].files[0].groups) - 1
		}
		d := mustOpen(t, opts)
		var others []unstaged
		for _, p := range tc.plans {
			p.w = &d.events.writer
			others = append(others, p)
		}
		adds, rows, err := tc.plans[0].stage(t.Context(), others[1:])
		want := int64(0)
		for _, p := range tc.plans {
			want += p.files[0].rows
		}
		if err != nil || len(adds) != tc.want || rows != want {
			t.Errorf("%s: %d files with %d rows, want %d with %d: %v", name, len(adds), rows, tc.want, want, err)
		}
		for l, want := range map[level.Level]bool{level.Guarded: false, level.Lake: true} {
			plan := statetest.NewPlan(state.Config{}, state.SinkEvents, 0, 1, nil, statetest.Content{})
			plan.Level = l
			w := &d.events.writer
			if w.joins(plan, 16<<20) != want || w.joins(plan, 16<<20+1) {
				t.Errorf("level %d: not joined as it should be", l)
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// shortRows are rows of which some are lost on the way to their file.
type shortRows struct{}

func (shortRows) stage(context.Context, []unstaged) ([]deltalog.Add, int64, error) {
	return nil, 6, nil
}

// TestJoinedRowsAreCounted: files that have not the rows of their plans are never offered.
func TestJoinedRowsAreCounted(t *testing.T) {
	g := newGather(gatherOptions{lane: deltalog.LaneEvents, patience: gatherFor,
		offer: func(_ context.Context, o *deltalog.Offer) (deltalog.Answer, error) {
			if len(o.Parts) > 0 {
				t.Errorf("offered: %+v", o)
			}
			return deltalog.Answer{}, errCrash
		}, step: func(string) error { return nil }})
	defer g.close()
	turn := sinks.Turn{Number: 1, Every: time.Second}
	g.Begin(turn, []uint32{0, 1})
	var seats []*seat
	for shard := range uint32(2) {
		seats = append(seats, g.come(sinks.WithTurn(t.Context(), turn), shard))
	}
	var wg sync.WaitGroup
	for _, s := range seats {
		wg.Go(func() {
			d := &draft{change: &deltalog.Change{Rows: 4}, rows: shortRows{}}
			if err := s.submit(t.Context(), d); !errors.Is(err, errRows) {
				t.Errorf("6 of 8 rows: %v", err)
			}
		})
	}
	wg.Wait()
}

// insertsOf counts the commits of a table that only add files, and the files of several shards among theirs. A commit
// that has two files of a date and node is an error, if once says so.
func insertsOf(t *testing.T, mem *objects.Mem, table string, once bool) (commits, joined int) {
	t.Helper()
	for _, key := range mem.Keys(table + "/_delta_log/") {
		if !strings.HasSuffix(key, ".json") {
			continue
		}
		data, err := mem.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		dates, removes := map[string]int{}, 0
		for line := range strings.Lines(string(data)) {
			var a struct{ Add, Remove *deltalog.Add }
			if err := json.Unmarshal([]byte(line), &a); err != nil {
				t.Fatal(err)
			}
			switch {
			case a.Remove != nil:
				removes++
			case a.Add != nil:
				of := uint32(99)
				for _, o := range deltalog.OriginsOf(a.Add.Tags) {
					of = min(of, o.Shard%3)
				}
				dates[fmt.Sprint(a.Add.PartitionValues, " of node ", of)]++
				if a.Add.Tags[deltalog.TagParts] != "" {
					joined++
				}
			}
		}
		if len(dates) == 0 || removes > 0 {
			continue
		}
		commits++
		for date, n := range dates {
			if once && n > 1 {
				t.Errorf("%s: %d files of %s", key, n, date)
			}
		}
	}
	return commits, joined
}

// BenchmarkRound writes what a node has in a turn: the plans of two shards, at 5,000 events/s over six, of events and
// of sessions, each with files of their own or with one for both.
//
//	go test ./sinks/delta -run '^$' -bench Round -benchtime 30x -count 5
func BenchmarkRound(b *testing.B) {
	for _, joined := range []bool{false, true} {
		b.Run(fmt.Sprintf("joined=%t", joined), func(b *testing.B) { benchRound(b, joined) })
	}
}

// joinedRows are the events and the closed sessions of a turn, and the plans that write them.
type joinedRows struct {
	events   []event.Item
	sessions []schema.SessionRow
	plans    map[state.SinkID][]*state.Plan
}

// rowsOfTurn makes the plans of shards in a turn, at level.Lake, whose events are in buffers: so many sessions of each.
func rowsOfTurn(tb testing.TB, d *Delta, m *model, items []event.Item, turn uint64, sessions int) (r joinedRows) {
	tb.Helper()
	r.events, r.plans = items, map[state.SinkID][]*state.Plan{}
	for shard := range uint32(m.shards) {
		info := state.EpochInfo{Epoch: turn}
		buf := d.Events().Buffer(shard)
		buf.Rise(level.Lake)
		var batch event.Batch
		for i := range items {
			if uint32(items[i].Partition)%uint32(m.shards) == shard {
				batch.Items = append(batch.Items, items[i])
			}
		}
		info.Events = int64(len(batch.Items))
		if err := buf.Append(&batch, nil); err != nil {
			tb.Fatal(err)
		}
		buf.Seal(info.Epoch, true)
		var closed []schema.SessionRow
		for i := range sessions {
			closed = append(closed, m.sessionRow(shard, turn, int(turn)*sessions+i))
		}
		r.sessions = append(r.sessions, closed...)
		plan := func(id state.SinkID, infos []state.EpochInfo, c statetest.Content) {
			p := statetest.NewPlan(state.Config{Shard: shard}, id, turn-1, turn, infos, c)
			p.Level = level.Lake
			r.plans[id] = append(r.plans[id], p)
		}
		plan(state.SinkEvents, []state.EpochInfo{info}, statetest.Content{})
		plan(state.SinkSessions, nil, statetest.Content{Rows: closed})
	}
	return r
}

// writeTurn writes the plans of a turn together.
func writeTurn(tb testing.TB, d *Delta, number uint64, r *joinedRows) {
	tb.Helper()
	turn := sinks.Turn{Number: number, Every: 10 * time.Second}
	var shards []uint32
	for shard := range r.plans[state.SinkEvents] {
		shards = append(shards, uint32(shard))
	}
	d.Events().Begin(turn, shards)
	d.Sessions().Begin(turn, shards)
	var wg sync.WaitGroup
	for _, shard := range shards {
		for id, sink := range map[state.SinkID]sinks.Sink{state.SinkEvents: d.Events(),
			state.SinkSessions: d.Sessions()} {
			wg.Go(func() {
				if err := sink.Write(sinks.WithTurn(context.Background(), turn), r.plans[id][shard]); err != nil {
					tb.Error(err)
				}
			})
		}
	}
	wg.Wait()
}

// openJoining opens sinks that commit what they offer by themselves.
func openJoining(tb testing.TB, opts Options) (d *Delta) {
	tb.Helper()
	opts.FileBytes, opts.gatherFor = 64<<20, time.Minute
	opts.Offer = func(ctx context.Context, o *deltalog.Offer) (deltalog.Answer, error) {
		if len(o.Parts) == 0 {
			return deltalog.Answer{Outcome: deltalog.OutcomeDone}, nil
		}
		log, _ := d.Committer(o.Table)
		return log.SubmitAll(ctx, []deltalog.Submission{{Change: &o.Change, Withdrawn: ctx.Done()}})[0], nil
	}
	d, err := Open(context.Background(), opts)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func benchRound(b *testing.B, joined bool) {
	m := newModel(3, 2)
	opts := testOptions(objects.NewMem(nil), m.rng)
	opts.Compression = "zstd"
	if !joined {
		opts.join.plan = -1
	}
	d := openJoining(b, opts)
	defer d.Close()
	items := dayOfEvents(m.shards*8333, 300)
	number := uint64(0)
	for b.Loop() {
		b.StopTimer()
		number++
		r := rowsOfTurn(b, d, m, items, number, 500)
		b.StartTimer()
		writeTurn(b, d, number, &r)
	}
	for _, table := range []string{"events", "sessions"} {
		tab, err := OpenTable(context.Background(), opts.Store, table)
		if err != nil {
			b.Fatal(err)
		}
		s := tab.Snapshot()
		bytes := int64(0)
		for _, f := range s.Files {
			bytes += f.Size
		}
		b.ReportMetric(float64(len(s.Files))/float64(number), table+"-files/turn")
		b.ReportMetric(float64(bytes)/float64(number)/1000, table+"-kB/turn")
	}
}
