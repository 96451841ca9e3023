package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/shard"
	"deckle/raftstore"
	"deckle/sinks/clickhouse"
	"deckle/sinks/deadletter"
	"deckle/sinks/delta/store"
	"deckle/trust"
)

// Outcome is what a Finding has come to.
type Outcome string

// The outcomes, from good to bad.
const (
	Fine    Outcome = "ok"
	Unknown Outcome = "unknown" // it could not be found out, and need not be wrong
	Advice  Outcome = "notice"  // it works, and somebody may want to know
	Failed  Outcome = "failed"  // it does not work now; it may pass
	Refused Outcome = "refused" // it does not work until somebody acts
)

// Finding is one thing that a node will need, and whether it is there.
type Finding struct {
	Check   string  `json:"check"` // "kafka.brokers", "delta.s3", …: the key that it is about, or what it is
	Outcome Outcome `json:"outcome"`
	Text    string  `json:"text"`
	Todo    string  `json:"todo,omitempty"`
}

// Bounds of what Connect does.
const (
	connectTimeout = 20 * time.Second // of each part, all of which run at once
	askTimeout     = 5 * time.Second  // of one question
	fsyncs         = 20
	slowFsync      = 50 * time.Millisecond // the second slowest of them
	clockOff       = 2 * time.Second
)

// connector is what the parts of Connect share.
type connector struct {
	cfg   *config.Config
	deps  *Deps
	files *trust.Files
	wire  *sinkWiring
}

// Connect tries everything that a node of this configuration will need, and returns what it has found, part by part;
// none keeps the others from being tried. It changes nothing that stays: a file in the data folder and an object in the
// bucket are written and removed again. deps are those of the node.
func Connect(ctx context.Context, cfg *config.Config, deps Deps) []Finding {
	deps.complete()
	deps.Logger = slog.New(slog.DiscardHandler)
	c := &connector{cfg: cfg, deps: &deps, files: trust.NewFiles(deps.ReadFile, deps.Now, deps.Logger)}
	c.wire = &sinkWiring{cfg: cfg, deps: &deps, files: c.files}
	parts := []func(context.Context) []Finding{c.local, c.disk, c.ports, c.peers, c.brokers, c.lake, c.clickHouse}
	found := make([][]Finding, len(parts))
	var all sync.WaitGroup
	for i, part := range parts {
		all.Go(func() {
			bounded, cancel := context.WithTimeout(ctx, connectTimeout)
			defer cancel()
			found[i] = part(bounded)
		})
	}
	all.Wait()
	return slices.Concat(found...)
}

// failing judges an error of a service: refused says whether it stays until somebody acts.
func failing(check string, err error, todo string, refused bool) Finding {
	f := Finding{Check: check, Outcome: Failed, Text: err.Error(), Todo: todo}
	if refused {
		f.Outcome = Refused
	}
	return f
}

// local looks at rules, files and the limit of open files.
func (c *connector) local(context.Context) (found []Finding) {
	if err := shard.CheckRules(&c.cfg.Rules); err != nil {
		found = append(found, failing("rules", err, "", true))
	}
	certificates, notices, err := CheckFiles(c.cfg, *c.deps)
	switch {
	case err != nil:
		found = append(found, failing("certificates and secrets", err, "", true))
	case len(certificates) > 0:
		found = append(found, Finding{"certificates and secrets", Fine, strings.Join(certificates, "; "), ""})
	default:
		found = append(found, Finding{"certificates and secrets", Fine, "every file can be used", ""})
	}
	for _, n := range notices {
		found = append(found, Finding{"certificates and secrets", Advice, n, ""})
	}
	limit, ok := raiseFiles()
	if !ok {
		return found
	}
	warning, err := judgeFiles(limit, c.cfg.Cluster.Shards, len(c.cfg.Cluster.Nodes) > 1)
	switch {
	case err != nil:
		found = append(found, failing("open files", err, "", true))
	case warning != "":
		found = append(found, Finding{"open files", Advice, warning, ""})
	default:
		found = append(found, Finding{"open files", Fine, fmt.Sprintf("%d may be opened", limit), ""})
	}
	return found
}

// disk proves keys and folder, and measures how long the disk takes for what the log does: append and fsync.
func (c *connector) disk(context.Context) (found []Finding) {
	if _, _, err := proveFolder(c.cfg, c.deps); err != nil {
		return append(found, failing("data_dir", err, "", !errors.Is(err, fs.ErrPermission)))
	}
	fsys, dir := c.deps.FS, c.cfg.DataDir
	for dir != filepath.Dir(dir) { // the folder may not be there yet
		if _, err := fsys.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	took, err := timeFsyncs(fsys, dir, c.deps.Now)
	if err != nil {
		f := failing("data_dir", fmt.Errorf("in %s: %w", dir, err), "run this as the node's user, who must be able to "+
			"write there", true)
		if dir != c.cfg.DataDir {
			f.Outcome, f.Todo = Unknown, fmt.Sprintf("%s is not there yet, and this user cannot make it: run this as "+
				"the node's user", c.cfg.DataDir)
		}
		return append(found, f)
	}
	slices.Sort(took)
	slow := took[len(took)-2]
	text := fmt.Sprintf("%s: fsync takes %s, at most %s", dir, took[len(took)/2].Round(10*time.Microsecond),
		slow.Round(10*time.Microsecond))
	if du, err := fsys.GetDiskUsage(dir); err == nil {
		text += fmt.Sprintf("; %d GiB are free", du.AvailBytes>>30)
		if limit := c.cfg.Limits.DiskBytes; limit > 0 && uint64(limit) > du.TotalBytes {
			found = append(found, Finding{"limits.disk_bytes", Advice, "it is more than the whole disk has",
				"Lower it: intake would not rest before the disk is full."})
		}
	}
	if slow > slowFsync {
		return append(found, Finding{"data_dir", Advice, text, "Use a local SSD: each commit of a shard waits for it."})
	}
	return append(found, Finding{"data_dir", Fine, text, ""})
}

// timeFsyncs appends to a file of its own and returns how long each fsync took.
func timeFsyncs(fsys vfs.FS, dir string, now func() time.Time) (took []time.Duration, err error) {
	path := fsys.PathJoin(dir, fmt.Sprintf("deckle-check-%d", now().UnixNano()))
	f, err := fsys.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close(), fsys.Remove(path)) }()
	block := make([]byte, 16<<10)
	for range fsyncs {
		begun := now()
		if _, err := f.Write(block); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		took = append(took, now().Sub(begun))
	}
	return took, nil
}

// ports tries to listen where the node will.
func (c *connector) ports(ctx context.Context) (found []Finding) {
	ports := [][2]string{{"http.listen", c.cfg.HTTP.Listen}}
	if len(c.cfg.Cluster.Nodes) > 1 {
		ports = append(ports, [2]string{"cluster.listen", c.cfg.Cluster.Listen})
	}
	if c.cfg.Debug.Listen != "" {
		ports = append(ports, [2]string{"debug.listen", c.cfg.Debug.Listen})
	}
	for _, p := range ports {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p[1])
		if err != nil {
			found = append(found, failing(p[0], err, "A node that runs here already has it, or another program: then "+
				"name another address.", false))
			continue
		}
		_ = ln.Close()
		found = append(found, Finding{p[0], Fine, p[1] + " is free", ""})
	}
	return found
}

// peers says hello to the other nodes. One that does not run yet is nothing wrong.
func (c *connector) peers(ctx context.Context) (found []Finding) {
	if len(c.cfg.Cluster.Nodes) < 2 {
		return nil
	}
	reach, err := reachOf(c.cfg, c.deps, c.files)
	if err != nil {
		return []Finding{failing("cluster.nodes", err, "", true)}
	}
	for _, a := range raftstore.Hello(ctx, reach) {
		check := "node " + a.Name
		switch {
		case errors.Is(a.Err, raftstore.ErrRefused):
			found = append(found, failing(check, a.Err, "", true))
		case a.Err != nil:
			found = append(found, Finding{check, Unknown, a.Err.Error(), "It does not run yet, or cannot be reached."})
		case a.Cluster == "":
			found = append(found, Finding{check, Fine, "it answers, and belongs to no cluster yet", ""})
		default:
			found = append(found, Finding{check, Fine, "it answers, of cluster " + a.Cluster, ""})
		}
	}
	return found
}

// brokers looks at each broker, the topics and the rights on them.
func (c *connector) brokers(ctx context.Context) (found []Finding) {
	k, err := openKafka(c.cfg, c.deps, c.files, c.deps.Logger)
	if err != nil {
		return []Finding{failing("kafka", err, "", true)}
	}
	defer k.Close()
	asked, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answered := false
	for _, b := range k.Brokers(asked) {
		if b.Err != nil {
			found = append(found, failing("kafka.brokers", fmt.Errorf("%s: %w", b.Name, b.Err), "", false))
			continue
		}
		answered = true
		found = append(found, Finding{"kafka.brokers", Fine, b.Name + " answers", ""})
	}
	if !answered {
		return append(found, Finding{"kafka.topic", Unknown, "no broker answers", ""})
	}
	info, err := k.Describe(ctx)
	if err != nil {
		return append(found, failing("kafka.topic", err, "", errors.Is(err, kafka.ErrNoTopic)))
	}
	found = append(found, Finding{"kafka.topic", Fine, fmt.Sprintf("%s has %d partitions", c.cfg.Kafka.Topic,
		info.Partitions), ""})
	return append(append(found, c.rights(ctx, k)...), c.topics(ctx, k)...)
}

func (c *connector) rights(ctx context.Context, k *kafka.Client) (found []Finding) {
	missing, there, err := k.Missing(ctx, c.cfg.Kafka.DLQ)
	if err != nil {
		return []Finding{{"rights in Kafka", Unknown, err.Error(), ""}}
	}
	for _, r := range missing {
		found = append(found, Finding{"rights in Kafka", Refused, "the account lacks " + r.String(),
			"deploy/rights/kafka.sh has all that are needed."})
	}
	if len(missing) == 0 {
		found = append(found, Finding{"rights in Kafka", Fine, "none is known to be missing", ""})
	}
	if !there {
		found = append(found, Finding{"kafka.dlq", Fine, c.cfg.Kafka.DLQ + " is not there yet: the node creates it",
			""})
	}
	return found
}

// topics says what a new cluster would be refused for, and what does not fit.
func (c *connector) topics(ctx context.Context, k *kafka.Client) (found []Finding) {
	reach, err := reachOf(c.cfg, c.deps, c.files)
	if err == nil && mayFound(ctx, c.deps, c.cfg, reach) {
		switch notice, err := k.CheckNew(ctx, c.cfg); {
		case err != nil:
			found = append(found, failing("kafka.topic", err, "", kafka.Refused(err)))
		case notice != "":
			found = append(found, Finding{"kafka.topic", Advice, notice, ""})
		}
	}
	list, err := k.Advise(ctx, c.cfg, kafka.Needs{LetterBytes: deadletter.LetterBytes,
		DiskBytes: c.cfg.Limits.DiskBytes}, c.deps.Now())
	if err != nil {
		return append(found, Finding{"kafka.topic", Unknown, err.Error(), ""})
	}
	for i := range list {
		a := &list[i]
		todo := a.Todo
		if todo == "" {
			todo = condition.Of(a.ID).Todo
		}
		found = append(found, Finding{a.Subject, Advice, a.Text, todo})
	}
	return found
}

// lake writes, reads and removes an object, twice under the condition that there is none yet.
func (c *connector) lake(ctx context.Context) (found []Finding) {
	d := c.cfg.Delta
	if d == nil {
		return nil
	}
	check := "delta.path"
	if d.S3 != nil {
		check = "delta.s3"
	}
	st, err := c.wire.deltaStore(d)
	if err != nil {
		return []Finding{failing(check, err, "", true)}
	}
	if err := store.Probe(ctx, st, "", c.deps.Random); err != nil {
		todo, refused := store.Refused(err)
		found = append(found, failing(check, err, todo, refused))
	} else {
		found = append(found, Finding{check, Fine, st.String() + ": an object was written, read and removed, and was " +
			"not replaced under a condition", ""})
	}
	if d.S3 != nil && c.deps.DeltaStore == nil {
		found = append(found, c.storeClock(ctx, d.S3)...)
	}
	return found
}

// storeClock compares this machine's clock with the Date of an answer, which is a whole second.
func (c *connector) storeClock(ctx context.Context, s *config.S3) []Finding {
	present, err := client(c.files, "delta.s3.tls", s.TLS)
	if err != nil {
		return nil // which the store has said
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	if present != nil {
		transport.TLSClientConfig = present()
	} else {
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, s.Endpoint, nil)
	if err != nil {
		return nil
	}
	before := c.deps.Now()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return []Finding{{"clock", Unknown, err.Error(), ""}}
	}
	_ = resp.Body.Close()
	after := c.deps.Now()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return []Finding{{"clock", Unknown, "the store tells no Date", ""}}
	}
	return []Finding{clock("the store's", date.Add(time.Second/2).Sub(before.Add(after.Sub(before)/2)))}
}

// clock judges how far another clock is ahead of this machine's.
func clock(whose string, ahead time.Duration) Finding {
	text := fmt.Sprintf("%s is %s ahead of this machine's", whose, ahead.Round(100*time.Millisecond))
	if ahead < 0 {
		text = fmt.Sprintf("%s is %s behind this machine's", whose, (-ahead).Round(100*time.Millisecond))
	}
	if ahead.Abs() > clockOff {
		return Finding{"clock", Advice, text, "Let all machines follow one source of time (chrony, " +
			"systemd-timesyncd). S3 refuses requests that are 15 minutes off."}
	}
	return Finding{"clock", Fine, text, ""}
}

// clickHouse connects, and asks for version, clock, database and grants.
func (c *connector) clickHouse(ctx context.Context) (found []Finding) {
	h := c.cfg.ClickHouse
	if h == nil {
		return nil
	}
	present, err := client(c.files, "clickhouse.tls", h.TLS)
	if err != nil {
		return []Finding{failing("clickhouse", err, "", true)}
	}
	secret, err := password(c.files, "clickhouse.password", h.Password)
	if err != nil {
		return []Finding{failing("clickhouse", err, "", true)}
	}
	sink := clickhouse.New(clickhouse.Options{Address: h.Address, Database: h.Database, User: h.User, Password: secret,
		TLS: present, Compression: h.Compression, ReadTimeout: askTimeout, DialTimeout: askTimeout,
		ClusterID: "check", Pipeline: c.cfg.Cluster.Pipeline, NodeName: c.cfg.Node, Logger: c.deps.Logger,
		Now: c.deps.Now, Dial: c.deps.ClickHouseDial})
	defer func() { _ = sink.Close() }()
	server, err := sink.Inspect(ctx)
	if err != nil && server == nil {
		todo, refused := clickhouse.Refused(err)
		if _, port, _ := net.SplitHostPort(h.Address); !refused && (port == "8123" || port == "8443") {
			todo = "Port " + port + " is HTTP's, as a rule: give that of the native protocol, 9000, or 9440 with tls."
		}
		return []Finding{failing("clickhouse", err, todo, refused)}
	}
	if err != nil {
		found = append(found, Finding{"clickhouse", Unknown, err.Error(), ""})
	}
	if server.Version != "" {
		found = append(found, Finding{"clickhouse", Fine, fmt.Sprintf("%s answers, version %s", h.Address,
			server.Version), ""}, clock("ClickHouse's", server.Clock))
	}
	if err == nil && !server.Exists {
		found = append(found, Finding{"clickhouse.database", Fine,
			h.Database + " is not there yet: the node creates it", ""})
	}
	if lacks := server.Lacks(h.Database); len(lacks) > 0 {
		found = append(found, Finding{"rights in ClickHouse", Refused, fmt.Sprintf("the user lacks on %s.*: %s",
			h.Database, strings.Join(lacks, ", ")), "deploy/rights/clickhouse.sql has all that are needed."})
	} else if len(server.Grants) > 0 {
		found = append(found, Finding{"rights in ClickHouse", Fine, "none is known to be missing", ""})
	}
	return found
}
