package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/letters"
	"deckle/node/shard"
	"deckle/raftstore"
	"deckle/sinks/deadletter"
	"deckle/trust"
)

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
	if _, _, err := proveFolder(c.cfg, c.deps, c.deps.FS); err != nil {
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
		if errors.Is(err, syscall.EADDRNOTAVAIL) {
			found = append(found, Finding{p[0], Unknown, err.Error(), "It is no address of this machine: run this on " +
				"the node's."})
			continue
		}
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
	review := c.cfg.Kafka.DLQ + letters.ReviewSuffix
	lacks, err := k.MissingToReview(ctx, c.cfg.Kafka.DLQ, review, letters.TransactionalID(c.cfg.Kafka.DLQ))
	if err != nil {
		found = append(found, Finding{"rights to review letters", Unknown, err.Error(), ""})
	}
	for _, r := range lacks {
		found = append(found, Finding{"rights to review letters", Advice, "the account lacks " + r.String(),
			"deckle dlq is refused without it, and nothing else; deploy/rights/kafka.sh --letters has all."})
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
