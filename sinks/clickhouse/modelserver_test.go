package clickhouse_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"

	"deckle/schema"
	model "deckle/sim/testworld/clickhouse"
	"deckle/sinks/clickhouse"
	"deckle/state"
)

const modelDB = "analytics"

func modelOptions(s *model.Server) clickhouse.Options {
	return clickhouse.Options{
		Address: "model:9000", Database: modelDB, ClusterID: "cluster-1", Pipeline: "deckle", NodeName: "n1",
		ReadTimeout: 30 * time.Second, Compression: "none", Dial: s.Dial,
	}
}

// openModel opens a sink on a new model.
func openModel(t *testing.T, change func(*clickhouse.Options)) (*model.Server, *clickhouse.Sink) {
	t.Helper()
	srv := model.New(model.Options{})
	opts := modelOptions(srv)
	if change != nil {
		change(&opts)
	}
	s, err := clickhouse.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	if err := s.EnsureSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	return srv, s
}

// TestViewsAreExactOnTheModel: the property that holds on the engine holds on the model of it.
func TestViewsAreExactOnTheModel(t *testing.T) {
	srv := model.New(model.Options{})
	t.Cleanup(srv.Close)
	opts := modelOptions(srv)
	for _, c := range []string{"none", "lz4"} {
		t.Run(c, func(t *testing.T) {
			opts.Compression, opts.Database = c, "d_"+c
			clickhouse.ViewsAreExact(t, opts)
		})
	}
}

// TestModelIsTruthful inserts the same into the model and into the engine, plans in any order, some of them twice or in
// parts, and compares every view, and every other query that the sink sends.
func TestModelIsTruthful(t *testing.T) {
	opts := clickhouse.EngineOptions(t)
	opts.BlockRows = 40
	engine := clickhouse.OpenEngine(t, opts)
	if err := engine.EnsureSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, model := openModel(t, func(o *clickhouse.Options) { o.Database, o.BlockRows = opts.Database, 40 })
	both := []*clickhouse.Sink{engine, model}

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	naive := clickhouse.NewModel(rng, 3)
	var plans []*state.Plan
	for round := range 3 {
		for shard := range 3 {
			plans = append(plans, naive.Advance(shard, 1+rng.IntN(3)))
		}
		order := rng.Perm(len(plans))
		if round < 2 {
			order = order[:len(order)/2] // holes: newer plans without the older ones
		}
		for _, i := range order {
			for _, s := range both {
				if err := s.Attempt(t.Context(), plans[i]); err != nil {
					t.Fatal(err)
				}
			}
		}
		compareServers(t, fmt.Sprintf("round %d", round), both)
		if round == 1 {
			for _, tb := range []string{"session_metrics_versions", "page_analytics_versions", "rollup_versions"} {
				for _, s := range both {
					s.Exec(t, "OPTIMIZE TABLE `%s`.`%s` FINAL", opts.Database, tb)
				}
			}
			compareServers(t, "merged", both)
		}
	}
	db := "'" + opts.Database + "'"
	for _, q := range []struct {
		columns int
		text    string
	}{
		{6, "SELECT name, engine, engine_full, partition_key, sorting_key, comment FROM system.tables " +
			"WHERE database = " + db + " AND engine = 'ReplacingMergeTree' ORDER BY name"},
		{3, "SELECT name, engine, comment FROM system.tables WHERE database = " + db + " ORDER BY name"},
		{4, "SELECT table, name, type, comment FROM system.columns WHERE database = " + db + " ORDER BY table, name"},
		{2, "SELECT name, value FROM system.merge_tree_settings " +
			"WHERE name IN ('fsync_after_insert', 'fsync_part_directory') ORDER BY name"},
		{3, "SELECT cluster, pipeline, toString(max(b)) FROM `" + opts.Database + "`.`deckle_ledger` " +
			"GROUP BY cluster, pipeline"},
		{1, "SELECT toString(count()) FROM `" + opts.Database + "`.`deckle_ledger` " +
			"WHERE cluster = 'cluster-1' AND pipeline = 'deckle' AND b = 0"},
		{1, "SELECT toString(max(b)) FROM `" + opts.Database + "`.`deckle_ledger` WHERE cluster = 'nobody'"},
		{2, "SELECT city, toString(count()) FROM `" + opts.Database + "`.`session_metrics` " +
			"GROUP BY city HAVING city != 'bild' ORDER BY city"},
	} {
		got, want := model.Rows(t, q.columns, "%s", q.text), engine.Rows(t, q.columns, "%s", q.text)
		if !slices.EqualFunc(got, want, slices.Equal) || len(want) == 0 {
			t.Errorf("%s\nmodel  %q\nengine %q", q.text, got, want)
		}
	}
	for shard := range uint32(3) {
		var pos [2]uint64
		for i, s := range both {
			var err error
			if pos[i], err = s.Position(t.Context(), shard); err != nil {
				t.Fatal(err)
			}
		}
		if pos[0] != pos[1] || pos[0] == 0 {
			t.Errorf("positions of shard %d: %v", shard, pos)
		}
	}
	// Statements that neither of them knows fail in the same way.
	for _, q := range []string{
		"SELECT count() FROM nowhere.nothing", "SELECT count() FROM `" + opts.Database + "`.`nothing`",
		"CREATE TABLE `" + opts.Database + "`.`deckle_ledger` (a UInt64) ENGINE = MergeTree ORDER BY a",
		"CREATE DATABASE `" + opts.Database + "`", "SELECT nothing FROM `" + opts.Database + "`.`deckle_ledger`",
		"SELEKT 1",
		"SELECT shard, max(b) FROM `" + opts.Database + "`.`deckle_ledger`",
	} {
		var codes [2]proto.Error
		for i, s := range both {
			if e, ok := ch.AsException(s.Statement(t.Context(), q)); ok {
				codes[i] = e.Code
			}
		}
		if codes[0] != codes[1] || codes[0] == 0 {
			t.Errorf("%s: %v of the engine, %v of the model", q, codes[0], codes[1])
		}
	}
}

// byDate reads all sessions, date by date.
func byDate(t *testing.T, r *clickhouse.Reader) (rows [][]string, err error) {
	dates, err := r.Dates(t.Context(), 1, 60_000)
	if err != nil {
		return nil, err
	}
	if len(dates) > 1 {
		between, err := r.Dates(t.Context(), dates[0]+1, dates[len(dates)-1])
		if err != nil || !slices.Equal(between, dates[1:]) {
			t.Errorf("dates %v without the first: %v, %v", dates, between, err)
		}
	}
	for _, d := range dates {
		n := len(rows)
		err := r.SessionsOf(t.Context(), d, []string{"session_date", "session_id", "origin", "total_events", "status"},
			func(row []string) error {
				rows = append(rows, slices.Clone(row))
				return nil
			})
		if err != nil {
			return nil, err
		}
		slices.SortFunc(rows[n:], slices.Compare)
	}
	return rows, nil
}

// compareServers reads everything that the Reader can from both and compares it.
func compareServers(t *testing.T, when string, both []*clickhouse.Sink) {
	t.Helper()
	var rows [2]map[string][][]string
	var positions [2]map[uint32]uint64
	var counts [2][2]uint64
	for i, s := range both {
		r := clickhouse.ReaderOf(s)
		rows[i] = map[string][][]string{}
		for _, view := range clickhouse.ModelViews() {
			rows[i][view] = clickhouse.ReadView(t, r, view)
		}
		var err error
		positions[i], err = r.Positions(t.Context())
		for k, v := range []string{"session_metrics", "device_analytics"} {
			if err == nil {
				counts[i][k], err = r.Count(t.Context(), v)
			}
		}
		if err == nil {
			rows[i]["by date"], err = byDate(t, r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := len(rows[0]["by date"]); n == 0 || n != len(rows[0]["session_metrics"]) {
		t.Fatalf("%s: %d rows of session_metrics by date, %d at once", when, n, len(rows[0]["session_metrics"]))
	}
	for _, view := range append(clickhouse.ModelViews(), "by date") {
		if !reflect.DeepEqual(rows[0][view], rows[1][view]) {
			t.Fatalf("%s: %s differ:\nengine %q\nmodel  %q", when, view, rows[0][view], rows[1][view])
		}
	}
	for what, pair := range map[string][2]any{"positions": {positions[0], positions[1]},
		"counts": {counts[0], counts[1]}} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Fatalf("%s: %s differ:\nengine %+v\nmodel  %+v", when, what, pair[0], pair[1])
		}
	}
	if len(rows[0]["session_metrics"]) == 0 || len(rows[0]["page_analytics"]) == 0 ||
		len(rows[0]["device_analytics"]) == 0 {
		t.Fatalf("%s: nothing to compare", when)
	}
}

// onBoth runs a test on the model and, if there is one, on the engine, each with an empty database and a way to insert
// rows of texts. The engine gets them as statements, because chfront passes blocks on as an INSERT SELECT, which has
// settings of its own.
func onBoth(t *testing.T, test func(t *testing.T, s *clickhouse.Sink, db string, insert inserter)) {
	t.Run("model", func(t *testing.T) {
		srv := model.New(model.Options{})
		t.Cleanup(srv.Close)
		s := clickhouse.OpenEngine(t, modelOptions(srv))
		s.Exec(t, "CREATE DATABASE `%s`", modelDB)
		test(t, s, modelDB, func(t *testing.T, table string, settings [][2]string, rows [][]any) {
			t.Helper()
			q := ch.Query{Body: "INSERT INTO `" + modelDB + "`.`" + table + "` VALUES"}
			for c := range rows[0] {
				var col proto.ColInput
				for _, r := range rows {
					switch v := r[c].(type) {
					case uint64:
						if col == nil {
							col = new(proto.ColUInt64)
						}
						col.(*proto.ColUInt64).Append(v)
					case proto.Date:
						if col == nil {
							col = new(proto.ColDate)
						}
						*col.(*proto.ColDate) = append(*col.(*proto.ColDate), v)
					case string:
						if col == nil {
							col = new(proto.ColStr)
						}
						col.(*proto.ColStr).Append(v)
					}
				}
				q.Input = append(q.Input, proto.InputColumn{Name: string(rune('a' + c)), Data: col})
			}
			for _, kv := range settings {
				q.Settings = append(q.Settings, ch.Setting{Key: kv[0], Value: kv[1], Important: true})
			}
			if err := s.Query(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("engine", func(t *testing.T) {
		opts := clickhouse.EngineOptions(t)
		s := clickhouse.OpenEngine(t, opts)
		s.Exec(t, "CREATE DATABASE `%s`", opts.Database)
		test(t, s, opts.Database, func(t *testing.T, table string, settings [][2]string, rows [][]any) {
			t.Helper()
			var set, values []string
			for _, kv := range settings {
				set = append(set, fmt.Sprintf("%s = '%s'", kv[0], kv[1]))
			}
			for _, r := range rows {
				var row []string
				for _, v := range r {
					switch v := v.(type) {
					case uint64:
						row = append(row, fmt.Sprint(v))
					case proto.Date:
						row = append(row, fmt.Sprintf("toDate(%d)", v))
					case string:
						row = append(row, "'"+v+"'")
					}
				}
				values = append(values, "("+strings.Join(row, ", ")+")")
			}
			s.Exec(t, "INSERT INTO `%s`.`%s` SETTINGS %s VALUES %s", opts.Database, table, strings.Join(set, ", "),
				strings.Join(values, ", "))
		})
	})
}

// inserter inserts rows into a table with columns a, b, and so on.
type inserter func(t *testing.T, table string, settings [][2]string, rows [][]any)

// TestReplacing: which of several versions FINAL shows, ties included, in one block and over blocks and partitions.
func TestReplacing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var shown [][][]string
	onBoth(t, func(t *testing.T, s *clickhouse.Sink, db string, insert inserter) {
		s.Exec(t, "CREATE TABLE `%s`.`r` (a UInt64, b Date, c UInt64, d String) "+
			"ENGINE = ReplacingMergeTree(c) PARTITION BY toYYYYMM(b) ORDER BY a", db)
		rng := rand.New(rand.NewPCG(seed, 1))
		var states [][]string
		n := 0
		for range 40 {
			var rows [][]any
			for range 1 + rng.IntN(6) {
				n++
				rows = append(rows, []any{rng.Uint64N(5), proto.Date(100 + 40*rng.IntN(2)), rng.Uint64N(4),
					fmt.Sprint(n)})
			}
			insert(t, "r", [][2]string{{"insert_deduplicate", "0"}}, rows)
			var state []string
			for _, r := range s.Rows(t, 4,
				"SELECT toString(a), toString(b), toString(c), d FROM `%s`.`r` FINAL "+
					"ORDER BY a, b, d SETTINGS do_not_merge_across_partitions_select_final = 1", db) {
				state = append(state, strings.Join(r, " "))
			}
			states = append(states, state)
		}
		shown = append(shown, states)
	})
	if t.Failed() || len(shown) == 0 {
		return
	}
	if last := shown[0][39]; len(last) != 10 {
		t.Errorf("%d rows of 5 keys in 2 partitions: %v", len(last), last)
	}
	if len(shown) == 2 {
		for i := range shown[0] {
			if !slices.Equal(shown[0][i], shown[1][i]) {
				t.Fatalf("after insert %d:\nmodel  %v\nengine %v", i, shown[0][i], shown[1][i])
			}
		}
	}
}

// TestDeduplication: which inserts a server with a window drops, in the model and, if there is one, in the engine.
func TestDeduplication(t *testing.T) { onBoth(t, testDeduplication) }

func testDeduplication(t *testing.T, s *clickhouse.Sink, db string, insert inserter) {
	for name, settings := range map[string]string{"with": "SETTINGS non_replicated_deduplication_window = 2",
		"without": ""} {
		s.Exec(t, "CREATE TABLE `%s`.`%s` (a UInt64, b Date) ENGINE = MergeTree PARTITION BY toYYYYMM(b) ORDER BY a %s",
			db, name, settings)
	}
	plain := [][2]string{{"insert_deduplicate", "1"}}
	old := [][2]string{{"insert_deduplicate", "0"}}
	off := [][2]string{{"insert_deduplicate", "0"}, {"deduplicate_insert", "disable"}}
	choice := [][2]string{{"insert_deduplicate", "0"}, {"deduplicate_insert", "backward_compatible_choice"}}
	token := [][2]string{{"insert_deduplicate", "1"}, {"insert_deduplication_token", "x"}}
	row := func(k uint64) [][]any { return [][]any{{k, proto.Date(100)}} }
	for i, step := range []struct {
		table    string
		settings [][2]string
		rows     [][]any
		want     int
	}{
		{"without", plain, row(1), 1},
		{"without", plain, row(1), 2}, // no window: nothing is ever dropped
		{"with", off, row(1), 1},
		{"with", plain, row(1), 2}, // the first insert has left no id
		{"with", plain, row(1), 2}, // dropped, without an error
		{"with", old, row(1), 2},   // insert_deduplicate=0 alone is overridden
		{"with", off, row(1), 3},
		{"with", choice, row(1), 4},
		{"with", plain, row(2), 5},
		{"with", plain, row(3), 6},
		{"with", plain, row(1), 7}, // its id has left the window
		// One partition is a repeat, the other is not.
		{"with", plain, append(row(1), []any{uint64(9), proto.Date(200)}), 8},
		{"with", token, row(5), 9},
		{"with", token, row(6), 9}, // the same token: other rows are lost silently
	} {
		insert(t, step.table, step.settings, step.rows)
		got := s.Rows(t, 1, "SELECT toString(count()) FROM `%s`.`%s`", db, step.table)
		if got[0][0] != fmt.Sprint(step.want) {
			t.Errorf("step %d, %s, %v, %v: %s rows, want %d", i, step.table, step.settings, step.rows, got[0][0],
				step.want)
		}
	}
}

// TestNothingIsDeduplicated: whatever a server's window and version, every block of the sink is inserted.
func TestNothingIsDeduplicated(t *testing.T) {
	for _, o := range []model.Options{{DedupWindow: 100}, {DedupWindow: 100, Before262: true}} {
		srv := model.New(o)
		t.Cleanup(srv.Close)
		s := clickhouse.OpenEngine(t, modelOptions(srv))
		if err := s.EnsureSchema(t.Context()); err != nil {
			t.Fatal(err)
		}
		p := clickhouse.NewModel(rand.New(rand.NewPCG(6, 6)), 1).Advance(0, 1)
		var inserted [3]int
		for i := range inserted {
			if err := s.Attempt(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			inserted[i] = len(srv.Inserted(modelDB, sessionsTable, 0))
		}
		if n := inserted[0]; n == 0 || inserted != [3]int{n, 2 * n, 3 * n} {
			t.Errorf("%+v: %v rows after one, two and three times the same", o, inserted)
		}
	}
}

// TestAccessorsShowWhatTheReaderReads: the accessors of the checkers and the Reader return the same rows.
func TestAccessorsShowWhatTheReaderReads(t *testing.T) {
	srv, s := openModel(t, nil)
	rng := rand.New(rand.NewPCG(4, 4))
	m := clickhouse.NewModel(rng, 2)
	var plans []*state.Plan
	versions := 0
	for range 3 {
		for shard := range 2 {
			p := m.Advance(shard, 2)
			plans = append(plans, p)
			before := srv.Changes()
			for range 2 { // each image twice
				if err := s.Attempt(t.Context(), p); err != nil {
					t.Fatal(err)
				}
			}
			if srv.Changes() == before {
				t.Error("a plan has changed nothing")
			}
		}
		fresh := srv.Inserted(modelDB, sessionsTable, versions)
		if len(fresh) == 0 || fresh[0].Number() != versions {
			t.Errorf("%d new images from number %d on", len(fresh), versions)
		}
		versions += len(fresh)
	}
	srv.Merge()
	m.Compare(t, clickhouse.ReaderOf(s), "read")

	var sessions [][]string
	visible := visibleSessions(srv)
	for _, v := range visible {
		sessions = append(sessions, sessionAt(v))
		if version := v.Uint("version"); version == 0 ||
			v.Uint("batch_id") != schema.BatchID(uint32(v.Uint("shard")), version) {
			t.Errorf("the batch, the shard or the version is wrong: %s", v)
		}
	}
	if want := m.ModelRows("session_metrics"); !reflect.DeepEqual(sessions, want) {
		t.Errorf("sessions: got %q\nwant %q", sessions, want)
	}
	var pages [][]string
	for _, v := range visiblePages(srv) {
		pages = append(pages, pageAt(v))
	}
	if want := m.ModelRows("page_analytics"); !reflect.DeepEqual(pages, want) {
		t.Errorf("pages: got %q\nwant %q", pages, want)
	}
	for table := range schema.NumRollups {
		if got, want := rollupRows(srv, table), m.ModelRows(table.String()); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %q\nwant %q", table, got, want)
		}
	}
	all := srv.Inserted(modelDB, sessionsTable, 0)
	if len(all) != versions || versions <= len(visible) {
		t.Errorf("%d images, %d were counted one after another; %d are visible", len(all), versions, len(visible))
	}
	greatest := map[[2]string]uint64{}
	for _, v := range all {
		k := [2]string{v.Text("session_id"), v.Text("origin")}
		greatest[k] = max(greatest[k], v.Uint("version"))
	}
	for _, v := range visible {
		if want := greatest[[2]string{v.Text("session_id"), v.Text("origin")}]; v.Uint("version") != want {
			t.Errorf("version %d is the greatest, shown is %s", want, v)
		}
	}
	sums := map[string]int64{}
	seen := map[string]bool{}
	for _, v := range srv.Rows(modelDB, totalsTable) {
		sums[v.Text("rollup")] += v.Int("sessions")
		k := totalKey(v)
		if seen[k] {
			t.Errorf("two totals of %q", k)
		}
		seen[k] = true
	}
	for table := range schema.NumRollups {
		if sums[table.String()] != int64(len(sessions)) {
			t.Errorf("totals of %s: %d sessions of %d", table, sums[table.String()], len(sessions))
		}
	}
	allTotals := srv.Inserted(modelDB, totalsTable, 0)
	if len(allTotals) <= len(seen) {
		t.Errorf("%d totals were inserted, %d are visible", len(allTotals), len(seen))
	}
	ledger := srv.Inserted(modelDB, ledgerTable, 0)
	if len(ledger) != 1+2*len(plans) || ledger[0].Uint("b") != 0 || ledger[1].Uint("b") != plans[0].B ||
		ledger[1].Text("cluster") != "cluster-1" || ledger[1].Uint("rows") == 0 {
		t.Errorf("ledger: %+v", ledger)
	}
}

// TestConnectionThatBreaksInsertsNothing: the last block is what counts.
func TestConnectionThatBreaksInsertsNothing(t *testing.T) {
	srv, _ := openModel(t, nil)
	before := srv.Changes()
	conn, err := srv.Dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ch.Connect(t.Context(), conn, ch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	k := proto.ColStr{}
	k.Append("x")
	err = c.Do(t.Context(), ch.Query{
		Body:    "INSERT INTO `" + modelDB + "`.`deckle_ledger` (cluster) VALUES",
		Input:   proto.Input{{Name: "cluster", Data: &k}},
		OnInput: func(context.Context) error { _ = c.Close(); return io.ErrUnexpectedEOF },
	})
	if err == nil || srv.Changes() != before {
		t.Errorf("%v, %d changes", err, srv.Changes()-before)
	}
}

// TestModelInABubble: a sink writes and reads in virtual time, and silence ends by its timeout.
func TestModelInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, s := openModel(t, nil)
		m := clickhouse.NewModel(rand.New(rand.NewPCG(5, 5)), 1)
		p := m.Advance(0, 2)
		start := time.Now()
		srv.SetHook(func(model.Query) model.Fault { return model.Slow(time.Second) })
		if err := s.Write(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 10*time.Second { // the position, sessions, pages, totals, the ledger's row
			t.Errorf("five queries of two seconds take %s", d)
		}
		m.Compare(t, clickhouse.ReaderOf(s), "slow")
		start = time.Now()
		srv.SetHook(func(model.Query) model.Fault { return model.StallBefore() })
		if _, err := s.Position(t.Context(), 0); err == nil || !clickhouse.IsRetry(err) ||
			time.Since(start) != 30*time.Second {
			t.Errorf("a silent server: %v after %s", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if _, err := s.Position(ctx, 0); err == nil || time.Since(start) != time.Second {
			t.Errorf("a silent server and a context: %v after %s", err, time.Since(start))
		}
		srv.SetDown(true)
		srv.SetHook(nil)
		if _, err := s.Position(t.Context(), 0); err == nil || !clickhouse.IsRetry(err) {
			t.Errorf("a server that is down: %v", err)
		}
		srv.SetDown(false)
		if pos, err := s.Position(t.Context(), 0); err != nil || pos != p.B {
			t.Errorf("after its start: %d, %v", pos, err)
		}
	})
}
