package services

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Brokers are several Kafka brokers of one cluster, each a process with its own folder.
type Brokers []*Broker

// Broker is one of them.
type Broker struct {
	*Kafka
	ID  int32
	Dir string // of its log: one folder for each partition, named topic-partition
}

// password is that of the brokers among themselves; clients are anonymous.
const password = "deckle-secret"

// StartBrokers starts n brokers in KRaft mode, each a controller, too. Replicated topics need two replicas in sync.
// Clients are anonymous and may do everything on what has no access control list.
func StartBrokers(ctx context.Context, libs, dir string, n int) (bs Brokers, err error) {
	client, internal, controller := make([]string, n), make([]string, n), make([]string, n)
	var voters []string
	for i := range n {
		for _, addr := range []*string{&client[i], &internal[i], &controller[i]} {
			port, err := FreePort()
			if err != nil {
				return nil, err
			}
			*addr = fmt.Sprintf("127.0.0.1:%d", port)
		}
		voters = append(voters, fmt.Sprintf("%d@%s", i+1, controller[i]))
	}
	classes := filepath.Join(libs, "*")
	for i := range n {
		b := &Broker{ID: int32(i + 1)}
		home := filepath.Join(dir, fmt.Sprintf("kafka-%d", b.ID))
		b.Dir = filepath.Join(home, "data")
		if err := os.MkdirAll(home, 0o755); err != nil {
			return nil, fmt.Errorf("services: %w", err)
		}
		properties := filepath.Join(home, "server.properties")
		// A list of the controllers' own would be empty when they first meet: they, and the brokers among themselves,
		// say who they are, and may do everything.
		text := fmt.Sprintf(`process.roles=broker,controller
node.id=%[1]d
controller.quorum.voters=%[2]s
listeners=PLAINTEXT://%[3]s,INTERNAL://%[4]s,CONTROLLER://%[5]s
advertised.listeners=PLAINTEXT://%[3]s,INTERNAL://%[4]s
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,INTERNAL:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.mechanism.controller.protocol=PLAIN
listener.name.internal.plain.sasl.jaas.config=%[6]s
listener.name.controller.plain.sasl.jaas.config=%[6]s
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
super.users=User:admin
log.dirs=%[7]s
broker.session.timeout.ms=6000
initial.broker.registration.timeout.ms=600000
replica.lag.time.max.ms=6000
auto.leader.rebalance.enable=false
default.replication.factor=%[8]d
min.insync.replicas=%[9]d
offsets.topic.replication.factor=%[8]d
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=%[8]d
transaction.state.log.min.isr=%[9]d
transaction.state.log.num.partitions=3
%[10]s`, b.ID, strings.Join(voters, ","), client[i], internal[i], controller[i],
			fmt.Sprintf("org.apache.kafka.common.security.plain.PlainLoginModule required username=\"admin\" "+
				"password=\"%[1]s\" user_admin=\"%[1]s\";", password), b.Dir, n, max(1, n-1), common)
		if err := os.WriteFile(properties, []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("services: %w", err)
		}
		if _, err := command(ctx, home, nil, "java", "-cp", classes, "kafka.tools.StorageTool", "format",
			"-t", "ZGVja2xlLWRlY2tsZS0xMQ", "-c", properties); err != nil {
			return nil, fmt.Errorf("services: formatting Kafka: %w", err)
		}
		b.Kafka = &Kafka{Addr: client[i], Process: NewProcess(fmt.Sprintf("kafka-%d", b.ID), home, nil,
			"java", "-Xmx256m", "-XX:+UseSerialGC", "-cp", classes, "kafka.Kafka", properties)}
		bs = append(bs, b)
	}
	for _, b := range bs { // none answers before a majority of them runs
		if err := b.Start(); err != nil {
			return bs, err
		}
	}
	for _, b := range bs {
		if err := b.answers(ctx); err != nil {
			return bs, err
		}
	}
	return bs, nil
}

// common are settings of every broker of the tests that has several files of its own.
const common = `auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
message.max.bytes=4194304
`

// StartZooKeeperBroker starts ZooKeeper and one broker that keeps its metadata there, as Kafka before 4.0 may do.
func StartZooKeeperBroker(ctx context.Context, libs, dir string) (zookeeper *Process, bs Brokers, err error) {
	port, err := FreePort()
	if err != nil {
		return nil, nil, err
	}
	keeper := fmt.Sprintf("127.0.0.1:%d", port)
	home := filepath.Join(dir, "zookeeper")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, nil, fmt.Errorf("services: %w", err)
	}
	settings := filepath.Join(home, "zoo.cfg")
	if err := os.WriteFile(settings, fmt.Appendf(nil, "dataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\n"+
		"admin.enableServer=false\n", filepath.Join(home, "data"), port), 0o644); err != nil {
		return nil, nil, fmt.Errorf("services: %w", err)
	}
	classes := filepath.Join(libs, "*")
	zookeeper = NewProcess("zookeeper", home, nil, "java", "-Xmx128m", "-XX:+UseSerialGC", "-cp", classes,
		"org.apache.zookeeper.server.quorum.QuorumPeerMain", settings)
	if err := zookeeper.Start(); err != nil {
		return zookeeper, nil, err
	}
	if err := zookeeper.WaitPort(ctx, keeper); err != nil {
		return zookeeper, nil, err
	}
	if port, err = FreePort(); err != nil {
		return zookeeper, nil, err
	}
	b := &Broker{ID: 1}
	home = filepath.Join(dir, "kafka-1")
	b.Dir = filepath.Join(home, "data")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return zookeeper, nil, fmt.Errorf("services: %w", err)
	}
	properties := filepath.Join(home, "server.properties")
	if err := os.WriteFile(properties, fmt.Appendf(nil, `broker.id=1
zookeeper.connect=%s
listeners=PLAINTEXT://127.0.0.1:%d
log.dirs=%s
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
%s`, keeper, port, b.Dir, common), 0o644); err != nil {
		return zookeeper, nil, fmt.Errorf("services: %w", err)
	}
	b.Kafka = &Kafka{Addr: fmt.Sprintf("127.0.0.1:%d", port), Process: NewProcess("kafka-1", home, nil,
		"java", "-Xmx256m", "-XX:+UseSerialGC", "-cp", classes, "kafka.Kafka", properties)}
	return zookeeper, Brokers{b}, b.Up(ctx)
}

// Addr are the addresses of all of them, separated by commas.
func (bs Brokers) Addr() string {
	var all []string
	for _, b := range bs {
		all = append(all, b.Addr)
	}
	return strings.Join(all, ",")
}

// Freeze stops a broker's process without ending it, until Thaw.
func (b *Broker) Freeze() error { return b.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen broker go on.
func (b *Broker) Thaw() error { return b.Signal(syscall.SIGCONT) }

// Kill ends all of them.
func (bs Brokers) Kill() error {
	for _, b := range bs {
		if err := b.Kafka.Kill(); err != nil {
			return err
		}
	}
	return nil
}

// FetchProducer returns the path of a Python interpreter that has librdkafka.
func (c *Cache) FetchProducer(ctx context.Context) (python string, err error) {
	dir, err := c.fetch("python-producer-1", []string{"python3"}, func(dir string) error {
		if _, err := command(ctx, dir, nil, "python3", "-m", "venv", dir); err != nil {
			return err
		}
		_, err := command(ctx, dir, nil, filepath.Join(dir, "bin", "pip"), "install", "-q",
			"--disable-pip-version-check", "confluent-kafka=="+librdkafkaVersion)
		return err
	})
	return filepath.Join(dir, "bin", "python"), err
}

// CompileJava compiles a class against Kafka's jars into dir, and returns the class path.
func CompileJava(ctx context.Context, libs, source, dir string) (classes string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("services: %w", err)
	}
	classes = filepath.Join(libs, "*")
	_, err = command(ctx, dir, nil, "javac", "-cp", classes, "-d", dir, source)
	return dir + string(os.PathListSeparator) + classes, err
}
