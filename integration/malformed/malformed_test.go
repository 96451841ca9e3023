package malformed

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node"
	"deckle/node/config"
	"deckle/sinks/delta"
	"deckle/sinks/delta/store"
	"deckle/state"
)

var records = flag.Int64("malformed", 30_000, "records to send")

const (
	topic      = "web_clicks"
	partitions = 6
	shards     = 3
	// diskBudget is what the state and the log of a node may take, whatever the number of records. Intake is paused
	// when a check, which is made every two seconds, finds more. diskSlack is for what comes in until then, and for a
	// compaction, which writes before it deletes.
	diskBudget = 96 << 20
	diskSlack  = 96 << 20
	// heapSlack is by how much one flush more or less changes the heap of three nodes at the moment of a sample.
	heapSlack = 32 << 20
)

// brokerEnv makes the test binary the broker: it prints its address, and ends when its standard input ends.
const brokerEnv = "DECKLE_TEST_BROKER"

func TestMain(m *testing.M) {
	if os.Getenv(brokerEnv) == "" {
		os.Exit(m.Run())
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, topic))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(c.ListenAddrs()[0])
	_, _ = io.Copy(io.Discard, os.Stdin)
	c.Close()
}

func startBroker(t *testing.T) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), brokerEnv+"=1"), os.Stderr
	in, err := cmd.StdinPipe()
	check(t, err)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("broker: %v", err)
		}
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	check(t, err)
	return strings.TrimSpace(addr)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// startNodes starts a cluster of three nodes.
func startNodes(t *testing.T, broker, dir string) []*node.Node {
	t.Helper()
	var listeners []net.Listener
	var peers []config.Node
	for i := range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		listeners = append(listeners, ln)
		peers = append(peers, config.Node{Name: string(rune('a' + i)), Address: ln.Addr().String()})
	}
	nodes := make([]*node.Node, 0, len(peers))
	for i, p := range peers {
		cfg := config.Config{
			Node: p.Name, DataDir: filepath.Join(dir, p.Name),
			Rules: config.Rules{EventTypes: config.EventTypes{Unknown: "reject"}},
			Cluster: config.Cluster{Nodes: peers, Shards: shards, Pipeline: "p",
				// The machine is kept busy. A leadership that is lost for that reason is not what this test is about.
				HeartbeatTimeout: 3 * time.Second, ElectionTimeout: 3 * time.Second, LeaseTimeout: 3 * time.Second,
				StoreDeadline: 10 * time.Second},
			Kafka: config.Kafka{Brokers: []string{broker}, Topic: topic, Keyed: "yes", IdleAfter: 2 * time.Second},
			Flush: config.Flush{Interval: 2 * time.Second},
			Delta: &config.Delta{Path: filepath.Join(dir, "delta")},
			Limits: config.Limits{SessionMemoryBytes: 64 << 20, BufferMemoryBytes: 64 << 20, CacheBytes: 32 << 20,
				DiskBytes: diskBudget},
			HTTP: config.HTTP{Listen: "127.0.0.1:0"},
		}
		check(t, cfg.Complete())
		log := slog.New(slog.DiscardHandler)
		if os.Getenv("MALFORMED_LOG") != "" {
			log = slog.New(slog.NewTextHandler(os.Stderr, nil))
		}
		n, err := node.Open(t.Context(), &cfg, node.Deps{
			Logger: log, RaftListener: listeners[i], Registerer: prometheus.NewRegistry(),
			OnFatal: func(err error) { t.Errorf("%s: %v", p.Name, err) },
		})
		check(t, err)
		nodes = append(nodes, n)
	}
	t.Cleanup(func() {
		var wg sync.WaitGroup
		for _, n := range nodes {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				defer cancel()
				if err := n.Close(ctx); err != nil {
					t.Errorf("close: %v", err)
				}
			})
		}
		wg.Wait()
	})
	return nodes
}

// leaders returns the state of every shard from its leader. ok is false while a shard has no leader.
func leaders(nodes []*node.Node) (views []state.View, lag int64, ok bool) {
	for _, n := range nodes {
		st := n.Status()
		for _, s := range st.Shards {
			if s.IsLeader && s.State.Configured {
				views = append(views, s.State)
				if s.Lag.Records != nil {
					lag += *s.Lag.Records
				}
			}
		}
	}
	return views, lag, len(views) == shards
}

// progress sums over the shards: the records applied, whatever the verdict, and the letters of epochs that the dead
// letter sink has acknowledged.
func progress(views []state.View) (applied, letters int64, flushed bool) {
	flushed = true
	for i := range views {
		v := &views[i]
		applied += v.Applied + v.Duplicates
		for _, n := range v.DeadLetters {
			letters += n
		}
		flushed = flushed && v.OpenEvents == 0 &&
			v.Sinks[state.SinkDeadLetter].Acked == v.LastClosed && v.Sinks[state.SinkEvents].Acked == v.LastClosed
	}
	return applied, letters, flushed
}

// sample is one measurement of the process and its disk.
type sample struct {
	at               time.Duration
	heap             uint64 // bytes, after a collection
	disk             int64
	records, letters int64
}

func diskUsed(t *testing.T, dir string) (n int64) {
	t.Helper()
	for _, name := range []string{"a", "b", "c"} {
		err := filepath.WalkDir(filepath.Join(dir, name), func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return nil //nolint:nilerr // files come and go
			}
			if i, err := d.Info(); err == nil {
				n += i.Size()
			}
			return nil
		})
		check(t, err)
	}
	return n
}

func TestMalformedRecords(t *testing.T) {
	broker, dir := startBroker(t), t.TempDir()
	nodes := startNodes(t, broker, dir)
	f := flood{now: time.Now().Unix()}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(2<<20), kgo.MaxBufferedRecords(4000))
	check(t, err)
	defer client.Close()
	var counts [partitions]int64
	var want, good int64
	send := func(p int32) {
		key, value, reason := f.record(p, counts[p])
		record := &kgo.Record{Topic: topic, Partition: p, Key: key, Value: value, Timestamp: time.Unix(f.now, 0)}
		client.Produce(t.Context(), record, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
		counts[p]++
		if want++; reason == event.ReasonNone {
			good++
		}
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for end, last := time.Now().Add(2*time.Minute), int64(-1); !ok(); time.Sleep(50 * time.Millisecond) {
			views, lag, _ := leaders(nodes)
			applied, letters, _ := progress(views)
			if applied+letters != last { // as long as anything comes in, it may take its time
				end, last = time.Now().Add(2*time.Minute), applied+letters
			}
			if time.Now().After(end) || t.Failed() {
				for _, n := range nodes {
					t.Logf("%+v", n.Status().Reasons)
				}
				t.Fatalf("never: %s; %d of %d applied, %d letters, lag %d", what, applied, want, letters, lag)
			}
		}
	}
	for p := range int32(partitions) {
		for range f.lead(p) {
			send(p)
		}
	}
	until("every shard has a clock", func() bool {
		views, _, ok := leaders(nodes)
		applied, _, _ := progress(views)
		return ok && applied == want && !slices.ContainsFunc(views, func(v state.View) bool { return v.Clock == 0 })
	})

	// The flood.
	start := time.Now()
	var samples []sample
	ctx, cancel := context.WithCancel(t.Context())
	var sampling sync.WaitGroup
	stopSampling := func() { cancel(); sampling.Wait() }
	defer stopSampling()
	sampling.Go(func() {
		every := time.NewTicker(max(50*time.Millisecond, time.Duration(*records)*2*time.Microsecond))
		defer every.Stop()
		for ctx.Err() == nil {
			runtime.GC()
			// This is not what was allocated while the collection ran.
			live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
			metrics.Read(live)
			views, _, _ := leaders(nodes)
			applied, letters, _ := progress(views)
			samples = append(samples,
				sample{time.Since(start), live[0].Value.Uint64(), diskUsed(t, dir), applied + letters, letters})
			select {
			case <-every.C:
			case <-ctx.Done():
			}
		}
	})
	for n := int64(0); n < *records; n++ {
		send(int32(n % partitions))
	}
	check(t, client.Flush(t.Context()))
	produced := time.Since(start)
	until("all is applied and flushed", func() bool {
		views, _, ok := leaders(nodes)
		applied, letters, flushed := progress(views)
		return ok && applied+letters == want && flushed
	})
	took := time.Since(start)
	stopSampling()
	t.Logf("%d records (%d good) produced in %v, all flushed after %v: %.0f per second", want, good,
		produced.Round(time.Millisecond), took.Round(time.Millisecond), float64(*records)/took.Seconds())
	checkFlat(t, samples)

	var reasons [partitions][]event.Reason
	letters, repeats := checkLetters(t, broker, f, counts, &reasons)
	if letters != want-good {
		t.Errorf("%d letters, %d records cannot be used", letters, want-good)
	}
	t.Logf("%d letters, %d written again; by reason %v", letters, repeats, count(&reasons))
	checkEvents(t, filepath.Join(dir, "delta"), f, counts, good)
}

func count(reasons *[partitions][]event.Reason) map[string]int {
	out := map[string]int{}
	for p := range reasons {
		for _, r := range reasons[p] {
			if r != event.ReasonNone {
				out[r.String()]++
			}
		}
	}
	return out
}

// checkFlat compares the last third of the run with the second third.
func checkFlat(t *testing.T, samples []sample) {
	t.Helper()
	third := len(samples) / 3
	median := func(s []sample) uint64 {
		heaps := make([]uint64, 0, len(s))
		for _, x := range s {
			heaps = append(heaps, x.heap)
		}
		slices.Sort(heaps)
		return heaps[len(heaps)/2]
	}
	var disk int64
	for i, s := range samples {
		disk = max(disk, s.disk)
		if len(samples) <= 40 || i%(len(samples)/40) == 0 {
			t.Logf("%6.1f s: heap %4d MiB, disk %4d MiB, %8d records, %8d of them letters",
				s.at.Seconds(), s.heap>>20, s.disk>>20, s.records, s.letters)
		}
	}
	if third < 3 {
		t.Fatalf("only %d samples", len(samples))
	}
	second, last := median(samples[third:2*third]), median(samples[2*third:])
	t.Logf("heap: second third %d MiB, last third %d MiB; disk at most %d MiB", second>>20, last>>20, disk>>20)
	if last > second+second/4+heapSlack {
		t.Errorf("the heap grows: %d MiB in the second third, %d MiB in the last", second>>20, last>>20)
	}
	if disk > 3*(diskBudget+diskSlack) {
		t.Errorf("state and log took %d MiB", disk>>20)
	}
}

// checkLetters reads the whole topic. Each letter must be of a record that cannot be used, with its reason and its
// bytes.
func checkLetters(t *testing.T, broker string, f flood, counts [partitions]int64,
	reasons *[partitions][]event.Reason) (letters, repeats int64) {
	t.Helper()
	for p := range reasons {
		reasons[p] = make([]event.Reason, counts[p])
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics(topic+".dlq"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	check(t, err)
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), topic+".dlq")
	check(t, err)
	var left int64
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	for bad := 0; left > 0 && bad < 20; {
		fetches := client.PollFetches(t.Context())
		for _, e := range fetches.Errors() {
			t.Fatal(e.Err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			left--
			var p int32
			var i int64
			n, err := fmt.Sscanf(string(r.Key), topic+"/%d/%d", &p, &i)
			if n != 2 || err != nil || p < 0 || p >= partitions || i < 0 || i >= counts[p] {
				t.Errorf("letter with key %q", r.Key)
				bad++
				return
			}
			_, value, want := f.record(p, i)
			var got string
			for _, h := range r.Headers {
				if h.Key == "reason" {
					got = string(h.Value)
				}
			}
			if got != want.String() || want == event.ReasonNone ||
				!bytes.Equal(r.Value, value[:min(len(value), 64<<10)]) {
				t.Errorf("%s: reason %s, want %s; value %q, want %q", r.Key, got, want, head(r.Value), head(value))
				bad++
			}
			if reasons[p][i] != event.ReasonNone {
				repeats++
				return
			}
			reasons[p][i] = want
			letters++
		})
	}
	return letters, repeats
}

func head(b []byte) []byte { return b[:min(len(b), 100)] }

// checkEvents reads the whole table. Each good record must be one row, and there must be no other row.
func checkEvents(t *testing.T, dir string, f flood, counts [partitions]int64, good int64) {
	t.Helper()
	table, err := delta.OpenTable(t.Context(), store.NewLocal(vfs.Default, dir, "reader"), "events")
	check(t, err)
	check(t, table.Refresh(t.Context()))
	seen := map[state.Position]bool{}
	check(t, table.ReadEvents(t.Context(), table.Snapshot().Files, func(r *delta.EventRow) error {
		at := state.Position{Partition: r.Partition, Offset: r.Offset}
		if seen[at] {
			return fmt.Errorf("%d/%d is a row twice", r.Partition, r.Offset)
		}
		seen[at] = true
		if r.Offset >= counts[r.Partition] {
			return fmt.Errorf("%d/%d was never sent", r.Partition, r.Offset)
		}
		if _, _, reason := f.record(r.Partition, r.Offset); reason != event.ReasonNone {
			return fmt.Errorf("%d/%d is a row, and %s", r.Partition, r.Offset, reason)
		}
		return nil
	}))
	if int64(len(seen)) != good {
		t.Errorf("%d rows, %d good records", len(seen), good)
	}
}
