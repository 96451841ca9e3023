package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// partitionsAPI is what the commands ask of a node.
type partitionsAPI struct{ nodeAPI }

func newPartitionsCommand() *cobra.Command {
	api := &partitionsAPI{}
	cmd := &cobra.Command{
		Use:        "partitions status|skip|resume|add",
		Short:      "Show partitions that cannot be read, and the way out; read new ones",
		SuggestFor: []string{"partition", "skip", "resume"},
		Long: `Show where the partitions stand, and bring one on that cannot be read.

A partition stops or fails when what it should read next is lost or broken; nothing is
ever skipped by itself. "resume" tries it again, "skip" gives offsets up for good. What has
been read and cannot be fetched again for the table of raw events is given up for that table
alone: "skip --sink events". Partitions that were added to the topic are read after "add".
The commands ask the running node on this machine: any node of the cluster will do.`,
		Example: `  deckle partitions status --config deckle.yaml
  deckle partitions skip --config deckle.yaml --partition 3 --to 5120 --reason "retention"
  deckle partitions skip --config deckle.yaml --sink events --partition 3 --from 500 --to 620
  deckle partitions resume --config deckle.yaml --partition 3
  deckle partitions add --config deckle.yaml --dry-run`,
		Args: noArgs,
		RunE: nameOneOf("status, skip, resume or add"),
	}
	api.flags(cmd)
	cmd.AddCommand(newPartitionsStatusCommand(api), newPartitionsSkipCommand(api), newPartitionsResumeCommand(api),
		newPartitionsAddCommand(api))
	return cmd
}

// partitionStatus is the part of /api/v1/status that these commands read.
type partitionStatus struct {
	Shard     uint32         `json:"shard"`
	Partition int32          `json:"partition"`
	Next      *int64         `json:"next_offset"`
	Lag       *int64         `json:"lag_records"`
	GapCount  int64          `json:"gap_count"`
	Skipped   int64          `json:"skipped_offsets"`
	Gaps      []partitionGap `json:"gaps,omitempty"`
	// Of raw events alone: read, and not in table events.
	EventsGapCount int64          `json:"events_gap_count"`
	EventsSkipped  int64          `json:"events_skipped_offsets"`
	EventsGaps     []partitionGap `json:"events_gaps,omitempty"`
	// State is "stopped", "failing" or "", Text says why.
	State string `json:"state"`
	Text  string `json:"text,omitempty"`
}

type partitionGap struct {
	From   int64     `json:"from"`
	To     int64     `json:"to"`
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
}

func newPartitionsStatusCommand(api *partitionsAPI) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show next offset, state and gaps of each partition",
		Long: `Show for each partition the next offset to read, whether it is stopped or failing and why,
and what operators have given up of it. The lag is measured by the node that leads the
partition's shard, which tells it to the others; "-" is a lag that is not known.

Exit code 0: shown; 1: the node does not answer.`,
		Example: `  deckle partitions status --config deckle.yaml
  deckle partitions status --address 127.0.0.1:8080 --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := api.status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
			}
			return printPartitions(cmd.OutOrStdout(), all)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return cmd
}

func printPartitions(to io.Writer, all []partitionStatus) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	known := func(n *int64) string {
		if n == nil {
			return "-"
		}
		return strconv.FormatInt(*n, 10)
	}
	fmt.Fprintln(w, "PARTITION\tSHARD\tNEXT\tLAG\tGAPS\tSKIPPED\tSTATE")
	for i := range all {
		p := &all[i]
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%d\t%d\t%s\n", p.Partition, p.Shard, known(p.Next), known(p.Lag), p.GapCount,
			p.Skipped, strings.TrimSpace(p.State))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i := range all {
		p := &all[i]
		if p.Text != "" {
			fmt.Fprintf(to, "\npartition %d is %s: %s\n", p.Partition, p.State, p.Text)
		}
		printGaps(to, p.Gaps, fmt.Sprintf("partition %d, the last %d of %d gaps", p.Partition, len(p.Gaps),
			p.GapCount))
		printGaps(to, p.EventsGaps, fmt.Sprintf("partition %d, raw events that are not in table events, the last %d "+
			"of %d gaps with %d offsets", p.Partition, len(p.EventsGaps), p.EventsGapCount, p.EventsSkipped))
	}
	return nil
}

func printGaps(to io.Writer, gaps []partitionGap, title string) {
	if len(gaps) > 0 {
		fmt.Fprintf(to, "\n%s:\n", title)
	}
	for _, g := range gaps {
		fmt.Fprintf(to, "  offsets %d to %d (without it), %s, asked of node %s: %q\n", g.From, g.To,
			g.At.Format(time.RFC3339), g.By, g.Reason)
	}
}

func newPartitionsSkipCommand(api *partitionsAPI) *cobra.Command {
	var partition int32
	var from, to int64
	var reason, sink string
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "skip [--sink events --from OFFSET] --partition P --to OFFSET",
		Short: "Give up offsets of a partition that is stopped or failing, for good",
		Long: `Give up the offsets of a partition from the next one up to OFFSET, without it. Their records
will never be in any table, and this cannot be undone; the gap is kept and shown with
the reason. OFFSET is not past the end of the partition. With OFFSET equal to the next
offset nothing is given up: what the log has from there on is accepted as it is.

With --sink events the offsets have been read: sessions and totals have their records. But
Kafka cannot give them again for the table of raw events (a flipped byte, retention), and
that table waits. The condition of the sink names the offsets, --from included. The table
then goes without what it cannot have of them; to give up the same again changes nothing.

It says how many offsets are lost and asks first, unless --yes is given.

Exit code 0: given up; 1: refused, not confirmed, or not known (see status); 2: wrong usage.`,
		Example: `  deckle partitions skip --config deckle.yaml --partition 3 --to 5120 --reason "retention"
  deckle partitions skip --partition 3 --from 500 --to 501 --yes       # in a script: only from there
  deckle partitions skip --sink events --partition 3 --from 500 --to 620 --reason "flipped byte"
  deckle partitions skip --sink events --partition 3 --from 500 --to 620 --yes --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch f := cmd.Flags(); {
			case !f.Changed("partition") || partition < 0:
				return usageError{errors.New("--partition P is missing")}
			case !f.Changed("to") || to < 0:
				return usageError{errors.New("--to OFFSET is missing: the first offset to read again")}
			case f.Changed("sink") && sink != "events":
				return usagef("--sink %q: only events has records to fetch again", sink)
			case sink != "" && (!f.Changed("from") || from < 0):
				return usageError{errors.New("--from OFFSET is missing: the first one to give up, as the " +
					"condition of the sink names it")}
			case sink != "" && to <= from:
				return usagef("there is no offset from %d up to %d, without it", from, to)
			case !f.Changed("from"):
				p, err := api.partition(cmd.Context(), partition)
				if err != nil {
					return err
				}
				from = *p.Next
			}
			if to < from {
				return usagef("--to %d is before the next offset, %d", to, from)
			}
			what := fmt.Sprintf("%d offsets of partition %d, %d to %d, are lost for good: their records will be in no "+
				"table.", to-from, partition, from, to-1)
			switch {
			case sink != "":
				what = fmt.Sprintf("The raw events of %d offsets of partition %d, %d to %d, are lost for good: table "+
					"events will go without them. Sessions and totals have them.", to-from, partition, from, to-1)
			case to == from:
				what = fmt.Sprintf("No offset of partition %d is given up. What its log has from offset %d on is "+
					"accepted as it is, whatever was read before.", partition, from)
			}
			fmt.Fprintln(cmd.ErrOrStderr(), what)
			if !yes && !confirmed(cmd) {
				return errors.New("not confirmed, nothing has changed (--yes does not ask)")
			}
			body := map[string]any{"partition": partition, "from": from, "to": to, "reason": reason}
			if sink != "" {
				body["sink"] = sink
			}
			out, err := api.post(cmd.Context(), "skip", body)
			switch {
			case err != nil:
				return err
			case asJSON:
				return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
			case sink != "":
				fmt.Fprintf(cmd.OutOrStdout(), "raw events of partition %d go on at offset %d; %d offsets have been "+
					"given up\n", partition, out.Next, out.Skipped)
				return nil
			}
			fmt.Fprintf(cmd.OutOrStdout(), "partition %d goes on at offset %d; %d offsets have been given up\n",
				partition, out.Next, out.Skipped)
			return nil
		},
	}
	f := cmd.Flags()
	f.Int32Var(&partition, "partition", 0, "the partition (required)")
	f.Int64Var(&to, "to", 0, "the first offset to read again (required)")
	f.Int64Var(&from, "from", 0, "the next offset, if it must be this one (default: the present one); with --sink the "+
		"first to give up")
	f.StringVar(&sink, "sink", "", "events: give up for the table of raw events alone what has been read")
	f.BoolVar(&asJSON, "json", false, "print the answer as one JSON object")
	f.StringVar(&reason, "reason", "", "why, for those who look at the gap later")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// confirmed asks on standard error, and reads the answer from standard input.
func confirmed(cmd *cobra.Command) bool {
	fmt.Fprint(cmd.ErrOrStderr(), "Type yes to go on: ")
	answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	return strings.TrimSpace(answer) == "yes"
}

func newPartitionsResumeCommand(api *partitionsAPI) *cobra.Command {
	var partition int32
	cmd := &cobra.Command{
		Use:   "resume --partition P",
		Short: "Try a partition again that is stopped or failing",
		Long: `Try a partition again from its next offset on. It is safe: nothing is skipped, and the
partition stops again if what has stopped it has not gone.

Exit code 0: it is tried again; 1: refused, or not known (see status); 2: wrong usage.`,
		Example: `  deckle partitions resume --config deckle.yaml --partition 3`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("partition") || partition < 0 {
				return usageError{errors.New("--partition P is missing")}
			}
			out, err := api.post(cmd.Context(), "resume", map[string]any{"partition": partition})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "partition %d is tried again from offset %d on\n", partition, out.Next)
			return nil
		},
	}
	cmd.Flags().Int32Var(&partition, "partition", 0, "the partition (required)")
	return cmd
}

// status returns the partitions, ascending by shard.
func (a *partitionsAPI) status(ctx context.Context) ([]partitionStatus, error) {
	var st struct {
		Conditions []struct {
			ID      string `json:"id"`
			Subject string `json:"subject"`
			Text    string `json:"text"`
		} `json:"conditions"`
		Shards []struct {
			Shard      uint32            `json:"shard"`
			Partitions []partitionStatus `json:"partitions"`
		} `json:"shards"`
	}
	if err := a.do(ctx, http.MethodGet, "/api/v1/status", nil, &st); err != nil {
		return nil, err
	}
	all := []partitionStatus{}
	for _, s := range st.Shards {
		for _, p := range s.Partitions {
			p.Shard = s.Shard
			for _, c := range st.Conditions {
				state := strings.TrimPrefix(c.ID, "partition-")
				if (state == "stopped" || state == "failing") && c.Subject == fmt.Sprint("partition ", p.Partition) {
					p.State, p.Text = state, c.Text
				}
			}
			all = append(all, p)
		}
	}
	return all, nil
}

// partition returns one partition that is read.
func (a *partitionsAPI) partition(ctx context.Context, id int32) (*partitionStatus, error) {
	all, err := a.status(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Partition == id && all[i].Next != nil {
			return &all[i], nil
		}
	}
	return nil, fmt.Errorf("no shard reads partition %d", id)
}

// outcome is what a command answers.
type outcome struct {
	Next    int64 `json:"next_offset"`
	Skipped int64 `json:"skipped_offsets"`
}

func (a *partitionsAPI) post(ctx context.Context, command string, body map[string]any) (out outcome, err error) {
	b, err := json.Marshal(body)
	if err != nil {
		return out, err
	}
	err = a.do(ctx, http.MethodPost, "/api/v1/partitions/"+command, b, &out)
	return out, err
}
