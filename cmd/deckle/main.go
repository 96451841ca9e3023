// Command deckle is the binary: subcommands and flags, no logic. Logs go to standard error, results to standard output.
// The help of the root command lists the exit codes. The first SIGINT or SIGTERM ends a command in order, a second one
// at once.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"deckle"
)

func main() {
	ctx, stop := signalContext(context.Background(), os.Exit)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run runs one command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errNotEqual) {
		return exitFailure
	}
	coded := codeError{code: exitFailure, err: err}
	if errors.As(err, &coded); coded.err == nil {
		return coded.code
	}
	fmt.Fprintf(stderr, "deckle: %v\n", err)
	if coded.code != exitFailure {
		return coded.code
	}
	if errors.As(err, &usageError{}) {
		return exitUsage
	}
	return exitFailure
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "deckle",
		Short: "Session analytics from Kafka to Delta Lake and ClickHouse, exactly once",
		Long: `Deckle turns a Kafka topic of reader events into exact session analytics in a Delta
Lake and in ClickHouse. It runs on three nodes, or on one.

Exit codes:
  0    success
  1    failure, or what was compared is not equal
  2    wrong usage, or a wrong configuration
       (deckle status has codes of its own, 0 to 3: see its help)
  130  ended at once by a second SIGINT (Ctrl-C)
  143  ended at once by a second SIGTERM
The first SIGINT or SIGTERM ends a command in order.

For completion in your shell: deckle completion --help`,
		Example: `  deckle demo                          # everything in one process, nothing to install
  deckle run --config deckle.yaml      # one node of a cluster
  deckle status --config deckle.yaml   # how the cluster is
  deckle verify --help                 # every command has examples`,
		SilenceUsage:               true,
		SilenceErrors:              true,
		SuggestionsMinimumDistance: 2,
		Version:                    deckle.Build().String(),
		Args:                       noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(cmd.ErrOrStderr())
			_ = cmd.Help()
			return usageError{errors.New("name a command")}
		},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w (see %s --help)", err, cmd.CommandPath())
	})
	for _, command := range []func() *cobra.Command{
		newCertsCommand,
		newCheckCommand,
		newClusterCommand,
		newConfigCommand,
		newDeltaCommand,
		newDemoCommand,
		newDLQCommand,
		newEncryptionCommand,
		newInitCommand,
		newOffsetsCommand,
		newPartitionsCommand,
		newReconcileCommand,
		newRunCommand,
		newSessionCommand,
		newSimCommand,
		newStatusCommand,
		newSupportCommand,
		newSuppressCommand,
		newTapCommand,
		newTokenCommand,
		newTopCommand,
		newUpgradeCommand,
		newVerifyCommand,
		newVersionCommand,
	} {
		root.AddCommand(command())
	}
	return root
}
