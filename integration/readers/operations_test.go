package readers

import (
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks/delta"
	"deckle/sinks/delta/compact"
	"deckle/sinks/delta/vacuum"
	"deckle/state"
	"deckle/state/statetest"
)

// operation is something that happens to the tables. It leaves the truth right, see lake.note.
type operation struct {
	name string
	do   func(t *testing.T, l *lake)
}

// stage are operations in the order in which they are done. After it every client reads every version.
type stage struct {
	name       string
	operations []operation
	// versions and predicates are how many of them a client must have read at least.
	versions, predicates int
}

var stages = []stage{
	{"young", []operation{
		{"inserts", inserts}, {"revisions", revisions}, {"checkpoints", checkpoints}, {"columns of a level", columns},
		{"inserts", inserts}, {"columns of others", others}, {"change data feed", feed}, {"compaction", compaction},
		{"revisions", revisions}, {"restore", restore}, {"insert", func(_ *testing.T, l *lake) { l.insert(2) }},
	}, 15, 20},
	{"old", []operation{
		{"weeks", weeks}, {"cleanup of the log", cleanup}, {"compaction", compaction}, {"revisions", revisions},
		{"vacuum", removed},
		{"inserts", inserts},
	}, 15, 20},
}

// stagesByBrand are what finds, moves and removes rows and files of sessions that are partitioned by brand, too.
var stagesByBrand = []stage{
	{"young", stages[0].operations, 12, 40},
	{"vacuumed", []operation{{"vacuum", removed}, {"revisions", revisions}}, 1, 10},
}

// stagesOfHidden are those of tables of which a writer hides rows by deletion vectors.
var stagesOfHidden = []stage{
	{"hidden", []operation{
		{"many rows", many}, {"revisions", revisions}, {"columns of a level", columns}, {"revisions", revisions},
		{"checkpoints", checkpoints}, {"revisions", revisions}, {"vectors", hidden},
	}, 15, 20},
}

// many makes files of so many rows that a few of them are hidden by a revision.
func many(_ *testing.T, l *lake) { l.insert(150) }

// hidden wants files of sessions to have deletion vectors, with bounds in their statistics.
func hidden(t *testing.T, l *lake) {
	tab, err := delta.OpenTable(t.Context(), l.st, "sessions")
	must(t, err)
	n := 0
	for _, f := range tab.Snapshot().Files {
		if f.Vector != nil {
			n++
		}
	}
	if n < 3 {
		t.Errorf("%d files have deletion vectors", n)
	}
}

func inserts(_ *testing.T, l *lake) {
	for range 2 {
		l.insert(4)
	}
}

// revisions gives sessions of one shard after the other new images, and brings one that no table has had.
func revisions(t *testing.T, l *lake) {
	for shard := range uint32(shards) {
		var content statetest.Content
		var fresh []*schema.SessionRow
		for _, i := range l.rng.Perm(len(l.closed)) {
			r := l.closed[i]
			if of, _ := schema.SplitBatchID(r.BatchID); of != shard || len(fresh) == 3 {
				continue
			}
			fresh = append(fresh, r)
		}
		l.epochs[shard]++
		epoch := l.epochs[shard]
		for _, r := range fresh {
			l.image(r, shard, epoch)
			content.Rows = append(content.Rows, *r)
			l.truth(r)
		}
		p := statetest.NewPlan(state.Config{Shard: shard}, state.SinkRevisions, l.revised[shard], epoch,
			[]state.EpochInfo{{Epoch: epoch, Level: l.level}}, content)
		p.Level = l.level
		l.revised[shard] = epoch
		must(t, l.d.Revisions().Write(t.Context(), p))
		l.note()
		// The other sinks have nothing of that epoch.
		l.pass(time.Minute)
	}
}

// compaction makes few files of many: no row changes.
func compaction(t *testing.T, l *lake) {
	l.pass(time.Hour)
	for name := range l.tables {
		runs := filepath.Join(t.TempDir(), name)
		c, err := l.d.Compactor(t.Context(), name, compact.Options{FS: vfs.Default, Dir: runs})
		must(t, err)
		jobs := 0
		must(t, c.Round(t.Context(), func(compact.Result) {
			jobs++
			l.note()
		}))
		must(t, c.Close())
		if jobs == 0 {
			t.Errorf("nothing of %s was compacted", name)
		}
	}
	l.reopen()
}

// checkpoints makes commits until both tables have two more checkpoints.
func checkpoints(t *testing.T, l *lake) {
	want := map[string]int{}
	for name, tab := range l.tables {
		want[name] = len(logOf(t, tab.Path).checkpoints) + 2
	}
	for range 20 {
		l.insert(2)
		l.reopen()
		done := true
		for name, tab := range l.tables {
			done = done && len(logOf(t, tab.Path).checkpoints) >= want[name]
		}
		if done {
			return
		}
	}
	t.Fatal("no checkpoints")
}

// columns raises the level: the tables get columns, which older files do not have.
func columns(_ *testing.T, l *lake) { l.level = level.Current }

// weeks lets six weeks go by, with commits every few days.
func weeks(_ *testing.T, l *lake) {
	for range 12 {
		l.pass(85 * time.Hour)
		l.insert(2)
		l.reopen()
	}
}

// cleanup has the writer remove commits and checkpoints that are older than the retention of the log.
func cleanup(t *testing.T, l *lake) {
	for range 4 {
		l.pass(3 * time.Hour)
		l.insert(1)
		l.reopen()
	}
	if gone := l.look(); gone == 0 {
		t.Fatal("every version is still there")
	}
}

// removed vacuums the table of sessions, beside which leftovers lie.
func removed(t *testing.T, l *lake) {
	must(t, l.st.Put(t.Context(), "sessions/session_date=2026-01-01/part-left.parquet", []byte("left over")))
	l.pass(9 * 24 * time.Hour)
	l.insert(1)
	for name, tab := range l.tables {
		r, err := vacuum.Prepare(t.Context(), vacuum.Options{Store: l.st, Table: name, Clock: true,
			Now: func() time.Time { return l.now }})
		must(t, err)
		must(t, r.Remove(t.Context(), nil))
		if name == "sessions" && len(r.Removed) < 2 {
			t.Errorf("vacuum has removed %v", r.Removed)
		}
		for _, v := range slices.Sorted(maps.Keys(tab.Versions)) {
			tab.Versions[v].Files = v >= r.From
		}
	}
}

// condition is one comparison of a predicate; several are joined by AND.
type condition struct {
	Column string `json:"column"`
	Op     string `json:"op"` // =, <, >=, like, null, not null
	Value  any    `json:"value"`
}

type predicate struct {
	Table      string      `json:"table"`
	Conditions []condition `json:"conditions"`
}

// predicates are those by which the clients read. Values of the truth are among them, and values between and beside.
func predicates(l *lake) []predicate {
	rng := rand.New(rand.NewPCG(3, 4))
	any := func(tab, column string) any {
		t := l.tables[tab]
		for {
			images := t.Images[rng.IntN(len(t.Images))]
			if v := images[t.column(column)]; v != nil {
				return v
			}
		}
	}
	out := []predicate{
		{"sessions", []condition{{"brand", "=", "welt"}}}, {"sessions", []condition{{"brand", "=", ""}}},
		{"sessions", []condition{{"brand", "=", "nobody"}}},
		{"sessions", []condition{{"session_id", "=", any("sessions", "session_id")}}},
		{"sessions", []condition{{"session_id", "like", "s0000%"}}},
		{"sessions", []condition{{"session_date", "=", any("sessions", "session_date")}}},
		{"sessions", []condition{{"session_date", ">=", any("sessions", "session_date")}, {"brand", "=", "bild"}}},
		{"sessions", []condition{{"session_start", ">=", any("sessions", "session_start")}}},
		{"sessions", []condition{{"session_start", "<", any("sessions", "session_start")},
			{"revision", ">=", int64(1)}}},
		{"sessions", []condition{{"city", ">=", "K"}, {"city", "<", "L"}}},
		{"sessions", []condition{{"user_id", "<", int64(0)}}},
		{"sessions", []condition{{"several_users", "null", nil}}},
		{"sessions", []condition{{"opening_brand", "=", "le monde/fr"}}},
		{"sessions", []condition{{"opening_brand", "null", nil}}},
		{"sessions", []condition{{note, "null", nil}}}, {"sessions", []condition{{note, "=", "of s00001"}}},
		{"sessions", []condition{{"articles_completed", ">=", int64(1)}}},
		{"events", []condition{{"brand", "null", nil}}}, {"events", []condition{{"brand", "not null", nil}}},
		{"events", []condition{{"event_date", "=", any("events", "event_date")}}},
		{"events", []condition{{"timestamp", ">=", any("events", "timestamp")}, {"brand", "=", "welt"}}},
		{"events", []condition{{"kafka_offset", "=", any("events", "kafka_offset")}}},
		{"events", []condition{{"kafka_timestamp", "<", any("events", "kafka_timestamp")}}},
	}
	return out
}

func (tab *table) column(name string) int {
	return slices.IndexFunc(tab.Columns, func(c [2]string) bool { return c[0] == name })
}
