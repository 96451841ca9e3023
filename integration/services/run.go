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
	Addr   string   // without TLS: whoever comes there is anonymous and may do everything
	Secure *Account // nil without an Authority
}

// KafkaListener is another listener of the broker, for clients that must reach it through something else.
type KafkaListener struct {
	Port       int    // on loopback
	Advertised string // host:port that the broker gives to those clients
}

// StartKafka formats a folder, starts a broker in KRaft mode in it, and waits until it answers. With ca it has a
// listener for TLS and SCRAM, the listeners in more are of that kind, and access control lists hold whoever comes
// there.
func StartKafka(ctx context.Context, libs, dir string, ca *Authority, more ...KafkaListener) (*Kafka, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	k := &Kafka{}
	guard, kind := "", "PLAINTEXT"
	if ca != nil {
		var err error
		if k.Secure, err = ca.account("deckle", newPassword()); err != nil {
			return nil, err
		}
		if guard, err = ca.guardKafka(dir); err != nil {
			return nil, err
		}
		kind = "SASL_SSL"
		_, port, err := splitAddr(k.Secure.Addr)
		if err != nil {
			return nil, err
		}
		more = append(more, KafkaListener{Port: port, Advertised: k.Secure.Addr})
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
		fmt.Fprintf(&protocols, ",MORE%d:%s", i, kind)
		if ca != nil {
			guard += fmt.Sprintf("listener.name.more%d.scram-sha-512.sasl.jaas.config="+
				"org.apache.kafka.common.security.scram.ScramLoginModule required;\n", i)
		}
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
%[7]s`, port, controller, dir, &listen, &advertise, &protocols, guard), 0o644)
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
	k.Process = NewProcess("kafka", dir, nil,
		"java", "-Xmx768m", "-XX:+UseSerialGC", "-cp", classes, "kafka.Kafka", properties)
	k.Addr = fmt.Sprintf("127.0.0.1:%d", port)
	if err := k.Up(ctx); err != nil || ca == nil {
		return k, err
	}
	return k, k.SetPassword(ctx, k.Secure.Password())
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
	if k.Secure == nil {
		return nil
	}
	return k.allow(ctx, topic)
}

// MinIO is an S3-compatible store.
type MinIO struct {
	*Process
	Addr      string   // without TLS
	Secure    *Account // nil without an Authority
	AccessKey string

	secret, bucket string
	door           *door
}

// SecretKey is the present one.
func (m *MinIO) SecretKey() string {
	if m.Secure != nil {
		return m.Secure.Password()
	}
	return m.secret
}

// StartMinIO starts a server in dir and creates the bucket. With ca it has TLS, and Addr is a door to it.
func StartMinIO(ctx context.Context, binary, dir, bucket string, ca *Authority) (*MinIO, error) {
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o755); err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	m := &MinIO{Addr: fmt.Sprintf("127.0.0.1:%d", port), AccessKey: "deckle", secret: plainPassword, bucket: bucket}
	args := []string{binary, "server", "--quiet", "--address", m.Addr}
	if ca != nil {
		if m.Secure, err = ca.account(m.AccessKey, newPassword()); err != nil {
			return nil, err
		}
		certs := filepath.Join(dir, "certs")
		err := ca.server("minio", filepath.Join(certs, "public.crt"), filepath.Join(certs, "private.key"))
		if err != nil {
			return nil, err
		}
		if m.door, err = ca.openDoor(m.Secure.Addr); err != nil {
			return nil, err
		}
		m.Addr = m.door.addr
		args = []string{binary, "server", "--quiet", "--address", m.Secure.Addr, "--certs-dir", certs}
	}
	m.Process = NewProcess("minio", dir, m.environment(), append(args, filepath.Join(dir, "data"))...)
	return m, m.Up(ctx)
}

func (m *MinIO) environment() []string {
	return []string{"MINIO_ROOT_USER=" + m.AccessKey, "MINIO_ROOT_PASSWORD=" + m.SecretKey(), "MINIO_CI_CD=1"}
}

// Restart ends the server and starts it with another secret key.
func (m *MinIO) Restart(ctx context.Context, secret string) error {
	if err := m.Process.Kill(); err != nil {
		return err
	}
	m.Secure.set(secret)
	m.env = m.environment()
	return m.Up(ctx)
}

// End ends the server and its door.
func (m *MinIO) End() error {
	if m.door != nil {
		defer m.door.shut()
	}
	return m.Kill()
}

// Up starts the server, again if it has ended, and waits until it has its bucket.
func (m *MinIO) Up(ctx context.Context) error {
	if err := m.Start(); err != nil {
		return err
	}
	addr := m.Addr
	if m.Secure != nil {
		addr = m.Secure.Addr
	}
	if err := m.WaitPort(ctx, addr); err != nil {
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

// Client returns a client of the store. It goes on with another secret key when that has changed.
func (m *MinIO) Client() (*minio.Client, error) {
	cl, err := minio.New(m.Addr, &minio.Options{Creds: m.Credentials(), Region: "us-east-1"})
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	return cl, nil
}

// Credentials are the present ones, whenever they are asked for.
func (m *MinIO) Credentials() *credentials.Credentials { return credentials.New(&present{m}) }

type present struct{ m *MinIO }

func (p *present) IsExpired() bool { return true }

func (p *present) Retrieve() (credentials.Value, error) { return p.RetrieveWithCredContext(nil) }

func (p *present) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return credentials.Value{AccessKeyID: p.m.AccessKey, SecretAccessKey: p.m.SecretKey(),
		SignerType: credentials.SignatureV4}, nil
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
	Addr   string   // without TLS
	Secure *Account // nil without an Authority
	User   string

	secret string // the file with the password
}

// StartClickHouse starts the front of the engine, with the data in dir. With ca it has a second address, with TLS.
func StartClickHouse(ctx context.Context, front, lib, dir string, ca *Authority) (*ClickHouse, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	c := &ClickHouse{Addr: fmt.Sprintf("127.0.0.1:%d", port), User: "default", secret: filepath.Join(dir, "password")}
	args := []string{front, "-lib", lib, "-path", filepath.Join(dir, "data"), "-addr", c.Addr,
		"-user", c.User, "-password-file", c.secret}
	password := plainPassword
	if ca != nil {
		password = newPassword()
		if c.Secure, err = ca.account(c.User, password); err != nil {
			return nil, err
		}
		cert, key := filepath.Join(dir, "server.pem"), filepath.Join(dir, "server-key.pem")
		if err := ca.server("clickhouse", cert, key); err != nil {
			return nil, err
		}
		args = append(args, "-tls-addr", c.Secure.Addr, "-tls-cert", cert, "-tls-key", key)
	}
	if err := c.SetPassword(password); err != nil {
		return nil, err
	}
	c.Process = NewProcess("clickhouse", dir, nil, args...)
	return c, c.Up(ctx)
}

// SetPassword gives the user another password, from the next connection on.
func (c *ClickHouse) SetPassword(password string) error {
	if c.Secure != nil {
		c.Secure.set(password)
	}
	if err := replaceFile(c.secret, password); err != nil {
		return fmt.Errorf("services: %w", err)
	}
	return nil
}

// Password is the present one.
func (c *ClickHouse) Password() string {
	if c.Secure != nil {
		return c.Secure.Password()
	}
	return plainPassword
}

// Up starts the engine, again if it has ended, and waits until it listens.
func (c *ClickHouse) Up(ctx context.Context) error {
	if err := c.Start(); err != nil {
		return err
	}
	if c.Secure != nil {
		if err := c.WaitPort(ctx, c.Secure.Addr); err != nil {
			return err
		}
	}
	return c.WaitPort(ctx, c.Addr)
}
