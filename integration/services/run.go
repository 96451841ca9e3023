package services

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Kafka is a broker: one process.
type Kafka struct {
	*Process
	Addr string
}

// KafkaListener is another listener of the broker, for clients that must reach it through something else.
type KafkaListener struct {
	Port       int    // on loopback
	Advertised string // host:port that the broker gives to those clients
}

// StartKafka formats a folder, starts a broker in KRaft mode in it, and waits until it answers.
func StartKafka(ctx context.Context, libs, dir string, more ...KafkaListener) (*Kafka, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	controller, err := FreePort()
	if err != nil {
		return nil, err
	}
	var listen, advertise, protocols strings.Builder
	for i, l := range more {
		fmt.Fprintf(&listen, ",MORE%d://127.0.0.1:%d", i, l.Port)
		fmt.Fprintf(&advertise, ",MORE%d://%s", i, l.Advertised)
		fmt.Fprintf(&protocols, ",MORE%d:PLAINTEXT", i)
	}
	properties := filepath.Join(dir, "server.properties")
	err = os.WriteFile(properties, fmt.Appendf(nil, `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:%[2]d
listeners=PLAINTEXT://127.0.0.1:%[1]d,CONTROLLER://127.0.0.1:%[2]d%[4]s
advertised.listeners=PLAINTEXT://127.0.0.1:%[1]d%[5]s
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT%[6]s
log.dirs=%[3]s/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
message.max.bytes=4194304
`, port, controller, dir, &listen, &advertise, &protocols), 0o644)
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	classes := filepath.Join(libs, "*")
	if _, err := os.Stat(filepath.Join(dir, "data", "meta.properties")); err != nil {
		if _, err := command(ctx, dir, nil, "java", "-cp", classes, "kafka.tools.StorageTool", "format",
			"-t", "ZGVja2xlLWRlY2tsZS0xMQ", "-c", properties); err != nil {
			return nil, fmt.Errorf("services: formatting Kafka: %w", err)
		}
	}
	k := &Kafka{
		Process: NewProcess("kafka", dir, nil,
			"java", "-Xmx768m", "-XX:+UseSerialGC", "-cp", classes, "kafka.Kafka", properties),
		Addr: fmt.Sprintf("127.0.0.1:%d", port),
	}
	return k, k.Up(ctx)
}

// Up starts the broker, again if it has ended, and waits until it answers.
func (k *Kafka) Up(ctx context.Context) error {
	if err := k.Start(); err != nil {
		return err
	}
	return k.answers(ctx)
}

// answers waits until the broker answers.
func (k *Kafka) answers(ctx context.Context) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Addr))
	if err != nil {
		return fmt.Errorf("services: %w", err)
	}
	defer cl.Close()
	return k.wait(ctx, "the broker", func(ctx context.Context) bool {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := kadm.NewClient(cl).BrokerMetadata(ctx)
		return err == nil
	})
}

// CreateTopic creates a topic.
func (k *Kafka) CreateTopic(ctx context.Context, topic string, partitions int32) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Addr))
	if err != nil {
		return fmt.Errorf("services: %w", err)
	}
	defer cl.Close()
	size := "2097152"
	_, err = kadm.NewClient(cl).CreateTopic(ctx, partitions, 1, map[string]*string{"max.message.bytes": &size}, topic)
	if err != nil {
		return fmt.Errorf("services: creating topic %s: %w", topic, err)
	}
	return nil
}

// MinIO is an S3-compatible store.
type MinIO struct {
	*Process
	Addr, AccessKey, SecretKey string
	bucket                     string
}

// StartMinIO starts a server in dir and creates the bucket.
func StartMinIO(ctx context.Context, binary, dir, bucket string) (*MinIO, error) {
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o755); err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	m := &MinIO{Addr: fmt.Sprintf("127.0.0.1:%d", port), AccessKey: "deckle", SecretKey: "deckle-secret"}
	m.Process = NewProcess("minio", dir,
		[]string{"MINIO_ROOT_USER=" + m.AccessKey, "MINIO_ROOT_PASSWORD=" + m.SecretKey, "MINIO_CI_CD=1"},
		binary, "server", "--quiet", "--address", m.Addr, filepath.Join(dir, "data"))
	m.bucket = bucket
	return m, m.Up(ctx)
}

// Up starts the server, again if it has ended, and waits until it has its bucket.
func (m *MinIO) Up(ctx context.Context) error {
	if err := m.Start(); err != nil {
		return err
	}
	if err := m.WaitPort(ctx, m.Addr); err != nil {
		return err
	}
	cl, err := m.Client()
	if err != nil {
		return err
	}
	return m.wait(ctx, "bucket "+m.bucket, func(ctx context.Context) bool {
		ok, err := cl.BucketExists(ctx, m.bucket)
		if err == nil && !ok {
			err = cl.MakeBucket(ctx, m.bucket, minio.MakeBucketOptions{})
		}
		return err == nil
	})
}

// Client returns a client of the store.
func (m *MinIO) Client() (*minio.Client, error) {
	cl, err := minio.New(m.Addr, &minio.Options{
		Creds: credentials.NewStaticV4(m.AccessKey, m.SecretKey, ""), Region: "us-east-1"})
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	return cl, nil
}

// ReadObject returns the whole of an object.
func ReadObject(ctx context.Context, client *minio.Client, bucket, key string) ([]byte, error) {
	o, err := client.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = o.Close() }() // it was only read from
	return io.ReadAll(o)
}

// Mirror copies every object below prefix into a local folder, for readers of local tables.
func (m *MinIO) Mirror(ctx context.Context, bucket, prefix, dir string) error {
	cl, err := m.Client()
	if err != nil {
		return err
	}
	for o := range cl.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			return fmt.Errorf("services: listing %s: %w", prefix, o.Err)
		}
		to := filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(o.Key, prefix)))
		if err := cl.FGetObject(ctx, bucket, o.Key, to, minio.GetObjectOptions{}); err != nil {
			return fmt.Errorf("services: copying %s: %w", o.Key, err)
		}
	}
	return nil
}

// ClickHouse is the ClickHouse engine behind chfront.
type ClickHouse struct {
	*Process
	Addr, User, Password string
}

// StartClickHouse starts the front of the engine, with the data in dir.
func StartClickHouse(ctx context.Context, front, lib, dir string) (*ClickHouse, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	c := &ClickHouse{Addr: fmt.Sprintf("127.0.0.1:%d", port), User: "default", Password: "deckle-secret"}
	c.Process = NewProcess("clickhouse", dir, nil,
		front, "-lib", lib, "-path", filepath.Join(dir, "data"), "-addr", c.Addr,
		"-user", c.User, "-password", c.Password)
	return c, c.Up(ctx)
}

// Up starts the engine, again if it has ended, and waits until it listens.
func (c *ClickHouse) Up(ctx context.Context) error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.WaitPort(ctx, c.Addr)
}
