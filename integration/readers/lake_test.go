package readers

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks"
	"deckle/sinks/delta"
	"deckle/sinks/delta/store"
	"deckle/state"
	"deckle/state/statetest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const shards = 3

// lakeOptions say how the tables are made and written.
type lakeOptions struct {
	byBrand bool // sessions is partitioned by brand, too
	hides   bool // revisions hide rows by deletion vectors
}

// lake is the two tables, and the truth about them.
type lake struct {
	t   *testing.T
	dir string
	st  store.Store
	now time.Time // the clock of the writer, and that of the store
	rng *rand.Rand
	d   *delta.Delta

	lakeOptions
	level    level.Level
	epochs   [shards]uint64
	revised  [shards]uint64 // of the last plan of revisions
	offset   [shards]int64
	next     int
	closed   []*schema.SessionRow // which may still be revised
	item     map[uint64][]event.Item
	sessions map[string][]any // truth: the row of each session, the note of another tool last
	notes    map[string]any   // of the sessions that have one
	noted    bool             // the table has the column
	events   map[string][]any // and of each event
	tables   map[string]*table
}

// table is the truth about one table by version.
type table struct {
	Path     string             `json:"path"`
	Key      string             `json:"key"` // the column by which rows are told apart
	Columns  [][2]string        `json:"columns"`
	First    int                `json:"first"` // so many of them are there at level.First
	Feed     int64              `json:"feed"`  // the version that switched the change data feed on, 0: none
	Images   [][]any            `json:"images"`
	Versions map[int64]*version `json:"versions"`
	image    map[string]int
}

type version struct {
	Columns int   `json:"columns"`
	Rows    []int `json:"rows"` // indexes of images
	// Log says that the log still has everything that the version needs; Files that vacuum has removed none of its
	// files.
	Log   bool `json:"log"`
	Files bool `json:"files"`
}

// aging is a store that writes the times of the lake's clock.
type aging struct {
	*store.Local
	l *lake
}

func (a *aging) aged(key string, err error) error {
	if err != nil {
		return err
	}
	return os.Chtimes(filepath.Join(a.l.dir, key), a.l.now, a.l.now)
}

func (a *aging) Put(ctx context.Context, key string, data []byte) error {
	return a.aged(key, a.Local.Put(ctx, key, data))
}

func (a *aging) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	return a.aged(key, a.Local.PutIfAbsent(ctx, key, data))
}

func (a *aging) PutStreamIfAbsent(ctx context.Context, key string, n int64, write func(io.Writer) error) error {
	return a.aged(key, a.Local.PutStreamIfAbsent(ctx, key, n, write))
}

// newLake makes the tables at level.First, 100 days ago.
func newLake(t *testing.T, dir string, o lakeOptions) *lake {
	l := &lake{t: t, dir: dir, lakeOptions: o, level: level.First,
		now: time.Now().Add(-100 * 24 * time.Hour).Truncate(time.Hour),
		rng: rand.New(rand.NewPCG(1, 2)), sessions: map[string][]any{}, events: map[string][]any{},
		notes: map[string]any{}, item: map[uint64][]event.Item{}}
	l.st = &aging{store.NewLocal(vfs.Default, dir, "test"), l}
	all := schema.All()
	sessions := &table{Key: "session_id", First: len(all.UpTo(level.First).Sessions)}
	if o.byBrand { // it has that column, and those before it, from the beginning
		sessions.First = len(all.UpTo(level.Lake).Sessions)
	}
	for i := range all.Sessions {
		sessions.Columns = append(sessions.Columns, [2]string{all.Sessions[i].Name, kindOf(all.Sessions[i].Kind)})
	}
	sessions.Columns = append(sessions.Columns, [2]string{note, "text"})
	events := &table{Key: "event_id"}
	first := len(all.UpTo(level.First).Events)
	for i := range all.Events {
		if i == first {
			events.Columns = append(events.Columns, [2]string{"batch_id", "long"}, [2]string{"event_date", "date"})
		}
		events.Columns = append(events.Columns, [2]string{all.Events[i].Name, kindOf(all.Events[i].Kind)})
	}
	events.First = first + 2
	l.tables = map[string]*table{"sessions": sessions, "events": events}
	for name, tab := range l.tables {
		tab.Path, tab.Versions, tab.image = filepath.Join(dir, name), map[int64]*version{}, map[string]int{}
	}
	l.open()
	l.note()
	return l
}

func kindOf(k schema.Kind) string {
	switch {
	case k == schema.Date:
		return "date"
	case k == schema.Seconds || k == schema.Millis || k == schema.KafkaMillis:
		return "timestamp"
	case k.IsText():
		return "text"
	}
	return "long"
}

func (l *lake) open() {
	l.t.Helper()
	d, err := delta.Open(l.t.Context(), delta.Options{Store: l.st, ClusterID: "c", Pipeline: "p", Node: "n",
		Level: level.First, SessionsByBrand: l.byBrand, Events: true, DeletionVectors: l.hides, VectorsFrom: 1,
		EventSource:        func(uint32) sinks.EventSource { return source{l} },
		CheckpointInterval: 5, Now: func() time.Time { return l.now }})
	must(l.t, err)
	l.d = d
}

// reopen waits for what the writer does besides: checkpoints, cleanup.
func (l *lake) reopen() {
	l.t.Helper()
	must(l.t, l.d.Close())
	l.open()
}

// pass lets time go by.
func (l *lake) pass(d time.Duration) { l.now = l.now.Add(d) }

func (l *lake) text(words ...string) string { return words[l.rng.IntN(len(words))] }

// image gives a row new values, zeros and empties among them.
func (l *lake) image(r *schema.SessionRow, shard uint32, epoch uint64) {
	r.Epoch, r.BatchID = epoch, schema.BatchID(shard, epoch)
	r.UserID = []uint64{0, 7, 1<<63 + 5}[l.rng.IntN(3)]
	r.Brand = l.text("", "bild", "welt", "politico")
	r.City, r.Country = l.text("", "Köln", "São Paulo", "Ж", "a\nb\"c"), l.text("DE", "")
	r.Start = l.now.Unix() - l.rng.Int64N(10_000)
	r.End = r.Start + l.rng.Int64N(3)
	r.TotalEvents, r.Revision = l.rng.Uint32N(3), r.Revision+1
	for i := event.ArticleView; i < event.SessionEnd; i++ {
		r.Counts[i] = l.rng.Uint32N(2)
	}
	r.Categories, r.ArticleIDs, r.ArticleTitles = l.text("[]", `["a","a"]`), "[]", l.text("[]", `["日本"]`)
	r.PageEvents = l.text("[]", `[{"event_type":"search"}]`)
	r.TimeOnPageSec, r.AdRevenueMicros = l.rng.Uint64N(2), l.rng.Uint64N(1e15)
	r.MaxScrollDepth, r.ArticlesCompleted = uint8(l.rng.IntN(101)), l.rng.Uint32N(3)
	r.Status, r.CreatedAt = schema.Status(2+l.rng.IntN(2)), l.now.UnixMilli()+l.rng.Int64N(1000)
}

// insert closes an epoch of each shard, with new sessions and events, and writes it to both tables.
func (l *lake) insert(rows int) {
	l.t.Helper()
	for shard := range uint32(shards) {
		l.epochs[shard]++
		epoch := l.epochs[shard]
		info := state.EpochInfo{Epoch: epoch, Level: l.level, Clock: l.now.UnixMilli()}
		var content statetest.Content
		var items []event.Item
		for range rows {
			l.next++
			r := &schema.SessionRow{SessionID: fmt.Sprintf("s%05d", l.next),
				Origin:      fmt.Sprintf("%d/%d", shard, l.next),
				SessionDate: schema.Day(l.now.Unix()) - int32(l.rng.IntN(2)), FirstClosed: epoch}
			if l.level >= level.Lake {
				r.OpeningBrand = l.text("", "bild", "le monde/fr", "50% ü")
			}
			l.image(r, shard, epoch)
			r.Revision = 0
			r.FiguresKnown, r.UsersKnown = l.level > level.First, l.level > level.First
			content.Rows = append(content.Rows, *r)
			l.closed = append(l.closed, r)
			l.truth(r)
			items = append(items, l.newItem(int32(shard)))
		}
		l.item[schema.BatchID(shard, epoch)] = items
		info.Events, info.Sessions = int64(rows), int64(rows)
		info.Ranges = []event.Range{{Partition: int32(shard), From: items[0].Offset, To: items[rows-1].Offset + 1}}
		for i := range items {
			it := &items[i]
			values := row(schema.Events, it, l.level)
			first := len(schema.All().UpTo(level.First).Events)
			values = slices.Insert(values, first, any(int64(schema.BatchID(shard, epoch))),
				any(schema.DateText(schema.Day(it.Timestamp))))
			l.events[fmt.Sprintf("%d/%d", it.Partition, it.Offset)] = values
		}
		cfg := state.Config{Shard: shard}
		for _, s := range []struct {
			id   state.SinkID
			sink sinks.Sink
		}{{state.SinkEvents, l.d.Events()}, {state.SinkSessions, l.d.Sessions()}} {
			p := statetest.NewPlan(cfg, s.id, epoch-1, epoch, []state.EpochInfo{info}, content)
			p.Level = l.level
			must(l.t, s.sink.Write(l.t.Context(), p))
			l.note()
		}
		l.pass(10 * time.Second)
	}
}

func (l *lake) newItem(shard int32) event.Item {
	it := event.Item{Partition: shard, Offset: l.offset[shard], KafkaTimestamp: l.now.UnixMilli()}
	l.offset[shard]++
	for i := range it.ID {
		it.ID[i] = byte(l.rng.Uint32())
	}
	it.SessionID, it.UserID = fmt.Sprintf("s%d", l.rng.IntN(50)), l.rng.Uint64N(3)
	it.Type, it.Timestamp = event.Type(1+l.rng.IntN(9)), l.now.Unix()-l.rng.Int64N(200_000)
	it.Brand = l.text("", "bild", "welt")
	it.ArticleTitle = l.text("", "Ein \"Titel\"", "日本", strings.Repeat("x", 300))
	it.EngagementMetrics, it.Extra = l.text("", `{"scroll_depth":0}`), l.text("", `{"a":[1,2]}`)
	return it
}

// source gives the events of epochs again, as Kafka does.
type source struct{ l *lake }

func (s source) Events(_ context.Context, p *state.Plan, yield func(*event.Item) error) error {
	for epoch := p.A + 1; epoch <= p.B; epoch++ {
		items := s.l.item[schema.BatchID(p.Config.Shard, epoch)]
		for i := range items {
			if err := yield(&items[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s source) Originals(context.Context, []state.Position, func(int, []byte, bool) error) error {
	return fmt.Errorf("readers: there are no dead letters")
}

// truth keeps the row of a session.
func (l *lake) truth(r *schema.SessionRow) {
	l.sessions[r.SessionID] = append(row(schema.Sessions, r, l.level), l.notes[r.SessionID])
}

// row are the values of a row as readers must show them: texts, integers, microseconds, dates, null.
func row[R any](columns []schema.Column[R], r *R, l level.Level) (values []any) {
	for i := range columns {
		values = append(values, value(&columns[i], r, l))
	}
	return values
}

func value[R any](c *schema.Column[R], r *R, l level.Level) any {
	if schema.Later(c.Since) && l < c.Since || c.MayBeNull(l) && !c.Has(r) {
		return nil
	}
	if c.Kind.IsText() {
		if text := c.Field.Text(r); text != "" || !c.Optional {
			return text
		}
		return nil
	}
	n := int64(c.Field.Number(r))
	switch c.Kind {
	case schema.Date:
		return schema.DateText(int32(n))
	case schema.Seconds:
		return n * 1_000_000
	case schema.Millis, schema.KafkaMillis:
		return n * 1000
	}
	return n
}

// note keeps the truth of the versions that have come since. One that adds and removes nothing has the rows of the
// version before it. An operation that changes rows by several commits calls note after each.
func (l *lake) note() {
	l.t.Helper()
	for name, rows := range map[string]map[string][]any{"sessions": l.sessions, "events": l.events} {
		tab := l.tables[name]
		now := &version{Columns: tab.First, Log: true, Files: true}
		if l.level > level.First {
			now.Columns = len(tab.Columns)
		}
		if name == "sessions" && l.level > level.First && !l.noted {
			now.Columns--
		}
		for _, key := range slices.Sorted(maps.Keys(rows)) {
			id := fmt.Sprint(rows[key])
			at, ok := tab.image[id]
			if !ok {
				at = len(tab.Images)
				tab.Images, tab.image[id] = append(tab.Images, rows[key]), at
			}
			now.Rows = append(now.Rows, at)
		}
		f := logOf(l.t, tab.Path)
		changed := 0
		for n := int64(len(tab.Versions)); f.commits[n]; n++ {
			text, err := os.ReadFile(filepath.Join(tab.Path, "_delta_log", fmt.Sprintf("%020d.json", n)))
			must(l.t, err)
			v := *now
			if !bytes.Contains(text, []byte(`{"add":`)) && !bytes.Contains(text, []byte(`{"remove":`)) {
				v.Rows = []int{}
				if n > 0 {
					v.Rows = tab.Versions[n-1].Rows
				}
			} else if changed++; changed > 1 {
				l.t.Fatalf("%s: version %d changes rows, and so did the one before it", name, n)
			}
			tab.Versions[n] = &v
		}
	}
}

// logFiles are the versions of commits and checkpoints that lie in a table's log.
type logFiles struct{ commits, checkpoints map[int64]bool }

func logOf(t *testing.T, path string) logFiles {
	t.Helper()
	f := logFiles{map[int64]bool{}, map[int64]bool{}}
	entries, err := os.ReadDir(filepath.Join(path, "_delta_log"))
	must(t, err)
	for _, e := range entries {
		var v int64
		if n, _ := fmt.Sscanf(e.Name(), "%020d", &v); n != 1 {
			continue
		}
		switch name := e.Name()[20:]; name {
		case ".json":
			f.commits[v] = true
		case ".checkpoint.parquet":
			f.checkpoints[v] = true
		}
	}
	return f
}

// look finds out which versions the log still has, by the protocol: from a checkpoint or from the first version on
// every commit is there.
func (l *lake) look() (gone int) {
	l.t.Helper()
	for _, tab := range l.tables {
		f := logOf(l.t, tab.Path)
		for v, is := range tab.Versions {
			from := v
			for ; from > 0 && !f.checkpoints[from]; from-- {
				if !f.commits[from] {
					break
				}
			}
			is.Log = f.commits[v] && (f.checkpoints[from] || from == 0 && f.commits[0])
			if !is.Log {
				gone++
			}
		}
	}
	return gone
}

// newest is the newest version of a table.
func (tab *table) newest() int64 {
	return slices.MaxFunc(slices.Collect(maps.Keys(tab.Versions)), cmp.Compare[int64])
}
