package services

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// BuildDeckle builds the binary from the tree at root into dir.
func BuildDeckle(ctx context.Context, root, dir string, flags ...string) (binary string, err error) {
	binary = filepath.Join(dir, "deckle")
	args := append(append([]string{"build", "-o", binary}, flags...), "./cmd/deckle")
	_, err = command(ctx, root, nil, "go", args...)
	return binary, err
}

// Cluster is one deckle node, or three of them, over real services.
type Cluster struct {
	Binary string
	Nodes  []*Node
	Topic  string
	Bucket string

	kafka *Kafka
	minio *S3
	click *ClickHouse
	dir   string
}

// Node is one `deckle run` process.
type Node struct {
	*Process
	Name, Config, DataDir, HTTP string
	Raft                        string // where it listens for the other nodes
	Debug                       string // where its profiles are; "" without ClusterOptions.Profiles

	guarded bool
	client  *http.Client
	token   atomic.Pointer[string] // with which it is asked
}

// ClusterOptions say what differs from the configuration's defaults.
type ClusterOptions struct {
	Binary, Dir, Topic, Bucket string
	Data                       string // the folder of the nodes' data folders; default Dir
	Nodes                      int    // 1 or 3; default 3
	Prefix, Database           string // of the tables; by default none, and analytics
	NoEvents                   bool   // Delta keeps no raw events
	Shards                     int
	FlushInterval              time.Duration
	Grace                      time.Duration
	IdleTimeout                time.Duration // default 30m
	Retention                  time.Duration // default 6h
	IdleAfter                  time.Duration
	RevisionInterval           time.Duration
	CommitWait                 *time.Duration // delta.commit_wait; 0s lets each node commit by itself
	// CompactionEvery is delta.compaction.every; zero for its default.
	CompactionEvery time.Duration
	// DeletionVectors has revisions hide rows of files of any size by deletion vectors.
	DeletionVectors bool

	LogLevel string // default info
	Profiles bool   // the nodes show their profiles, at Node.Debug
	Secure   bool   // TLS between the nodes
	Guarded  bool   // Secure, and TLS and tokens at the HTTP side, and sealed data folders
	// RaftTimeout is how long a leader may be silent, and how long its lease lasts; by default that of the nodes.
	RaftTimeout time.Duration

	// Wire, if it is set, says by which addresses a node reaches the other nodes and the services. listen are the
	// addresses on which the nodes listen, the node's own among them.
	Wire func(node int, listen []string) (Addresses, error)
	// Environment, if it is set, is a node's environment in addition to its secrets.
	Environment func(node int) []string
}

// Addresses are the addresses that one node dials.
type Addresses struct {
	Peers                    []string // of all nodes; a node does not dial its own
	Kafka, MinIO, ClickHouse string   // Kafka may be several, separated by commas
}

// NewCluster writes the configurations of the nodes, and makes their certificates. It starts nothing.
func NewCluster(o ClusterOptions, k *Kafka, m *S3, c *ClickHouse) (*Cluster, error) {
	cl := &Cluster{Binary: o.Binary, Topic: o.Topic, Bucket: o.Bucket, kafka: k, minio: m, click: c, dir: o.Dir}
	names := []string{"node-1", "node-2", "node-3"}[:cmp.Or(o.Nodes, 3)]
	https, listen := make([]string, len(names)), make([]string, len(names))
	for i := range names {
		raft, err := FreePort()
		if err != nil {
			return nil, err
		}
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		https[i] = fmt.Sprintf("127.0.0.1:%d", port)
		listen[i] = fmt.Sprintf("127.0.0.1:%d", raft)
	}
	for i, name := range names {
		dir := filepath.Join(o.Dir, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("services: %w", err)
		}
		to := Addresses{Peers: listen, Kafka: k.Addr, MinIO: m.Addr, ClickHouse: c.Addr}
		if k.Secure != nil {
			to.Kafka = k.Secure.Addr
		}
		if m.Secure != nil {
			to.MinIO = m.Secure.Addr
		}
		if c.Secure != nil {
			to.ClickHouse = c.Secure.Addr
		}
		if o.Wire != nil {
			var err error
			if to, err = o.Wire(i, listen); err != nil {
				return nil, err
			}
		}
		var members strings.Builder
		for j, addr := range to.Peers {
			fmt.Fprintf(&members, "    - {name: %s, address: \"%s\"}\n", names[j], addr)
		}
		env := cl.Env()
		if o.Environment != nil {
			env = append(env, o.Environment(i)...)
		}
		n := &Node{guarded: o.Guarded, Name: name, Config: filepath.Join(dir, "deckle.yaml"),
			DataDir: filepath.Join(cmp.Or(o.Data, o.Dir), name, "data"), HTTP: https[i], Raft: listen[i]}
		n.client = n.newClient()
		debug := ""
		if o.Profiles {
			port, err := FreePort()
			if err != nil {
				return nil, err
			}
			n.Debug = fmt.Sprintf("127.0.0.1:%d", port)
			debug = "debug:\n  listen: " + n.Debug + "\n"
		}
		timeouts := ""
		if t := o.RaftTimeout; t > 0 {
			timeouts = fmt.Sprintf("  heartbeat_timeout: %[1]s\n  election_timeout: %[1]s\n  lease_timeout: %[1]s\n", t)
		}
		wait := "" // v0.1.0 does not know the key
		if o.CommitWait != nil {
			wait = fmt.Sprintf("  commit_wait: %s\n", *o.CommitWait)
		}
		if o.CompactionEvery > 0 { // nor this one
			wait += fmt.Sprintf("  compaction: {every: %s}\n", o.CompactionEvery)
		}
		if o.DeletionVectors {
			wait += "  deletion_vectors: true\n  deletion_vectors_from_bytes: 1\n"
		}
		secure := ""
		if o.Secure || o.Guarded {
			secure = fmt.Sprintf("  tls: {ca: %s, cert: %s, key: %s}\n", n.File(CAFile), n.File(n.CertFile()),
				n.File(n.KeyFile()))
		}
		text := fmt.Sprintf(`node: %s
data_dir: %s
cluster:
  shards: %d
%s%s  listen: %s
  nodes:
%skafka:
  brokers: ["%s"]
%s  topic: %s
  idle_after: %s
session:
  grace: %s
  idle_timeout: %s
  retention: %s
flush:
  interval: %s
delta:
  revision_interval: %s
%s  events: %t
  s3:
    endpoint: %s
    bucket: %s
    prefix: "%s"
    access_key: {env: DECKLE_S3_ACCESS_KEY}
%sclickhouse:
  address: %s
  database: %s
  user: %s
%shttp:
  listen: %s
%slog:
  level: %s
%s`, name, n.DataDir, o.Shards, timeouts, secure, listen[i], members.String(),
			strings.ReplaceAll(to.Kafka, ",", `", "`), cl.kafkaBlock(n), o.Topic, o.IdleAfter, o.Grace,
			cmp.Or(o.IdleTimeout, 30*time.Minute), cmp.Or(o.Retention, 6*time.Hour), o.FlushInterval,
			o.RevisionInterval, wait, !o.NoEvents, cl.endpoint(to.MinIO), o.Bucket, o.Prefix, cl.s3Block(n),
			to.ClickHouse, cmp.Or(o.Database, "analytics"), c.User, cl.clickHouseBlock(n),
			n.HTTP, n.httpBlock(), cmp.Or(o.LogLevel, "info"), debug+n.encryptionBlock())
		if err := os.WriteFile(n.Config, []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("services: %w", err)
		}
		n.Process = NewProcess(name, dir, env, o.Binary, "run", "--config", n.Config)
		cl.Nodes = append(cl.Nodes, n)
	}
	if o.Secure || o.Guarded {
		if err := cl.certify(); err != nil {
			return nil, err
		}
	}
	if o.Guarded {
		if err := cl.guard(); err != nil {
			return nil, err
		}
	}
	return cl, cl.GivePasswords()
}

// Env is the environment with the secrets that the configurations name.
func (c *Cluster) Env() []string {
	return []string{
		"DECKLE_S3_ACCESS_KEY=" + c.minio.AccessKey, "DECKLE_S3_SECRET_KEY=" + c.minio.SecretKey(),
		"DECKLE_CLICKHOUSE_PASSWORD=" + c.click.Password(),
	}
}

// Start starts every node.
func (c *Cluster) Start() error {
	for _, n := range c.Nodes {
		if err := n.Start(); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends every node in an orderly way.
func (c *Cluster) Stop() error {
	var errs []error
	for _, n := range c.Nodes {
		errs = append(errs, n.Stop(30*time.Second))
	}
	return errors.Join(errs...)
}

// WaitReady waits until every node says that it is ready, or until one has ended, because the others would wait for
// that one.
func (c *Cluster) WaitReady(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range c.Nodes {
		g.Go(func() error { return n.WaitReady(ctx) })
	}
	return g.Wait()
}

// WaitReady waits until the node says that it is ready.
func (n *Node) WaitReady(ctx context.Context) error {
	return n.wait(ctx, "readiness", func(ctx context.Context) bool {
		_, status, err := n.get(ctx, "/readyz")
		return err == nil && status == http.StatusOK
	})
}

// Get returns a JSON answer of the node's API.
func (n *Node) Get(ctx context.Context, path string, into any) error {
	body, err := n.Read(ctx, path)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// Read returns an answer of the node's HTTP server that should come quickly.
func (n *Node) Read(ctx context.Context, path string) ([]byte, error) {
	body, status, err := n.get(ctx, path)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("services: %s %s: status %d: %s", n.Name, path, status, body)
	}
	return body, nil
}

func (n *Node) get(ctx context.Context, path string) ([]byte, int, error) {
	if !n.guarded {
		return httpGet(ctx, http.DefaultClient, "http://"+n.HTTP+path, "")
	}
	return httpGet(ctx, n.client, "https://"+n.HTTP+path, *n.token.Load())
}
