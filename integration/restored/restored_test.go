package restored

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/integration/services"
)

const topic = "web_clicks"

// TestRestoredBroker replaces the folder of a real broker by a copy that was made before the last records, and writes
// others in their place, as producers would go on. A partition of which offsets have been read that come again stops
// before any of the others counts, and it alone: when the node is paused meanwhile, when it is started afterwards, and
// when it sees the log while that is too short. With the true folder back, it goes on by itself. At last the restored
// log is accepted with `deckle partitions skip`, and stays so over a restart of the node.
func TestRestoredBroker(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	w := start(ctx, t)
	w.produce(0, 0, 3, "true")
	w.produce(1, 0, 2, "true")
	w.await("level 2, and everything is read", func(s *shard) bool {
		return s.Level >= 2 && s.next(0) == 3 && s.next(1) == 2
	})
	w.offline(func() { w.copy("data", "backup") })
	w.produce(0, 3, 5, "true")
	w.await("the records behind the backup", func(s *shard) bool { return s.next(0) == 5 })
	w.offline(func() { w.copy("data", "true") })

	for _, how := range []struct {
		name   string
		before func() (after func())
	}{
		{"while the node runs", func() func() {
			w.must(w.node.Signal(syscall.SIGSTOP))
			return func() { w.must(w.node.Signal(syscall.SIGCONT)) }
		}},
		{"while the node is down", func() func() {
			w.must(w.node.Stop(time.Minute))
			return func() { w.must(w.node.Start()) }
		}},
	} {
		t.Log(how.name)
		after := how.before()
		w.offline(func() { w.copy("backup", "data") })
		w.produce(0, 3, 9, "other")
		after()
		why := w.stopped()
		if !strings.Contains(why, "another record stands at offset 4") || !strings.Contains(why, "--to 5") {
			t.Errorf("%s: stopped: %s", how.name, why)
		}
		w.deckle("partitions", "resume", "--partition", "0")
		w.stopped() // tried again, it finds the same
		w.offline(func() { w.copy("true", "data") })
		w.goesOn()
	}

	t.Log("while the log is too short")
	w.offline(func() { w.copy("backup", "data") })
	why := w.stopped()
	if !strings.Contains(why, "skip --partition 0") {
		t.Errorf("too short: stopped: %s", why)
	}
	w.produce(0, 3, 9, "other")
	w.produce(1, 2, 4, "other") // no offset comes again: nobody can tell
	w.await("the other partition goes on", func(s *shard) bool { return s.next(1) == 4 && s.next(0) == 5 })
	w.deckle("partitions", "resume", "--partition", "0")
	w.await("it is tried again, and is another log", func(s *shard) bool {
		return strings.Contains(s.Stopped["partition 0"], "another record") && s.next(0) == 5
	})
	w.deckle("partitions", "skip", "--partition", "0", "--to", "5", "--reason", "restored", "--yes")
	w.await("the restored log is accepted", func(s *shard) bool { return s.next(0) == 9 })
	w.must(w.node.Stop(time.Minute))
	w.produce(0, 9, 10, "other")
	w.must(w.node.Start())
	w.await("it stays accepted", func(s *shard) bool { return s.next(0) == 10 && s.Stopped["partition 0"] == "" })
}

// world is a broker and a node that reads from it.
type world struct {
	t      *testing.T
	ctx    context.Context
	dir    string // of the broker
	kafka  *services.Kafka
	node   *services.Node
	binary string
}

// start starts a broker with a topic of two partitions, and a node with one shard.
func start(ctx context.Context, t *testing.T) *world {
	t.Helper()
	w := &world{t: t, ctx: ctx, dir: filepath.Join(t.TempDir(), "kafka")}
	cache, err := services.OpenCache(os.Stderr)
	w.must(err)
	libs, err := cache.FetchKafka(ctx)
	if services.MaySkip(err) {
		t.Skipf("skipped: %v", err)
	}
	w.must(err)
	dir := t.TempDir()
	w.binary, err = services.BuildDeckle(ctx, "../..", dir)
	w.must(err)
	w.kafka, err = services.StartKafka(ctx, libs, w.dir, nil)
	if w.kafka != nil {
		t.Cleanup(func() { w.must(w.kafka.Kill()) })
	}
	w.must(err)
	w.must(w.kafka.CreateTopic(ctx, topic, 2))
	raft, err := services.FreePort()
	w.must(err)
	http, err := services.FreePort()
	w.must(err)
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
  idle_after: 2s
flush:
  interval: 1s
delta:
  path: %[1]s/lake
http:
  listen: 127.0.0.1:%[5]d
`, dir, raft, w.kafka.Addr, topic, http), 0o644))
	w.node = &services.Node{Name: "a", Config: config, DataDir: filepath.Join(dir, "data"),
		HTTP:    fmt.Sprintf("127.0.0.1:%d", http),
		Process: services.NewProcess("a", dir, nil, w.binary, "run", "--config", config)}
	w.must(w.node.Start())
	t.Cleanup(func() { w.must(w.node.Kill()) })
	w.must(w.node.WaitReady(ctx))
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// shard is what the test reads of a shard's status.
type shard struct {
	Level      int               `json:"level"`
	Stopped    map[string]string `json:"stopped"`
	Partitions []struct {
		Partition int32  `json:"partition"`
		Next      *int64 `json:"next_offset"`
	} `json:"partitions"`
}

func (s *shard) next(partition int32) int64 {
	for _, p := range s.Partitions {
		if p.Partition == partition && p.Next != nil {
			return *p.Next
		}
	}
	return -1
}

// await waits until the status of the shard is as it should be.
func (w *world) await(what string, ok func(s *shard) bool) {
	w.t.Helper()
	began := time.Now()
	var last string
	for time.Since(began) < time.Minute {
		var st struct {
			Shards []shard `json:"shards"`
		}
		if err := w.node.Get(w.ctx, "/api/v1/status", &st); err == nil && len(st.Shards) == 1 {
			if ok(&st.Shards[0]) {
				w.t.Logf("%s: %s", what, time.Since(began).Round(time.Millisecond))
				return
			}
			b, _ := json.Marshal(st.Shards[0])
			last = string(b)
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.t.Fatalf("waited in vain: %s; the status is %s\n%s", what, last, w.node.Tail(3000))
}

// stopped waits until partition 0 waits for an operator, at offset 5, and returns why.
func (w *world) stopped() (why string) {
	w.t.Helper()
	w.await("partition 0 stops", func(s *shard) bool {
		if next := s.next(0); next > 5 {
			w.t.Fatalf("partition 0 is at %d", next)
		}
		why = s.Stopped["partition 0"]
		return why != ""
	})
	return why
}

// goesOn waits until all partitions are read again. Nobody commands it.
func (w *world) goesOn() {
	w.t.Helper()
	w.await("all partitions go on", func(s *shard) bool { return len(s.Stopped) == 0 && s.next(0) == 5 })
}

// deckle runs a command of the binary.
func (w *world) deckle(args ...string) {
	w.t.Helper()
	out, err := exec.CommandContext(w.ctx, w.binary, append(args, "--config", w.node.Config)...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("deckle %v: %v\n%s", args, err, out)
	}
}

// offline does something while the broker is stopped.
func (w *world) offline(do func()) {
	w.t.Helper()
	w.must(w.kafka.Stop(time.Minute))
	do()
	w.must(w.kafka.Up(w.ctx))
}

// copy replaces one folder of the broker by a copy of another one.
func (w *world) copy(from, to string) {
	w.t.Helper()
	w.must(os.RemoveAll(filepath.Join(w.dir, to)))
	w.must(os.CopyFS(filepath.Join(w.dir, to), os.DirFS(filepath.Join(w.dir, from))))
}

// produce writes the records of a partition with the offsets from (inclusive) to (exclusive), one by one.
func (w *world) produce(partition int32, from, to int64, kind string) {
	w.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.Addr), kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	w.must(err)
	defer cl.Close()
	for o := from; o < to; o++ {
		sid := fmt.Sprintf("%s-%d", kind, partition)
		r := &kgo.Record{Partition: partition, Key: []byte(sid), Value: fmt.Appendf(nil,
			`{"event_id":"00000000-0000-4000-8000-%04x%08x","session_id":%q,"user_id":7,"event_type":"search",`+
				`"timestamp":%d}`, partition, o, sid, time.Now().Unix())}
		w.must(cl.ProduceSync(w.ctx, r).FirstErr())
		if r.Offset != o {
			w.t.Fatalf("partition %d: the record has offset %d instead of %d", partition, r.Offset, o)
		}
	}
}
