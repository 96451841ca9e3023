package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"deckle/integration/failpoint/overlay"
	"deckle/integration/proxy"
	"deckle/integration/services"
)

const (
	topic    = "web_clicks"
	bucket   = "lake"
	database = "analytics"
	shards   = 6 // and as many partitions: shard n has partition n
	nodes    = 3
)

// world is the cluster with its services and links.
type world struct {
	opts   options
	rng    *rand.Rand // for the plan and its rounds; used by one goroutine
	dir    string     // folder of configurations, logs and the truth
	data   string     // folder of the data of nodes and services
	root   string     // folder of the module
	began  time.Time
	points []string // the binary's failpoints, without planted bugs
	python string

	ca     *services.Authority
	kafka  *services.Kafka
	minio  *services.S3
	click  *services.ClickHouse
	links  []*link
	gofail []string // address of each node's failpoints
	*services.Cluster

	lines sync.Mutex
}

// link is a proxied connection of one node.
type link struct {
	node int
	to   string // another node's name, or a service
	*proxy.Proxy
}

// String is the link as a report shows it.
func (l *link) String() string { return fmt.Sprintf("node-%d→%s", l.node+1, l.to) }

func (w *world) say(format string, args ...any) {
	w.lines.Lock()
	defer w.lines.Unlock()
	fmt.Printf("%7.1f s  %s\n", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
}

// start fetches, builds and starts everything, and returns when the nodes are ready.
func (w *world) start(ctx context.Context) error {
	cache, err := services.OpenCache(os.Stdout)
	if err != nil {
		return err
	}
	fetched, err := cache.FetchServices(ctx, w.root)
	if err != nil {
		return err
	}
	if w.python, err = cache.FetchPython(ctx); err != nil {
		return err
	}
	points, err := overlay.Write(w.root, filepath.Join(w.dir, "failpoints"))
	if err != nil {
		return err
	}
	binary, err := services.BuildDeckle(ctx, w.root, w.dir, "-overlay", points.Path)
	if err != nil {
		return err
	}
	w.points = stops(points.Stops(), w.opts)
	bug := w.opts.bug
	if bug != "" && !slices.ContainsFunc(points.Points, func(p overlay.Point) bool { return p.Name == bug }) {
		return fmt.Errorf("there is no planted bug %q; there are %v", bug, points.Bugs())
	}
	w.say("binary with %d failpoints built", len(w.points))
	if err := w.startServices(ctx, fetched); err != nil {
		return err
	}
	if err := w.wire(binary); err != nil {
		return err
	}
	if err := w.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return w.WaitReady(ctx)
}

// stops are those of all failpoints that a run reaches.
func stops(all []string, o options) []string {
	return slices.DeleteFunc(slices.Clone(all), func(p string) bool {
		return !o.vectors && strings.HasPrefix(p, vectorPoints) || strings.HasPrefix(p, verbPoints)
	})
}

func (w *world) startServices(ctx context.Context, f services.Fetched) (err error) {
	if w.ca, err = services.NewAuthority(w.dir); err != nil {
		return err
	}
	var listeners []services.KafkaListener
	for node := range nodes {
		port, err := services.FreePort()
		if err != nil {
			return err
		}
		l, err := w.link(node, "kafka", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		listeners = append(listeners, services.KafkaListener{Port: port, Advertised: l})
	}
	if w.kafka, err = services.StartKafka(ctx, f.KafkaLibs, filepath.Join(w.data, "kafka"), w.ca,
		listeners...); err != nil {
		return err
	}
	if err := w.kafka.CreateTopic(ctx, topic, shards); err != nil {
		return err
	}
	if w.minio, err = services.StartMinIO(ctx, f.MinIO, filepath.Join(w.data, "minio"), bucket, w.ca); err != nil {
		return err
	}
	w.click, err = services.StartClickHouse(ctx, f.Front, f.ClickHouse, filepath.Join(w.data, "clickhouse"), w.ca)
	return err
}

// link makes a proxy for a node's connections to a target and returns its address.
func (w *world) link(node int, to, target string) (string, error) {
	p, err := proxy.Listen(target)
	if err != nil {
		return "", err
	}
	w.links = append(w.links, &link{node, to, p})
	return p.Addr, nil
}

// wire writes the configurations: each node reaches everything through its own proxies.
func (w *world) wire(binary string) (err error) {
	for range nodes {
		port, err := services.FreePort()
		if err != nil {
			return err
		}
		w.gofail = append(w.gofail, fmt.Sprintf("127.0.0.1:%d", port))
	}
	level := "info"
	if w.opts.debug {
		level = "debug"
	}
	w.Cluster, err = services.NewCluster(services.ClusterOptions{
		Binary: binary, Dir: w.dir, Data: w.data, Topic: topic, Bucket: bucket, Shards: shards,
		FlushInterval: time.Second, Grace: time.Second, IdleTimeout: idleTimeout, Retention: retention,
		IdleAfter: 5 * time.Second, RevisionInterval: 5 * time.Second,
		CompactionEvery: 3 * time.Second, DeletionVectors: w.opts.vectors, LogLevel: level, Guarded: true,
		Wire: func(node int, listen []string) (a services.Addresses, err error) {
			for i, addr := range listen {
				if i != node {
					addr, err = w.link(node, fmt.Sprintf("node-%d", i+1), addr)
				}
				a.Peers = append(a.Peers, addr)
				if err != nil {
					return a, err
				}
			}
			for _, l := range w.links {
				if l.node == node && l.to == "kafka" {
					a.Kafka = l.Addr
				}
			}
			if a.MinIO, err = w.link(node, "minio", w.minio.Secure.Addr); err != nil {
				return a, err
			}
			a.ClickHouse, err = w.link(node, "clickhouse", w.click.Secure.Addr)
			return a, err
		},
		Environment: func(node int) []string {
			on := fmt.Sprintf("GOFAIL_FAILPOINTS=raftLogBytes=return(%d);deltaCompactSettle=return(%d)", logBytes,
				settleSeconds)
			if w.opts.bug != "" {
				on += ";" + w.opts.bug + "=return"
			}
			return []string{"GOFAIL_HTTP=" + w.gofail[node], on}
		},
	}, w.kafka, w.minio, w.click)
	return err
}

// The nodes' state is bounded, so that a long run needs no more memory than a short one, and purges old sessions. A
// record of the simulator is at most 4 minutes late and 5 minutes older than its neighbours.
const (
	idleTimeout = 5 * time.Minute
	retention   = 15 * time.Minute
)

// logBytes is the length of a group's log at which it is truncated: short, so that a node which comes back with an
// empty folder, or after a while, needs a snapshot. At 1,000 events/s a log grows by 5 to 10 KiB/s, so that logs are
// truncated from the second minute on.
const logBytes = 512 << 10

// settleSeconds is how old a file of a Delta table must be to be compacted, instead of two minutes: between revisions,
// which come every five seconds here, so that both want the same files.
const settleSeconds = 5

// linksOf returns the links for which a predicate holds.
func (w *world) linksOf(is func(*link) bool) []*link {
	var out []*link
	for _, l := range w.links {
		if is(l) {
			out = append(out, l)
		}
	}
	return out
}

// heal makes every link good again.
func (w *world) heal() {
	for _, l := range w.links {
		l.Heal()
	}
}

// end ends everything that was started here.
func (w *world) end() error {
	var errs []error
	kill := func(p *services.Process) {
		if p != nil {
			errs = append(errs, p.Kill())
		}
	}
	if w.Cluster != nil {
		for _, n := range w.Nodes {
			kill(n.Process)
		}
	}
	if w.click != nil {
		kill(w.click.Process)
	}
	if w.minio != nil {
		errs = append(errs, w.minio.End())
	}
	if w.kafka != nil {
		kill(w.kafka.Process)
	}
	for _, l := range w.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// memory is where Linux has a memory file system, and memoryRoom the bytes that must be free there for all data.
const (
	memory     = "/dev/shm"
	memoryRoom = 12 << 30
)

// dataFolder chooses where nodes and services keep their data: in memory if there is room. In production they are six
// machines with disks of their own. On one disk they wait for each other's fsyncs (three nodes that close an epoch per
// second write some 60 MB/s together), until leaders lose their leases; and what SIGKILL leaves behind is the same in
// memory.
func (w *world) dataFolder() (err error) {
	if w.data = w.opts.data; w.data != "" {
		w.data, err = services.Folder(w.data, "")
		return err
	}
	w.data = w.dir
	var fs syscall.Statfs_t
	if err := syscall.Statfs(memory, &fs); err == nil && uint64(fs.Bsize)*fs.Bavail >= memoryRoom {
		w.data, err = os.MkdirTemp(memory, "deckle-torture-")
		return err
	}
	return nil
}
