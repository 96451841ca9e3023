package node

import (
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/trust/pki"
)

// certificates makes the files of nodes in a folder, and returns the folder's CA.
func certificates(t *testing.T, days int, nodes ...string) *pki.Folder {
	t.Helper()
	f := &pki.Folder{Dir: t.TempDir()}
	if _, err := f.Init("deckle", 3650, false); err != nil {
		t.Fatal(err)
	}
	for _, name := range nodes {
		if _, err := f.Node(pki.Leaf{Name: name, Hosts: []string{"127.0.0.1"}, Days: days}); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// blockOf is the TLS block of a node.
func blockOf(f *pki.Folder, name string) *config.TLS {
	return &config.TLS{CA: filepath.Join(f.Dir, "ca.pem"), Cert: filepath.Join(f.Dir, name+".pem"),
		Key: filepath.Join(f.Dir, name+"-key.pem")}
}

// A CA is rotated under three nodes that keep running. What proves that they have read their files anew is a node that
// comes back: it has the new CA alone, and a certificate of it.
func TestCARotatesWithoutRestart(t *testing.T) {
	t.Parallel()
	f := certificates(t, 100, "n0", "n1", "n2")
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 3, nil)
	c.tune = func(cfg *config.Config) { cfg.Cluster.TLS = blockOf(f, cfg.Node) }
	for i := range 3 {
		c.start(i)
	}
	c.ready()
	sent := 0
	produce := func() {
		t.Helper()
		var rs []*kgo.Record
		for i := range 10 {
			rs = append(rs, nodetest.Record(0, "s", sent+i))
		}
		b.Produce(rs...)
		sent += len(rs)
		nodetest.Until(t, "applied", func() bool { return c.sum(applied) == int64(sent) })
	}
	look := func() {
		for _, n := range c.nodes {
			n.files.files.Look()
			for _, s := range n.files.files.State() {
				if s.Err != nil {
					t.Fatalf("%+v", s)
				}
			}
		}
	}
	produce()
	if _, err := f.Rotate(3650); err != nil {
		t.Fatal(err)
	}
	look()
	for _, name := range []string{"n0", "n1", "n2"} {
		if _, err := f.Node(pki.Leaf{Name: name, Hosts: []string{"127.0.0.1"}, Days: 100, Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	look()
	if _, err := f.Finish(); err != nil {
		t.Fatal(err)
	}
	look()
	produce()
	c.stop(1)
	n := c.start(1)
	nodetest.Until(t, "it is a member again", func() bool { return n.Status().Ready })
	produce()
}

// Three nodes get TLS by their keys while records flow: each takes both, then each TLS alone. For as long as one lets
// anybody in, its condition says so.
func TestClusterGetsTLS(t *testing.T) {
	t.Parallel()
	f := certificates(t, 100, "n0", "n1", "n2")
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 3, nil)
	for i := range 3 {
		c.start(i)
	}
	c.ready()
	sent := 0
	produce := func() {
		t.Helper()
		var rs []*kgo.Record
		for i := range 10 {
			rs = append(rs, nodetest.Record(0, "s", sent+i))
		}
		b.Produce(rs...)
		sent += len(rs)
		nodetest.Until(t, "applied", func() bool { return c.sum(applied) == int64(sent) })
	}
	produce()
	for _, insecure := range []bool{true, false} {
		c.tune = func(cfg *config.Config) {
			cfg.Cluster.TLS, cfg.Cluster.Insecure = blockOf(f, cfg.Node), insecure
		}
		for i := range 3 {
			c.stop(i)
			n := c.start(i)
			nodetest.Until(t, "it is a member again", func() bool { return n.Status().Ready })
			produce()
			if has(n.list.Snapshot(), condition.Insecure, betweenNodes) != insecure {
				t.Errorf("cluster.insecure is %v: %v", insecure, n.list.Snapshot())
			}
		}
	}
}

// The conditions about files begin and end with what they are about, and say by when or since when.
func TestFileConditions(t *testing.T) {
	f := certificates(t, 100, "a")
	now := time.Now()
	files := map[string][]byte{}
	tls := blockOf(f, "a")
	for _, path := range []string{tls.CA, tls.Cert, tls.Key} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[path] = text
	}
	good := maps.Clone(files)
	deps := Deps{Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler),
		ReadFile: func(path string) ([]byte, error) {
			if b, ok := files[path]; ok {
				return b, nil
			}
			return nil, fs.ErrNotExist
		}}
	deps.complete()
	cfg := &config.Config{Kafka: config.Kafka{TLS: tls},
		ClickHouse: &config.ClickHouse{TLS: &config.TLS{InsecureSkipVerify: true}}}
	w := &fileWatch{cfg: cfg, deps: &deps, files: openFiles(cfg, &deps),
		list: condition.New("a", deps.Now, deps.Logger)}
	holds := func(id condition.ID, subject string) (c condition.Condition) {
		w.files.Look()
		w.look()
		for _, c := range w.list.Snapshot() {
			if c.ID == id && c.Subject == subject {
				return c
			}
		}
		return c
	}
	w.tellInsecure()
	if c := holds(condition.Insecure, "clickhouse.tls"); !strings.Contains(c.Text, ".insecure_skip_verify") {
		t.Errorf("insecure: %+v", c)
	}
	if has(w.list.Snapshot(), condition.Insecure, "kafka.tls") {
		t.Error("a block that is verified is insecure")
	}
	if has(w.list.Snapshot(), condition.Insecure, betweenNodes) {
		t.Error("insecure between nodes, which nobody has said")
	}
	cfg.Cluster.Insecure, cfg.Cluster.Nodes = true, make([]config.Node, 3)
	w.tellInsecure()
	if c := holds(condition.Insecure, betweenNodes); !strings.Contains(c.Text, "have no TLS") {
		t.Errorf("insecure without TLS: %+v", c)
	}
	cfg.Cluster.TLS = tls
	w.tellInsecure()
	if c := holds(condition.Insecure, betweenNodes); !strings.Contains(c.Text, "taken without TLS, too") {
		t.Errorf("insecure beside TLS: %+v", c)
	}
	for _, row := range []struct {
		after    int // days
		severity condition.Severity
		text     string
	}{
		{0, 0, ""}, {69, 0, ""}, {70, condition.Degraded, "a.pem expires at "}, {92, condition.Degraded, "in 7 days"},
		{93, condition.Failing, "in 6 days"}, {99, condition.Failing, "within a day"},
		{101, condition.Failing, "has expired at "},
	} {
		now = time.Now().Add(time.Duration(row.after)*24*time.Hour + time.Hour)
		if c := holds(condition.CertificateExpiring, "kafka.tls.cert"); c.Severity != row.severity ||
			!strings.Contains(c.Text, row.text) {
			t.Errorf("after %d days: %+v, want %s, %q", row.after, c, row.severity, row.text)
		}
	}
	now = time.Now()
	if c := holds(condition.CertificateExpiring, "kafka.tls.cert"); c.ID != "" {
		t.Errorf("it has not ended: %+v", c)
	}
	delete(files, tls.CA)
	if c := holds(condition.FileUnusable, "kafka.tls.ca"); c.ID != "" {
		t.Errorf("at once: %+v", c)
	}
	now = now.Add(61 * time.Second)
	if c := holds(condition.FileUnusable, "kafka.tls.ca"); !strings.Contains(c.Text, "does not exist") ||
		!strings.Contains(c.Text, "is in use") {
		t.Errorf("after a minute: %+v", c)
	}
	maps.Copy(files, good)
	if c := holds(condition.FileUnusable, "kafka.tls.ca"); c.ID != "" {
		t.Errorf("it has not ended: %+v", c)
	}
}

// A secret in a file is followed by whoever was given its function; one that is emptied stays what it was, and is told.
func TestSecretsAreFollowed(t *testing.T) {
	now := time.Now()
	files := map[string][]byte{"p": []byte("one\n"), "access": []byte("a1"), "secret": []byte("s1")}
	deps := Deps{Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler),
		ReadFile: func(path string) ([]byte, error) {
			if b, ok := files[path]; ok {
				return b, nil
			}
			return nil, fs.ErrNotExist
		}}
	deps.complete()
	cfg := &config.Config{ClickHouse: &config.ClickHouse{Address: "ch:9000", Password: config.Secret{File: "p"}},
		Kafka: config.Kafka{SASL: &config.SASL{Password: config.SecretValue("built in")}},
		Delta: &config.Delta{S3: &config.S3{AccessKey: config.Secret{File: "access"},
			SecretKey: config.Secret{File: "none"}}}}
	w := &fileWatch{cfg: cfg, deps: &deps, files: openFiles(cfg, &deps),
		list: condition.New("a", deps.Now, deps.Logger)}
	get := func(key string, s config.Secret) func() string {
		t.Helper()
		f, err := password(w.files, key, s)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	p := get("clickhouse.password", cfg.ClickHouse.Password) // opened a second time: by the sink
	again := get("clickhouse.password", cfg.ClickHouse.Password)
	if p() != "one" || again() != "one" || get("kafka.sasl.password", cfg.Kafka.SASL.Password)() != "built in" {
		t.Errorf("%q, %q", p(), again())
	}
	// A sink's secret that is missing at the start is the sink's error, and is there once the file is.
	if _, err := password(w.files, "delta.s3.secret_key", cfg.Delta.S3.SecretKey); err == nil ||
		!strings.Contains(err.Error(), "delta.s3.secret_key: ") {
		t.Errorf("a file that is missing: %v", err)
	}
	files["none"] = []byte("s2")
	if got := get("delta.s3.secret_key", cfg.Delta.S3.SecretKey)(); got != "s2" {
		t.Errorf("%q", got)
	}
	files["p"] = []byte("two\n")
	w.files.Look()
	if p() != "two" || again() != "two" {
		t.Errorf("after a change: %q, %q", p(), again())
	}
	files["p"] = []byte("\n")
	w.files.Look()
	now = now.Add(time.Minute)
	w.look()
	if !has(w.list.Snapshot(), condition.FileUnusable, "clickhouse.password") || p() != "two" {
		t.Errorf("emptied: %q, %+v", p(), w.list.Snapshot())
	}
	delete(files, "access")
	w.files.Look()
	now = now.Add(time.Minute)
	w.look()
	if a := get("delta.s3.access_key", cfg.Delta.S3.AccessKey)(); a != "a1" ||
		!has(w.list.Snapshot(), condition.FileUnusable, "delta.s3.access_key") {
		t.Errorf("missing: %q, %+v", a, w.list.Snapshot())
	}
	w.tellInsecure()
	if !has(w.list.Snapshot(), condition.PasswordInClear, "clickhouse.password") {
		t.Errorf("%+v", w.list.Snapshot())
	}
}

// --check opens every file of every block, and names what cannot be used, what the other nodes would refuse, and what
// others can read.
func TestCheckFiles(t *testing.T) {
	f, other := certificates(t, 100, "a", "b"), certificates(t, 20, "a")
	if _, err := f.Client(pki.Leaf{Name: "web", Days: 100}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := func() *config.Config {
		return &config.Config{Node: "a", Cluster: config.Cluster{Name: "deckle",
			Nodes: []config.Node{{Name: "a"}, {Name: "b"}}, TLS: blockOf(f, "a")},
			ClickHouse: &config.ClickHouse{Address: "127.0.0.1:9000", Password: config.Secret{File: secret}}}
	}
	for what, row := range map[string]struct {
		change  func(c *config.Config)
		notices []string // each contains one
		err     string
	}{
		"good": {func(*config.Config) {}, nil, ""},
		"another node's": {func(c *config.Config) { c.Cluster.TLS = blockOf(f, "b") },
			nil, "cluster.tls.cert: it does not name node a"},
		"of a client": {func(c *config.Config) { c.Cluster.TLS = blockOf(f, "web") },
			nil, "incompatible key usage"},
		"of another CA": {func(c *config.Config) { c.Cluster.TLS.CA = filepath.Join(other.Dir, "ca.pem") },
			nil, "cluster.tls.cert: the other nodes refuse it"},
		"another cluster": {func(c *config.Config) { c.Cluster.Name = "other" },
			nil, "deckle://other/node/a"},
		"expires soon": {func(c *config.Config) { c.Cluster.TLS = blockOf(other, "a") },
			[]string{"a.pem expires at "}, ""},
		"unverified": {func(c *config.Config) { c.Kafka.TLS = &config.TLS{InsecureSkipVerify: true} },
			[]string{"kafka.tls.insecure_skip_verify"}, ""},
		"a password in clear": {func(c *config.Config) { c.ClickHouse.Address = "ch:9000" },
			[]string{"clickhouse.password: it goes to ch:9000 unencrypted"}, ""},
		"half a pair": {func(c *config.Config) { c.Cluster.TLS.Key = filepath.Join(f.Dir, "b-key.pem") }, nil,
			"cluster.tls.cert: "},
		"no file of a sink": {func(c *config.Config) { c.ClickHouse.TLS = &config.TLS{CA: "/does/not/exist"} }, nil,
			"clickhouse.tls.ca: open /does/not/exist"},
		"two errors": {func(c *config.Config) {
			c.ClickHouse.TLS, c.Kafka.TLS = &config.TLS{CA: secret}, &config.TLS{CA: secret}
		}, nil, "kafka.tls.ca: " + secret + ": holds no PEM certificate\nclickhouse.tls.ca: "},
		"open to others": {func(c *config.Config) {
			if err := os.Chmod(secret, 0o604); err != nil {
				t.Fatal(err)
			}
		}, []string{"clickhouse.password: every user of the machine can read or change " + secret + " (mode 0604)"},
			""},
		"open to the group": {func(c *config.Config) {
			if err := os.Chmod(secret, 0o640); err != nil {
				t.Fatal(err)
			}
		}, nil, ""},
	} {
		if err := os.Chmod(secret, 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := base()
		row.change(cfg)
		certificates, notices, err := CheckFiles(cfg, Deps{Logger: slog.New(slog.DiscardHandler)})
		if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) ||
			err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v, want %q", what, err, row.err)
		}
		if len(notices) != len(row.notices) {
			t.Errorf("%s: %q, want %q", what, notices, row.notices)
			continue
		}
		for i, want := range row.notices {
			if !strings.Contains(notices[i], want) {
				t.Errorf("%s: %q, want %q", what, notices[i], want)
			}
		}
		if text := strings.Join(certificates, "\n"); err == nil && (!strings.Contains(text, "cluster.tls.ca: ") ||
			!strings.Contains(text, "cluster.tls.cert: ") || !strings.Contains(text, "expires at ")) {
			t.Errorf("%s: %s", what, text)
		}
	}
}
