package kerberos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/integration/services"
)

const topic = "web_clicks"

// TestKerberos: a node reads from a broker that takes nobody without a ticket, and goes on when its key is another one
// and the keytab was replaced. What is wrong is told by key and cause: the keytab, the principal, the service, the
// clocks, a KDC that is away, a realm that krb5.conf does not name.
func TestKerberos(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cache, err := services.OpenCache(os.Stderr)
	must(t, err)
	libs, err := cache.FetchKafka(ctx)
	need(t, err)
	k := startKDC(t)
	k.principal("deckle")
	k.principal("kafka/localhost")
	k.principal("somebody")
	keytab := k.keytab("deckle", "deckle.keytab")
	broker := startBroker(ctx, t, libs, k)
	binary, err := services.BuildDeckle(ctx, "../..", t.TempDir())
	must(t, err)
	d := &deckle{t: t, ctx: ctx, binary: binary, broker: broker}
	d.produce("one")

	for _, row := range []struct {
		what, kerberos, want string
	}{
		{"all is right", block("deckle", keytab, k.conf, ""), ""},
		{"a keytab of somebody else", block("deckle", k.keytab("somebody", "other.keytab"), k.conf, ""),
			"kafka.sasl.kerberos.keytab: " + k.dir + "/other.keytab: the keytab has no key of deckle@" + realm},
		{"no keytab", block("deckle", k.write("none.keytab", "not a keytab"), k.conf, ""), "is no keytab"},
		{"an unknown principal", block("nobody", strangers(t, k), k.conf, ""),
			"kafka.sasl.kerberos.principal: the KDC does not know nobody@" + realm},
		{"another service", block("deckle", keytab, k.conf, "other"),
			"kafka.sasl.kerberos.service: the KDC does not know other/localhost"},
		{"a file without a KDC", block("deckle", keytab, k.write("empty.conf", "[libdefaults]\n default_realm = "+realm+
			"\n dns_lookup_kdc = false\n"), ""), "kafka.sasl.kerberos.config: it names no KDC of " + realm},
	} {
		d.check(row.what, row.kerberos, row.want)
	}
	right := block("deckle", keytab, k.conf, "")
	must(t, k.Kill())
	d.check("the KDC is away", right, "kafka.sasl.kerberos.config: no KDC of "+realm+" that it names answers")
	if fake, err := exec.LookPath("faketime"); err == nil {
		k.start(fake, "-f", "+20m")
		d.check("another clock", right, "kafka.sasl.kerberos: the clocks of this machine and of the KDC differ")
		must(t, k.Kill())
	} else {
		t.Log("SKIPPED: another clock (needs faketime)")
	}
	k.start()

	node := d.run(right)
	d.await(node, 1)
	newer := k.keytab("deckle", "newer.keytab")
	d.check("a keytab of before", right, "kafka.sasl.kerberos.keytab: the KDC has another key of deckle@"+realm)
	content, err := os.ReadFile(newer)
	must(t, err)
	must(t, os.WriteFile(keytab, content, 0o600))
	time.Sleep(12 * time.Second) // files are looked at every ten seconds
	must(t, broker.Kill())       // so that every connection is made anew
	must(t, broker.Start())
	must(t, broker.WaitPort(ctx, broker.addr))
	d.produce("two")
	d.await(node, 2)
}

// strangers is a keytab with a key of somebody whom the KDC does not know.
func strangers(t *testing.T, k *kdc) string {
	t.Helper()
	k.principal("nobody")
	path := k.keytab("nobody", "nobody.keytab")
	k.run("kadmin.local", "-q", "delprinc -force nobody")
	return path
}

func block(principal, keytab, conf, service string) string {
	text := fmt.Sprintf("{principal: %s, keytab: %s, config: %s", principal, keytab, conf)
	if service != "" {
		text += ", service: " + service
	}
	return text + "}"
}

// broker takes tickets alone.
type broker struct {
	*services.Process
	addr string
	open string // a listener of the test, that takes everybody
}

func startBroker(ctx context.Context, t *testing.T, libs string, k *kdc) *broker {
	t.Helper()
	dir := t.TempDir()
	client, err := services.FreePort()
	must(t, err)
	controller, err := services.FreePort()
	must(t, err)
	open, err := services.FreePort()
	must(t, err)
	properties := filepath.Join(dir, "server.properties")
	must(t, os.WriteFile(properties, fmt.Appendf(nil, `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@localhost:%[2]d
listeners=SASL_PLAINTEXT://localhost:%[1]d,CONTROLLER://localhost:%[2]d,OPEN://localhost:%[6]d
advertised.listeners=SASL_PLAINTEXT://localhost:%[1]d,OPEN://localhost:%[6]d
controller.listener.names=CONTROLLER
inter.broker.listener.name=SASL_PLAINTEXT
listener.security.protocol.map=SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT,OPEN:PLAINTEXT
sasl.enabled.mechanisms=GSSAPI
sasl.mechanism.inter.broker.protocol=GSSAPI
sasl.kerberos.service.name=kafka
listener.name.sasl_plaintext.gssapi.sasl.jaas.config=com.sun.security.auth.module.Krb5LoginModule required \
  useKeyTab=true storeKey=true keyTab="%[4]s" principal="kafka/localhost@%[5]s";
log.dirs=%[3]s/data
auto.create.topics.enable=true
num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
`, client, controller, dir, k.keytab("kafka/localhost", "kafka.keytab"), realm, open), 0o600))
	classes := filepath.Join(libs, "*")
	out, err := exec.CommandContext(ctx, "java", "-cp", classes, "kafka.tools.StorageTool", "format",
		"-t", "ZGVja2xlLWRlY2tsZS0xMQ", "-c", properties).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b := &broker{addr: fmt.Sprintf("localhost:%d", client), open: fmt.Sprintf("localhost:%d", open),
		Process: services.NewProcess("kafka", dir, nil, "java", "-Xmx512m", "-XX:+UseSerialGC",
			"-Djava.security.krb5.conf="+k.conf, "-cp", classes, "kafka.Kafka", properties)}
	must(t, b.Start())
	t.Cleanup(func() { must(t, b.Kill()) })
	must(t, b.WaitPort(ctx, b.addr))
	return b
}

// deckle runs the binary.
type deckle struct {
	t      *testing.T
	ctx    context.Context
	binary string
	broker *broker
}

// config writes a configuration.
func (d *deckle) config(kerberos string) (dir, path string) {
	d.t.Helper()
	dir = d.t.TempDir()
	path = filepath.Join(dir, "deckle.yaml")
	raft, err := services.FreePort()
	must(d.t, err)
	http, err := services.FreePort()
	must(d.t, err)
	must(d.t, os.WriteFile(path, fmt.Appendf(nil, `node: a
data_dir: %[1]s/data
cluster: {nodes: [{name: a, address: "127.0.0.1:%[2]d"}]}
kafka:
  brokers: ["%[3]s"]
  topic: %[4]s
  sasl: {mechanism: gssapi, kerberos: %[5]s}
flush: {interval: 1s}
delta: {path: %[1]s/lake}
http: {listen: "127.0.0.1:%[6]d"}
`, dir, raft, d.broker.addr, topic, kerberos, http), 0o600))
	return dir, path
}

// check runs `deckle run --check` and wants an answer: the topic's notices if want is "".
func (d *deckle) check(what, kerberos, want string) {
	d.t.Helper()
	_, path := d.config(kerberos)
	began := time.Now()
	out, _ := exec.CommandContext(d.ctx, d.binary, "run", "--check", "--config", path).CombinedOutput()
	text := string(out)
	d.t.Logf("%s (%s): %s", what, time.Since(began).Round(100*time.Millisecond), text)
	if !strings.Contains(text, want) || want == "" && strings.Contains(text, "looked at") {
		d.t.Errorf("%s: wanted %q", what, want)
	}
}

// run starts a node.
func (d *deckle) run(kerberos string) *services.Node {
	d.t.Helper()
	dir, path := d.config(kerberos)
	text, err := os.ReadFile(path)
	must(d.t, err)
	_, http, _ := strings.Cut(string(text), `http: {listen: "`)
	http, _, _ = strings.Cut(http, `"`)
	n := &services.Node{Name: "a", Config: path, DataDir: filepath.Join(dir, "data"), HTTP: http,
		Process: services.NewProcess("a", dir, nil, d.binary, "run", "--config", path)}
	must(d.t, n.Start())
	d.t.Cleanup(func() { must(d.t, n.Kill()) })
	must(d.t, n.WaitReady(d.ctx))
	return n
}

// await waits until so many records of the topic have been read.
func (d *deckle) await(n *services.Node, records int64) {
	d.t.Helper()
	var st struct {
		Shards []struct {
			Partitions []struct {
				Next int64 `json:"next_offset"`
			} `json:"partitions"`
		} `json:"shards"`
	}
	for range 600 {
		if err := n.Get(d.ctx, "/api/v1/status", &st); err == nil && len(st.Shards) == 1 &&
			len(st.Shards[0].Partitions) == 1 && st.Shards[0].Partitions[0].Next == records {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	d.t.Fatalf("the node does not read %d records: %+v\n%s", records, st, n.Tail(3000))
}

// produce writes a record.
func (d *deckle) produce(session string) {
	d.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.broker.open), kgo.DefaultProduceTopic(topic),
		kgo.AllowAutoTopicCreation())
	must(d.t, err)
	defer cl.Close()
	must(d.t, cl.ProduceSync(d.ctx, &kgo.Record{Key: []byte(session), Value: fmt.Appendf(nil,
		`{"event_id":"00000000-0000-4000-8000-%012d","session_id":%q,"user_id":7,"event_type":"search","timestamp":%d}`,
		time.Now().UnixNano()%1e12, session, time.Now().Unix())}).FirstErr())
}
