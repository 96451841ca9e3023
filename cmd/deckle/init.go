package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"deckle/node"
	"deckle/node/config"
	"deckle/trust/pki"
)

// initialised is what deckle init --json prints.
type initialised struct {
	DryRun bool        `json:"dry_run"`
	Steps  []node.Step `json:"steps"`
	Check  *checked    `json:"check,omitempty"` // of the first node's file
}

// initCommand is one deckle init.
type initCommand struct {
	draft  draft
	path   string
	create node.Create
	yes    bool
	force  bool // replaces files that are there
	asJSON bool
}

func newInitCommand() *cobra.Command {
	c := &initCommand{}
	cmd := &cobra.Command{
		Use:        "init [--config FILE]",
		Short:      "Write a configuration, and make what it names: certificates, topics, bucket, database",
		SuggestFor: []string{"setup", "create", "bootstrap", "install", "new"},
		Long: `Make what a cluster needs before its first start, and check the result:

  files         a configuration for each node: FILE of a single node, FILE-a, FILE-b and FILE-c
                of three (deckle-a.yaml). In a terminal it asks for what no flag says
  certificates  where cluster.tls names files that are not there: a CA and one certificate for
                each node, in the folder pki beside FILE
  kafka         the topic of dead letters; the source's topic only with --topic-partitions, since
                it belongs to those who write to it
  bucket        of the Delta tables
  database      of ClickHouse; the tables are the node's own to make

What is there stays as it is, a file too (--force replaces files; certificates are never
replaced: deckle certs does that). So it can be repeated, and with a FILE that is there it
makes what that file names. It shows what it would make, and asks before it does, unless --yes is given.
Secrets are never in a file: it names environment variables (DECKLE_S3_ACCESS_KEY,
DECKLE_S3_SECRET_KEY, DECKLE_CLICKHOUSE_PASSWORD, DECKLE_KAFKA_PASSWORD), which must be set.

Exit code 0: all is there, and deckle check finds nothing wrong; 1: something is not there or
is wrong, or nothing was confirmed; 2: wrong usage, or the configuration is not good.`,
		Example: `  deckle init                                            # asks
  deckle init --yes --brokers kafka-1:9092 --lake ./lake --topic-partitions 6
  deckle init --yes --brokers kafka-1:9092 --clickhouse clickhouse.example:9000 \
    --nodes a=10.0.0.1:7946,b=10.0.0.2:7946,c=10.0.0.3:7946
  deckle init --config deckle.yaml --dry-run --json      # what is missing of what a file names?`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVarP(&c.path, "config", "c", "deckle.yaml", "the file, or how those of three nodes begin")
	c.draft.flags(f)
	f.IntVar(&c.create.TopicPartitions, "topic-partitions", 0, "make the source's topic with as many, if it is missing")
	f.DurationVar(&c.create.TopicRetention, "topic-retention", 7*24*time.Hour, "of that topic")
	f.BoolVarP(&c.yes, "yes", "y", false, "do not ask: take the flags and the defaults")
	f.BoolVar(&c.force, "force", false, "replace files of configuration that are there")
	f.BoolVar(&c.create.DryRun, "dry-run", false, "show what would be made, and make nothing")
	f.BoolVar(&c.asJSON, "json", false, "print one JSON object; it asks nothing then")
	return cmd
}

func (c *initCommand) run(cmd *cobra.Command) error {
	if n := c.create.TopicPartitions; n < 0 || n > 10_000 {
		return usagef("--topic-partitions %d: give 1 to 10000", n)
	}
	if c.create.TopicRetention < time.Hour {
		return usagef("--topic-retention %s: give at least 1h", c.create.TopicRetention)
	}
	asks := !c.yes && !c.asJSON && !c.create.DryRun
	if c.asJSON && !c.yes && !c.create.DryRun {
		return usageError{errors.New("--json asks nothing: give --yes or --dry-run, too")}
	}
	files, err := c.files(cmd, asks)
	if err != nil {
		return err
	}
	first := files[0].loaded
	out := &initialised{DryRun: c.create.DryRun}
	if asks { // what would be made is shown first
		shown := &initialised{DryRun: true, Steps: c.steps(cmd.Context(), files, first, true)}
		shown.print(cmd.ErrOrStderr())
		if !confirmed(cmd) {
			return errors.New("not confirmed, nothing was made (--yes does not ask)")
		}
	}
	out.Steps = c.steps(cmd.Context(), files, first, c.create.DryRun)
	if !c.create.DryRun {
		out.Check = &checked{Level: connectLevel, Findings: node.Connect(cmd.Context(), first.Config, node.Deps{})}
		out.Check.judge()
	}
	if err := cmd.Context().Err(); err != nil {
		return err
	}
	if c.asJSON {
		err = printJSON(cmd.OutOrStdout(), out)
	} else {
		out.print(cmd.OutOrStdout())
		if out.Check != nil {
			fmt.Fprintf(cmd.OutOrStdout(), "\ndeckle check --config %s:\n", files[0].path)
			err = out.Check.print(cmd.OutOrStdout(), false)
		}
	}
	if err == nil && out.wrong() {
		return errNotEqual
	}
	return err
}

// wrong says whether something that was to be made is not there, or the check finds something wrong.
func (o *initialised) wrong() bool {
	return o.Check != nil && !o.Check.Good ||
		slices.ContainsFunc(o.Steps, func(s node.Step) bool { return s.Made == node.MadeNot })
}

var madeMarks = map[node.Made]string{node.MadeNow: "+", node.MadeThere: "✓", node.MadeToBe: "+", node.MadeLater: "!",
	node.MadeNot: "✗", node.MadeOther: "!"}

func (o *initialised) print(w io.Writer) {
	var b strings.Builder
	for _, s := range o.Steps {
		what := map[node.Made]string{node.MadeNow: "made", node.MadeThere: "there already",
			node.MadeToBe:  "would be made",
			node.MadeLater: "not made", node.MadeNot: "NOT MADE", node.MadeOther: "there already, but"}[s.Made]
		fmt.Fprintf(&b, "%s %s: %s: %s\n", madeMarks[s.Made], s.Subject, what, oneLine(s.Text))
		if s.Todo != "" {
			fmt.Fprintf(&b, "    %s\n", oneLine(s.Todo))
		}
	}
	_, _ = io.WriteString(w, b.String())
}

// nodeFile is the configuration of one node: as it is there, or as it is to be written.
type nodeFile struct {
	path   string
	text   []byte // to be written; nil: it is there, and is left as it is
	loaded *config.Loaded
}

// files returns the files of all nodes that are written here, the first node's first, each proven to be good.
func (c *initCommand) files(cmd *cobra.Command, asks bool) (files []nodeFile, err error) {
	if _, err := os.Stat(c.path); err == nil && !c.force {
		return c.load(nodeFile{path: c.path})
	}
	if asks {
		if err := c.draft.ask(cmd, &c.create); err != nil {
			return nil, err
		}
	}
	c.draft.partitions = c.create.TopicPartitions
	nodes, err := c.draft.parse()
	if err != nil {
		return nil, err
	}
	folder, err := filepath.Abs(filepath.Dir(c.path))
	if err != nil {
		return nil, err
	}
	for i, n := range nodes {
		path := c.path
		if len(nodes) > 1 {
			ext := filepath.Ext(path)
			path = strings.TrimSuffix(path, ext) + "-" + n.Name + ext
		}
		f := nodeFile{path: path}
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || c.force {
			f.text = c.draft.render(nodes, i, folder)
		}
		loaded, err := c.load(f)
		if err != nil {
			return nil, err
		}
		files = append(files, loaded...)
	}
	return files, nil
}

// load judges a file, as it is there or as it would be.
func (c *initCommand) load(f nodeFile) ([]nodeFile, error) {
	read := func(name string) ([]byte, error) {
		if name == f.path && f.text != nil {
			return f.text, nil
		}
		return os.ReadFile(name)
	}
	l, err := config.Source{Path: f.path, Env: os.LookupEnv, ReadFile: read, Static: c.create.DryRun}.Load()
	if err != nil {
		return nil, usageError{err}
	}
	f.loaded = l
	return []nodeFile{f}, nil
}

// steps makes all, or looks what would be made.
func (c *initCommand) steps(ctx context.Context, files []nodeFile, first *config.Loaded, dry bool) (steps []node.Step) {
	for i := range files {
		steps = append(steps, c.file(&files[i], dry))
	}
	told := map[string]bool{} // one CA is of all
	for i := range files {
		for _, s := range certificates(&files[i], dry) {
			if !told[s.Subject] {
				steps = append(steps, s)
			}
			told[s.Subject] = true
		}
	}
	create := c.create
	create.DryRun = dry
	return append(steps, create.Run(ctx, first.Config, node.Deps{})...)
}

// file writes a file of configuration. Whoever is quicker than this command has made one that was not asked about.
func (c *initCommand) file(f *nodeFile, dry bool) node.Step {
	step := node.Step{Subject: "file", Made: node.MadeThere, Text: f.path + ", which counts, whatever flags say"}
	if f.text == nil {
		return step
	}
	step.Text = f.path + ", of node " + f.loaded.Node
	if step.Made = node.MadeToBe; dry {
		return step
	}
	err := os.MkdirAll(filepath.Dir(f.path), 0o700)
	if err == nil {
		err = writeWhole(f.path, f.text, c.force)
	}
	if step.Made = node.MadeNow; err != nil {
		step.Made, step.Text = node.MadeNot, err.Error()
	}
	return step
}

// writeWhole writes a file whole or not at all; one that is there only if it is to be replaced.
func writeWhole(path string, text []byte, replace bool) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".deckle-init-*") // of mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // which is its second name by then, or none
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if replace {
		return os.Rename(f.Name(), path)
	}
	return os.Link(f.Name(), path)
}

// certificates makes what cluster.tls of a node names, if it is not there and lies as deckle certs lays it: ca.pem,
// NAME.pem and NAME-key.pem in one folder, which becomes that of the CA unless there is one.
func certificates(f *nodeFile, dry bool) (steps []node.Step) {
	cl := &f.loaded.Cluster
	if cl.TLS == nil || cl.TLS.CA == "" || cl.TLS.Cert == "" {
		return nil
	}
	name := f.loaded.Node
	folder := &pki.Folder{Dir: filepath.Dir(cl.TLS.CA)}
	laid := filepath.Join(folder.Dir, "ca.pem") == filepath.Clean(cl.TLS.CA) &&
		filepath.Join(folder.Dir, name+".pem") == filepath.Clean(cl.TLS.Cert) &&
		filepath.Join(folder.Dir, name+"-key.pem") == filepath.Clean(cl.TLS.Key)
	for _, part := range []struct {
		subject, file, todo string
		make                func() ([]string, error)
	}{
		{"certificate of the CA", cl.TLS.CA,
			"Whoever has ca-key.pem can be any node: put it where no node can read it.",
			func() ([]string, error) { return folder.Init(cl.Name, caDays, false) }},
		{"certificate of node " + name, cl.TLS.Cert, "Copy both and ca.pem to the node, to where its file says.",
			func() ([]string, error) {
				return folder.Node(pki.Leaf{Name: name, Cluster: cl.Name, Days: leafDays, Hosts: hostsOf(cl, name)})
			}},
	} {
		step := node.Step{Subject: part.subject, Made: node.MadeThere, Text: part.file}
		_, err := os.Stat(part.file)
		switch {
		case err == nil:
		case !errors.Is(err, fs.ErrNotExist):
			step.Made, step.Text = node.MadeNot, err.Error()
		case !laid:
			step.Made = node.MadeLater
			step.Todo = "Make it with deckle certs, or with your own CA: cluster.tls names other files than those."
		case dry:
			step.Made = node.MadeToBe
		default:
			made, err := part.make()
			step.Made, step.Text, step.Todo = node.MadeNow, strings.Join(made, ", "), part.todo
			if err != nil {
				step.Made, step.Text, step.Todo = node.MadeNot, err.Error(), ""
			}
		}
		steps = append(steps, step)
	}
	return steps
}

// How long certificates are valid that this command makes, as those of deckle certs are.
const caDays, leafDays = 3650, 365

// hostsOf are the names and addresses at which a node is reached.
func hostsOf(cl *config.Cluster, name string) (hosts []string) {
	for _, n := range cl.Nodes {
		if host, _, err := net.SplitHostPort(n.Address); err == nil && n.Name == name {
			hosts = append(hosts, host)
		}
	}
	return hosts
}
