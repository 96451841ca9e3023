package foreign

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/integration/services"
	"deckle/schema"
	"deckle/sinks/delta"
	"deckle/sinks/delta/store"
)

const topic = "web_clicks"

// row is what the table must hold of a session.
type row struct {
	Events int64 // counted ones
	Note   string
}

// world is a node that runs, the records that it is sent, and what its table of sessions must hold.
type world struct {
	t      *testing.T
	ctx    context.Context
	dir    string // of the lake
	binary string
	node   *services.Node
	broker *kgo.Client
	table  *delta.Table
	tool   *tool

	base int64            // event time of the first records, Unix seconds
	now  int64            // and of the last ones
	sent map[string]int64 // events of each session
	rows map[string]row
	n    int
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// start starts a node of one shard over a broker in memory and a local lake.
func start(ctx context.Context, t *testing.T, binary string) *world {
	t.Helper()
	w := &world{t: t, ctx: ctx, binary: binary, base: time.Now().Unix() - 3000, sent: map[string]int64{},
		rows: map[string]row{}}
	w.now = w.base
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topic))
	w.must(err)
	t.Cleanup(broker.Close)
	w.broker, err = kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.DefaultProduceTopic(topic))
	w.must(err)
	t.Cleanup(w.broker.Close)
	raft, err := services.FreePort()
	w.must(err)
	http, err := services.FreePort()
	w.must(err)
	dir := t.TempDir()
	w.dir = filepath.Join(dir, "lake")
	config := filepath.Join(dir, "deckle.yaml")
	w.must(os.WriteFile(config, fmt.Appendf(nil, `node: a
data_dir: %[1]s/data
cluster:
  shards: 1
  nodes:
    - {name: a, address: "127.0.0.1:%[2]d"}
kafka:
  brokers: ["%[3]s"]
  topic: %[4]s
session:
  grace: 1s
flush:
  interval: 200ms
delta:
  path: %[5]s
  revision_interval: 200ms
  events: false
http:
  listen: 127.0.0.1:%[6]d
`, dir, raft, broker.ListenAddrs()[0], topic, w.dir, http), 0o600))
	w.node = &services.Node{Name: "a", Config: config, DataDir: filepath.Join(dir, "data"),
		HTTP:    fmt.Sprintf("127.0.0.1:%d", http),
		Process: services.NewProcess("a", dir, nil, binary, "run", "--config", config)}
	w.must(w.node.Start())
	t.Cleanup(func() { w.must(w.node.Kill()) })
	w.must(w.node.WaitReady(ctx))
	return w
}

// within waits until something is so, which takes a minute at most.
func (w *world) within(what string, ok func() (state string, done bool)) {
	w.t.Helper()
	state := ""
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(50 * time.Millisecond) {
		var done bool
		if state, done = ok(); done {
			return
		}
	}
	w.t.Fatalf("waited in vain for %s: %s\n%s", what, state, w.node.Tail(3000))
}

// leveled waits until the cluster has risen to the newest level, by which a deleted row is told from one that was never
// written.
func (w *world) leveled() {
	w.t.Helper()
	w.within("the level", func() (string, bool) {
		var st struct {
			Shards []struct {
				Level int `json:"level"`
			} `json:"shards"`
		}
		if err := w.node.Get(w.ctx, "/api/v1/status", &st); err != nil || len(st.Shards) != 1 {
			return fmt.Sprint(err), false
		}
		return fmt.Sprint(st.Shards[0].Level), st.Shards[0].Level >= 4
	})
}

// send sends a record.
func (w *world) send(session, kind, brand string, at int64) {
	w.t.Helper()
	w.n++
	r := &kgo.Record{Key: []byte(session), Value: fmt.Appendf(nil,
		`{"event_id":"00000000-0000-4000-8000-%012x","session_id":%q,"user_id":7,"event_type":%q,"brand":%q,`+
			`"timestamp":%d}`, w.n, session, kind, brand, at)}
	w.must(w.broker.ProduceSync(w.ctx, r).FirstErr())
}

// tick moves the clock past the grace of whatever has ended.
func (w *world) tick() {
	w.t.Helper()
	w.now += 10
	w.send("clock", "search", "", w.now)
}

// open sends a session that ends; its row is not yet expected.
func (w *world) open(session, brand string) {
	w.t.Helper()
	w.sent[session] = 2
	w.send(session, "search", brand, w.base)
	w.send(session, "search", brand, w.base)
	w.send(session, "session_end", brand, w.base)
}

// insert sends sessions that end, and expects their rows.
func (w *world) insert(sessions ...string) {
	w.t.Helper()
	for _, s := range sessions {
		w.open(s, "bild")
		w.rows[s] = row{Events: w.sent[s]}
	}
	w.tick()
}

// late sends one more event of each of the sessions, whose rows change if they are there.
func (w *world) late(sessions ...string) {
	w.t.Helper()
	for _, s := range sessions {
		w.sent[s]++
		w.send(s, "search", "bild", w.base)
		if r, ok := w.rows[s]; ok {
			r.Events = w.sent[s]
			w.rows[s] = r
		}
	}
	w.tick()
}

// notes expects a note beside rows.
func (w *world) notes(note string, sessions ...string) {
	for _, s := range sessions {
		r := w.rows[s]
		r.Note = note
		w.rows[s] = r
	}
}

// settle waits until the table holds what it must by Deckle's own reader, which does not see the notes.
func (w *world) settle() {
	w.t.Helper()
	want := map[string]int64{}
	for s, r := range w.rows {
		want[s] = r.Events
	}
	w.within("the rows", func() (string, bool) {
		got, err := w.own()
		return fmt.Sprintf("they are %v, want %v; %v", got, want, err), err == nil && maps.Equal(got, want)
	})
}

// own are the rows by Deckle's own reader.
func (w *world) own() (rows map[string]int64, err error) {
	if w.table == nil {
		w.table, err = delta.OpenTable(w.ctx, store.NewLocal(vfs.Default, w.dir, "test"), "sessions")
	} else {
		err = w.table.Refresh(w.ctx)
	}
	if err != nil {
		return nil, err
	}
	rows = map[string]int64{}
	err = w.table.ReadSessions(w.ctx, w.table.Snapshot().Files, func(r *schema.SessionRow) error {
		rows[strings.Clone(r.SessionID)] = int64(r.TotalEvents)
		return nil
	})
	return rows, err
}

// equal waits until the table holds what it must, and has the tool read it.
func (w *world) equal() {
	w.t.Helper()
	w.settle()
	if got := w.read(nil); !maps.Equal(got, w.rows) {
		w.t.Errorf("%s reads\n%v, want\n%v", w.tool.name, got, w.rows)
	}
}

// read are the rows of a version by the tool; nil: of the newest.
func (w *world) read(version any) map[string]row {
	w.t.Helper()
	var rows [][3]any
	w.tool.do(&rows, "rows", version)
	out := map[string]row{}
	for _, r := range rows {
		id, events, note := fields(w.t, r[:])
		if _, ok := out[id]; ok {
			w.t.Errorf("%s reads %s twice", w.tool.name, id)
		}
		out[id] = row{events, note}
	}
	return out
}

// fields are a session, the number of its events and its note as the tool gives them.
func fields(t *testing.T, r []any) (id string, events int64, note string) {
	t.Helper()
	id, ok := r[0].(string)
	n, also := r[1].(float64)
	if !ok || !also {
		t.Fatalf("a row %v", r)
	}
	note, _ = r[2].(string)
	return id, int64(n), note
}

// stopped waits until the node says that a sink has stopped for a cause.
func (w *world) stopped(cause string) {
	w.t.Helper()
	w.within("the stop", func() (string, bool) {
		b, err := w.node.Read(w.ctx, "/api/v1/status")
		return fmt.Sprintf("%s %v", b, err), err == nil && strings.Contains(string(b), cause)
	})
}

// tool is a process that does what it is told to the table.
type tool struct {
	t    *testing.T
	name string
	in   io.Writer
	out  *bufio.Scanner
}

func (w *world) startTool(python, kind, jars string) {
	w.t.Helper()
	script, err := filepath.Abs("foreign.py")
	w.must(err)
	cmd := exec.CommandContext(w.ctx, python, script, kind, filepath.Join(w.dir, "sessions"), jars)
	cmd.Env, cmd.Dir = append(os.Environ(), services.SparkEnv...), w.t.TempDir()
	var errs strings.Builder
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	w.must(err)
	out, err := cmd.StdoutPipe()
	w.must(err)
	w.must(cmd.Start())
	w.t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil && w.ctx.Err() == nil {
			w.t.Logf("%s: %v\n%s", kind, err, errs.String())
		}
	})
	w.tool = &tool{t: w.t, in: in, out: bufio.NewScanner(out)}
	w.tool.out.Buffer(nil, 16<<20)
	w.tool.answer(&w.tool.name)
}

// do has the tool do something, and reads its answer.
func (f *tool) do(into any, what string, args ...any) {
	f.t.Helper()
	b, err := json.Marshal(append([]any{what}, args...))
	if err == nil {
		_, err = f.in.Write(append(b, '\n'))
	}
	if err != nil {
		f.t.Fatal(err)
	}
	if text := f.answer(into); text != "" {
		f.t.Fatalf("%s: %s: %s", f.name, b, text)
	}
}

func (f *tool) answer(into any) (problem string) {
	f.t.Helper()
	for f.out.Scan() {
		text, ok := strings.CutPrefix(f.out.Text(), "RESULT ")
		if !ok {
			continue
		}
		var no struct{ Error string }
		if json.Unmarshal([]byte(text), &no) == nil && no.Error != "" {
			return no.Error
		}
		if into != nil && !reflect.ValueOf(into).IsNil() {
			if err := json.Unmarshal([]byte(text), into); err != nil {
				f.t.Fatalf("%v: %s", err, text)
			}
		}
		return ""
	}
	f.t.Fatalf("the tool has ended: %v", f.out.Err())
	return ""
}
