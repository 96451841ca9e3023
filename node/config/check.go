package config

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"deckle/trust/pki"
)

// problems checks a configuration whose defaults are filled in.
func (c *Config) problems() []Problem {
	k := &checker{}
	k.enums(reflect.ValueOf(c).Elem(), "")
	k.need("node", c.Node, "this node's name, one of cluster.nodes")
	k.need("data_dir", c.DataDir, "the folder for this node's log and state")
	c.checkCluster(k)
	c.checkKafka(k)
	c.checkSession(k)
	c.checkRules(k)
	c.checkDeadLetters(k)
	c.checkPrivacy(k)
	k.between("flush.interval", c.Flush.Interval, 100*time.Millisecond, time.Hour)
	k.atLeast("flush.max_events", c.Flush.MaxEvents, 1)
	c.checkLimits(k)
	if c.Delta == nil && c.ClickHouse == nil {
		k.add("delta", "is missing: give delta, clickhouse or both, or nothing would ever be written")
	}
	c.checkDelta(k)
	c.checkClickHouse(k)
	c.checkHTTP(k)
	c.Tracing.check(k)
	lake := ""
	if c.Delta != nil {
		lake = c.Delta.Path
	}
	c.Encryption.wrong(c.DataDir, lake, k.add)
	return k.problems
}

func (c *Config) checkCluster(k *checker) {
	cl := &c.Cluster
	switch len(cl.Nodes) {
	case 0:
		k.add("cluster.nodes", "is missing: list name and address of every node, one or three")
	case 1, 3:
	default:
		k.add("cluster.nodes", "has %d nodes; a cluster has one or three: of three any one may fail, of two none",
			len(cl.Nodes))
	}
	if cl.Name != "" {
		if err := pki.CheckCluster(cl.Name); err != nil {
			k.add("cluster.name", "%s", err)
		}
	}
	names, addresses, certificates := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i, n := range cl.Nodes {
		key := fmt.Sprintf("cluster.nodes[%d]", i)
		if k.need(key+".name", n.Name, "the name of the node") {
			if names[n.Name] {
				k.add(key+".name", "the name %q is given twice: each node needs its own", n.Name)
			}
			if strings.ContainsFunc(n.Name, func(r rune) bool {
				return !(r == '-' || r == '_' || r == '.' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' ||
					'A' <= r && r <= 'Z')
			}) {
				k.add(key+".name", "%q may hold only letters, digits, '-', '_' and '.'", n.Name)
			}
		}
		if k.need(key+".address", n.Address, "host:port at which the other nodes reach it") {
			if addresses[n.Address] {
				k.add(key+".address", "the address %q is given twice: each node needs its own", n.Address)
			}
			k.address(key+".address", n.Address, false)
		}
		if n.Certificate != "" {
			if err := pki.CheckCertificateName(n.Certificate); err != nil {
				k.add(key+".certificate", "%s", err)
			}
		}
		id := pki.Canonical(cmp.Or(n.Certificate, pki.NodeURI(cl.Name, n.Name)))
		if certificates[id] && !names[n.Name] {
			k.add(key+".certificate", "%q is another node's, too: whoever has it would be both", n.Certificate)
		}
		certificates[id] = true
		names[n.Name], addresses[n.Address] = true, true
	}
	if c.Node != "" && len(cl.Nodes) > 0 && !names[c.Node] {
		k.add("node", "%q is not one of cluster.nodes: add it there or correct the name", c.Node)
	}
	if cl.Listen != "" {
		k.address("cluster.listen", cl.Listen, true)
	}
	if cl.Shards < 1 || cl.Shards > 1024 {
		k.add("cluster.shards", "%d is out of range: use 1 to 1024; it is fixed when the cluster is created", cl.Shards)
	}
	cl.checkTLS(k)
	if strings.ContainsAny(cl.Pipeline, "/ \t\n") {
		k.add("cluster.pipeline", "%q may hold neither '/' nor blanks: it is part of the tables' transaction ids",
			cl.Pipeline)
	}
	k.between("cluster.lease_timeout", cl.LeaseTimeout, 5*time.Millisecond, time.Minute)
	if cl.LeaseTimeout > cl.HeartbeatTimeout {
		k.add("cluster.lease_timeout",
			"%s is longer than heartbeat_timeout (%s): a leader would go on after its followers have given it up; "+
				"lower it", short(cl.LeaseTimeout), short(cl.HeartbeatTimeout))
	}
	if cl.HeartbeatTimeout > cl.ElectionTimeout {
		k.add("cluster.election_timeout", "%s is shorter than heartbeat_timeout (%s): raise it to at least that",
			short(cl.ElectionTimeout), short(cl.HeartbeatTimeout))
	}
	k.between("cluster.election_timeout", cl.ElectionTimeout, 5*time.Millisecond, time.Minute)
	k.between("cluster.commit_timeout", cl.CommitTimeout, time.Millisecond, time.Minute)
	k.between("cluster.transport_timeout", cl.TransportTimeout, 10*time.Millisecond, time.Minute)
	k.between("cluster.store_deadline", cl.StoreDeadline, 10*time.Millisecond, time.Minute)
}

func (c *Config) checkKafka(k *checker) {
	kc := &c.Kafka
	if len(kc.Brokers) == 0 {
		k.add("kafka.brokers", "is missing: list at least one broker as host:port")
	}
	for i, b := range kc.Brokers {
		k.address(fmt.Sprintf("kafka.brokers[%d]", i), b, false)
	}
	const suffix = ".dlq"
	if k.topic("kafka.topic", kc.Topic) && kc.DLQ == kc.Topic+suffix && len(kc.DLQ) > maxTopic {
		k.add("kafka.dlq", "%s is too long: with %s it has %d bytes, and Kafka takes %d; give a shorter name", kc.DLQ,
			suffix, len(kc.DLQ), maxTopic)
	} else if kc.DLQ != kc.Topic+suffix {
		k.topic("kafka.dlq", kc.DLQ)
	}
	if kc.DLQ == kc.Topic {
		k.add("kafka.dlq", "must not be the source topic %q: dead letters would be read again", kc.Topic)
	}
	if kc.Keyed == "no" && c.Cluster.Shards > 1 {
		k.add("kafka.keyed", "without keys a session's events lie in any partition, so cluster.shards (%d) must be 1",
			c.Cluster.Shards)
	}
	checkTLS(k, "kafka.tls", kc.TLS)
	checkSASL(k, kc.SASL)
	k.between("kafka.idle_after", kc.IdleAfter, 100*time.Millisecond, time.Hour)
	if kc.FetchMaxBytes < 1<<20 {
		k.add("kafka.fetch_max_bytes", "%d is too small: a record may have 1 MiB; use at least 1MiB", kc.FetchMaxBytes)
	}
	if kc.FetchMaxBytes > 1<<30 {
		k.add("kafka.fetch_max_bytes", "%d is too large: use at most 1GiB", kc.FetchMaxBytes)
	}
	switch {
	case kc.MaxBatchBytes < kc.FetchMaxBytes:
		k.add("kafka.max_batch_bytes",
			"%d is less than fetch_max_bytes (%d): a batch that a fetch brings must fit, inflated; raise it",
			kc.MaxBatchBytes, kc.FetchMaxBytes)
	case kc.MaxBatchBytes > 1<<30:
		k.add("kafka.max_batch_bytes", "%d is too large: use at most 1GiB", kc.MaxBatchBytes)
	}
}

func (c *Config) checkSession(k *checker) {
	s := &c.Session
	k.between("session.idle_timeout", s.IdleTimeout, time.Second, 7*24*time.Hour)
	k.between("session.grace", s.Grace, time.Second, 24*time.Hour)
	k.between("session.retention", s.Retention, time.Second, 31*24*time.Hour)
	if s.Grace > s.IdleTimeout {
		k.add("session.grace", "%s is longer than idle_timeout (%s): lower it, or raise idle_timeout", short(s.Grace),
			short(s.IdleTimeout))
	}
	if s.Retention < s.IdleTimeout+s.Grace {
		k.add("session.retention",
			"%s is shorter than idle_timeout plus grace (%s): open sessions would be cut short; raise it",
			short(s.Retention), short(s.IdleTimeout+s.Grace))
	}
}

func (c *Config) checkLimits(k *checker) {
	l := &c.Limits
	if l.DiskBytes != 0 {
		k.atLeast("limits.disk_bytes", l.DiskBytes, 64<<20)
	}
	if l.ReserveBytes != nil && *l.ReserveBytes != 0 { // less does not hold what one checkpoint writes
		k.atLeast("limits.reserve_bytes", *l.ReserveBytes, 16<<20)
	}
	k.atLeast("limits.in_flight_entries", int64(l.InFlightEntries), 1)
	k.atLeast("limits.entry_bytes", int64(l.EntryBytes), 4<<10)
	if l.EntryBytes > 8<<20 {
		k.add("limits.entry_bytes", "%d is too large: use at most 8MiB, or followers time out on one entry",
			l.EntryBytes)
	}
	k.atLeast("limits.session_memory_bytes", l.SessionMemoryBytes, 1<<20)
	k.atLeast("limits.buffer_memory_bytes", l.BufferMemoryBytes, 1<<20)
	if l.FetchMemoryBytes < c.Kafka.MaxBatchBytes {
		k.add("limits.fetch_memory_bytes",
			"%d is less than kafka.max_batch_bytes (%d): one batch would not fit; raise it",
			l.FetchMemoryBytes, c.Kafka.MaxBatchBytes)
	}
	k.atLeast("limits.cache_bytes", l.CacheBytes, 1<<20)
	k.atLeast("limits.unflushed_epochs", int64(l.UnflushedEpochs), 0)
}

// within says whether a path is dir or below it, by their texts.
func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

func (c *Config) checkDelta(k *checker) {
	d := c.Delta
	if d == nil {
		return
	}
	switch {
	case d.Path == "" && d.S3 == nil:
		k.add("delta", "needs a place: give either path (a local folder) or s3")
	case d.Path != "" && d.S3 != nil:
		k.add("delta", "has two places: give either path or s3, not both")
	}
	switch {
	case d.Shared && d.S3 != nil:
		k.add("delta.shared", "is for a local folder: who may read a bucket its policy says; take the key away")
	case d.Shared && within(c.DataDir, d.Path):
		k.add("delta.shared", "nobody else reaches %s, since data_dir is this user's alone: give the lake a folder "+
			"outside of it", d.Path)
	}
	k.between("delta.revision_interval", d.RevisionInterval, 100*time.Millisecond, 24*time.Hour)
	k.atLeast("delta.revision_files_per_pass", int64(d.RevisionFilesPerPass), 1)
	k.atLeast("delta.deletion_vectors_from_bytes", d.DeletionVectorsFromBytes, 1)
	k.between("delta.commit_wait", *d.CommitWait, 0, 2*time.Second)
	if by := d.Sessions.PartitionBy; !slices.Equal(by, []string{"date"}) &&
		!slices.Equal(by, []string{"opening_brand", "date"}) {
		k.add("delta.sessions.partition_by", "%q: give [date] or [opening_brand, date]", by)
	}
	k.atLeast("delta.checkpoint_interval", int64(d.CheckpointInterval), 1)
	k.between("delta.compaction.every", d.Compaction.Every, time.Second, 24*time.Hour)
	k.atLeast("delta.compaction.rate_bytes", d.Compaction.RateBytes, 1<<20)
	k.between("delta.vacuum.every", d.Vacuum.Every, time.Minute, 30*24*time.Hour)
	k.between("delta.vacuum.retain", d.Vacuum.Retain, 48*time.Hour, 10*365*24*time.Hour)
	s := d.S3
	if s == nil {
		return
	}
	if k.need("delta.s3.endpoint", s.Endpoint, "https://host:port or http://host:port") {
		checkEndpoint(k, s)
	}
	if k.need("delta.s3.bucket", s.Bucket, "the bucket's name") {
		k.bucket("delta.s3.bucket", s.Bucket)
	}
	k.prefix("delta.s3.prefix", s.Prefix)
	k.region("delta.s3.region", s.Region)
	checkS3Credentials(k, s)
	checkTLS(k, "delta.s3.tls", s.TLS)
}

func checkEndpoint(k *checker, s *S3) {
	u, err := url.Parse(s.Endpoint)
	switch {
	case err != nil || u.User != nil || strings.Contains(s.Endpoint, "@"):
		k.add("delta.s3.endpoint",
			"must be https://host:port or http://host:port, without user or password: those are access_key and "+
				"secret_key")
	case u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		k.add("delta.s3.endpoint",
			"%q needs its scheme: https://host:port, or http://host:port for an unencrypted one", s.Endpoint)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		k.add("delta.s3.endpoint", "%q must hold no path: use bucket and prefix", s.Endpoint)
	case !k.host("delta.s3.endpoint", u):
	case u.Scheme == "http" && s.TLS != nil:
		k.add("delta.s3.tls", "makes no sense with an http:// endpoint: write https://, or take tls away")
	}
}

func (c *Config) checkClickHouse(k *checker) {
	h := c.ClickHouse
	if h == nil {
		return
	}
	if k.need("clickhouse.address", h.Address,
		"host:port of the native protocol, usually port 9000, or 9440 with tls") {
		if strings.Contains(h.Address, "://") {
			k.add("clickhouse.address", "%q must be host:port without a scheme (native protocol, not HTTP)", h.Address)
		} else {
			k.address("clickhouse.address", h.Address, false)
		}
	}
	k.between("clickhouse.read_timeout", h.ReadTimeout, time.Second, time.Hour)
	k.database("clickhouse.database", h.Database)
	checkTLS(k, "clickhouse.tls", h.TLS)
}

// reached says whether others than this machine reach the nodes' port: names other than localhost are not resolved.
func (cl *Cluster) reached() bool {
	addresses := []string{cl.Listen}
	for _, n := range cl.Nodes {
		addresses = append(addresses, n.Address)
	}
	return slices.ContainsFunc(addresses, func(a string) bool {
		host, _, err := net.SplitHostPort(a)
		ip := net.ParseIP(host)
		return err == nil && !strings.EqualFold(host, "localhost") && (ip == nil || !ip.IsLoopback())
	})
}

// checkTLS checks what secures the connections between the nodes.
func (cl *Cluster) checkTLS(k *checker) {
	t := cl.TLS
	if t == nil {
		if !cl.Insecure && len(cl.Nodes) > 1 && cl.reached() {
			k.add("cluster.tls", "is missing: whoever reaches the nodes' port could write into their logs. Make "+
				"certificates, and name them in cluster.tls (ca, cert, key)\n"+
				"  deckle certs init --config FILE\n"+
				"  deckle certs node NAME --config FILE\n"+
				"or set cluster.insecure: true to go without")
		}
		return
	}
	hint := "between nodes both ends show a certificate: give ca, cert and key"
	k.need("cluster.tls.ca", t.CA, hint)
	k.need("cluster.tls.cert", t.Cert, hint)
	k.need("cluster.tls.key", t.Key, hint)
	if t.InsecureSkipVerify {
		k.add("cluster.tls.insecure_skip_verify", "between nodes each end verifies the other; take the key away")
	}
	if cl.Name == "" && slices.ContainsFunc(cl.Nodes, func(n Node) bool { return n.Certificate == "" }) {
		k.add("cluster.tls", "needs a cluster.name, which the certificates of the nodes have: cluster.pipeline (%q) "+
			"cannot stand there", cl.Pipeline)
	}
}

// checkTLS checks a client's TLS: a certificate and its key come together.
func checkTLS(k *checker, key string, t *TLS) {
	if t != nil && (t.Cert == "") != (t.Key == "") {
		missing := cmp.Or(map[bool]string{true: "cert"}[t.Cert == ""], "key")
		k.add(key+"."+missing, "is missing: a certificate and its key come together")
	}
}
