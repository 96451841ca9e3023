package node

import "time"

// Config is the configuration of one node: deckle.yaml. Load reads, checks and completes it.
type Config struct {
	// Node is this node's name; one of Cluster.Nodes.
	Node    string        `yaml:"node"`
	DataDir string        `yaml:"data_dir"`
	Cluster ClusterConfig `yaml:"cluster"`
	Kafka   KafkaConfig   `yaml:"kafka"`
	Session SessionConfig `yaml:"session"`
	Flush   FlushConfig   `yaml:"flush"`
	Limits  LimitsConfig  `yaml:"limits"`
	Delta   *DeltaConfig  `yaml:"delta"`
	// ClickHouse is nil when that sink is off.
	ClickHouse *ClickHouseConfig `yaml:"clickhouse"`
	HTTP       HTTPConfig        `yaml:"http"`
	Log        LogConfig         `yaml:"log"`
}

// ClusterConfig says who the nodes are: one or three.
type ClusterConfig struct {
	Pipeline string       `yaml:"pipeline"` // default "deckle"
	Listen   string       `yaml:"listen"`   // host:port of the Raft port; default: this node's address
	Nodes    []NodeConfig `yaml:"nodes"`
	Shards   int          `yaml:"shards"` // default 6, or 1 on a single node; fixed at creation
	TLS      *TLSConfig   `yaml:"tls"`    // mTLS between nodes

	HeartbeatTimeout time.Duration `yaml:"heartbeat_timeout"` // default 500ms
	ElectionTimeout  time.Duration `yaml:"election_timeout"`  // default 500ms
	LeaseTimeout     time.Duration `yaml:"lease_timeout"`     // default 500ms
	CommitTimeout    time.Duration `yaml:"commit_timeout"`    // default 250ms
	TransportTimeout time.Duration `yaml:"transport_timeout"` // default 1.5s
	StoreDeadline    time.Duration `yaml:"store_deadline"`    // default 1s
}

// NodeConfig is one member of the cluster.
type NodeConfig struct {
	Name    string `yaml:"name"`
	Address string `yaml:"address"` // host:port that the other nodes dial
}

// TLSConfig names PEM files.
type TLSConfig struct {
	CA                 string `yaml:"ca"`
	Cert               string `yaml:"cert"`
	Key                string `yaml:"key"`
	ServerName         string `yaml:"server_name"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`
}

// KafkaConfig is the source.
type KafkaConfig struct {
	Brokers []string    `yaml:"brokers"`
	Topic   string      `yaml:"topic"` // default "web_clicks"
	DLQ     string      `yaml:"dlq"`   // default "<topic>.dlq"
	Group   string      `yaml:"group"` // for lag tools only; default "deckle-<pipeline>"
	Start   string      `yaml:"start"` // "earliest" (default) or "latest": where a new cluster begins
	Keyed   string      `yaml:"keyed"` // "auto" (default: the topic is sampled), "yes", "no"
	TLS     *TLSConfig  `yaml:"tls"`
	SASL    *SASLConfig `yaml:"sasl"`
	// IdleAfter is how long a partition shows nothing new at its end until it counts as idle; default 30s.
	IdleAfter     time.Duration `yaml:"idle_after"`
	FetchMaxBytes int64         `yaml:"fetch_max_bytes"` // a broker and fetch; default 8 MiB
}

// SASLConfig is Kafka's authentication.
type SASLConfig struct {
	Mechanism string `yaml:"mechanism"` // plain, scram-sha-256, scram-sha-512
	User      string `yaml:"user"`
	Password  Secret `yaml:"password"`
}

// Secret comes from the environment or a file, never from the YAML itself: {env: NAME} or {file: PATH}. It prints as ***.
type Secret struct {
	Env  string `yaml:"env"`
	File string `yaml:"file"`

	value string
}

// SessionConfig are the rules of sessions, fixed at creation.
type SessionConfig struct {
	IdleTimeout time.Duration `yaml:"idle_timeout"` // default 30m
	Grace       time.Duration `yaml:"grace"`        // default 30s
	Retention   time.Duration `yaml:"retention"`    // default 6h
}

// FlushConfig says when epochs are cut.
type FlushConfig struct {
	Interval  time.Duration `yaml:"interval"`   // default 10s
	MaxEvents int64         `yaml:"max_events"` // an epoch is cut early at so many events; default 75000
}

// LimitsConfig are the budgets at which intake pauses.
type LimitsConfig struct {
	DiskBytes          int64 `yaml:"disk_bytes"`           // default: half of what is free at creation
	InFlightEntries    int   `yaml:"in_flight_entries"`    // a shard; default 4
	EntryBytes         int   `yaml:"entry_bytes"`          // a Batch entry before it is proposed; default 64 KiB
	SessionMemoryBytes int64 `yaml:"session_memory_bytes"` // all shards; default 256 MiB
	BufferMemoryBytes  int64 `yaml:"buffer_memory_bytes"`  // encoded events waiting for a flush, all shards; default 256 MiB
	CacheBytes         int64 `yaml:"cache_bytes"`          // Pebble's block cache, all shards; default 32 MiB
	UnflushedEpochs    int   `yaml:"unflushed_epochs"`     // closed epochs a sink may be behind before intake pauses; default 0: disk decides
}

// DeltaConfig is the Delta sink: exactly one of Path and S3.
type DeltaConfig struct {
	Path string    `yaml:"path"` // a local folder (one machine only)
	S3   *S3Config `yaml:"s3"`
	// Events keeps every raw event in the table events; default true.
	Events               *bool         `yaml:"events"`
	Compression          string        `yaml:"compression"`             // zstd (default), snappy, none
	RevisionInterval     time.Duration `yaml:"revision_interval"`       // default 1m
	RevisionFilesPerPass int           `yaml:"revision_files_per_pass"` // default 64
	CheckpointInterval   int           `yaml:"checkpoint_interval"`     // commits; default 10
}

// S3Config is an S3-compatible store.
type S3Config struct {
	Endpoint  string     `yaml:"endpoint"` // https://host:port or http://host:port
	Bucket    string     `yaml:"bucket"`
	Prefix    string     `yaml:"prefix"`
	Region    string     `yaml:"region"` // default us-east-1
	AccessKey Secret     `yaml:"access_key"`
	SecretKey Secret     `yaml:"secret_key"`
	TLS       *TLSConfig `yaml:"tls"`
}

// ClickHouseConfig is the ClickHouse sink.
type ClickHouseConfig struct {
	Address     string        `yaml:"address"`  // host:port of the native protocol
	Database    string        `yaml:"database"` // default analytics
	User        string        `yaml:"user"`     // default "default"
	Password    Secret        `yaml:"password"`
	TLS         *TLSConfig    `yaml:"tls"`
	Compression string        `yaml:"compression"`  // lz4 (default), zstd, none
	ReadTimeout time.Duration `yaml:"read_timeout"` // default 60s
}

// HTTPConfig is the address of health, metrics, API and page.
type HTTPConfig struct {
	Listen string `yaml:"listen"` // default 127.0.0.1:8080
}

// LogConfig is the log on standard error.
type LogConfig struct {
	Level  string `yaml:"level"`  // debug, info (default), warn, error
	Format string `yaml:"format"` // json (default), text
}
