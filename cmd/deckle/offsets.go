package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// shardOffsets is the part of /api/v1/status that deckle offsets shows of a shard.
type shardOffsets struct {
	Shard      uint32             `json:"shard"`
	Leader     string             `json:"leader"`
	Clock      *time.Time         `json:"clock"`
	LagRecords *int64             `json:"lag_records"`
	LagNote    string             `json:"lag_note,omitempty"`
	Partitions []partitionOffsets `json:"partitions"`
}

type partitionOffsets struct {
	Partition int32      `json:"partition"`
	Next      *int64     `json:"next_offset"`
	End       *int64     `json:"end_offset"` // next_offset and lag_records
	Lag       *int64     `json:"lag_records"`
	Held      *int64     `json:"open_transaction_records"`
	Clock     *time.Time `json:"clock"`
	Idle      bool       `json:"idle"`
	LeftOut   bool       `json:"left_out,omitempty"`
	Unread    bool       `json:"unread,omitempty"`
	Holds     bool       `json:"holds_clock,omitempty"`
}

func newOffsetsCommand() *cobra.Command {
	api := &nodeAPI{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:        "offsets",
		Short:      "Show where each partition stands, and which of them hold the clock",
		SuggestFor: []string{"offset", "lag", "watermark", "watermarks"},
		Long: `Show for each partition of the source topic the next offset that is read, the end of what
is committed in Kafka, the records between, how far its event time has come, and whether the
clock of its shard waits for it:

  holds     the clock is where this partition is, and goes on with it
  idle      it has been at its end for a while: the clock does not wait
  left out  it has delivered nothing for long: the clock does not wait
  unread    it was added to the topic (deckle partitions add)
  -         it is ahead of the clock

A "+" behind the end says that there are records of open transactions, too. The end is known
to the node that leads the shard, which tells it to the others; "?" is what is not known.
Offsets are never set: deckle partitions skip gives some up.

Exit code 0: shown; 1: the node does not answer.`,
		Example: `  deckle offsets --config deckle.yaml
  deckle offsets --config deckle.yaml --json | jq '.[].partitions[] | select(.holds_clock)'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var st struct {
				Shards []shardOffsets `json:"shards"`
			}
			if err := api.do(cmd.Context(), http.MethodGet, "/api/v1/status", nil, &st); err != nil {
				return err
			}
			for i := range st.Shards {
				for j := range st.Shards[i].Partitions {
					if p := &st.Shards[i].Partitions[j]; p.Next != nil && p.Lag != nil {
						p.End = new(*p.Next + *p.Lag)
					}
				}
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(st.Shards)
			}
			return printOffsets(cmd.OutOrStdout(), st.Shards)
		},
	}
	api.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array, of the shards")
	return cmd
}

func printOffsets(to io.Writer, shards []shardOffsets) error {
	at := func(t *time.Time) string {
		if t == nil {
			return "?"
		}
		return t.UTC().Format(time.RFC3339)
	}
	number := func(n *int64) string {
		if n == nil {
			return "?"
		}
		return fmt.Sprint(*n)
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SHARD\tPARTITION\tNEXT\tEND\tLAG\tEVENT TIME\tCLOCK")
	for i := range shards {
		for j := range shards[i].Partitions {
			p := &shards[i].Partitions[j]
			state, end := "-", number(p.End)
			switch {
			case p.Unread || p.Next == nil:
				state = "unread"
			case p.LeftOut:
				state = "left out"
			case p.Idle:
				state = "idle"
			case p.Holds:
				state = "holds"
			}
			if p.Held != nil && *p.Held > 0 {
				end += "+"
			}
			fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%s\t%s\t%s\n", shards[i].Shard, p.Partition, number(p.Next), end,
				number(p.Lag), at(p.Clock), state)
		}
	}
	fmt.Fprintln(w, "\nSHARD\tLEADER\tCLOCK\tLAG")
	for i := range shards {
		s := &shards[i]
		leader := s.Leader
		if leader == "" {
			leader = "?"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", s.Shard, printable(leader), at(s.Clock), number(s.LagRecords))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i := range shards {
		if s := &shards[i]; s.LagNote != "" {
			fmt.Fprintf(to, "shard %d: %s\n", s.Shard, printable(s.LagNote))
		}
	}
	return nil
}
