package year

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/sim/testworld/objects"
	"deckle/sinks"
	"deckle/sinks/delta"
	"deckle/sinks/delta/compact"
	"deckle/sinks/delta/vacuum"
	"deckle/state"
	"deckle/state/statetest"
)

const (
	shards      = 6
	perEvents   = 8 // events of a plan
	perSessions = 2 // sessions of a plan
	perRevision = 2 // images of a plan of revisions

	retention = 6 * time.Hour // session.retention: until then a session is revised
	revise    = time.Minute   // delta.revision_interval
	compacted = 10 * time.Minute
	vacuumed  = 24 * time.Hour

	hotBytes, coldBytes, jobBytes = 32 << 20, 256 << 20, 512 << 20
)

var tables = [...]string{"events", "sessions"}

// world is the writer, its clock, and the truth.
type world struct {
	t     *testing.T
	opts  yearOptions
	clock *objects.Clock
	start time.Time
	st    *bucket
	d     *delta.Delta
	kept  [len(tables)]*compact.Compactor // as a node keeps them from round to round
	rng   *rand.Rand

	buffers [shards]sinks.EventsBuffer
	epoch   [shards]uint64 // closed last
	written [shards]uint64 // by events and sessions
	revised [shards]uint64
	minutes int

	// The truth: of the n-th interval the epoch in which its rows came, and of the n-th session its last image.
	epochs []uint64
	images []image
}

// image is what tells how a session stands.
type image struct {
	epoch    uint64
	at       int64 // milliseconds
	revision uint32
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t *testing.T, opts yearOptions) *world {
	start := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	w := &world{t: t, opts: opts, start: start, clock: objects.NewClock(start),
		rng: rand.New(rand.NewPCG(opts.seed, 1))}
	dir, err := os.MkdirTemp(opts.dir, "deckle-year-")
	must(t, err)
	w.st = newBucket(dir, w.clock.Now)
	t.Cleanup(func() {
		w.st.close(t)
		must(t, os.RemoveAll(dir))
	})
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var seed [32]byte // another one for each opening: names are never used twice
	binary.LittleEndian.PutUint64(seed[:], w.opts.seed)
	binary.LittleEndian.PutUint64(seed[8:], uint64(len(w.epochs)))
	d, err := delta.Open(w.t.Context(), delta.Options{Store: w.st, ClusterID: "c", Pipeline: "p", Node: "n",
		Level: level.Current, Events: true, EventSource: func(uint32) sinks.EventSource { return noSource{} },
		Now: w.clock.Now, Rand: rand.NewChaCha8(seed), Logger: logger})
	must(w.t, err)
	w.d = d
	for s := range w.buffers {
		w.buffers[s] = d.Events().Buffer(uint32(s))
		w.buffers[s].Rise(level.Current)
	}
}

// reopen waits for checkpoints and cleanups that have begun.
func (w *world) reopen() {
	w.t.Helper()
	w.close()
	w.open()
}

func (w *world) close() {
	w.t.Helper()
	for i, c := range w.kept {
		if c != nil {
			must(w.t, c.Close())
		}
		w.kept[i] = nil
	}
	must(w.t, w.d.Close())
}

// noSource has no event: every plan must be in its buffer.
type noSource struct{}

var errNoSource = errors.New("year: a plan was not in its buffer")

func (noSource) Events(context.Context, *state.Plan, func(*event.Item) error) error {
	return errNoSource
}

func (noSource) Originals(context.Context, []state.Position, func(int, []byte, bool) error) error {
	return errNoSource
}

// shardOf is the shard of the n-th interval, and turn how many intervals that shard had before.
func shardOf(n int) (shard uint32, turn int) { return uint32(n % shards), n / shards }

// at is when the n-th interval ends.
func (w *world) at(n int) time.Time { return w.start.Add(time.Duration(n+1) * w.opts.every) }

func pick(rng *rand.Rand, words ...string) string { return words[rng.IntN(len(words))] }

// item is the i-th event of the n-th interval. One in 200 is of the day before.
func (w *world) item(n, i int) event.Item {
	shard, turn := shardOf(n)
	rng := rand.New(rand.NewPCG(uint64(n), uint64(i)))
	it := event.Item{Partition: int32(shard), Offset: int64(turn*perEvents + i),
		KafkaTimestamp: w.at(n).UnixMilli() - rng.Int64N(int64(w.opts.every/time.Millisecond))}
	for at := range it.ID {
		it.ID[at] = byte(rng.Uint32())
	}
	it.Timestamp = it.KafkaTimestamp / 1000
	if rng.IntN(200) == 0 {
		it.Timestamp -= 86_400
	}
	it.SessionID = fmt.Sprintf("%016x", (uint64(n/180)*40+rng.Uint64N(40))*0x9e3779b97f4a7c15)
	it.UserID, it.Type = 1+rng.Uint64N(100_000), event.Type(1+rng.IntN(9))
	it.Brand, it.ArticleTitle = pick(rng, "bild", "welt", "politico"), fmt.Sprintf("Article %d", rng.IntN(3000))
	it.EngagementMetrics = fmt.Sprintf(`{"time_on_page":%d}`, rng.IntN(300))
	return it
}

// row is the i-th session as its image stands.
func (w *world) row(i int) schema.SessionRow {
	n := i / perSessions
	shard, _ := shardOf(n)
	m := w.images[i]
	rng := rand.New(rand.NewPCG(uint64(i), 1<<32)) // what no revision changes
	r := schema.SessionRow{SessionID: fmt.Sprintf("%016x", uint64(i)*0x9e3779b97f4a7c15),
		Origin: fmt.Sprintf("%d/%d", shard, i), FirstClosed: w.epochs[n], Epoch: m.epoch,
		BatchID: schema.BatchID(shard, m.epoch), Revision: m.revision, CreatedAt: m.at, Status: schema.StatusClosed,
		FiguresKnown: true, UsersKnown: true}
	r.UserID, r.Start = 1+rng.Uint64N(100_000), w.at(n).Unix()-1800-rng.Int64N(1800)
	r.SessionDate = schema.Day(r.Start)
	r.Brand, r.Country = pick(rng, "bild", "welt", "politico"), pick(rng, "DE", "AT", "US")
	r.City, r.DeviceType = pick(rng, "Berlin", "Wien", "Austin", "Köln"), pick(rng, "mobile", "desktop")
	r.Categories, r.ArticleIDs, r.ArticleTitles = `["news"]`, "[]", "[]"
	r.End = r.Start + 60 + int64(m.revision)
	r.TotalEvents = 3 + m.revision
	r.Counts[event.ArticleView] = r.TotalEvents
	r.PageEvents = fmt.Sprintf(`[{"event_type":"article_view","n":%d}]`, rng.IntN(1000))
	r.TimeOnPageSec = rng.Uint64N(600) + uint64(m.revision)
	return r
}

// interval lets one interval pass: a plan of events and one of sessions.
func (w *world) interval() {
	n := len(w.epochs)
	w.clock.Pass(w.opts.every)
	shard, turn := shardOf(n)
	w.epoch[shard]++
	epoch := w.epoch[shard]
	w.epochs = append(w.epochs, epoch)
	batch := event.Batch{Ranges: []event.Range{{Partition: int32(shard), From: int64(turn * perEvents),
		To: int64((turn + 1) * perEvents)}}}
	for i := range perEvents {
		batch.Items = append(batch.Items, w.item(n, i))
	}
	var content statetest.Content
	for i := range perSessions {
		w.images = append(w.images, image{epoch, w.clock.Now().UnixMilli(), 0})
		content.Rows = append(content.Rows, w.row(n*perSessions+i))
	}
	must(w.t, w.buffers[shard].Append(&batch, nil))
	w.buffers[shard].Seal(epoch, true)
	a := w.written[shard]
	w.written[shard] = epoch
	infos := w.infos(a, epoch)
	last := &infos[len(infos)-1]
	last.Events, last.Sessions, last.Ranges = perEvents, perSessions, batch.Ranges
	var g errgroup.Group
	g.Go(func() error {
		return w.d.Events().Write(w.t.Context(), plan(shard, state.SinkEvents, a, epoch, infos, statetest.Content{}))
	})
	g.Go(func() error {
		return w.d.Sessions().Write(w.t.Context(), plan(shard, state.SinkSessions, a, epoch, infos, content))
	})
	must(w.t, g.Wait())
}

func (w *world) infos(a, b uint64) (infos []state.EpochInfo) {
	for e := a + 1; e <= b; e++ {
		infos = append(infos, state.EpochInfo{Epoch: e, Level: level.Current, Clock: w.clock.Now().UnixMilli()})
	}
	return infos
}

func plan(shard uint32, sink state.SinkID, a, b uint64, infos []state.EpochInfo, c statetest.Content) *state.Plan {
	p := statetest.NewPlan(state.Config{Shard: shard}, sink, a, b, infos, c)
	p.Level = level.Current
	return p
}

// revisions gives some sessions of the next shard new images: mostly of the last minutes, down to the retention.
func (w *world) revisions() {
	shard := uint32(w.minutes % shards)
	w.minutes++
	w.epoch[shard]++
	epoch := w.epoch[shard]
	w.buffers[shard].Seal(epoch, true)
	var content statetest.Content
	seen := map[int]bool{}
	for range perRevision {
		age := min(time.Duration(w.rng.ExpFloat64()*float64(10*time.Minute)), retention)
		n := len(w.epochs) - 1 - int(age/w.opts.every)
		n -= ((n-int(shard))%shards + shards) % shards
		i := n*perSessions + w.rng.IntN(perSessions)
		if n < 0 || seen[i] || w.epochs[n] > w.written[shard] {
			continue
		}
		seen[i] = true
		w.images[i] = image{epoch, w.clock.Now().UnixMilli(), w.images[i].revision + 1}
		content.Rows = append(content.Rows, w.row(i))
	}
	p := plan(shard, state.SinkRevisions, w.revised[shard], epoch, w.infos(w.revised[shard], epoch), content)
	w.revised[shard] = epoch
	must(w.t, w.d.Revisions().Write(w.t.Context(), p))
}

// compact does a round of compaction, as a node does.
func (w *world) compact() {
	var g errgroup.Group
	for i, table := range tables {
		g.Go(func() error {
			if w.kept[i] == nil {
				scale := w.opts.scale
				c, err := w.d.Compactor(w.t.Context(), table, compact.Options{FS: vfs.NewMem(), Dir: table,
					Closed: retention + 24*time.Hour, HotBytes: hotBytes / scale, ColdBytes: coldBytes / scale,
					JobBytes: jobBytes / scale, MemoryBytes: 8 << 20})
				if err != nil {
					return err
				}
				w.kept[i] = c
			}
			return w.kept[i].Round(w.t.Context(), func(r compact.Result) {
				if r.Why != "" {
					w.t.Errorf("%s of %s: files were left alone: %s", r.Partition, table, r.Why)
				}
			})
		})
	}
	must(w.t, g.Wait())
}

// vacuum removes what nothing needs, if that is due.
func (w *world) vacuum() {
	for _, table := range tables {
		last, err := vacuum.Last(w.t.Context(), w.st, table)
		must(w.t, err)
		if w.clock.Now().Sub(last) < vacuumed {
			continue
		}
		opts := vacuum.Options{Store: w.st, Table: table, Clock: true, Now: w.clock.Now}
		if w.opts.keep < vacuum.Least {
			opts.Retention, opts.Short = max(w.opts.keep, vacuum.Floor), true
		}
		r, err := vacuum.Prepare(w.t.Context(), opts)
		must(w.t, err)
		must(w.t, r.Remove(w.t.Context(), nil))
	}
}

// day lets a day pass.
func (w *world) day() {
	due := func(every time.Duration) bool {
		now := w.clock.Now().Sub(w.start)
		return now/every != (now-w.opts.every)/every
	}
	for range int(24 * time.Hour / w.opts.every) {
		w.interval()
		if due(revise) {
			w.revisions()
			w.vacuum()
		}
		if due(compacted) && !w.opts.noCompaction {
			w.compact()
		}
	}
}

// export copies to a folder what a reader of the newest version needs of a table.
func (w *world) export(dir, table string) {
	w.t.Helper()
	tab, err := delta.OpenTable(w.t.Context(), w.st, table)
	must(w.t, err)
	keys := []string{table + "/_delta_log/_last_checkpoint"}
	for _, f := range tab.Snapshot().Files {
		keys = append(keys, table+"/"+f.Path)
	}
	keys = append(keys, w.tail(table)...)
	for _, key := range keys {
		data, err := w.st.Get(w.t.Context(), key)
		must(w.t, err)
		must(w.t, write(dir, key, data))
	}
}
