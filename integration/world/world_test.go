package world

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/integration/services"
)

var run = flag.Bool("world", false, "run these tests: they start many processes and take minutes")

const (
	bucket = "lake"
	topic  = "web_clicks"
)

// world are the services of one test, and one cluster of deckle nodes.
type world struct {
	*testing.T
	ctx       context.Context
	dir, root string

	libs, classes, python string // Kafka's jars; the Java producer with them; an interpreter that has librdkafka
	binary                string
	brokers               services.Brokers
	minio                 *services.S3
	click                 *services.ClickHouse
	cluster               *services.Cluster
	client                *kgo.Client
	admin                 *kadm.Client

	seed uint64 // of the last stream
	runs int    // of producers
}

// newWorld starts everything but the brokers and the nodes.
func newWorld(t *testing.T) *world {
	if !*run {
		t.Skip("only by make world (-world)")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Minute)
	t.Cleanup(cancel)
	w := &world{T: t, ctx: ctx, dir: t.TempDir(), root: filepath.Join("..", "..")}
	if keep := os.Getenv("DECKLE_KEEP"); keep != "" {
		w.dir = filepath.Join(keep, t.Name())
		w.must(os.RemoveAll(w.dir))
		w.must(os.MkdirAll(w.dir, 0o755))
	}
	cache, err := services.OpenCache(os.Stderr)
	w.must(err)
	fetched, err := cache.FetchServices(ctx, w.root)
	w.need(err)
	w.python, err = cache.FetchProducer(ctx)
	w.need(err)
	source, err := filepath.Abs("Produce.java")
	w.must(err)
	w.libs = fetched.KafkaLibs
	w.classes, err = services.CompileJava(ctx, w.libs, source, filepath.Join(w.dir, "java"))
	w.need(err)
	w.binary, err = services.BuildDeckle(ctx, w.root, w.dir)
	w.must(err)
	w.minio, err = services.StartMinIO(ctx, fetched.MinIO, filepath.Join(w.dir, "minio"), bucket, nil)
	if w.minio != nil {
		t.Cleanup(func() { w.check(w.minio.Kill()) })
	}
	w.must(err)
	w.click, err = services.StartClickHouse(ctx, fetched.Front, fetched.ClickHouse,
		filepath.Join(w.dir, "clickhouse"), nil)
	if w.click != nil {
		t.Cleanup(func() { w.check(w.click.Kill()) })
	}
	w.must(err)
	return w
}

// connect opens the test's own client of the brokers.
func (w *world) connect() {
	var err error
	w.client, err = kgo.NewClient(kgo.SeedBrokers(strings.Split(w.brokers.Addr(), ",")...),
		kgo.RequestTimeoutOverhead(time.Minute)) // the machine may have other work
	w.must(err)
	w.Cleanup(w.client.Close)
	w.admin = kadm.NewClient(w.client)
}

// deploy writes the configurations of a cluster over a topic; its tables have a prefix and a database of their own.
func (w *world) deploy(name, topic string, nodes int) *services.Cluster {
	cl, err := services.NewCluster(services.ClusterOptions{
		Binary: w.binary, Dir: filepath.Join(w.dir, name), Topic: topic, Bucket: bucket, Prefix: name, Database: name,
		Nodes: nodes, Shards: 3, FlushInterval: time.Second, Grace: time.Second, IdleAfter: 3 * time.Second,
		RevisionInterval: 3 * time.Second,
		// Two processors for seven processes: a leadership that is lost for that is not what these tests are about.
		RaftTimeout: 3 * time.Second,
	}, &services.Kafka{Addr: w.brokers.Addr()}, w.minio, w.click)
	w.must(err)
	w.Cleanup(func() {
		for _, n := range cl.Nodes {
			w.check(n.Kill())
		}
	})
	return cl
}

// start starts the nodes and waits until they are ready, or only until they answer.
func (w *world) start(ready bool) {
	w.Helper()
	w.must(w.cluster.Start())
	if !ready {
		w.until("the nodes answer", time.Minute, func() (bool, any) {
			return len(w.statuses()) == len(w.cluster.Nodes), w.cluster.Nodes[0].Tail(1000)
		})
		return
	}
	ctx, cancel := context.WithTimeout(w.ctx, 2*time.Minute)
	defer cancel()
	w.must(w.cluster.WaitReady(ctx))
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Error(err)
	}
}

// need skips the test where the machine cannot have a service.
func (w *world) need(err error) {
	w.Helper()
	if services.MaySkip(err) {
		w.Skip(err)
	}
	w.must(err)
}

// until waits until ok says yes. What ok returns beside is shown if it never does.
func (w *world) until(what string, limit time.Duration, ok func() (bool, any)) {
	w.Helper()
	began := time.Now()
	for {
		done, seen := ok()
		if done {
			w.Logf("%s: after %s", what, time.Since(began).Round(100*time.Millisecond))
			return
		}
		if time.Since(began) > limit || w.ctx.Err() != nil {
			w.Fatalf("never: %s; last seen: %+v", what, seen)
		}
		time.Sleep(250 * time.Millisecond)
	}
}

// status is what is read of /api/v1/status.
type status struct {
	Conditions []condition `json:"conditions"`
	Totals     struct {
		Applied int64 `json:"applied_events"`
	} `json:"totals"`
	Shards []struct {
		Shard      uint32      `json:"shard"`
		IsLeader   bool        `json:"is_leader"`
		Partitions []partition `json:"partitions"`
	} `json:"shards"`
}

type condition struct {
	ID      string `json:"id"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

type partition struct {
	Partition int32  `json:"partition"`
	Next      *int64 `json:"next_offset"`
	Lag       *int64 `json:"lag_records"`
	Held      *int64 `json:"open_transaction_records"`
	Unread    bool   `json:"unread"`
}

// statuses asks every node, and returns the answers there are.
func (w *world) statuses() (all []status) {
	for _, n := range w.cluster.Nodes {
		ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
		var st status
		if n.Get(ctx, "/api/v1/status", &st) == nil {
			all = append(all, st)
		}
		cancel()
	}
	return all
}

// conditions returns what any node says of one kind of condition, by subject.
func (w *world) conditions(id string) map[string]string {
	out := map[string]string{}
	for _, st := range w.statuses() {
		for _, c := range st.Conditions {
			if c.ID == id {
				out[c.Subject] = c.Text
			}
		}
	}
	return out
}

// told waits for a condition of a subject whose text has all of the words.
func (w *world) told(id, subject string, words ...string) {
	w.Helper()
	w.until("told "+id+" of "+subject, time.Minute, func() (bool, any) {
		all := w.conditions(id)
		text, ok := all[subject]
		for _, word := range words {
			ok = ok && strings.Contains(text, word)
		}
		if ok {
			w.Logf("%s, %s: %s", id, subject, text)
		}
		return ok, w.statuses()
	})
}

// over waits until a condition has ended everywhere.
func (w *world) over(id string) {
	w.Helper()
	w.until(id+" is over", time.Minute, func() (bool, any) {
		all := w.conditions(id)
		return len(all) == 0, all
	})
}

// partitions are those of the topic, as the shards' leaders see them.
func (w *world) partitions() map[int32]partition {
	out := map[int32]partition{}
	for _, st := range w.statuses() {
		for _, s := range st.Shards {
			for _, p := range s.Partitions {
				if s.IsLeader {
					out[p.Partition] = p
				}
			}
		}
	}
	return out
}

// marks is how many offsets at the end of a log may have no record: the mark that ends a transaction.
const marks = 1

// caughtUp waits until all of n partitions but some have no lag.
func (w *world) caughtUp(n int, but ...int32) {
	w.Helper()
	left := map[int32]bool{}
	for _, p := range but {
		left[p] = true
	}
	ends := w.ends(topic)
	w.until("all partitions are read but "+join(but), 2*time.Minute, func() (bool, any) {
		all := w.partitions()
		done := len(all) >= n
		for id, p := range all {
			done = done && (left[id] || p.Unread || p.Lag != nil && *p.Lag == 0 && *p.Next+marks >= ends[id])
		}
		return done, all
	})
}

func join(ids []int32) string {
	var texts []string
	for _, id := range ids {
		texts = append(texts, strconv.Itoa(int(id)))
	}
	return strings.Join(texts, ",")
}

// ends are the last stable offsets of a topic; none if it does not exist.
func (w *world) ends(topic string) map[int32]int64 {
	w.Helper()
	ends, err := w.admin.ListCommittedOffsets(w.ctx, topic)
	w.must(err)
	out := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Err == nil {
			out[o.Partition] = o.Offset
		}
	})
	return out
}

// deckle runs a command of the binary and returns what it printed.
func (w *world) deckle(args ...string) (string, error) {
	cmd := exec.CommandContext(w.ctx, w.binary, args...)
	cmd.Env = append(os.Environ(), w.cluster.Env()...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// verify compares the tables with a truth.
func (w *world) verify(truth string) {
	w.Helper()
	began := time.Now()
	out, err := w.deckle("verify", "--config", w.cluster.Nodes[0].Config, "--truth", truth, "--json", "--limit", "5")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var r struct {
		Produced    int64  `json:"produced_events"`
		Applied     int64  `json:"applied_events"`
		Duplicates  int64  `json:"duplicates"`
		DeadLetters int64  `json:"dead_letters"`
		DeltaEvents int64  `json:"delta_events"`
		Sessions    int64  `json:"produced_sessions"`
		ClickHouse  *int64 `json:"clickhouse_sessions"`
		Equal       bool   `json:"equal"`
	}
	if jsonErr := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil || jsonErr != nil || !r.Equal {
		w.Fatalf("deckle verify: %v, %v\n%s", err, jsonErr, out)
	}
	if r.Produced == 0 || r.DeltaEvents != r.Applied || r.ClickHouse == nil || *r.ClickHouse != r.Sessions ||
		r.Produced != r.Applied+r.Duplicates+r.DeadLetters {
		w.Fatalf("deckle verify says equal, but its figures do not add up: %s", lines[len(lines)-1])
	}
	w.Logf("equal after %s: %d records = %d applied + %d duplicates + %d dead letters; %d sessions in both sinks",
		time.Since(began).Round(time.Second), r.Produced, r.Applied, r.Duplicates, r.DeadLetters, r.Sessions)
}
