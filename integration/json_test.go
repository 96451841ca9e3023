package integration

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/integration/services"
	newest "deckle/schema/level"
	"deckle/state"
)

// TestJSONReaders: every JSON text that leaves Deckle is one value, whoever reads it. The corpus of package event, and
// texts that are too large for a file, go through the decoder and the state into page_events, the lists,
// engagement_metrics, metadata and extra. What comes out is read by Go, by Python, by DuckDB and by ClickHouse's JSON
// functions, by places and by names. Integers, the bits of doubles, the bytes of texts and names must be the same.
// ClickHouse, which takes longest, reads a third of them, or all if DECKLE_TEST_JSON=all: make json. Spark is fetched
// for that (1 GB) if DECKLE_TEST_SPARK=1: make json-spark.
func TestJSONReaders(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	dir := folder(t)
	cache, err := services.OpenCache(os.Stderr)
	must(t, err)
	texts := leaving(t, readersCorpus(t))
	for i := range texts {
		texts[i].want = exact(t, texts[i].text)
	}

	read := func(t *testing.T, texts []leavingText, python, reader string, env ...string) {
		lines := filepath.Join(dir, reader+".texts")
		var file bytes.Buffer
		for _, x := range texts {
			file.WriteString(hex.EncodeToString([]byte(x.text)) + "\n")
		}
		must(t, os.WriteFile(lines, file.Bytes(), 0o644))
		cmd := exec.CommandContext(ctx, python, "json_readers.py", reader, lines)
		cmd.Env = append(os.Environ(), env...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%.4000s", err, errs.Bytes())
		}
		got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(got) != len(texts) {
			t.Fatalf("%d values of %d texts", len(got), len(texts))
		}
		differ := 0
		for i := range got {
			if got[i] == texts[i].want {
				continue
			}
			if differ++; differ <= 10 {
				t.Errorf("%s of %.200q:\n%.300s\nis not what Go reads:\n%.300s\nin %.300q", texts[i].column,
					texts[i].sent, got[i], texts[i].want, texts[i].text)
			}
		}
		t.Logf("%d texts, %d differ from what Go reads", len(got), differ)
	}
	if spark, err := cache.TestSpark(ctx); !errors.Is(err, services.ErrNotAsked) {
		need(t, err)
		t.Run("spark", func(t *testing.T) { read(t, texts, spark.Python, "spark", services.SparkEnv...) })
		return
	}
	python, err := cache.FetchPython(ctx)
	need(t, err)
	t.Run("python", func(t *testing.T) { read(t, texts, python, "python") })
	t.Run("duckdb", func(t *testing.T) { read(t, texts, python, "duckdb") })
	lib, err := cache.FetchClickHouse(ctx)
	need(t, err)
	front, err := cache.BuildFront(ctx, "..")
	need(t, err)
	click, err := services.StartClickHouse(ctx, front, lib, filepath.Join(dir, "clickhouse"), nil)
	if click != nil {
		t.Cleanup(func() { must(t, click.Kill()) })
	}
	must(t, err)
	if os.Getenv("DECKLE_TEST_JSON") != "all" {
		// Always the same ones, of every column: a text's checksum has nothing to do with its place.
		texts = slices.DeleteFunc(texts, func(x leavingText) bool { return crc32.ChecksumIEEE([]byte(x.text))%3 != 0 })
	}
	t.Run("clickhouse", func(t *testing.T) {
		read(t, texts, python, "clickhouse", "CLICKHOUSE="+click.Addr+" "+click.User+" "+click.Password())
	})
}

// readersCorpus are JSON values about which readers are known to disagree.
func readersCorpus(t *testing.T) []string {
	t.Helper()
	file, err := os.ReadFile("../event/testdata/json.txt")
	must(t, err)
	corpus := strings.Split(strings.TrimSuffix(string(file), "\n"), "\n")
	var list strings.Builder
	for i := range 300 {
		fmt.Fprintf(&list, `,{"n%d":-0}`, i)
	}
	return append(corpus, `{"v":"`+strings.Repeat("ü😀", 25_000)+`"}`,
		`{"v":"`+strings.Repeat(`\u0000\ud83d\ude00`, 9_000)+`"}`,
		`{"`+strings.Repeat("n", event.MaxName)+`":1}`, `{"`+strings.Repeat(`\u00fc`, event.MaxName/6)+`":1e999}`,
		"["+list.String()[1:]+"]", `{"v":1.`+strings.Repeat("3", 200_000)+`}`, `{"v":`+strings.Repeat("9", 200_000)+`}`)
}

// leavingText is a JSON text that leaves Deckle: the value that was sent, the column that the text stands in, it, and
// what Go reads in it, in the form of json_readers.py.
type leavingText struct{ sent, column, text, want string }

// leaving sends each of the values in a record of its own and returns what stands in the columns then, each text once.
func leaving(t *testing.T, corpus []string) (texts []leavingText) {
	t.Helper()
	const at = 1_795_357_069
	s, err := state.Open(context.Background(), state.Options{FS: vfs.NewMem(), Dir: "shard"})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	index := uint64(0)
	apply := func(entry []byte) {
		index++
		_, err := s.Apply(index, 1, entry)
		must(t, err)
	}
	rules := state.DefaultRules()
	rules.Number, rules.Event.MaxMetricsBytes = 1, 0 // page_events has them all
	apply(state.EncodeConfig(state.Config{Shards: 1, Topic: topic, Partitions: []int32{0}, Starts: []int64{0},
		Sinks: []state.SinkID{state.SinkClickHouse}, IdleTimeout: time.Hour, Retention: time.Hour, MaxTimers: 1000}))
	apply(state.EncodeLevel(at*1000, newest.Real))
	apply(state.EncodeRules(at*1000, rules))
	d := event.Decoder{Rules: &rules.Event}
	known := map[string]bool{}
	for i, sent := range corpus {
		object, quoted := sent, jsonQuote(t, sent)
		if strings.TrimLeft(sent, " \t")[0] != '{' {
			object = `{"v":` + sent + `}`
		}
		category, article := `"\u0000\u001f\"\\ \u2028\ufeff\ud83d\ude00"`, `"1e999"`
		if len(sent) < 1000 {
			category, article = quoted, quoted // texts of lists
		}
		record := fmt.Sprintf(`{"event_id":"e","session_id":"s%d","event_type":%s,"timestamp":%d,"category":%s,`+
			`"article_id":%s,"article_title":%s,"engagement_metrics":%s,"metadata":%s,"x":%s,"y.z":%s}`,
			i, category, at, category, article, article, object, object, sent, article)
		item := event.Item{Offset: int64(i), KafkaTimestamp: at * 1000}
		reason, detail := d.Decode([]byte(record), item.KafkaTimestamp, &item.Event)
		if reason != event.ReasonNone {
			t.Fatalf("%.100q: %s %s", sent, reason, detail)
		}
		entry := state.BatchEntry{Now: at * 1000, Level: newest.Real, Batch: event.Batch{
			Rules: 1, Ranges: []event.Range{{From: item.Offset, To: item.Offset + 1, LeaderEpoch: -1}},
			Items: []event.Item{item}, Seen: []event.Seen{{KafkaTime: item.KafkaTimestamp}},
		}}
		apply(state.AppendBatch(nil, &entry))
		row, ok, err := s.Session(item.SessionID)
		must(t, err)
		if !ok || row.TotalEvents != 1 {
			t.Fatalf("%.100q has no row", sent)
		}
		for _, x := range []struct{ column, text string }{
			{"engagement_metrics", item.EngagementMetrics}, {"metadata", item.Metadata},
			{"extra", item.Extra}, {"page_events", row.PageEvents},
			{"categories_visited", row.Categories}, {"article_ids_visited", row.ArticleIDs},
			{"article_titles_visited", row.ArticleTitles},
		} {
			if !known[x.text] {
				x.text = strings.Clone(x.text)
				known[x.text] = true
				texts = append(texts, leavingText{sent: sent, column: x.column, text: x.text})
			}
		}
		d.Reset()
	}
	return texts
}

func jsonQuote(t *testing.T, s string) string {
	t.Helper()
	b, err := json.Marshal(s)
	must(t, err)
	return string(b)
}

// exact is what Go reads, in the form of json_readers.py. Go's own types must agree: a number that becomes a float64,
// which is the default, is the integer or the double that it is by its form.
func exact(t *testing.T, text string) string {
	t.Helper()
	var v, plain any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	must(t, d.Decode(&v))
	must(t, json.Unmarshal([]byte(text), &plain))
	var b strings.Builder
	appendExact(t, &b, v, plain)
	return b.String()
}

func appendExact(t *testing.T, b *strings.Builder, v, plain any) {
	t.Helper()
	switch v := v.(type) {
	case nil:
		b.WriteByte('n')
	case bool:
		b.WriteByte(strconv.FormatBool(v)[0])
	case string:
		b.WriteString("s" + hex.EncodeToString([]byte(v)))
	case json.Number:
		f := plain.(float64)
		if strings.ContainsAny(string(v), ".eE") {
			fmt.Fprintf(b, "d%016x", math.Float64bits(f))
			return
		}
		n, err := v.Int64()
		if err != nil || int64(f) != n || float64(n) != f || math.Signbit(f) != (n < 0) {
			t.Errorf("%.100s is %v as a float64: %v", v, f, err)
		}
		fmt.Fprintf(b, "i%d", n)
	case []any:
		b.WriteByte('[')
		for i := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			appendExact(t, b, v[i], plain.([]any)[i])
		}
		b.WriteByte(']')
	case map[string]any:
		names := slices.Sorted(maps.Keys(v))
		for i, name := range names {
			b.WriteString([]string{",", "{"}[max(0, 1-i)])
			b.WriteString("s" + hex.EncodeToString([]byte(name)) + ":")
			appendExact(t, b, v[name], plain.(map[string]any)[name])
		}
		if len(names) == 0 {
			b.WriteByte('{')
		}
		b.WriteByte('}')
	}
}

// TestJSONRefused: what no reader, or not every reader, can hold, and what cannot be rewritten, is a dead letter that
// says so. It is in no row.
func TestJSONRefused(t *testing.T) {
	rules := event.DefaultRules()
	d := event.Decoder{Rules: &rules}
	for _, c := range []struct{ sent, detail string }{
		{`"\ud800"`, "half a surrogate pair"}, {`"\udc00"`, "half a surrogate pair"},
		{`"\udc00\ud800"`, "half a surrogate pair"}, {`"\ud800\ud800"`, "half a surrogate pair"},
		{`"\ud83dx\ude00"`, "half a surrogate pair"}, {`{"\ud83d":1}`, "half a surrogate pair"},
		{"\"\xff\"", "invalid UTF-8"}, {"\"\xc0\x80\"", "invalid UTF-8"}, {"\"\xe0\x80\xaf\"", "invalid UTF-8"},
		{"\"\xf0\x80\x80\xaf\"", "invalid UTF-8"}, {"\"\xed\xa0\x80\"", "invalid UTF-8"},
		{"\"\xf4\x90\x80\x80\"", "invalid UTF-8"}, {"\"\xc3\"", "invalid UTF-8"}, {"{\"\xff\":1}", "invalid UTF-8"},
		{"\"\x00\"", "control character"}, {"\"\x1f\"", "control character"}, {"\"\n\"", "control character"},
		{"{\"\t\":1}", "control character"}, {"\ufeff1", "not a JSON value"}, {"NaN", "not a JSON value"},
		{"-Infinity", "broken number"}, {"01", "expected"}, {"+1", "not a JSON value"}, {".5", "not a JSON value"},
		{"1.", "broken number"}, {"[1,]", "not a JSON value"}, {`{"a":1,}`, "expected the name"},
		{"'a'", "not a JSON value"},
		{`"\x41"`, "unknown escape"}, {`"\u12"`, "hexadecimal"}, {"/**/1", "not a JSON value"},
		{strings.Repeat("[", 64) + strings.Repeat("]", 64), "nested too deep"},
		{strings.Repeat(`{"v":`, 64) + "1" + strings.Repeat("}", 64), "nested too deep"},
		{strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), "nested too deep"},
		{`{"` + strings.Repeat("n", event.MaxName+1) + `":1}`, "a name of more than"},
		{`{"a":[{"` + strings.Repeat(`\u00fc`, event.MaxName/6+1) + `":1}]}`, "a name of more than"},
	} {
		for _, field := range []string{`"engagement_metrics":{"v":%s}`, `"metadata":{"v":%s}`, `"x":%s`} {
			record := fmt.Sprintf(`{"event_id":"e","session_id":"s","event_type":"search",`+
				`"timestamp":1795357069,`+field+"}", c.sent)
			reason, detail := d.Decode([]byte(record), 1_795_357_069_000, new(event.Event))
			if reason != event.Malformed || !strings.Contains(detail, c.detail) {
				t.Errorf("%.80q in %s: %s %s, want malformed, %s", c.sent, field, reason, detail, c.detail)
			}
		}
	}
}
