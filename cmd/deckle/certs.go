package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// certFlags are the flags that the commands below share; each registers those that it has.
type certFlags struct {
	dir, config, cluster, out string
	hosts                     []string
	days                      int
	force                     bool
}

func (c *certFlags) folder() *pki.Folder { return &pki.Folder{Dir: c.dir} }

func (c *certFlags) withCluster(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&c.config, "config", "c", "", "configuration of a node, for cluster.name and cluster.nodes")
	cmd.Flags().StringVar(&c.cluster, "cluster", "", "name of the cluster, instead of --config")
}

func (c *certFlags) withDays(cmd *cobra.Command, def int) {
	cmd.Flags().IntVar(&c.days, "days", def, "how long it is valid")
}

func (c *certFlags) withForce(cmd *cobra.Command, what string) {
	cmd.Flags().BoolVar(&c.force, "force", false, what)
}

// check refuses flags that make no sense, and reads the configuration if one is given: the part of it that says who the
// nodes are, because the whole is not good before there are certificates.
func (c *certFlags) check() (*config.Cluster, error) {
	if c.days < 1 || c.days > pki.MaxDays {
		return nil, usagef("--days %d: give 1 to %d", c.days, pki.MaxDays)
	}
	if c.config != "" && c.cluster != "" {
		return nil, usageError{errors.New("give --config or --cluster, not both")}
	}
	if c.cluster != "" {
		if err := pki.CheckCluster(c.cluster); err != nil {
			return nil, usagef("--cluster %w", err)
		}
	}
	return c.read()
}

func (c *certFlags) read() (*config.Cluster, error) {
	if c.config == "" {
		return nil, nil
	}
	cl, err := config.LoadCluster(c.config, os.LookupEnv, os.ReadFile)
	if err != nil {
		return nil, usageError{err}
	}
	if cl.Name == "" {
		return nil, usagef("%s: cluster.name is missing, and cluster.pipeline (%q) cannot stand for it: it is no host "+
			"of a URI", c.config, cl.Pipeline)
	}
	return cl, nil
}

func newCertsCommand() *cobra.Command {
	flags := &certFlags{}
	cmd := &cobra.Command{
		Use:        "certs init|node|client|rotate|show",
		Short:      "Make the certificates of a cluster, and show them",
		SuggestFor: []string{"cert", "certificate", "certificates", "pki", "tls", "ca"},
		Long: `Make a CA and the certificates of nodes and clients, in files that only this user can read
(mode 0600), each written whole or not at all. Nothing is overwritten without --force.

A node is known by the URI deckle://CLUSTER/node/NAME in its certificate. Copy to each node
ca.pem, NAME.pem and NAME-key.pem, and name them in cluster.tls. ca-key.pem belongs on none
of them: whoever has it can be any node.`,
		Example: `  deckle certs init --config deckle.yaml
  deckle certs node a --config deckle.yaml           # for each node
  deckle certs show --config deckle.yaml
  deckle certs rotate                                # another CA; see deckle certs rotate --help`,
		Args: noArgs,
		RunE: nameOneOf("init, node, client, rotate or show"),
	}
	cmd.PersistentFlags().StringVar(&flags.dir, "dir", "pki", "folder of the CA")
	cmd.AddCommand(newCertsInitCommand(flags), newCertsLeafCommand(flags, "node"), newCertsLeafCommand(flags, "client"),
		newCertsRotateCommand(flags), newCertsShowCommand(flags))
	return cmd
}

func newCertsInitCommand(flags *certFlags) *cobra.Command {
	c := *flags
	cmd := &cobra.Command{
		Use:   "init --config FILE | --cluster NAME",
		Short: "Make the CA of a cluster",
		Long: `Make a CA for one cluster: ca.pem, which every node trusts, and ca-key.pem, which signs. Both
are for this cluster alone; keep ca-key.pem where no node can read it.

With --force a CA that is there is replaced, and what it has signed is worth nothing.`,
		Example: `  deckle certs init --config deckle.yaml
  deckle certs init --cluster main --dir /srv/pki --days 1825`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.dir = flags.dir
			cl, err := c.check()
			if err != nil {
				return err
			}
			switch {
			case cl != nil:
				c.cluster = cl.Name
			case c.cluster == "":
				return usageError{errors.New("--config FILE or --cluster NAME is missing: a CA is for one cluster")}
			}
			files, err := c.folder().Init(c.cluster, c.days, c.force)
			if err != nil {
				return err
			}
			return c.tell(cmd.OutOrStdout(), files, "the CA of cluster "+c.cluster)
		},
	}
	c.withCluster(cmd)
	c.withDays(cmd, 3650)
	c.withForce(cmd, "replace a CA that is there")
	return cmd
}

// tell says what was made.
func (c *certFlags) tell(to io.Writer, files []string, what string) error {
	_, err := fmt.Fprintf(to, "%s: %s, valid until %s\n", strings.Join(files, ", "), what,
		time.Now().AddDate(0, 0, c.days).UTC().Format(time.DateOnly))
	return err
}

// newCertsLeafCommand makes the command for a certificate of a node or of a client.
func newCertsLeafCommand(flags *certFlags, kind string) *cobra.Command {
	c := *flags
	cmd := &cobra.Command{
		Use:   "client NAME",
		Short: "Make the certificate of a client of the HTTP side",
		Long: `Make NAME.pem and NAME-key.pem of a client. It is known by the URI
deckle://CLUSTER/client/NAME, and no node takes it for one of them.`,
		Example: `  deckle certs client prometheus
  deckle certs client prometheus --days 90 --out /etc/prometheus/deckle --force`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.dir = flags.dir
			return c.leaf(cmd, kind, args)
		},
	}
	if kind == "node" {
		cmd.Use, cmd.Short = "node NAME", "Make the certificate of a node"
		cmd.Long = `Make NAME.pem and NAME-key.pem of a node: for both ends of the connections between nodes.
It is known by the URI deckle://CLUSTER/node/NAME. Its hosts are those of --host and, with
--config, the one in its address in cluster.nodes; nodes of v0.1.0 look at these.

A certificate that is used is replaced by the same command with --force: nodes read their
files anew, without a restart.`
		cmd.Example = `  deckle certs node a --config deckle.yaml
  deckle certs node a --cluster main --host node-a.example --host 10.0.0.1
  deckle certs node a --config deckle.yaml --days 90 --force     # before it expires`
		cmd.Flags().StringArrayVar(&c.hosts, "host", nil, "DNS name or IP address at which it is reached (repeatable)")
	}
	c.withCluster(cmd)
	c.withDays(cmd, 365)
	c.withForce(cmd, "replace the certificate and the key of this "+kind)
	cmd.Flags().StringVar(&c.out, "out", "", "folder to write to (default: that of the CA)")
	return cmd
}

func (c *certFlags) leaf(cmd *cobra.Command, kind string, args []string) error {
	if len(args) != 1 {
		return usagef("give the NAME of one %s", kind)
	}
	cl, err := c.check()
	if err != nil {
		return err
	}
	l := pki.Leaf{Name: args[0], Cluster: c.cluster, Days: c.days, Out: c.out, Force: c.force, Hosts: c.hosts}
	if cl != nil {
		l.Cluster = cl.Name
	}
	if kind == "client" {
		files, err := c.folder().Client(l)
		if err != nil {
			return err
		}
		return c.tell(cmd.OutOrStdout(), files, "client "+l.Name)
	}
	if cl != nil {
		i := slices.IndexFunc(cl.Nodes, func(n config.Node) bool { return n.Name == l.Name })
		if i < 0 {
			return usagef("%s: no node of cluster.nodes has the name %q", c.config, l.Name)
		}
		known := cl.Nodes[i].Certificate
		if strings.Contains(known, "://") && known != pki.NodeURI(cl.Name, l.Name) {
			return usagef("%s: node %s is known by certificate: %s, which only a CA of your own can write; take the "+
				"key away to use this one", c.config, l.Name, known)
		}
		host, _, _ := net.SplitHostPort(cl.Nodes[i].Address) // config has checked it
		for _, h := range []string{host, known} {
			if h != "" && !strings.Contains(h, "://") && !slices.Contains(l.Hosts, h) {
				l.Hosts = append(slices.Clip(l.Hosts), h)
			}
		}
	}
	files, err := c.folder().Node(l)
	if err != nil {
		return err
	}
	what := "node " + l.Name
	if len(l.Hosts) > 0 {
		what += " at " + strings.Join(l.Hosts, ", ")
	}
	return c.tell(cmd.OutOrStdout(), files, what)
}

func newCertsRotateCommand(flags *certFlags) *cobra.Command {
	c := *flags
	var finish bool
	cmd := &cobra.Command{
		Use:   "rotate [--finish]",
		Short: "Replace the CA, in steps that stop nothing",
		Long: `Make another CA beside the present one. ca.pem then holds both, ca-key.pem is the key of the
new one, and ca-key.old.pem that of the former. In this order, while everything runs:

  1. deckle certs rotate, and copy ca.pem to every node: now both are trusted
  2. deckle certs node NAME --force for every node, and copy the two files to it
  3. deckle certs rotate --finish, and copy ca.pem to every node: the former is out

Between two steps wait until every node uses what it was given: deckle_file_reloads_total
counts it, or send it a SIGHUP. --finish is refused while a certificate in the folder is
signed by the former CA; it does not know of others. It removes ca-key.old.pem.`,
		Example: `  deckle certs rotate
  deckle certs node a --config deckle.yaml --force
  deckle certs rotate --finish`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.dir = flags.dir
			if _, err := c.check(); err != nil {
				return err
			}
			if finish {
				if cmd.Flags().Changed("days") {
					return usageError{errors.New("--days has no meaning with --finish, which makes nothing")}
				}
				files, err := c.folder().Finish()
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: the new CA alone; copy it to every node\n",
					strings.Join(files, ", "))
				return err
			}
			files, err := c.folder().Rotate(c.days)
			if err != nil {
				return err
			}
			return c.tell(cmd.OutOrStdout(), files, "two CAs, the new one")
		},
	}
	c.withDays(cmd, 3650)
	cmd.Flags().BoolVar(&finish, "finish", false, "end the rotation: ca.pem without the former CA")
	return cmd
}

func newCertsShowCommand(flags *certFlags) *cobra.Command {
	c := *flags
	var ca string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show [FILE …]",
		Short: "Show what certificates are, and whether a node would be taken with them",
		Long: `Show names, issuer, validity and use of the certificates in FILEs, and whether the nodes would
take one for a node of the cluster. Without FILE: those that cluster.tls names, with
--config, or else all in the folder of the CA. Keys are not looked at.`,
		Example: `  deckle certs show
  deckle certs show --config deckle.yaml --json
  deckle certs show /etc/deckle/node.pem --ca /etc/deckle/ca.pem`,
		RunE: func(cmd *cobra.Command, files []string) error {
			c.dir = flags.dir
			cl, err := c.read()
			if err != nil {
				return err
			}
			var names *pki.Names
			if cl != nil {
				names = node.Names(cl, "")
				if cl.TLS != nil {
					ca = cmp.Or(ca, cl.TLS.CA)
					if len(files) == 0 {
						for _, f := range []string{cl.TLS.CA, cl.TLS.Cert} {
							if f != "" {
								files = append(files, f)
							}
						}
					}
				}
			}
			ca = cmp.Or(ca, filepath.Join(c.dir, "ca.pem"))
			if len(files) == 0 {
				if files, err = certificatesIn(c.dir); err != nil {
					return err
				}
			}
			shown, err := showFiles(files, ca, names)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(shown)
			}
			return printCertificates(cmd.OutOrStdout(), shown, time.Now())
		},
	}
	cmd.Flags().StringVarP(&c.config, "config", "c", "", "configuration of a node: the cluster and its nodes")
	cmd.Flags().StringVar(&ca, "ca", "", "the CA to verify against (default: that of --config, or DIR/ca.pem)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return cmd
}

// certificatesIn returns the files of a folder that hold certificates, the CA's first.
func certificatesIn(dir string) (files []string, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if _, err := pki.ParseCertificates(text); err == nil {
			files = append(files, name)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no certificate in %s (deckle certs init makes a CA)", dir)
	}
	slices.SortStableFunc(files, func(a, b string) int {
		rank := func(name string) int {
			if filepath.Base(name) == "ca.pem" {
				return 0
			}
			return 1
		}
		return cmp.Compare(rank(a), rank(b))
	})
	return files, nil
}

func showFiles(files []string, ca string, names *pki.Names) (all []pki.Shown, err error) {
	bundle, err := os.ReadFile(ca)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		shown, err := pki.Show(name, text, bundle, names, time.Now())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, shown...)
	}
	return all, nil
}

func printCertificates(to io.Writer, shown []pki.Shown, now time.Time) error {
	for i := range shown {
		s := &shown[i]
		what := map[string]string{"ca": "a CA", "node": "node " + s.Name, "client": "client " + s.Name}[s.Kind]
		if what = cmp.Or(what, "a certificate"); s.Cluster != "" {
			what += " of cluster " + s.Cluster
		}
		left := fmt.Sprintf("%d days left", int(s.NotAfter.Sub(now)/(24*time.Hour)))
		switch {
		case now.After(s.NotAfter):
			left = "EXPIRED"
		case now.Before(s.NotBefore):
			left = "NOT YET VALID"
		}
		fmt.Fprintf(to, "%s: %s\n  names   %s\n  subject %s\n  issuer  %s\n  serial  %s\n", s.File, what,
			cmp.Or(strings.Join(s.Names, ", "), "none"), s.Subject, s.Issuer, s.Serial)
		fmt.Fprintf(to, "  valid   %s to %s (%s)\n  may     %s\n", s.NotBefore.Format(time.RFC3339),
			s.NotAfter.Format(time.RFC3339), left, cmp.Or(strings.Join(s.May, ", "), "nothing"))
		switch {
		case s.TakenAs != "":
			fmt.Fprintf(to, "  taken   as node %s\n", s.TakenAs)
		case s.Refused != "":
			fmt.Fprintf(to, "  taken   as no node: %s\n", s.Refused)
		}
	}
	return nil
}
