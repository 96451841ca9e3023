package config

import (
	"cmp"
	"path/filepath"
	"time"

	"deckle/trust/pki"
)

// Config is the configuration of one node: deckle.yaml. Load reads, completes and checks it.
type Config struct {
	Node    string  `yaml:"node"`     // this node's name; one of cluster.nodes
	DataDir string  `yaml:"data_dir"` // the folder of this node's log and state
	Cluster Cluster `yaml:"cluster"`  // who the nodes are
	Kafka   Kafka   `yaml:"kafka"`    // the source
	Session Session `yaml:"session"`  // when a session ends; fixed at creation
	Rules   Rules   `yaml:"rules"`    // what becomes of records; may be changed
	// Privacy has what rules about personal data need and what must not be replicated.
	Privacy Privacy `yaml:"privacy"`
	Flush   Flush   `yaml:"flush"`  // when an epoch is closed
	Limits  Limits  `yaml:"limits"` // the budgets at which intake pauses
	// Delta is the Delta sink; nil when it is off, and so is clickhouse. At least one is on.
	Delta      *Delta      `yaml:"delta"`
	ClickHouse *ClickHouse `yaml:"clickhouse"` // nil: not written to
	Encryption *Encryption `yaml:"encryption"` // nil: the data folder is plain
	HTTP       HTTP        `yaml:"http"`       // health, metrics, API and page
	Debug      Debug       `yaml:"debug"`      // profiles of the process
	Log        Log         `yaml:"log"`        // the log on standard error
	Tracing    *Tracing    `yaml:"tracing"`    // nil: there are no traces
}

// Cluster says who the nodes are: one or three.
type Cluster struct {
	// names the job; part of the tables' transaction ids, never change it
	Pipeline string `yaml:"pipeline" default:"deckle"`
	// Name stands in every certificate of a node; by default pipeline, if that can stand there.
	Name   string `yaml:"name"`
	Listen string `yaml:"listen"` // host:port of the Raft port; by default this node's address
	Nodes  []Node `yaml:"nodes"`  // one or three; the same list on every node
	Shards int    `yaml:"shards"` // fixed at creation; by default 1 on a single node, else 6
	// MaxLevel holds the level of the formats down, so that an older version can still take over. Zero, the default, is
	// no bound. A level never falls (docs/design.md §11).
	MaxLevel int `yaml:"max_level"`
	// Finalize says when the level rises once all nodes run a version that has it: auto, at once; manual, when deckle
	// upgrade finalize says so. Any node that says manual holds all of them. A new cluster rises at once.
	Finalize string `yaml:"finalize" default:"auto" enum:"auto,manual"`
	// Insecure lets nodes that others can reach go without TLS. Together with TLS they take both: while a cluster goes
	// from one to the other.
	Insecure bool `yaml:"insecure"`
	TLS      *TLS `yaml:"tls"` // of connections between nodes: both ends show a certificate

	// after which a follower without news from its leader wants another one
	HeartbeatTimeout time.Duration `yaml:"heartbeat_timeout" default:"500ms"`
	// after which an election without outcome begins anew
	ElectionTimeout time.Duration `yaml:"election_timeout" default:"500ms"`
	// after which a leader that no majority answers gives up the lead
	LeaseTimeout time.Duration `yaml:"lease_timeout" default:"500ms"`
	// how often followers learn what is committed where nothing is written
	CommitTimeout time.Duration `yaml:"commit_timeout" default:"250ms"`
	// of one request between nodes
	TransportTimeout time.Duration `yaml:"transport_timeout" default:"1500ms"`
	// a leader whose disk takes longer gives up the lead
	StoreDeadline time.Duration `yaml:"store_deadline" default:"1s"`
}

// Node is one member of the cluster.
type Node struct {
	Name    string `yaml:"name"`    // its name, which node names in its own file
	Address string `yaml:"address"` // host:port that the other nodes dial
	// Certificate is a DNS name, IP address or URI that stands in this node's certificate and in no other node's; by
	// default ("") that is deckle://CLUSTER/node/NAME.
	Certificate string `yaml:"certificate"`
}

// Kafka is the source.
type Kafka struct {
	Brokers []string `yaml:"brokers"`                    // host:port of one or more to begin with
	Topic   string   `yaml:"topic" default:"web_clicks"` // the events
	DLQ     string   `yaml:"dlq"`                        // the topic of dead letters; by default TOPIC.dlq
	// DLQRetention is for how long the topic of dead letters keeps one, if Deckle creates it.
	DLQRetention time.Duration `yaml:"dlq_retention" default:"720h"`
	Group        string        `yaml:"group"` // for lag tools only; by default deckle-PIPELINE
	// Start is where a new cluster begins.
	Start string `yaml:"start" default:"earliest" enum:"earliest,latest"`
	// Keyed says whether records have keys: auto (the topic is sampled), yes or no. Without keys only one shard is
	// possible.
	Keyed string `yaml:"keyed" default:"auto" enum:"auto,yes,no"`
	// AllowCompacted lets a cluster be created over a topic whose cleanup.policy contains compact.
	AllowCompacted bool `yaml:"allow_compacted"`

	TLS  *TLS  `yaml:"tls"`  // of connections to the brokers; none: plain
	SASL *SASL `yaml:"sasl"` // how this side authenticates; none: not at all
	// IdleAfter is how long a partition must show nothing new at its end before it counts as idle.
	IdleAfter time.Duration `yaml:"idle_after" default:"30s"`
	// FetchMaxBytes bounds one fetch per broker.
	FetchMaxBytes int64 `yaml:"fetch_max_bytes" default:"8MiB"`
	// MaxBatchBytes bounds what one record batch may inflate to; by default 64 MiB, or fetch_max_bytes if that is more.
	// A partition with a larger one waits.
	MaxBatchBytes int64 `yaml:"max_batch_bytes"`
}

// Session holds the rules of sessions, fixed at creation.
type Session struct {
	// a session without events for so long ends
	IdleTimeout time.Duration `yaml:"idle_timeout" default:"30m"`
	Grace       time.Duration `yaml:"grace" default:"30s"` // how long a closed session takes events without a revision
	// how long the state keeps a session that is over, and takes late events for it
	Retention time.Duration `yaml:"retention" default:"6h"`
}

// Manual says that the level rises only when an operator says so.
func (cl *Cluster) Manual() bool { return cl.Finalize == "manual" }

// Flush says when an epoch is closed.
type Flush struct {
	Interval time.Duration `yaml:"interval" default:"10s"` // how often
	// an epoch with this many events is closed early
	MaxEvents int64 `yaml:"max_events" default:"75000" reload:"yes"`
}

// Limits are the budgets at which intake pauses.
type Limits struct {
	// DiskBytes bounds the data folder. By default (zero) it is half of what is free when the folder is
	// created.
	DiskBytes int64 `yaml:"disk_bytes" zero:"unset" reload:"yes"`
	// ReserveBytes is the size of a file that is removed when the file system is full, so that the node lives on; with
	// twice as much free it is made again. 0 means that there is none.
	ReserveBytes    *int64 `yaml:"reserve_bytes" default:"64MiB"`
	InFlightEntries int    `yaml:"in_flight_entries" default:"4"`            // per shard
	EntryBytes      int    `yaml:"entry_bytes" default:"64KiB" reload:"yes"` // size at which a Batch entry is proposed
	// SessionMemoryBytes bounds the sessions in memory, of all shards together.
	SessionMemoryBytes int64 `yaml:"session_memory_bytes" default:"256MiB"`
	// BufferMemoryBytes bounds the encoded events that wait for a flush, of all shards together.
	BufferMemoryBytes int64 `yaml:"buffer_memory_bytes" default:"256MiB"`
	// FetchMemoryBytes bounds the fetched records that wait to be read, inflated, of all shards together, beside one
	// batch per fetch; by default 256 MiB, or four times kafka.max_batch_bytes if that is more.
	FetchMemoryBytes int64 `yaml:"fetch_memory_bytes"`
	// CacheBytes is the size of Pebble's block cache, which all shards share.
	CacheBytes int64 `yaml:"cache_bytes" default:"32MiB"`
	// UnflushedEpochs is how many closed epochs a sink may be behind before intake pauses. Zero, the default, means
	// that only the disk decides.
	UnflushedEpochs int `yaml:"unflushed_epochs" reload:"yes"`
}

// Delta is the Delta sink: exactly one of Path and S3 is given.
type Delta struct {
	Path string `yaml:"path"` // a local folder (one machine only)
	// Shared lets every user of the machine read the local folder: folders 0755, files 0644. Otherwise they are this
	// user's alone.
	Shared bool `yaml:"shared"`
	S3     *S3  `yaml:"s3"` // an S3-compatible store, instead of path
	// Events keeps every raw event in the table events.
	Events      *bool  `yaml:"events" default:"true"`
	Compression string `yaml:"compression" default:"zstd" enum:"zstd,snappy,none"` // of Parquet files
	// how often a node writes rows of sessions that have changed anew
	RevisionInterval time.Duration `yaml:"revision_interval" default:"3m"`
	// the most files that one commit of them rewrites
	RevisionFilesPerPass int `yaml:"revision_files_per_pass" default:"512"`
	// DeletionVectors has a pass hide the former rows of a large file by a deletion vector, and write the new ones into
	// a file of their own, instead of the file anew. The table sessions gets the feature of that name, which its
	// readers must know from then on, for good: docs/operations.md says which do.
	DeletionVectors bool `yaml:"deletion_vectors"`
	// DeletionVectorsFromBytes is the size of the smallest file of which rows are hidden.
	DeletionVectorsFromBytes int64 `yaml:"deletion_vectors_from_bytes" default:"8MiB"`
	CheckpointInterval       int   `yaml:"checkpoint_interval" default:"10"` // commits, at least
	// CommitWait is how long after a turn the one commit for all nodes waits for them; 0s: each node has its own part
	// of the interval, and commits by itself.
	CommitWait *time.Duration `yaml:"commit_wait" default:"550ms"`
	// InCommitTimestamps makes new tables with in-commit timestamps, so that time travel by a time stays right in a
	// copy of the bucket. A table that is there keeps what it has; Deckle before 0.2.0 does not write such tables.
	InCommitTimestamps bool         `yaml:"in_commit_timestamps"`
	Sessions           LakeSessions `yaml:"sessions"`   // the table sessions
	Compaction         Compaction   `yaml:"compaction"` // few large files of many small ones
	Vacuum             Vacuum       `yaml:"vacuum"`     // objects go that no version needs
}

// LakeSessions is the Delta table sessions.
type LakeSessions struct {
	// PartitionBy is how the table is partitioned when it is made, and cannot be changed afterwards: [date], the
	// default, or [opening_brand, date].
	PartitionBy []string `yaml:"partition_by" enum:"opening_brand,date"`
}

// ByBrand says that the table is partitioned by brand, too.
func (s *LakeSessions) ByBrand() bool { return len(s.PartitionBy) > 1 }

// Compaction makes few large files of many small ones, on the node that leads shard 1.
type Compaction struct {
	Enabled   *bool         `yaml:"enabled" default:"true"`                  // whether it is done
	Every     time.Duration `yaml:"every" default:"10m" reload:"yes"`        // how often
	RateBytes int64         `yaml:"rate_bytes" default:"32MiB" reload:"yes"` // read and written, a second
}

// Vacuum removes what no version inside the retention needs, on the node that leads shard 0.
type Vacuum struct {
	Enabled *bool         `yaml:"enabled" default:"true"`           // whether it is done
	Every   time.Duration `yaml:"every" default:"24h" reload:"yes"` // how often
	// Retain is how long objects stay that nothing needs. From a week on it is what the table says if that is longer.
	Retain time.Duration `yaml:"retain" default:"168h" reload:"yes"`
}

// ClickHouse is the ClickHouse sink.
type ClickHouse struct {
	Address string `yaml:"address"` // host:port of the native protocol
	// is made if it is missing
	Database    string        `yaml:"database" default:"analytics"`
	User        string        `yaml:"user" default:"default"`                         // the user name
	Password    Secret        `yaml:"password"`                                       // its password
	TLS         *TLS          `yaml:"tls"`                                            // of the connection; none: plain
	Compression string        `yaml:"compression" default:"lz4" enum:"lz4,zstd,none"` // of the connection
	ReadTimeout time.Duration `yaml:"read_timeout" default:"60s"`                     // for an answer
}

// Log is the log on standard error.
type Log struct {
	Level  string `yaml:"level" default:"info" enum:"debug,info,warn,error" reload:"yes"` // what is less is not logged
	Format string `yaml:"format" default:"json" enum:"json,text"`                         // of the lines
}

// deriveName takes the pipeline's name for the cluster's if it can stand in a certificate.
func (cl *Cluster) deriveName() {
	if pki.CheckCluster(cl.Pipeline) == nil {
		cl.Name = cmp.Or(cl.Name, cl.Pipeline)
	}
}

// derive fills in the defaults that depend on other keys; all others stand beside their fields.
func (c *Config) derive() {
	cl, k := &c.Cluster, &c.Kafka
	if len(cl.Nodes) == 1 {
		cl.Shards = cmp.Or(cl.Shards, 1)
	}
	cl.Shards = cmp.Or(cl.Shards, 6)
	cl.deriveName()
	for _, n := range cl.Nodes {
		if n.Name == c.Node {
			cl.Listen = cmp.Or(cl.Listen, n.Address)
		}
	}
	if d := c.Delta; d != nil {
		if d.Sessions.PartitionBy == nil {
			d.Sessions.PartitionBy = []string{"date"}
		}
		if d.S3 != nil {
			d.S3.deriveCredentials()
		}
	}
	k.DLQ = cmp.Or(k.DLQ, k.Topic+".dlq")
	k.Group = cmp.Or(k.Group, "deckle-"+cl.Pipeline)
	k.MaxBatchBytes = cmp.Or(k.MaxBatchBytes, max(64<<20, k.FetchMaxBytes))
	if c.HTTP.Open == nil {
		c.HTTP.Open = []string{"livez", "readyz"}
	}
	if c.HTTP.Audit.File == "" && c.DataDir != "" {
		c.HTTP.Audit.File = filepath.Join(c.DataDir, "audit", "audit.jsonl")
	}
	c.Limits.FetchMemoryBytes = cmp.Or(c.Limits.FetchMemoryBytes, max(256<<20, 4*k.MaxBatchBytes))
}
