package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"deckle/node/status"
)

func newPartitionsAddCommand(api *partitionsAPI) *cobra.Command {
	var to int32
	var dryRun, yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "add [--to N]",
		Short: "Read partitions that were added to the topic, from their beginning",
		Long: `Read partitions that were added to the topic: its first N, or all. Each is read from its
beginning, by the shard of its number, so nothing that is still in Kafka is missing. This
cannot be undone. Records in them that are older than the horizon become dead letters
too_late, so it should not wait for hours.

Where the number of shards does not divide both numbers of partitions, producers put a
part of the keys into partitions of another shard since the topic has grown. A session that
was open then goes on as a second row there. It says how many are open and names some, and
asks first, unless --yes is given. 6 shards go from 6 to 12 partitions without any.

To ask again changes nothing, and adds what a shard has not added yet.

Exit code 0: added, or nothing to add; 1: refused, not confirmed, or not every shard has done it
(ask again); 2: wrong usage.`,
		Example: `  deckle partitions add --config deckle.yaml --dry-run
  deckle partitions add --config deckle.yaml
  deckle partitions add --address 127.0.0.1:8080 --to 12 --yes --json     # in a script`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("to") && to < 1 {
				return usagef("--to %d: it is how many partitions are to be read", to)
			}
			ask := map[string]any{"dry_run": true}
			if to > 0 {
				ask["to"] = to
			}
			plan, err := api.add(cmd.Context(), ask)
			if err != nil {
				return err
			}
			if dryRun || nothingToAdd(plan) {
				return showAdded(cmd.OutOrStdout(), plan, asJSON)
			}
			if !plan.Whole {
				_ = showAdded(cmd.ErrOrStderr(), plan, false)
				return errors.New("not every shard can add its partitions now; nothing has changed")
			}
			if err := showAdded(cmd.ErrOrStderr(), plan, false); err != nil {
				return err
			}
			if !yes && !confirmed(cmd) {
				return errors.New("not confirmed, nothing has changed (--yes does not ask)")
			}
			out, err := api.add(cmd.Context(), map[string]any{"to": plan.To, "from": plan.From})
			if err != nil {
				return err
			}
			if err := showAdded(cmd.OutOrStdout(), out, asJSON); err != nil {
				return err
			}
			if !out.Whole {
				return errors.New("not every shard has added its partitions; ask again")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.Int32Var(&to, "to", 0, "how many partitions of the topic to read (default: all that it has)")
	f.BoolVar(&dryRun, "dry-run", false, "show what would be added, and change nothing")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.BoolVar(&asJSON, "json", false, "print the answer as one JSON object")
	return cmd
}

func (a *partitionsAPI) add(ctx context.Context, body map[string]any) (*status.PartitionsAdded, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	out := &status.PartitionsAdded{}
	return out, a.do(ctx, http.MethodPost, "/api/v1/partitions/add", b, out)
}

// nothingToAdd says whether every shard reads its share already.
func nothingToAdd(a *status.PartitionsAdded) bool {
	return int(a.To) == a.From && !slices.ContainsFunc(a.Shards, func(s status.ShardPartitions) bool {
		return len(s.Added) > 0 || s.Error != ""
	})
}

func showAdded(to io.Writer, a *status.PartitionsAdded, asJSON bool) error {
	switch {
	case asJSON:
		return json.NewEncoder(to).Encode(a)
	case nothingToAdd(a):
		_, err := fmt.Fprintf(to, "all %d partitions are read; there is nothing to add\n", a.From)
		return err
	}
	verb := "are read now"
	if a.DryRun {
		verb = "would be read"
	}
	fmt.Fprintf(to, "%d partitions %s, %d before\n", a.To, verb, a.From)
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PARTITION\tSHARD\tFROM\tRECORDS")
	for i := range a.Shards {
		for _, p := range a.Shards[i].Added {
			fmt.Fprintf(w, "%d\t%d\t%d\t%d\n", p.Partition, a.Shards[i].Shard, p.From, max(p.End-p.From, 0))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i := range a.Shards {
		for _, p := range a.Shards[i].Added {
			if p.From > 0 {
				fmt.Fprintf(to, "partition %d: Kafka has deleted its first %d offsets, which are read by nobody\n",
					p.Partition, p.From)
			}
		}
		if s := &a.Shards[i]; s.Error != "" {
			fmt.Fprintf(to, "shard %d: %s\n", s.Shard, s.Error)
		}
	}
	if a.DryRun {
		fmt.Fprintln(to, splitText(&a.Split))
	}
	return nil
}

// splitText says which sessions split.
func splitText(s *status.SessionsSplit) string {
	if s.None {
		return "No session splits: the number of shards divides both numbers of partitions."
	}
	of, more := "", ""
	if s.Assumed {
		of = ", which is assumed"
	}
	if !s.Whole {
		more = " or more, since not all could be looked at"
	}
	text := fmt.Sprintf("%d%s of the open sessions go on as a second row if their readers come back, since their keys "+
		"went to another shard when the topic grew (by %s%s). Of %d open sessions the key is not known.", s.Sessions,
		more, s.Partitioner, of, s.Unknown)
	if len(s.Named) > 0 {
		text += " Some of them: " + strings.Join(s.Named, " ")
	}
	return text
}
