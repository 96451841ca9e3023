package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"deckle/sinks/delta/vacuum"
)

// vacuumed is the result for one table.
type vacuumed struct {
	Table        string          `json:"table"`
	Version      int64           `json:"version"`
	From         int64           `json:"from_version"` // the oldest version whose files stay
	Retention    float64         `json:"retention_seconds"`
	Clock        time.Time       `json:"clock"` // of the store
	Listed       int             `json:"objects_listed"`
	Found        int             `json:"objects_found"`
	FoundBytes   int64           `json:"bytes_found"`
	Removed      int             `json:"objects_removed"`
	RemovedBytes int64           `json:"bytes_removed"`
	Left         []string        `json:"left"` // names that are not removed here
	Objects      []vacuum.Object `json:"objects"`
}

func newVacuumed(r *vacuum.Run) vacuumed {
	out := vacuumed{Table: r.Table, Version: r.Version, From: r.From, Retention: r.Retention.Seconds(), Clock: r.Clock,
		Listed: r.Listed, Found: len(r.Objects), FoundBytes: vacuum.Bytes(r.Objects), Removed: len(r.Removed),
		RemovedBytes: vacuum.Bytes(r.Removed), Left: r.Left, Objects: r.Objects}
	if out.Left == nil {
		out.Left = []string{}
	}
	if out.Objects == nil {
		out.Objects = []vacuum.Object{}
	}
	return out
}

func newDeltaVacuumCommand(l *lake) *cobra.Command {
	var remove, yes, short, asJSON bool
	var retain time.Duration
	var limit int
	cmd := &cobra.Command{
		Use:   "vacuum [TABLE…]",
		Short: "Remove the objects that no version inside the retention needs",
		Long: `List the objects of the tables, by default events and sessions, that nothing needs: files
that were staged for a commit which never came, and files that were removed. Nothing is
changed unless --delete is given. Then it asks before the first object goes; --yes does not ask.

An object goes only if it is older than the retention by the store's clock, is live in no
version inside the retention, and no commit has taken it back meanwhile. The cluster may
run, and others may write. A run that is interrupted is repeated.

The retention is what the table says (delta.deletedFileRetentionDuration), 7 days at least.
A shorter one ends time travel and every reader whose query is older: it needs --retain and
--force-short-retention. Less than 48 hours is refused: a node may commit what it has staged
a day ago.

Exit code 0: listed or removed; 1: refused, not confirmed, or failed; 2: wrong usage.`,
		Example: `  deckle delta vacuum --config deckle.yaml                      # what would go
  deckle delta vacuum sessions --config deckle.yaml --delete
  deckle delta vacuum --config deckle.yaml --delete --yes --json    # in a script
  deckle delta vacuum --config deckle.yaml --retain 72h --force-short-retention --delete`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := refuseZeros(cmd, "limit", "retain"); err != nil {
				return err
			}
			switch {
			case retain < 0:
				return usagef("--retain %v: give more than 0, or leave the flag out", retain)
			case short && retain == 0:
				return usageError{errors.New("--force-short-retention needs --retain")}
			case yes && !remove:
				return usageError{errors.New("--yes needs --delete")}
			}
			st, tables, done, err := l.tables(cmd.Context(), args)
			if err != nil {
				return err
			}
			defer done()
			var runs []*vacuum.Run
			found, bytes := 0, int64(0)
			for _, name := range tables {
				r, err := vacuum.Prepare(cmd.Context(), vacuum.Options{Store: st, Table: name, Retention: retain,
					Short: short, Clock: remove})
				if err != nil {
					return err
				}
				runs, found, bytes = append(runs, r), found+len(r.Objects), bytes+vacuum.Bytes(r.Objects)
			}
			out := cmd.OutOrStdout()
			if asJSON || remove {
				out = cmd.ErrOrStderr()
			}
			if !asJSON || remove && !yes {
				for _, r := range runs {
					if err := printVacuum(out, r, limit); err != nil {
						return err
					}
				}
			}
			if remove && found > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d objects, %s, are removed for good.\n", found, bytesText(bytes))
				if !yes && !confirmed(cmd) {
					return errors.New("not confirmed, nothing has changed (--yes does not ask)")
				}
			}
			if remove {
				err = removeAll(cmd, runs)
			}
			if asJSON {
				var all []vacuumed
				for _, r := range runs {
					all = append(all, newVacuumed(r))
				}
				return errors.Join(err, eachJSON(cmd.OutOrStdout(), all))
			}
			if remove {
				for _, r := range runs {
					fmt.Fprintf(cmd.OutOrStdout(), "table %s: %d objects removed, %s\n", r.Table, len(r.Removed),
						bytesText(vacuum.Bytes(r.Removed)))
				}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&remove, "delete", false, "remove what is listed")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.DurationVar(&retain, "retain", 0, "how long what nothing needs stays (default: what the table says, 168h "+
		"at least)")
	f.BoolVar(&short, "force-short-retention", false, "allow --retain below 168h, or below what the table says")
	f.IntVar(&limit, "limit", 20, "objects that are listed a table")
	f.BoolVar(&asJSON, "json", false, "print one JSON object a table, with all of its objects")
	return cmd
}

func removeAll(cmd *cobra.Command, runs []*vacuum.Run) error {
	shown := time.Now()
	for _, r := range runs {
		err := r.Remove(cmd.Context(), func() {
			if time.Since(shown) >= 5*time.Second {
				shown = time.Now()
				fmt.Fprintf(cmd.ErrOrStderr(), "table %s: %d of %d objects removed\n", r.Table, len(r.Removed),
					len(r.Objects))
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func printVacuum(to io.Writer, r *vacuum.Run, limit int) error {
	fmt.Fprintf(to, "table %s: version %d; versions from %d on stay whole (%v before %s)\n", r.Table,
		r.Version, r.From, r.Retention, r.Clock.Format(time.RFC3339))
	fmt.Fprintf(to, "%d of %d objects can go, %s\n", len(r.Objects), r.Listed, bytesText(vacuum.Bytes(r.Objects)))
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for _, o := range r.Objects[:min(limit, len(r.Objects))] {
		fmt.Fprintf(w, "  %s\t%d\t%s old\n", o.Key, o.Bytes, age(r.Clock.Sub(o.Written)))
	}
	if more := len(r.Objects) - limit; more > 0 {
		fmt.Fprintf(w, "  and %d more\n", more)
	}
	for _, key := range r.Left {
		fmt.Fprintf(w, "  %s\tis left: its name is no text that can be asked for\n", strconv.Quote(key))
	}
	return w.Flush()
}
