package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"deckle/sinks/delta"
	"deckle/sinks/delta/compact"
)

// compactPlan is a job that --dry-run shows.
type compactPlan struct {
	Table     string `json:"table"`
	Partition string `json:"partition"`
	Cold      bool   `json:"cold"`
	Files     int    `json:"files"`
	Bytes     int64  `json:"bytes"`
}

func newDeltaCompactCommand(l *lake) *cobra.Command {
	var dryRun, asJSON bool
	var closed time.Duration
	var scratch string
	cmd := &cobra.Command{
		Use:   "compact [TABLE…]",
		Short: "Make few large files of many small ones",
		Long: `Compact the tables, by default events and sessions: the small files of each date become large
ones with the same rows, sorted. The commits say that they change no data.

The cluster may run, and does the same by itself (delta.compaction): two that compact at a
time cost work, and no row. Others may write. What is interrupted is begun anew.

Files with columns that are not Deckle's, damaged files and files with a row twice are left
as they are, and named. The old files stay for time travel, until vacuum takes them.

Exit code 0: done, or nothing to do; 1: failed, or files were left; 2: wrong usage.`,
		Example: `  deckle delta compact --config deckle.yaml --dry-run          # what there is to do
  deckle delta compact sessions --config deckle.yaml
  deckle delta compact --config deckle.yaml --json              # one JSON object a job`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := refuseZeros(cmd, "closed"); err != nil {
				return err
			}
			if closed < 0 {
				return usagef("--closed %v: give more than 0, or leave the flag out", closed)
			}
			st, tables, done, err := l.tables(cmd.Context(), args)
			if err != nil {
				return err
			}
			defer done()
			dir, err := os.MkdirTemp(scratch, "deckle-compact-")
			if err != nil {
				return fmt.Errorf("--scratch: %w", err)
			}
			defer func() { _ = os.RemoveAll(dir) }()
			left := false
			for _, table := range tables {
				c, err := delta.OpenCompactor(cmd.Context(), delta.Options{Store: st, Node: "deckle delta compact"},
					table, compact.Options{FS: vfs.Default, Dir: vfs.Default.PathJoin(dir, "rows"), Closed: closed})
				if err != nil {
					return err
				}
				some, err := compactOne(cmd, c, table, dryRun, asJSON)
				if err := errors.Join(err, c.Close()); err != nil {
					return err
				}
				left = left || some
			}
			if left {
				return errors.New("some files were left as they are")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&dryRun, "dry-run", false, "show what there is to do, and change nothing")
	f.BoolVar(&asJSON, "json", false, "print one JSON object a job")
	f.DurationVar(&closed, "closed", 7*24*time.Hour, "how long after its end a date is closed, and its files become "+
		"files of 256 MiB instead of 32 MiB")
	f.StringVar(&scratch, "scratch", "", "a folder with room for a few GiB, unsealed (default: the system's for "+
		"temporary files)")
	return cmd
}

// compactOne compacts a table, and says whether files were left as they are.
func compactOne(cmd *cobra.Command, c *compact.Compactor, table string, dryRun, asJSON bool) (left bool, err error) {
	out, enc := cmd.OutOrStdout(), json.NewEncoder(cmd.OutOrStdout())
	if dryRun {
		jobs, err := c.Plan(cmd.Context())
		if err != nil {
			return false, err
		}
		for i := range jobs {
			j := &jobs[i]
			if asJSON {
				if err := enc.Encode(compactPlan{table, j.Partition, j.Cold, len(j.Files), j.Bytes()}); err != nil {
					return false, err
				}
				continue
			}
			fmt.Fprintf(out, "table %s, %s: %d files, %s\n", table, j.Partition, len(j.Files), bytesText(j.Bytes()))
		}
		if len(jobs) == 0 && !asJSON {
			fmt.Fprintf(out, "table %s: nothing to do\n", table)
		}
		return false, nil
	}
	n := 0
	var failed error
	err = c.Round(cmd.Context(), func(r compact.Result) {
		n++
		left = left || r.Why != ""
		if asJSON {
			failed = errors.Join(failed, enc.Encode(r))
			return
		}
		if r.Why != "" {
			fmt.Fprintf(out, "table %s, %s: left as it is: %s\n", table, r.Partition, r.Why)
		}
		switch {
		case r.Removed == 0 && r.Why != "":
		case r.Removed == 0:
			fmt.Fprintf(out, "table %s, %s: others want the same files; later\n", table, r.Partition)
		default:
			fmt.Fprintf(out, "table %s, %s: %d files, %s, became %d, %s\n", table, r.Partition, r.Removed,
				bytesText(r.Read), r.Added, bytesText(r.Written))
		}
	})
	if n == 0 && err == nil && !asJSON {
		fmt.Fprintf(out, "table %s: nothing to do\n", table)
	}
	return left, errors.Join(err, failed)
}
