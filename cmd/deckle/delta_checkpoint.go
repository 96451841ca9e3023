package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"deckle/sinks/delta"
)

// checkpointed is the result for one table.
type checkpointed struct {
	Table   string `json:"table"`
	Version int64  `json:"version"`
	Bytes   int64  `json:"bytes"`
	Made    bool   `json:"made"` // false: it was there already
}

func newDeltaCheckpointCommand(l *lake) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "checkpoint [TABLE…]",
		Short: "Write a checkpoint of the newest version",
		Long: `Write a checkpoint of the newest version of the tables, by default events and sessions.

Nodes write checkpoints by themselves, as seldom as the size of the table wants. One more is
of use before a table is copied, and for a reader that is slow with the commits behind the
last one. The cluster may run. A table that nodes could not write is refused.`,
		Example: `  deckle delta checkpoint --config deckle.yaml
  deckle delta checkpoint sessions --config deckle.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			st, tables, done, err := l.tables(cmd.Context(), args)
			if err != nil {
				return err
			}
			defer done()
			var all []checkpointed
			for _, name := range tables {
				c := checkpointed{Table: name}
				opts := delta.Options{Store: st, Node: "deckle delta"}
				c.Version, c.Bytes, c.Made, err = delta.Checkpoint(cmd.Context(), opts, name)
				if err != nil {
					return err
				}
				what := "is there already"
				if c.Made {
					what = "is written"
				}
				if all = append(all, c); !asJSON {
					fmt.Fprintf(cmd.OutOrStdout(), "table %s: the checkpoint of version %d %s, %s\n", name, c.Version,
						what, bytesText(c.Bytes))
				}
			}
			if asJSON {
				return eachJSON(cmd.OutOrStdout(), all)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a table")
	return cmd
}
