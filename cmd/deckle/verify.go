package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"deckle/sim"
	"deckle/sim/verify"
)

func newVerifyCommand() *cobra.Command {
	var config string
	var truths []string
	var asJSON bool
	var o verify.Options
	cmd := &cobra.Command{
		Use:        "verify --config FILE --truth FILE[,FILE…]",
		Short:      "Compare the tables of a cluster with the ground truth",
		SuggestFor: []string{"check", "compare"},
		Long: `Compare the tables that a node's configuration names with the truth that "deckle sim"
has written: counts, sums of every metric column, and every row of events, sessions,
pages and rollups. The cluster may run or be stopped. What differs is named by table,
row and column.

It waits until all is equal, but not longer than --wait, and not longer than --quiet
without any change. Exit code 0: equal; 1: not equal, or it could not be compared.`,
		Example: `  deckle verify --config deckle.yaml --truth truth.jsonl
  deckle verify --config deckle.yaml --truth a.jsonl,b.jsonl --wait 5m --json`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			for _, path := range append(truths, args...) { // more files may follow, as a shell expands *.jsonl
				o.Truth = append(o.Truth, sim.TruthFile(path))
			}
			cfg, err := loadConfig(config)
			if err != nil {
				return err
			}
			if len(o.Truth) == 0 {
				return usageError{errors.New(`--truth FILE is missing: "deckle sim --truth FILE" writes it`)}
			}
			closeTables, err := o.Open(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, closeTables()) }()
			shown := time.Time{}
			o.Progress = func(p verify.Progress) {
				if time.Since(shown) >= 5*time.Second {
					shown = time.Now()
					fmt.Fprintf(cmd.ErrOrStderr(), "%v: %s\n", p.Waited.Round(time.Second), p.Phase)
				}
			}
			report, err := verify.Verify(cmd.Context(), o)
			if report == nil || err != nil && cmd.Context().Err() == nil {
				return err
			}
			if err := report.Write(cmd.OutOrStdout()); err != nil {
				return err
			}
			if asJSON {
				if err := json.NewEncoder(cmd.OutOrStdout()).Encode(report); err != nil {
					return err
				}
			}
			if !report.Equal {
				return errNotEqual
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&config, "config", "c", "", "configuration of any node of the cluster (required)")
	f.StringSliceVar(&truths, "truth", nil, "files written by deckle sim --truth (required)")
	f.DurationVar(&o.Wait, "wait", 2*time.Minute, "how long to wait until all is equal; 0: compare once")
	f.DurationVar(&o.Quiet, "quiet", 90*time.Second, "end the wait early when nothing has changed for this time")
	f.IntVar(&o.Limit, "limit", 100, "differences listed per table")
	f.BoolVar(&asJSON, "json", false, "print the report as one JSON object, the last line")
	return cmd
}
