package year

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"deckle/integration/services"
	"deckle/schema"
	"deckle/sinks/delta"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
)

var (
	days  = flag.Int("days", 5, "how many days pass")
	most  = flag.Duration("most", 0, "of real time, after which no day begins; 0: without end")
	every = flag.Duration("every", 30*time.Minute, "the flush interval")
	scale = flag.Int64("scale", 64, "what sizes are divided by")
	keep  = flag.Duration("keep", 24*time.Hour, "retention of the log and of removed files; 0: the defaults, 30 days "+
		"and 7 days")
	seed   = flag.Uint64("seed", 1, "of what is drawn")
	place  = flag.String("folder", "", "where the objects lie; the system's folder of temporary files if empty")
	others = flag.Bool("readers", false, "delta-rs and DuckDB read the tables at the end, too")
	show   = flag.String("show", "1,2,3,7,14,30,45,60,90,120,180,270,365", "days that the table shows")
)

// yearOptions say what passes, and how.
type yearOptions struct {
	days         int
	every        time.Duration
	scale        int64
	keep         time.Duration
	seed         uint64
	dir          string
	noCompaction bool
	noCleanup    bool
}

// warm is how many days pass until as much is removed as comes.
func (o *yearOptions) warm() int {
	if o.keep == 0 {
		return 31
	}
	return int(max(o.keep, 48*time.Hour)/(24*time.Hour)) + 1
}

// figures are those of one table at the end of a day.
type figures struct {
	day, files, dates, log int
	bytes                  int64 // of live files
	hot                    int   // the bound of the hot tier
	requests               counts
	loadHeap               int64 // bytes that a loaded table holds
	loadGets, loadBytes    int64
}

// collect frees what nobody holds, pools included, which takes two rounds.
func collect() {
	for range 3 {
		runtime.GC()
	}
}

func (w *world) measure(table string, day int, before counts) figures {
	w.t.Helper()
	f := figures{day: day, requests: w.st.of(table).minus(before)}
	f.log, _ = w.st.inFolder(table + "/_delta_log/")
	collect()
	var was, is runtime.MemStats
	runtime.ReadMemStats(&was)
	from := w.st.of(table)
	log, err := deltalog.Open(w.t.Context(), deltalog.Options{Store: w.st, Name: table, KeepFiles: true})
	must(w.t, err)
	collect()
	runtime.ReadMemStats(&is)
	f.loadHeap = int64(is.HeapAlloc) - int64(was.HeapAlloc)
	load := w.st.of(table).minus(from)
	f.loadGets, f.loadBytes = load.n[get], load.bytes[get]
	dates := map[string]int64{}
	log.View(func(s *deltalog.Snapshot) {
		for file := range s.All() {
			f.files++
			f.bytes += file.Size
			dates[file.Partition] += file.Size
		}
	})
	runtime.KeepAlive(log)
	f.dates = len(dates)
	perRound := int((compacted + 2*time.Minute + w.opts.every - 1) / w.opts.every)
	f.hot = 4 * perRound
	for date, bytes := range dates {
		at, err := time.Parse(time.DateOnly, date)
		must(w.t, err)
		if w.clock.Now().Sub(at.Add(24*time.Hour)) < retention+24*time.Hour+48*time.Hour {
			f.hot += 16 + int(bytes/(hotBytes/4/w.opts.scale))
		}
	}
	return f
}

// bound is how many live files there may be.
func (f *figures) bound(scale int64) int { return int(f.bytes/(coldBytes/2/scale)) + 2*f.dates + f.hot }

// judge gives what breaks the bounds.
func judge(opts *yearOptions, all map[string][]figures) (broken []string) {
	for _, table := range tables {
		rows := all[table]
		for i := range rows {
			f := &rows[i]
			if most := f.bound(opts.scale); f.files > most {
				broken = append(broken, fmt.Sprintf("%s, day %d: %d live files, want at most %d", table, f.day, f.files,
					most))
			}
			if f.day <= opts.warm() {
				continue
			}
			// Flat: no more than a fifth above the mean of the first days after so much is removed as comes.
			first := rows[opts.warm()-1 : min(opts.warm()+1, len(rows))]
			for _, q := range []struct {
				what string
				of   func(f *figures) float64
				free float64
			}{
				// Cleanup goes by days, and comes with a checkpoint: one day more may be there.
				{"objects of the log", func(f *figures) float64 { return float64(f.log) },
					float64(f.requests.n[putCommit] + f.requests.n[putChecksum])},
				{"bytes of checkpoints a day",
					func(f *figures) float64 { return float64(f.requests.bytes[putCheckpoint]) }, 512 << 10},
				{"bytes that a loaded table holds", func(f *figures) float64 { return float64(f.loadHeap) }, 512 << 10},
				{"requests a day", func(f *figures) float64 {
					n := int64(0)
					for _, k := range f.requests.n {
						n += k
					}
					return float64(n)
				}, 500},
			} {
				mean := 0.0
				for j := range first {
					mean += q.of(&first[j]) / float64(len(first))
				}
				if got := q.of(f); got > 1.2*mean+q.free {
					broken = append(broken, fmt.Sprintf("%s, day %d: %.0f %s, %.0f in the first days", table, f.day,
						got, q.what, mean))
				}
			}
		}
	}
	return broken
}

// live lets the days pass.
func live(t *testing.T, opts yearOptions) (*world, map[string][]figures) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // a year is long
	w := newWorld(t, opts)
	if opts.keep > 0 || opts.noCleanup {
		w.properties()
	}
	all := map[string][]figures{}
	started := time.Now()
	for day := range opts.days {
		if *most > 0 && time.Since(started) > *most {
			t.Logf("%d days of %d have passed in %v", day, opts.days, time.Since(started).Round(time.Second))
			break
		}
		before := map[string]counts{}
		for _, table := range tables {
			before[table] = w.st.of(table)
		}
		w.day()
		w.reopen()
		for _, table := range tables {
			all[table] = append(all[table], w.measure(table, day+1, before[table]))
		}
		if opts.days > 7 {
			fmt.Fprintf(os.Stderr, "day %d of %d after %v: %d and %d live files\n", day+1, opts.days,
				time.Since(started).Round(time.Second), all["events"][day].files, all["sessions"][day].files)
		}
	}
	return w, all
}

// properties sets what the tables say about their retention, as another tool does.
func (w *world) properties() {
	w.t.Helper()
	for _, table := range tables {
		log, err := deltalog.Open(w.t.Context(), deltalog.Options{Store: w.st, Name: table})
		must(w.t, err)
		var meta deltalog.Metadata
		var v int64
		log.View(func(s *deltalog.Snapshot) { meta, v = *s.Metadata, s.Version })
		set := maps.Clone(meta.Configuration)
		if w.opts.keep > 0 {
			text := fmt.Sprintf("interval %d hours", int(w.opts.keep/time.Hour))
			set["delta.logRetentionDuration"], set["delta.deletedFileRetentionDuration"] = text, text
		}
		if w.opts.noCleanup {
			set["delta.enableExpiredLogCleanup"] = "false"
		}
		meta.Configuration = set
		b, err := json.Marshal(struct {
			M *deltalog.Metadata `json:"metaData"`
		}{&meta})
		must(w.t, err)
		must(w.t, w.st.PutIfAbsent(w.t.Context(), fmt.Sprintf("%s/_delta_log/%020d.json", table, v+1), append(b, '\n')))
	}
}

func table(w io.Writer, opts *yearOptions, all map[string][]figures) {
	shown := map[string]bool{}
	for d := range strings.SplitSeq(*show, ",") {
		shown[d] = true
	}
	mb := func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/1e6) }
	for _, name := range tables {
		fmt.Fprintf(w, "\n%s\n", name)
		tw := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
		head := []string{"day", "live files", "bound", "dates", "live MB", "log objects", "checkpoint MB a day",
			"heap of a load, KB", "load: GETs", "MB"}
		for _, k := range kindNames {
			head = append(head, k)
		}
		head = append(head, "MB put", "MB got")
		fmt.Fprintf(tw, "| %s\t|\n|%s\t\n", strings.Join(head, "\t| "), strings.Repeat("---\t|", len(head)))
		for i := range all[name] {
			f := &all[name][i]
			if !shown[fmt.Sprint(f.day)] && i < len(all[name])-1 {
				continue
			}
			row := []string{fmt.Sprint(f.day), fmt.Sprint(f.files), fmt.Sprint(f.bound(opts.scale)),
				fmt.Sprint(f.dates),
				mb(f.bytes), fmt.Sprint(f.log), mb(f.requests.bytes[putCheckpoint]), fmt.Sprint(f.loadHeap / 1000),
				fmt.Sprint(f.loadGets), mb(f.loadBytes)}
			put := int64(0)
			for k, n := range f.requests.n {
				row = append(row, fmt.Sprint(n))
				if k <= putCheckpoint {
					put += f.requests.bytes[k]
				}
			}
			row = append(row, mb(put), mb(f.requests.bytes[get]))
			fmt.Fprintf(tw, "| %s\t|\n", strings.Join(row, "\t| "))
		}
		_ = tw.Flush() // into memory
	}
}

func flagged() yearOptions {
	return yearOptions{days: *days, every: *every, scale: *scale, keep: *keep, seed: *seed, dir: *place}
}

// TestYear lets days pass and holds the tables to their bounds; at the end every row must be there, as it was last
// written.
func TestYear(t *testing.T) {
	opts := flagged()
	w, all := live(t, opts)
	var b bytes.Buffer
	table(&b, &opts, all)
	t.Log(b.String())
	for _, s := range judge(&opts, all) {
		t.Error(s)
	}
	if n := len(all["events"]); n <= opts.warm()+1 {
		t.Errorf("%d days are too few to see what grows after day %d", n, opts.warm())
	}
	w.compare()
	if *others {
		w.readers()
	}
	w.close()
}

// TestBoundsFail shows that the bounds are broken without what keeps them.
func TestBoundsFail(t *testing.T) {
	for name, tc := range map[string]struct {
		opts yearOptions
		want string
	}{
		"without compaction": {yearOptions{noCompaction: true}, "live files"},
		"without cleanup":    {yearOptions{noCleanup: true}, "objects of the log"},
	} {
		t.Run(name, func(t *testing.T) {
			opts := tc.opts
			opts.days, opts.every, opts.scale, opts.keep, opts.seed = 6, 30*time.Minute, 64, 24*time.Hour, 1
			w, all := live(t, opts)
			broken := strings.Join(judge(&opts, all), "\n")
			if !strings.Contains(broken, "events, day 6: ") || !strings.Contains(broken, tc.want) {
				t.Errorf("the bounds that broke:\n%s", broken)
			}
			w.compare()
			w.close()
		})
	}
}

// compare holds every row that our own reader gives to the truth.
func (w *world) compare() {
	w.t.Helper()
	wrong := 0
	bad := func(format string, args ...any) {
		if wrong++; wrong <= 5 {
			w.t.Errorf(format, args...)
		}
	}
	tab, err := delta.OpenTable(w.t.Context(), w.st, "events")
	must(w.t, err)
	seen := make([]bool, len(w.epochs)*perEvents)
	must(w.t, tab.ReadEvents(w.t.Context(), tab.Snapshot().Files, func(r *delta.EventRow) error {
		n := int(r.Offset)/perEvents*shards + int(r.Partition)
		i := int(r.Offset) % perEvents
		if n >= len(w.epochs) || seen[n*perEvents+i] {
			bad("event %d/%d is one too many", r.Partition, r.Offset)
			return nil
		}
		seen[n*perEvents+i] = true
		want := w.item(n, i)
		if shard, _ := shardOf(n); r.Item != want || r.Date != schema.Day(want.Timestamp) ||
			r.BatchID != schema.BatchID(shard, w.epochs[n]) {
			bad("event %d/%d:\n got %+v\nwant %+v", r.Partition, r.Offset, r, want)
		}
		return nil
	}))
	if n := len(seen) - count(seen); n > 0 {
		w.t.Errorf("%d events are missing", n)
	}
	if tab, err = delta.OpenTable(w.t.Context(), w.st, "sessions"); err != nil {
		w.t.Fatal(err)
	}
	closed := make([]bool, len(w.images))
	must(w.t, tab.ReadSessions(w.t.Context(), tab.Snapshot().Files, func(r *schema.SessionRow) error {
		var shard, i int
		if _, err := fmt.Sscanf(r.Origin, "%d/%d", &shard, &i); err != nil || i >= len(closed) || closed[i] {
			bad("session %s is one too many", r.Origin)
			return nil
		}
		closed[i] = true
		want := w.row(i)
		want.FirstClosed = 0
		if got, want := fmt.Sprintf("%+v", *r), fmt.Sprintf("%+v", want); got != want {
			bad("session %s:\n got %s\nwant %s", r.Origin, got, want)
		}
		return nil
	}))
	if n := len(closed) - count(closed); n > 0 {
		w.t.Errorf("%d sessions are missing", n)
	}
	w.t.Logf("%d events and %d sessions equal the truth", len(seen), len(closed))
}

func count(list []bool) (n int) {
	for _, b := range list {
		if b {
			n++
		}
	}
	return n
}

func write(dir, key string, data []byte) error {
	path := filepath.Join(dir, filepath.FromSlash(key))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// tail returns the keys of the newest checkpoint and of the commits from there on.
func (w *world) tail(table string) (keys []string) {
	w.t.Helper()
	var log []string
	from := ""
	must(w.t, w.st.List(w.t.Context(), table+"/_delta_log/0", "", func(i store.Info) error {
		if log = append(log, i.Key); strings.HasSuffix(i.Key, ".checkpoint.parquet") {
			from = i.Key
		}
		return nil
	}))
	keep := func(key string) bool { return key >= from }
	return slices.DeleteFunc(log, func(key string) bool { return !keep(key) })
}

// readers has delta-rs and DuckDB sum up the newest versions, and compares what they say with the truth.
func (w *world) readers() {
	cache, err := services.OpenCache(os.Stderr)
	must(w.t, err)
	python, err := cache.FetchPython(w.t.Context())
	if services.MaySkip(err) {
		w.t.Logf("without delta-rs and DuckDB: %v", err)
		return
	}
	must(w.t, err)
	dir := w.t.TempDir()
	for _, table := range tables {
		w.export(dir, table)
	}
	out, err := exec.CommandContext(w.t.Context(), python, "totals.py", dir).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
	var got map[string]map[string][]float64 // by client and table: rows, sums
	_, line, _ := bytes.Cut(out, []byte("RESULT "))
	must(w.t, json.Unmarshal(bytes.SplitN(line, []byte("\n"), 2)[0], &got))
	offsets, batches := 0.0, 0.0
	for n := range w.epochs {
		shard, turn := shardOf(n)
		for i := range perEvents {
			offsets += float64(turn*perEvents + i)
			batches += float64(schema.BatchID(shard, w.epochs[n]) % 1_000_003)
		}
	}
	events, revisions, pages := 0.0, 0.0, 0.0
	for i := range w.images {
		r := w.row(i)
		events, revisions = events+float64(r.TotalEvents), revisions+float64(r.Revision)
		pages += float64(r.TimeOnPageSec)
	}
	want := map[string][]float64{"events": {float64(len(w.epochs) * perEvents), offsets, batches},
		"sessions": {float64(len(w.images)), events + revisions, pages}}
	for client, tabs := range got {
		for name, sums := range tabs {
			for i := range want[name] {
				if i >= len(sums) || math.Abs(sums[i]-want[name][i]) > 0.5 {
					w.t.Errorf("%s reads %s as %v, want %v", client, name, sums, want[name])
					break
				}
			}
		}
		w.t.Logf("%s reads %v", client, tabs)
	}
	if len(got) != 2 {
		w.t.Errorf("%d clients have read: %s", len(got), out)
	}
}
