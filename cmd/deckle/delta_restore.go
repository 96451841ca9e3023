package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"deckle/node/status"
)

// tableAPI is what the commands that change tables ask of a node.
type tableAPI struct{ nodeAPI }

// verbPatience is how long the node may take: it reads the commits since the version.
const verbPatience = 10 * time.Minute

func (a *tableAPI) post(ctx context.Context, l *lake, verb string, body map[string]any) (*status.TableOutcome, error) {
	if l.url != "" {
		return nil, usageError{errors.New("--url: a running node does it, with its own tables; give --config or " +
			"--address")}
	}
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	a.patience = verbPatience
	out := &status.TableOutcome{}
	return out, a.do(ctx, http.MethodPost, "/api/v1/tables/"+verb, b, out)
}

func newDeltaRestoreCommand(l *lake) *cobra.Command {
	api := &tableAPI{}
	m := &moment{}
	var rows string
	var dryRun, asJSON, yes bool
	cmd := &cobra.Command{
		Use:   "restore TABLE --version N|--timestamp T --rows again|gone",
		Short: "Restore a table to a former version, by a commit",
		Long: `Restore a table to a former version: one commit takes files away and brings files back. It
can be undone by another restore, as long as vacuum has not taken what it needs. Columns,
comments and properties stay as they are now.

Say what becomes of the rows that Deckle has written since that version. It will not write
them once more by itself:
  --rows=again  they stand afterwards, too: what others have done since is undone, and what
                Deckle has written is not. It is refused if a file that it needs is gone, or
                if revisions since then stand on what is undone: restore to a later version,
                or with gone.
  --rows=gone   they are accepted as gone, as if somebody had deleted them.

The command asks the running node on this machine (any node of the cluster will do), says
what changes, and asks first, unless --yes is given. The cluster goes on meanwhile.

Exit code 0: done, or nothing to do; 1: refused, not confirmed, or not known (see deckle
delta log); 2: wrong usage.`,
		Example: `  deckle delta restore sessions --config deckle.yaml --version 118 --rows=again --dry-run
  deckle delta restore sessions --config deckle.yaml --version 118 --rows=again
  deckle delta restore events --timestamp 2026-11-29T12:00:00Z --rows=gone --yes --json`,
		Args: oneTable,
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"table": args[0], "rows": rows}
			switch at, err := m.time(cmd); {
			case err != nil:
				return err
			case !at.IsZero():
				body["timestamp"] = at
			case cmd.Flags().Changed("version") && m.version >= 0:
				body["version"] = m.version
			default:
				return usageError{errors.New("--version N or --timestamp T is missing: to which version")}
			}
			if rows != "again" && rows != "gone" {
				return usageError{errors.New("--rows is missing: again or gone, for the rows that Deckle has written " +
					"since")}
			}
			body["dry_run"] = true
			out, err := api.post(cmd.Context(), l, "restore", body)
			if err != nil {
				return err
			}
			nothing := out.Restored+out.Removed == 0
			if !asJSON || !dryRun {
				fmt.Fprintln(cmd.ErrOrStderr(), restoreText(out))
			}
			if !dryRun && !nothing {
				if !yes && !confirmed(cmd) {
					return errors.New("not confirmed, nothing has changed (--yes does not ask)")
				}
				body["dry_run"] = false
				if out, err = api.post(cmd.Context(), l, "restore", body); err != nil {
					return err
				}
			}
			switch {
			case asJSON:
				return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
			case out.Committed != nil:
				fmt.Fprintf(cmd.OutOrStdout(), "table %s: version %d has restored version %d\n", out.Table,
					*out.Committed, out.To)
			}
			return nil
		},
	}
	api.flags(cmd)
	m.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&rows, "rows", "", "again or gone: the rows that Deckle has written since (required)")
	f.BoolVar(&dryRun, "dry-run", false, "say what it would change, and change nothing")
	f.BoolVar(&asJSON, "json", false, "print the answer as one JSON object")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// restoreText says what a restore changes.
func restoreText(o *status.TableOutcome) string {
	rows := func(n *int64) string {
		if n == nil {
			return "an unknown number of rows"
		}
		return fmt.Sprintf("%d rows", *n)
	}
	if o.Restored+o.Removed == 0 {
		return fmt.Sprintf("table %s: nothing to do: version %d has what it would have", o.Table, o.Version)
	}
	text := fmt.Sprintf("table %s, version %d, is restored to version %d: %d files with %s are taken away, and %d "+
		"files with %s come back.", o.Table, o.Version, o.To, o.Removed, rows(o.RemovedRows), o.Restored,
		rows(o.RestoredRows))
	if n := len(o.Undone); n > 0 {
		text += fmt.Sprintf(" Undone are %d versions, the first is %d, the last %d.", n, o.Undone[0], o.Undone[n-1])
	}
	return text
}

func newDeltaForgetCommand(l *lake) *cobra.Command {
	api := &tableAPI{}
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "forget-gaps TABLE",
		Short: "Accept as gone the rows that a RESTORE by another tool took away",
		Long: `Accept that the rows which RESTOREs by other tools have taken out of a table are gone: the
condition rows-removed ends on all nodes, and revisions of the table go on. The table's log
says so from then on. To have the rows back, use "deckle delta restore --rows=again" instead.

The command asks the running node on this machine: any node of the cluster will do. It asks
first, unless --yes is given.

Exit code 0: done, or nothing to do; 1: refused, not confirmed, or not known; 2: wrong usage.`,
		Example: `  deckle delta forget-gaps sessions --config deckle.yaml
  deckle delta forget-gaps events --config deckle.yaml --yes --json`,
		Args: oneTable,
		RunE: func(cmd *cobra.Command, args []string) error {
			fmt.Fprintf(cmd.ErrOrStderr(), "The rows that RESTOREs by other tools have taken out of table %s are "+
				"accepted as gone.\n", args[0])
			if !yes && !confirmed(cmd) {
				return errors.New("not confirmed, nothing has changed (--yes does not ask)")
			}
			out, err := api.post(cmd.Context(), l, "forget-gaps", map[string]any{"table": args[0]})
			switch {
			case err != nil:
				return err
			case asJSON:
				return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
			case out.Committed == nil:
				fmt.Fprintf(cmd.OutOrStdout(), "table %s: nothing to do: no rows are missing that way\n", args[0])
				return nil
			}
			fmt.Fprintf(cmd.OutOrStdout(), "table %s: version %d says so\n", args[0], *out.Committed)
			return nil
		},
	}
	api.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the answer as one JSON object")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}
