package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"deckle"
	"deckle/node"
	"deckle/node/config"
)

func newRunCommand() *cobra.Command {
	var source configFlags
	var check, force bool
	cmd := &cobra.Command{
		Use:        "run --config FILE",
		Short:      "Run one node of a cluster",
		SuggestFor: []string{"start", "serve", "server", "node"},
		Long: `Run one node of a cluster of three, or the only one. Nodes may be started in any order
and need no further command. The first SIGINT or SIGTERM ends the node in order:
intake stops, leadership is handed over, the disk is closed. A second one quits.
SIGHUP has it look at once for changes of the configuration, certificates, keys, CA bundles,
tokens and secrets in files, which it does every ten seconds anyway. docs/configuration.md
says which keys it takes over without a restart; the log says what has changed, and the
condition restart-needed names the rest.

The configuration is strict: an unknown key, a wrong type or a missing value is an
error with its line and column. deckle.example.yaml shows every key, docs/configuration.md
says what each means. ${NAME} in a value is an environment variable; --set goes over the file.

A cluster is not founded while its bucket, its store or ClickHouse refuse the node, which
deckle check tries as well: what is fixed at founding would be fixed over tables that nobody
can write. --force founds it all the same. A store that does not answer keeps nothing.

--check reads the file, its secrets and every certificate, asks the brokers about the
topics if they answer, and changes nothing. It says what would be refused, when
certificates expire, and notices, each with what to do.`,
		Example: `  deckle run --config deckle.yaml
  deckle run --config deckle.yaml --check     # only check
  deckle run --config deckle.yaml --set node=b --set log.level=debug`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// A node is not ended by the terminal from which it was started, whenever that ends.
			hangups := make(chan os.Signal, 1)
			signal.Notify(hangups, syscall.SIGHUP)
			defer signal.Stop(hangups)
			cfg, err := source.load()
			if err != nil {
				return err
			}
			if cfg.Encryption != nil {
				if err := keepCoresEmpty(); err != nil {
					return err
				}
			}
			if check {
				certificates, notices, err := node.CheckFiles(cfg.Config, node.Deps{})
				if err != nil {
					return usageError{err}
				}
				more, err := node.Check(cmd.Context(), cfg.Config, node.Deps{})
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is good: node %s of %d, %d shards\n", source.path, cfg.Node,
					len(cfg.Cluster.Nodes), cfg.Cluster.Shards)
				for _, line := range certificates {
					fmt.Fprintln(cmd.OutOrStdout(), line)
				}
				for _, notice := range append(notices, more...) {
					fmt.Fprintf(cmd.OutOrStdout(), "notice: %s\n", notice)
				}
				return nil
			}
			ownFilesOnly()
			reg := prometheus.NewRegistry()
			reg.MustRegister(newBuildInfo(deckle.Build()), collectors.NewGoCollector(),
				collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
			level := new(slog.LevelVar)
			level.Set(cfg.Log.Least())
			recent := new(config.LogTail)
			log := cfg.Log.NewLogger(io.MultiWriter(cmd.ErrOrStderr(), recent), level)
			return node.Run(cmd.Context(), cfg.Config, node.Deps{Logger: log, RecentLog: recent.Bytes,
				LogLevel: level, Force: force, Registerer: reg, Reload: source.again,
				Reread: hangups, Notify: serviceManager()})
		},
	}
	source.add(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "found a cluster although its stores refuse this node")
	cmd.Flags().BoolVar(&check, "check", false, "check the configuration, its secrets and the topics, and end")
	return cmd
}

// configFlags say where a command has its configuration from.
type configFlags struct {
	path string
	set  []string
}

func (c *configFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&c.path, "config", "c", "", "configuration of the node (required)")
	cmd.Flags().StringArrayVar(&c.set, "set", nil, "`KEY=VALUE` over the file, such as kafka.topic=clicks; repeatable")
}

// load reads a configuration; what is wrong with it is the user's to mend.
func (c *configFlags) load() (*config.Loaded, error) { return c.read(c.path, false) }

func (c *configFlags) read(path string, static bool) (*config.Loaded, error) {
	if path == "" {
		return nil, usageError{errors.New("--config FILE is missing; deckle.example.yaml shows one")}
	}
	l, err := config.Source{Path: path, Env: os.LookupEnv, ReadFile: os.ReadFile, Set: c.set, Static: static}.Load()
	if err != nil {
		return nil, usageError{err}
	}
	return l, nil
}

// again reads the configuration while a node runs with it. Secrets are in files that are watched anyway.
func (c *configFlags) again() (*config.Config, error) {
	l, err := c.read(c.path, true)
	if err != nil {
		return nil, err
	}
	return l.Config, nil
}

// loadConfig reads a configuration; what is wrong with it is the user's to mend.
func loadConfig(path string) (*config.Config, error) {
	l, err := (&configFlags{path: path}).load()
	if err != nil {
		return nil, err
	}
	return l.Config, nil
}
