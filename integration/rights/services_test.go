package rights

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"deckle/integration/services"
)

// secret is every password of the test.
const secret = "secret-of-the-test"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func need(t *testing.T, err error) {
	t.Helper()
	if services.MaySkip(err) {
		t.Skipf("skipped: %v", err)
	}
	must(t, err)
}

// broker refuses whatever no list allows. Accounts are those of SCRAM, but for admin.
type broker struct {
	*services.Process
	addr  string
	admin *kadm.Client
	acls  string // a command: kafka-acls.sh, with the settings of admin
}

func startBroker(ctx context.Context, t *testing.T, libs string) *broker {
	t.Helper()
	dir := t.TempDir()
	client, err := services.FreePort()
	must(t, err)
	controller, err := services.FreePort()
	must(t, err)
	write := func(name, text string, mode os.FileMode) (path string) {
		path = filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text), mode))
		return path
	}
	login := fmt.Sprintf(`org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" `+
		`password="%[1]s" user_admin="%[1]s";`, secret)
	properties := write("server.properties", fmt.Sprintf(`process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:%[2]d
listeners=SASL://127.0.0.1:%[1]d,CONTROLLER://127.0.0.1:%[2]d
advertised.listeners=SASL://127.0.0.1:%[1]d
controller.listener.names=CONTROLLER
inter.broker.listener.name=SASL
listener.security.protocol.map=SASL:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.mechanism.controller.protocol=PLAIN
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=%[4]s
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.controller.plain.sasl.jaas.config=%[4]s
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:admin
log.dirs=%[3]s/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
`, client, controller, dir, login), 0o600)
	classes := filepath.Join(libs, "*")
	out, err := exec.CommandContext(ctx, "java", "-cp", classes, "kafka.tools.StorageTool", "format",
		"-t", "ZGVja2xlLWRlY2tsZS0xMQ", "-c", properties).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b := &broker{addr: fmt.Sprintf("127.0.0.1:%d", client), Process: services.NewProcess("kafka", dir, nil, "java",
		"-Xmx512m", "-XX:+UseSerialGC", "-cp", classes, "kafka.Kafka", properties)}
	must(t, b.Start())
	t.Cleanup(func() { must(t, b.Kill()) })
	must(t, b.WaitPort(ctx, b.addr))
	cl, err := kgo.NewClient(b.as()...)
	must(t, err)
	t.Cleanup(cl.Close)
	b.admin = kadm.NewClient(cl)
	_, err = b.admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: "deckle", Mechanism: kadm.ScramSha512,
		Iterations: 4096, Password: secret}})
	must(t, err)
	settings := write("admin.properties", "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n"+
		"sasl.jaas.config="+login+"\n", 0o600)
	b.acls = write("kafka-acls.sh", fmt.Sprintf("#!/bin/sh\nexec java -cp '%s' kafka.admin.AclCommand "+
		"--command-config %s \"$@\"\n", classes, settings), 0o700)
	return b
}

// as are the options of a client that may do everything.
func (b *broker) as() []kgo.Opt {
	return []kgo.Opt{kgo.SeedBrokers(b.addr), kgo.SASL(plain.Auth{User: "admin", Pass: secret}.AsMechanism())}
}

// lists are the access control lists of the account.
func (b *broker) lists(ctx context.Context, t *testing.T) []kadm.DescribedACL {
	t.Helper()
	all, err := b.admin.DescribeACLs(ctx, kadm.NewACLs().AnyResource().Allow().AllowHosts().
		Operations(kadm.OpAny).ResourcePatternType(kadm.ACLPatternAny))
	must(t, err)
	var found []kadm.DescribedACL
	for _, r := range all {
		must(t, r.Err)
		found = append(found, r.Described...)
	}
	return found
}

// one is the builder of exactly this list, for CreateACLs and DeleteACLs.
func one(d *kadm.DescribedACL) *kadm.ACLBuilder {
	a := kadm.NewACLs().Allow(d.Principal).AllowHosts(d.Host).Operations(d.Operation).
		ResourcePatternType(kadm.ACLPatternLiteral)
	if d.Type.String() == "GROUP" {
		return a.Groups(d.Name)
	}
	if d.Type.String() == "TRANSACTIONAL_ID" {
		return a.TransactionalIDs(d.Name)
	}
	return a.Topics(d.Name)
}

// policy is deploy/rights/s3-policy.json for a bucket and a prefix, without an action if one is named.
func policy(t *testing.T, bucket, prefix, without string) string {
	t.Helper()
	content, err := os.ReadFile("../../deploy/rights/s3-policy.json")
	must(t, err)
	text := strings.NewReplacer("BUCKET", bucket, "PREFIX", prefix).Replace(string(content))
	if without != "" {
		instead := "s3:GetObjectTagging" // of the same kind of resource
		if without == "s3:ListBucket" {
			instead = "s3:ListBucketVersions"
		}
		other := strings.Replace(text, `"`+without+`"`, `"`+instead+`"`, 1)
		if other == text {
			t.Fatalf("the policy does not have %s", without)
		}
		text = other
	}
	return text
}

// session asks the store for keys that may do what the policy says. They are written into files of dir.
func session(t *testing.T, m *services.S3, policy, dir string) {
	t.Helper()
	c, err := credentials.NewSTSAssumeRole("http://"+m.Addr, credentials.STSAssumeRoleOptions{
		AccessKey: m.AccessKey, SecretKey: m.SecretKey(), Policy: policy, DurationSeconds: int(time.Hour.Seconds())})
	must(t, err)
	v, err := c.GetWithContext(nil)
	must(t, err)
	for name, value := range map[string]string{"access": v.AccessKeyID, "secret": v.SecretAccessKey,
		"token": v.SessionToken} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600))
	}
}
