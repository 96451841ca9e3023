package node

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/sim/testworld/clickhouse"
	"deckle/sim/testworld/objects"
)

// tapped is a tap over HTTP whose lines are read.
type tapped struct {
	lines chan map[string]any
	code  int
	end   func()
}

func openTap(t *testing.T, url, query string) *tapped {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/v1/tap?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	x := &tapped{lines: make(chan map[string]any, 10_000), code: resp.StatusCode, end: cancel}
	if x.code != http.StatusOK {
		_ = resp.Body.Close()
		return x
	}
	go func() {
		defer close(x.lines)
		defer func() { _ = resp.Body.Close() }()
		in := bufio.NewScanner(resp.Body)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			var l map[string]any
			if err := json.Unmarshal(in.Bytes(), &l); err != nil {
				t.Errorf("%v: %s", err, in.Bytes())
			}
			x.lines <- l
		}
	}()
	return x
}

// await returns the first line that fits.
func (x *tapped) await(t *testing.T, what string, fits func(map[string]any) bool) map[string]any {
	t.Helper()
	end := time.After(time.Minute)
	for {
		select {
		case l, ok := <-x.lines:
			if !ok {
				t.Fatalf("the tap has ended before %s", what)
			}
			if fits(l) {
				return l
			}
		case <-end:
			t.Fatalf("no %s", what)
		}
	}
}

// What passes through a node is seen at each stage, by whoever looks from another process; when the node ends, so do
// they.
func TestTap(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 1)
	click := clickhouse.New(clickhouse.Options{})
	t.Cleanup(click.Close)
	c := newCluster(t, b, 1, func(cfg *config.Config) {
		cfg.Delta = &config.Delta{RevisionInterval: 200 * time.Millisecond, Path: "/delta"}
		cfg.ClickHouse = &config.ClickHouse{Address: "clickhouse:9000"}
	})
	c.realSinks = true
	c.adapt = func(d *Deps) { d.DeltaStore, d.ClickHouseDial = objects.NewMem(nil), click.Dial }
	n := c.start(0)
	nodetest.Until(t, "the node leads", func() bool { _, n, _ := c.leader(0); return n != nil })
	srv := httptest.NewServer(n.Handler())
	t.Cleanup(srv.Close)
	head := func(x *tapped, stage string) {
		t.Helper()
		l := x.await(t, "head", func(l map[string]any) bool { return l["tap"] != nil })
		if h, _ := l["tap"].(map[string]any); h["stage"] != stage || h["node"] != "n0" || len(h["leads"].([]any)) != 1 {
			t.Fatalf("%v", l)
		}
	}
	at := func(offset float64) func(map[string]any) bool {
		return func(l map[string]any) bool { return l["tap"] == nil && l["offset"] == offset }
	}

	source, decoded := openTap(t, srv.URL, "stage=source&for=10m"), openTap(t, srv.URL, "stage=decoded&for=10m")
	letter := openTap(t, srv.URL, "stage=letter&for=10m")
	row := openTap(t, srv.URL, "stage=row&for=10m")
	head(source, "source")
	head(decoded, "decoded")
	head(letter, "letter")
	head(row, "row")
	if x := openTap(t, srv.URL, "stage=row"); x.code != http.StatusConflict {
		t.Errorf("a fifth tap: %d", x.code)
	}
	b.Produce(nodetest.Record(0, "s1", 0), &kgo.Record{Value: []byte(`{"event_id":`)}, nodetest.Record(0, "s1", 1))
	l := source.await(t, "record", at(0))
	if v, _ := l["value"].(map[string]any); v["session_id"] != "s1" || l["key"] != "s1" || l["verdict"] != "accepted" {
		t.Errorf("%v", l)
	}
	if l := source.await(t, "broken record", at(1)); l["verdict"] != "malformed" || l["value"] != `{"event_id":` {
		t.Errorf("%v", l)
	}
	l = decoded.await(t, "event", at(2))
	if e, _ := l["event"].(map[string]any); e["session_id"] != "s1" || e["event_type"] != "article_view" ||
		e["kafka_offset"] != float64(2) {
		t.Errorf("%v", l)
	}
	if l := letter.await(t, "letter", at(1)); l["reason"] != "malformed" || l["epoch"] == float64(0) {
		t.Errorf("%v", l)
	}
	events, session, total := false, false, false
	row.await(t, "row of every kind", func(l map[string]any) bool {
		s, _ := l["session"].(map[string]any)
		sum, _ := l["total"].(map[string]any)
		events = events || l["sink"] == "events" && l["ranges"] != nil && l["rows"] != nil
		session = session || l["sink"] == "clickhouse" && s["session_id"] == "s1" && s["status"] == "open"
		total = total || l["view"] == "brand_analytics" && sum["brand"] == "welt" && sum["sessions"] == float64(1)
		return events && session && total
	})

	// Somebody looks at one session, in place of whoever has had enough.
	letter.end()
	var one *tapped
	nodetest.Until(t, "there is room for another tap", func() bool {
		one = openTap(t, srv.URL, "stage=session&session=s2&for=10m")
		return one.code == http.StatusOK
	})
	head(one, "session")
	b.Produce(nodetest.Record(0, "s1", 2), nodetest.Record(0, "s2", 0), nodetest.Record(0, "s2", 1))
	l = one.await(t, "session", at(5))
	if s, _ := l["session"].(map[string]any); s["session_id"] != "s2" || s["total_events"] != float64(2) {
		t.Errorf("%v", l)
	}

	c.stop(0)
	for _, x := range []*tapped{source, decoded, row, one} {
		x.await(t, "end", func(l map[string]any) bool {
			said, _ := l["tap"].(map[string]any)
			return said["ends"] == "the node ends"
		})
	}
}
