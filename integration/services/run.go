package services

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

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
