package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"deckle/event"
	"deckle/node"
	"deckle/node/status"
)

func newReconcileCommand() *cobra.Command {
	api := &suppressAPI{}
	var from, to string
	var asJSON bool
	var o node.ReconcileOptions
	cmd := &cobra.Command{
		Use:        "reconcile --config FILE [--from TIME] [--to TIME]",
		Short:      "Account for every offset of a stretch of time, and compare Delta with ClickHouse",
		SuggestFor: []string{"audit", "compare", "count"},
		Long: `Compare what Kafka has of a stretch of time with the tables that a node's configuration
names, without a ground truth. The cluster may run; nothing is written.

Offsets: each one is a row of events, a dead letter, a duplicate of such a row, left out by
the rules, of a suppressed reader, without a value, given up by an operator, or without a
record (markers of transactions). What is none of these is missing, and is named.

Sessions: rows of sessions (Delta) and session_metrics (ClickHouse) of the stretch's dates are
compared by key, and session_summary with the rows. Rows that have changed in the last
--settle are not judged: some tables have them already, others not.

TIME is RFC 3339, a date (UTC), or a duration before now: 24h, 90m. Whether a record is of a
suppressed reader is asked of the running node, by --config, --address and --token-file; the
list of now decides.

Exit code 0: all is accounted for; 1: it is not, or it could not be compared.`,
		Example: `  deckle reconcile --config deckle.yaml                          # the last 24 hours
  deckle reconcile --config deckle.yaml --from 2026-11-01 --to 2026-11-02
  deckle reconcile --config deckle.yaml --from 90m --json | jq .found   # for a cron job`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			cfg, err := loadConfig(api.config)
			if err != nil {
				return err
			}
			now := time.Now()
			if to == "" {
				to = o.Settle.String()
			}
			for _, f := range []struct {
				name, text string
				at         *time.Time
			}{{"--from", from, &o.From}, {"--to", to, &o.To}} {
				var ok bool
				if *f.at, ok = instant(f.text, now, time.RFC3339, time.DateOnly); !ok {
					return usagef("%s %q: give a time of RFC 3339, a date, or a duration before now such as 24h",
						f.name, f.text)
				}
			}
			switch {
			case o.Settle <= 0:
				return usagef("--settle %s: give more than 0", o.Settle)
			case !o.From.Before(o.To):
				return usagef("--from %s is not before --to %s", from, to)
			case o.Limit < 1:
				return usagef("--limit %d: give 1 or more", o.Limit)
			}
			if d := cfg.Delta; d != nil && o.Settle < d.RevisionInterval+2*cfg.Flush.Interval {
				fmt.Fprintf(cmd.ErrOrStderr(), "deckle: --settle %s is shorter than delta.revision_interval and two "+
					"flushes: sessions that have changed since will differ\n", o.Settle)
			}
			shown := time.Now()
			o.Progress = func(text string) {
				if time.Since(shown) >= 5*time.Second {
					shown = time.Now()
					fmt.Fprintf(cmd.ErrOrStderr(), "%v: %s\n", time.Since(now).Round(time.Second), text)
				}
			}
			o.Suppressed = api.suppressed
			report, err := node.Reconcile(cmd.Context(), cfg, node.Deps{}, o)
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			} else {
				err = report.Write(cmd.OutOrStdout())
			}
			if err == nil && !report.Equal {
				return errNotEqual
			}
			return err
		},
	}
	api.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&from, "from", "24h", "where the stretch begins, by Kafka's time")
	f.StringVar(&to, "to", "", "where it ends (default: --settle before now)")
	f.DurationVar(&o.Settle, "settle", 10*time.Minute, "from which age on a row must be in every table")
	f.IntVar(&o.Limit, "limit", 100, "findings listed of each kind")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// instant is a time as it is given: in one of the layouts, or how long it is before now.
func instant(text string, now time.Time, layouts ...string) (t time.Time, ok bool) {
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), true
	}
	for _, layout := range layouts {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// suppressed asks the node which of the readers are on the list.
func (a *suppressAPI) suppressed(ctx context.Context, readers []node.Reader) ([]bool, error) {
	const atOnce = 100 // two ids each, of at most 255 bytes
	on := make([]bool, len(readers))
	for begin := 0; begin < len(readers); begin += atOnce {
		body := map[string][]string{}
		var of [2][]int // the readers of the users and of the sessions that are asked for
		for i, r := range readers[begin:min(begin+atOnce, len(readers))] {
			for k, id := range []string{r.User, r.Session} {
				kind := []event.SuppressKind{event.SuppressUser, event.SuppressSession}[k]
				if id != "" && event.CheckSuppressID(kind, id) == nil {
					body[kind.String()+"_ids"] = append(body[kind.String()+"_ids"], id)
					of[k] = append(of[k], begin+i)
				}
			}
		}
		asked := append(of[0], of[1]...) // as they are found: users first
		if len(asked) == 0 {
			continue
		}
		var out status.ListOutcome
		if err := a.post(ctx, string(status.ListCheck), body, &out); err != nil {
			return nil, err
		}
		if len(out.Found) != len(asked) {
			return nil, fmt.Errorf("the node was asked for %d ids and answers about %d", len(asked), len(out.Found))
		}
		for i, f := range out.Found {
			on[asked[i]] = on[asked[i]] || f.Listed
		}
	}
	return on, nil
}
