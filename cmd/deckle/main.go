// Command deckle is the binary: subcommands and flags, no logic. Logs go to standard error, results to standard output.
//
// Exit codes: 0 success; 1 failure, or what was compared is not equal; 2 wrong usage or a wrong configuration; 130 or
// 143 ended at once by a second SIGINT or SIGTERM. The first one ends a command in order.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// errNotEqual ends a command whose result says what differs: nothing more is printed.
var errNotEqual = errors.New("not equal")

// usageError is the user's mistake: exit code 2.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

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
	fmt.Fprintf(stderr, "deckle: %v\n", err)
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

Try it with nothing installed:  deckle demo`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(cmd.ErrOrStderr())
			_ = cmd.Help()
			return usageError{errors.New("name a command")}
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())}
	})
	root.AddCommand(newDemoCommand(), newRunCommand(), newSimCommand(), newVerifyCommand(), newVersionCommand())
	return root
}

// noArgs refuses arguments as wrong usage.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasParent() {
		return usageError{fmt.Errorf("unknown command %q (see deckle --help)", args[0])}
	}
	return usageError{fmt.Errorf("unexpected argument %q (see %s --help)", args[0], cmd.CommandPath())}
}
