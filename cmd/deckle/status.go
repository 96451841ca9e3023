package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Exit codes of deckle status, for scripts and probes: they say how the cluster is.
const (
	statusDegraded = 1 // or failing: it is being retried
	statusStopped  = 2 // something waits for a person
	statusUnknown  = 3 // the node could not be asked
)

// codeError ends a command with an exit code of its own. Without err nothing is printed.
type codeError struct {
	code int
	err  error
}

func (e codeError) Error() string { return fmt.Sprint(e.err) }
func (e codeError) Unwrap() error { return e.err }

func newStatusCommand() *cobra.Command {
	api := &nodeAPI{}
	var asJSON bool
	var watch time.Duration
	cmd := &cobra.Command{
		Use:        "status",
		Short:      "Show how the cluster is, and what to do about it",
		SuggestFor: []string{"health", "cluster", "nodes", "members", "conditions", "info"},
		Long: `Show how the cluster is on one screen: each node with its shards, lag, disk, memory, open
files, clock and certificates, the sinks, whether one more node may be lost and why, and
every condition, the gravest first, with what to do about it.

Any node of the cluster will do; what the others have told is a few seconds old. A clock
shows how far it is from that of the node that was asked. "-" is what is not known.
Colours are for a terminal only; NO_COLOR=1 takes them away.

Exit codes:
  0  well: no condition, or notices only
  1  something is degraded, or failing and being retried
  2  something is stopped and waits for a person
  3  the node could not be asked (so is wrong usage)`,
		Example: `  deckle status --config deckle.yaml
  deckle status --address node-2:8080 --ca ca.pem --token-file token
  deckle status --config deckle.yaml --watch 2s
  deckle status --config deckle.yaml --json | jq '.members[] | {node, answers, since}'
  deckle status --config deckle.yaml >/dev/null || echo "look at it"`,
		Args: func(cmd *cobra.Command, args []string) error { return unknown(noArgs(cmd, args)) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			p := &painter{colour: coloured(out, os.Getenv)}
			for {
				text, code, err := showStatus(cmd.Context(), api, asJSON, p)
				if watch <= 0 {
					if err != nil {
						return unknown(err)
					}
					if _, err := io.WriteString(out, text); err != nil {
						return unknown(err)
					}
					if code != exitOK {
						return codeError{code: code}
					}
					return nil
				}
				if err != nil {
					text = fmt.Sprintf("deckle: %v\n", err)
				}
				if p.colour {
					text = "\x1b[H\x1b[2J" + text
				}
				if _, err := io.WriteString(out, text); err != nil {
					return unknown(err)
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(watch):
				}
			}
		},
	}
	api.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the answer of /api/v1/cluster")
	cmd.Flags().DurationVar(&watch, "watch", 0, "show it anew after each such time, until Ctrl-C (exit code 0)")
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return unknown(usagef("%w (see %s --help)", err, cmd.CommandPath()))
	})
	return cmd
}

// unknown is an error for which it is not known how the cluster is.
func unknown(err error) error {
	if err == nil {
		return nil
	}
	return codeError{statusUnknown, err}
}

// showStatus asks once. It returns what to print, and the exit code.
func showStatus(ctx context.Context, api *nodeAPI, asJSON bool, p *painter) (text string, code int, err error) {
	var answer json.RawMessage
	if err := api.do(ctx, http.MethodGet, "/api/v1/cluster", nil, &answer); err != nil {
		return "", 0, err
	}
	var c clusterStatus
	if err := json.Unmarshal(answer, &c); err != nil || c.Health == "" {
		return "", 0, errors.Join(errors.New("the node's answer is not that of a Deckle node"), err)
	}
	if asJSON {
		return string(answer), c.code(), nil
	}
	return c.screen(p), c.code(), nil
}

// coloured says whether what is written to out may have colours: it is a terminal that knows them, and nobody has asked
// for none (https://no-color.org).
func coloured(out io.Writer, env func(string) string) bool {
	f, ok := out.(*os.File)
	return ok && env("NO_COLOR") == "" && env("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}
