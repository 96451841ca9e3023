package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"deckle/sinks/delta/history"
)

func newDeltaFsckCommand(l *lake) *cobra.Command {
	var deep, asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use:   "fsck [TABLE…]",
		Short: "Check that log, checkpoints and objects of the tables agree",
		Long: `Check the tables, by default events and sessions: every commit can be read and none is
missing; each checkpoint says what the commits before it say (files, transactions, metadata,
tombstones); _last_checkpoint names one that is there; no transaction goes back; each live
file is in the store with the size that the log says. --deep opens every live file and
compares its rows with the statistics: it reads the whole table.

Objects that no live file is are counted by what they are: removed files that wait for
"deckle delta vacuum", and files that nothing names, which may be staged for a commit to come.
They are no fault. The cluster may run. Nothing is changed.

Exit code 0: no errors (there may be warnings); 1: errors, or it could not be checked.`,
		Example: `  deckle delta fsck --config deckle.yaml
  deckle delta fsck sessions --config deckle.yaml --deep --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := refuseZeros(cmd, "limit"); err != nil {
				return err
			}
			st, tables, done, err := l.tables(cmd.Context(), args)
			if err != nil {
				return err
			}
			defer done()
			var reports []*history.Report
			shown, errs := time.Now(), 0
			for _, name := range tables {
				t, err := history.Open(cmd.Context(), st, name)
				if err != nil {
					return err
				}
				r, err := t.Check(cmd.Context(), history.CheckOptions{Deep: deep, Progress: func(what string) {
					if time.Since(shown) >= 5*time.Second {
						shown = time.Now()
						fmt.Fprintln(cmd.ErrOrStderr(), what)
					}
				}})
				if err != nil {
					return err
				}
				reports, errs = append(reports, r), errs+r.Errors()
			}
			if asJSON {
				err = eachJSON(cmd.OutOrStdout(), reports)
			} else {
				err = printReports(cmd.OutOrStdout(), reports, limit, time.Now())
			}
			if err == nil && errs > 0 {
				return errNotEqual
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&deep, "deep", false, "open every live file")
	cmd.Flags().IntVar(&limit, "limit", 20, "objects that are listed a table")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a table, with everything that was found")
	return cmd
}

func printReports(to io.Writer, reports []*history.Report, limit int, now time.Time) error {
	for i, r := range reports {
		if i > 0 {
			fmt.Fprintln(to)
		}
		fmt.Fprintf(to, "table %s: version %d, replayed from %d; %d commits, %d checkpoints, %d files, %s\n", r.Table,
			r.Version, r.Oldest, r.Commits, r.Checkpoints, r.Files, bytesText(r.Bytes))
		if r.Opened > 0 {
			fmt.Fprintf(to, "%d files opened\n", r.Opened)
		}
		for _, f := range r.Findings {
			word := "error"
			if f.Warning {
				word = "warning"
			}
			fmt.Fprintf(to, "%s: %s, %s: %s\n", word, f.Kind, f.Key, f.Text)
		}
		fmt.Fprintf(to, "%d errors, %d warnings\n", r.Errors(), len(r.Findings)-r.Errors())
		for _, kind := range []struct {
			removed bool
			what    string
		}{{true, "removed files wait for vacuum"}, {false, "files that nothing names"}} {
			loose := slices.DeleteFunc(slices.Clone(r.Loose), func(l history.Loose) bool {
				return l.Removed != kind.removed
			})
			if err := printLoose(to, loose, kind.what, limit, now); err != nil {
				return err
			}
		}
	}
	return nil
}

func printLoose(to io.Writer, loose []history.Loose, what string, limit int, now time.Time) error {
	if len(loose) == 0 {
		return nil
	}
	bytes := int64(0)
	for _, l := range loose {
		bytes += l.Bytes
	}
	fmt.Fprintf(to, "%d %s, %s\n", len(loose), what, bytesText(bytes))
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for _, l := range loose[:min(limit, len(loose))] {
		fmt.Fprintf(w, "  %s\t%d\t%s old\n", l.Key, l.Bytes, age(now.Sub(l.Written)))
	}
	if more := len(loose) - limit; more > 0 {
		fmt.Fprintf(w, "  and %d more\n", more)
	}
	return w.Flush()
}

// age is a time span for people, rounded down.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day {
		return fmt.Sprintf("%d days", d/day)
	}
	if d < 0 {
		d = 0
	}
	return d.Truncate(time.Second).String()
}
