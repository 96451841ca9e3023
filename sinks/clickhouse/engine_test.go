package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks"
	"deckle/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engineOptions returns the options of a server that tests may use, or skips.
func engineOptions(t *testing.T) Options {
	t.Helper()
	addr := os.Getenv("DECKLE_TEST_CLICKHOUSE")
	if addr == "" {
		if os.Getenv("DECKLE_REQUIRE_SERVICES") == "1" {
			t.Fatal("DECKLE_TEST_CLICKHOUSE (host:port of ClickHouse's native protocol) is not set, " +
				"and DECKLE_REQUIRE_SERVICES=1")
		}
		t.Skip("skipped: DECKLE_TEST_CLICKHOUSE (host:port of ClickHouse's native protocol) is not set")
	}
	return Options{
		Address: addr, User: os.Getenv("DECKLE_TEST_CLICKHOUSE_USER"),
		Password: func() string { return os.Getenv("DECKLE_TEST_CLICKHOUSE_PASSWORD") },
		Database: fmt.Sprintf("deckle_test_%d_%s", time.Now().UnixNano(),
			strings.ToLower(strings.ReplaceAll(t.Name(), "/", "_"))),
		ClusterID: "cluster-1", Pipeline: "deckle", NodeName: "n1", ReadTimeout: 30 * time.Second,
	}
}

// openEngine opens a sink on a database of its own.
func openEngine(t *testing.T, opts Options) *Sink {
	t.Helper()
	s, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.exec(ctx, "DROP DATABASE IF EXISTS "+quoteIdent(s.opts.Database)+""); err != nil {
			t.Errorf("drop: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func openReady(t *testing.T) *Sink {
	s := openEngine(t, engineOptions(t))
	if err := s.EnsureSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *Sink) mustExec(t *testing.T, format string, args ...any) {
	t.Helper()
	if err := s.exec(t.Context(), fmt.Sprintf(format, args...)); err != nil {
		t.Fatal(err)
	}
}

func (s *Sink) texts(t *testing.T, columns int, format string, args ...any) [][]string {
	t.Helper()
	var out [][]string
	err := s.rows(t.Context(), fmt.Sprintf(format, args...), columns, func(r []string) error {
		out = append(out, slices.Clone(r))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEveryTableViewAndColumnHasAComment(t *testing.T) {
	opts := engineOptions(t)
	opts.Level = level.Current // every column that the package declares
	s := openEngine(t, opts)
	if err := s.EnsureSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	db := quoteText(s.opts.Database)
	bare := s.texts(t, 2, "SELECT table, name FROM system.columns WHERE database = %s AND comment = ''", db)
	if len(bare) > 0 {
		t.Errorf("columns without a comment: %v", bare)
	}
	if bare := s.texts(t, 1, "SELECT name FROM system.tables WHERE database = %s AND comment = ''", db); len(bare) > 0 {
		t.Errorf("tables without a comment: %v", bare)
	}
	got := s.texts(t, 2, "SELECT name, engine FROM system.tables WHERE database = %s ORDER BY name", db)
	want := [][]string{
		{"brand_analytics", "View"}, {"deckle_ledger", "ReplacingMergeTree"}, {"device_analytics", "View"},
		{"geographic_analytics", "View"}, {"page_analytics", "View"}, {"page_analytics_versions", "ReplacingMergeTree"},
		{"rollup_versions", "ReplacingMergeTree"}, {"session_metrics", "View"},
		{"session_metrics_versions", "ReplacingMergeTree"},
		{"session_summary", "View"}, {"subscription_analytics", "View"},
	}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("tables:\n got %v\nwant %v", got, want)
	}
	// The columns of the views have the types that the package declares.
	for _, v := range newest().views(s.opts.Database) {
		found := s.texts(t, 2, "SELECT name, type FROM system.columns WHERE database = %s AND table = %s", db,
			quoteText(v.name))
		declared := make([][]string, len(v.columns))
		for i, c := range v.columns {
			declared[i] = []string{c.name, c.typ}
		}
		if !slices.EqualFunc(found, declared, slices.Equal) {
			t.Errorf("%s:\n got %v\nwant %v", v.name, found, declared)
		}
	}
	if err := s.EnsureSchema(t.Context()); err != nil {
		t.Errorf("a second time: %v", err)
	}
	if n := s.texts(t, 1, "SELECT toString(count()) FROM %s", s.table(ledgerTable)); n[0][0] != "1" {
		t.Errorf("%s claims, want 1", n[0][0])
	}
}

// TestViewsAreExact writes plans of several shards over several rounds, with repeats of older plans and attempts cut
// off in the middle, in random order, while merges are stopped: after each round every view must equal a naive model.
func TestViewsAreExact(t *testing.T) { ViewsAreExact(t, engineOptions(t)) }

// ViewsAreExact is TestViewsAreExact against any server.
func ViewsAreExact(t *testing.T, opts Options) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	flaky := &flakyDialer{to: opts.Dial}
	if flaky.to == nil {
		flaky.to = (&net.Dialer{}).DialContext
	}
	opts.Dial = flaky.dial
	opts.BlockRows = 40 // several blocks per plan
	s := openEngine(t, opts)
	if err := s.EnsureSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, tb := range newest().stored {
		s.mustExec(t, "SYSTEM STOP MERGES %s", s.table(tb.name))
	}
	reader := &Reader{s}
	m := newModel(rng, 3)
	var plans []*state.Plan
	for round := range 4 {
		var fresh []*state.Plan
		for shard := range m.shards {
			fresh = append(fresh, m.advance(shard, 1+rng.IntN(3)))
		}
		// Late attempts, like those of leaders that know nothing of the ledger, come before, between and after the new
		// plans.
		attempts := slices.Clone(fresh)
		for range min(len(plans), 4) {
			attempts = append(attempts, plans[rng.IntN(len(plans))])
		}
		attempts = append(attempts, fresh[rng.IntN(len(fresh))])
		rng.Shuffle(len(attempts), func(i, j int) { attempts[i], attempts[j] = attempts[j], attempts[i] })
		for _, p := range attempts {
			if rng.IntN(3) == 0 {
				// An answer is lost: the server may have inserted the block, and the writer does not know.
				flaky.loseAfter.Store(1 + rng.Int64N(8))
				s.pool.dropIdle()
				w := newWriter(s, p)
				if err := w.run(t.Context()); err == nil {
					t.Log("an attempt that was to lose an answer has ended before")
				} else if classify(err) != classRetry {
					t.Fatalf("a lost answer gives %v", err)
				}
				flaky.loseAfter.Store(0)
				s.pool.dropIdle()
			}
			w := newWriter(s, p)
			if err := w.run(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range fresh {
			if pos, err := s.Position(t.Context(), p.Config.Shard); err != nil || pos != p.B {
				t.Fatalf("position %d, %v; want %d", pos, err, p.B)
			}
			if err := s.Write(t.Context(), p); err != nil {
				t.Fatalf("once more: %v", err)
			}
		}
		plans = append(plans, fresh...)
		m.compare(t, reader, fmt.Sprintf("round %d", round))
	}
	if flaky.lost.Load() == 0 {
		t.Error("no answer was lost: the test has lost its point")
	}
	versions := s.texts(t, 1, "SELECT toString(count()) FROM %s", s.table(sessionsTable))
	rows, err := reader.Count(t.Context(), "session_metrics")
	if err != nil || fmt.Sprint(rows) == versions[0][0] {
		t.Errorf("%d rows of %s stored versions, %v: no version was superseded", rows, versions[0][0], err)
	}
	for _, tb := range newest().stored {
		s.mustExec(t, "SYSTEM START MERGES %s", s.table(tb.name))
		s.mustExec(t, "OPTIMIZE TABLE %s FINAL", s.table(tb.name))
	}
	m.compare(t, reader, "merged")
	// A filter must not be applied before FINAL, because it would find superseded versions.
	for _, q := range []string{"status = 'open'", "total_events = 1", "brand = 'bild'", "revision = 0"} {
		got := s.texts(t, 1, "SELECT toString(count()) FROM %s WHERE %s", s.table("session_metrics"), q)
		want := s.texts(t, 1, "SELECT toString(countIf(%s)) FROM %s", q, s.table("session_metrics"))
		if got[0][0] != want[0][0] {
			t.Errorf("WHERE %s finds %s rows, want %s", q, got[0][0], want[0][0])
		}
	}
}

// flakyDialer makes connections that lose an answer: a read that has succeeded is reported as failed.
type flakyDialer struct {
	to              func(ctx context.Context, network, addr string) (net.Conn, error)
	loseAfter, lost atomic.Int64
}

func (d *flakyDialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.to(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &flakyConn{Conn: c, d: d}, nil
}

type flakyConn struct {
	net.Conn
	d *flakyDialer
}

func (c *flakyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil && c.d.loseAfter.Load() > 0 && c.d.loseAfter.Add(-1) == 0 {
		c.d.lost.Add(1)
		return 0, errors.New("the answer is lost")
	}
	return n, err
}

func TestCutExpression(t *testing.T) {
	s := openEngine(t, engineOptions(t))
	for _, r := range []string{"a", "é", "€", "🙂"} {
		for n := 250; n <= 262; n++ {
			in := strings.Repeat("x", n) + strings.Repeat(r, 5)
			got := s.texts(t, 1, "SELECT %s", shortened("toString("+quoteText(in)+")"))
			if want := naiveCut(in); got[0][0] != want {
				t.Errorf("%d x and %s: shortened to %d bytes, want %d", n, r, len(got[0][0]), len(want))
			}
		}
	}
}

func TestSchemaThatDoesNotFitIsRefused(t *testing.T) {
	fsync := "SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
	for _, tc := range []struct{ name, from, to, want string }{
		{"type", "`user_id` UInt64", "`user_id` UInt32",
			"session_metrics_versions does not fit: column user_id: expected type UInt64, found type UInt32"},
		{"missing", "`brand` LowCardinality(String)", "`brands` LowCardinality(String)",
			"column brand: expected type LowCardinality(String), found no such column"},
		{"engine", "ReplacingMergeTree(version)", "MergeTree",
			"expected engine ReplacingMergeTree(version), found MergeTree"},
		{"version", "ReplacingMergeTree(version)", "ReplacingMergeTree(batch_id)",
			"found ReplacingMergeTree(batch_id)"},
		{"key", "(session_date, session_id, origin)", "(session_date, session_id)",
			"expected sorting key (session_date, session_id, origin), found (session_date, session_id)"},
		{"partition", "PARTITION BY toYYYYMM(session_date)", "",
			`expected partition key "toYYYYMM(session_date)", found ""`},
		{"ttl", fsync, "TTL session_date + INTERVAL 30 DAY " + fsync, "it has a TTL"},
		{"ttl of a column", "`city` String COMMENT 'City of the first event'",
			"`city` String TTL session_date + INTERVAL 30 DAY", "it has a column with a TTL"},
		{"fsync", fsync, "SETTINGS fsync_after_insert = 1", "expected setting fsync_part_directory = 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := openEngine(t, engineOptions(t))
			ddl := newest().sessions.ddl(s.opts.Database)
			if !strings.Contains(ddl, tc.from) {
				t.Fatalf("%q is not in %s", tc.from, ddl)
			}
			s.mustExec(t, "CREATE DATABASE %s", quoteIdent(s.opts.Database))
			s.mustExec(t, "%s", strings.Replace(ddl, tc.from, tc.to, 1))
			err := s.EnsureSchema(t.Context())
			var stop *sinks.StopError
			if !errors.As(err, &stop) || stop.Hint == "" || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want a StopError with %q", err, tc.want)
			}
		})
	}
	t.Run("fsync in words", func(t *testing.T) {
		s := openEngine(t, engineOptions(t))
		ddl := newest().sessions.ddl(s.opts.Database)
		words := strings.Replace(ddl, fsync, "SETTINGS fsync_after_insert = true, fsync_part_directory = true", 1)
		if words == ddl {
			t.Fatalf("%q is not in %s", fsync, ddl)
		}
		s.mustExec(t, "CREATE DATABASE %s", quoteIdent(s.opts.Database))
		s.mustExec(t, "%s", words)
		if err := s.EnsureSchema(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("table in a view's place", func(t *testing.T) {
		s := openEngine(t, engineOptions(t))
		s.mustExec(t, "CREATE DATABASE %s", quoteIdent(s.opts.Database))
		s.mustExec(t, "CREATE TABLE %s (a String) ENGINE = MergeTree ORDER BY a", s.table("session_metrics"))
		var stop *sinks.StopError
		if err := s.EnsureSchema(t.Context()); !errors.As(err, &stop) ||
			!strings.Contains(err.Error(), "session_metrics is a table") {
			t.Errorf("got %v", err)
		}
	})
}

func TestTablesBelongToOneCluster(t *testing.T) {
	s := openReady(t)
	for _, o := range []struct{ cluster, pipeline string }{{"cluster-2", "deckle"}, {"cluster-1", "other"}} {
		opts := s.opts
		opts.ClusterID, opts.Pipeline = o.cluster, o.pipeline
		other, err := Open(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		var stop *sinks.StopError
		if err := other.EnsureSchema(t.Context()); !errors.As(err, &stop) ||
			!strings.Contains(err.Error(), "belong to cluster-1/deckle") {
			t.Errorf("got %v", err)
		}
		if _, err := other.Position(t.Context(), 0); !errors.As(err, &stop) {
			t.Errorf("position: got %v", err)
		}
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestLostTablesStop: neither a dropped table nor an old ledger may pass for an empty one.
func TestLostTablesStop(t *testing.T) {
	s := openReady(t)
	m := newModel(rand.New(rand.NewPCG(1, 1)), 1)
	first, second := m.advance(0, 1), m.advance(0, 1)
	if err := s.Write(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	s.mustExec(t, "DROP TABLE %s", s.table(sessionsTable))
	var stop *sinks.StopError
	err := s.Write(t.Context(), second)
	if !errors.As(err, &stop) || !strings.Contains(err.Error(), "session_metrics_versions is missing, although") {
		t.Errorf("a dropped table: %v", err)
	}
	if pos := s.texts(t, 1, "SELECT toString(max(b)) FROM %s", s.table(ledgerTable)); pos[0][0] != fmt.Sprint(first.B) {
		t.Errorf("the ledger stands at %s, want %d", pos[0][0], first.B)
	}
	s.mustExec(t, "DROP DATABASE %s", quoteIdent(s.opts.Database))
	s.ensured.Store(0)
	if err := s.Write(t.Context(), second); !errors.As(err, &stop) || !strings.Contains(err.Error(), "rows are lost") {
		t.Errorf("a dropped database: %v", err)
	}
}

func TestRefusedRowIsNamed(t *testing.T) {
	opts := engineOptions(t)
	s := openEngine(t, opts)
	if err := s.EnsureSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.mustExec(t, "ALTER TABLE %s ADD CONSTRAINT c CHECK session_id != 's-0-7'", s.table(sessionsTable))
	s.mustExec(t, "ALTER TABLE %s ADD CONSTRAINT c CHECK session_id != 's-0-11'", s.table(pagesTable))
	m := newModel(rand.New(rand.NewPCG(2, 2)), 1)
	p := m.advance(0, 1)
	seen := map[string]bool{}
	for range 2 {
		var refused *sinks.RefusedError
		err := s.Write(t.Context(), p)
		if !errors.As(err, &refused) {
			t.Fatalf("got %v", err)
		}
		id, _, _ := strings.Cut(refused.RowKey, "\x00")
		if !strings.Contains(string(refused.Row), `"session_id":"`+id+`"`) {
			t.Errorf("row %s is no %s", refused.Row, id)
		}
		seen[id] = true
		p = without(p, refused.RowKey) // as the state does after its Refuse entry
	}
	if !seen["s-0-7"] || !seen["s-0-11"] {
		t.Errorf("refused: %v", seen)
	}
	if err := s.Write(t.Context(), p); err != nil {
		t.Errorf("the rest: %v", err)
	}
	// The package checks this itself, because the server would not: a timestamp that DateTime cannot hold.
	q := m.advance(0, 1)
	bad := rowsOf(q)[0]
	bad.End = 1 << 33
	q = planOf(q, []schema.SessionRow{bad})
	var refused *sinks.RefusedError
	if err := s.Write(t.Context(), q); !errors.As(err, &refused) || refused.RowKey != bad.Key() {
		t.Errorf("got %v", err)
	}
}
