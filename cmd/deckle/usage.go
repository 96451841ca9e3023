package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes; the help of the root command lists them, too.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
	exitSignal  = 128 // plus the number of the signal that ended the process at once, as shells say it
)

// errNotEqual ends a command whose result says what differs: nothing more is printed.
var errNotEqual = errors.New("not equal")

// usageError is the user's mistake: exit code 2.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// refuseZeros refuses an explicit 0 of flags for which it would silently mean their default.
func refuseZeros(cmd *cobra.Command, flags ...string) error {
	for _, name := range flags {
		f := cmd.Flags().Lookup(name)
		if v := f.Value.String(); f.Changed && (v == "0" || v == "0s") {
			return usagef("--%s %s: give more than 0, or leave the flag out", name, v)
		}
	}
	return nil
}

// nameOneOf is what a command does that only holds others: it shows its help, and names them as what is missing.
func nameOneOf(commands string) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		cmd.SetOut(cmd.ErrOrStderr())
		_ = cmd.Help()
		return usageError{errors.New("name a command: " + commands)}
	}
}

// noArgs refuses arguments as wrong usage. After the root command an argument is a mistyped command: the error names
// those that are spelled alike or that do what the word says (SuggestFor).
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasParent() {
		return usagef("unexpected argument %q (see %s --help)", args[0], cmd.CommandPath())
	}
	if alike := cmd.SuggestionsFor(args[0]); len(alike) > 0 {
		return usagef("unknown command %q; did you mean %s?", args[0], strings.Join(alike, " or "))
	}
	return usagef("unknown command %q (see deckle --help)", args[0])
}
