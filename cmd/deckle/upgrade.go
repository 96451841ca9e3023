package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"deckle/node/status"
)

func newUpgradeCommand() *cobra.Command {
	api := &clusterAPI{}
	cmd := &cobra.Command{
		Use:        "upgrade status|finalize",
		Short:      "Show where an upgrade stands, and end it: no way back from there",
		SuggestFor: []string{"level", "version", "finalize", "rollback", "downgrade"},
		Long: `A new version may bring new formats. The shards go over to them together, by a number that is
called the level, once all nodes run a version that has it: at once, or, with cluster.finalize:
manual in a node's configuration, when "finalize" says so. Until then an older version of the
level that the shards have can take over again; afterwards it cannot.

The commands ask the running node on this machine: any node of the cluster will do.`,
		Example: `  deckle upgrade status --config deckle.yaml
  deckle upgrade finalize --config deckle.yaml`,
		Args: noArgs,
		RunE: nameOneOf("status or finalize"),
	}
	api.flags(cmd)
	cmd.PersistentFlags().BoolVar(&api.asJSON, "json", false, "print the node's answer, one JSON object")
	cmd.AddCommand(newUpgradeStatusCommand(api), newUpgradeFinalizeCommand(api))
	return cmd
}

// upgradeStatus is the part of /api/v1/upgrade that deckle upgrade shows.
type upgradeStatus struct {
	Level   uint32   `json:"level"`
	Highest uint32   `json:"level_highest"`
	Newest  uint32   `json:"level_newest"`
	WayBack bool     `json:"way_back"`
	Holds   []string `json:"holds"`
	Nodes   []struct {
		Node    string `json:"node"`
		Answers bool   `json:"answers"`
		Version string `json:"version"`
		Has     uint32 `json:"level_has"`
		Allows  uint32 `json:"level_known"`
		Manual  bool   `json:"manual"`
	} `json:"nodes"`
}

func newUpgradeStatusCommand(api *clusterAPI) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show version and level of each node, and whether an older version may come back",
		Long: `Show version and level of each node, the level of the shards, what holds it down, and whether
the way back to an older version is open as far as the level decides: see the chapter "Versions
and the level" of docs/operations.md for a node's own files.

Exit code 0: shown; 1: the node does not answer.`,
		Example: `  deckle upgrade status --config deckle.yaml
  deckle upgrade status --address 127.0.0.1:8080 --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var answer json.RawMessage
			if err := api.do(cmd.Context(), http.MethodGet, "/api/v1/upgrade", nil, &answer); err != nil {
				return err
			}
			if api.asJSON {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), string(answer))
				return err
			}
			var u upgradeStatus
			if err := json.Unmarshal(answer, &u); err != nil {
				return fmt.Errorf("the node's answer: %w", err)
			}
			return u.print(cmd.OutOrStdout())
		},
	}
}

func (u *upgradeStatus) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tSTATE\tVERSION\tLEVEL\tALLOWS\tFINALIZE")
	for i := range u.Nodes {
		n := &u.Nodes[i]
		state, finalize := "up", "auto"
		if !n.Answers {
			state = "DOWN"
		}
		if n.Manual {
			finalize = "manual"
		}
		if n.Has == 0 {
			fmt.Fprintf(w, "%s\t%s\t-\t-\t-\t-\n", printable(n.Node), state)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\n", printable(n.Node), state, printable(n.Version), n.Has, n.Allows,
			finalize)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	shards := "not known"
	switch u.Level {
	case 0:
	case u.Highest:
		shards = fmt.Sprint(u.Level)
	default:
		shards = fmt.Sprintf("%d to %d", u.Level, u.Highest)
	}
	fmt.Fprintf(to, "\nlevel of the shards  %s, of the newest version %d\n", shards, u.Newest)
	for i, h := range u.Holds {
		name := ""
		if i == 0 {
			name = "held down by"
		}
		fmt.Fprintf(to, "%-20s %s\n", name, printable(h))
	}
	switch {
	case u.Level == 0:
	case u.WayBack:
		fmt.Fprintf(to, "way back             open: versions of level %d may take over\n", u.Highest)
	default:
		fmt.Fprintf(to, "way back             closed: versions below level %d cannot take over\n", u.Highest)
	}
	return nil
}

func newUpgradeFinalizeCommand(api *clusterAPI) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "finalize [--yes]",
		Short: "Let the level of the shards rise to that of the new version, for good",
		Long: `Let every shard rise to the highest level that the versions of all nodes have and that their
cluster.max_level allows. A level never falls: no older version can take over afterwards. It is
refused, shard by shard, where a node does not answer or runs an older version. A shard that
has the level already stays as it is, so to repeat it is harmless.

It asks first, unless --yes is given.

Exit code 0: all shards have it; 1: refused, not confirmed, not every shard (the text says
which), or not known (see deckle upgrade status); 2: wrong usage.`,
		Example: `  deckle upgrade finalize --config deckle.yaml
  deckle upgrade finalize --config deckle.yaml --yes --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintln(cmd.ErrOrStderr(), "No older version can take over afterwards: a level never falls.")
			if !yes && !confirmed(cmd) {
				return errors.New("not confirmed, nothing has changed (--yes does not ask)")
			}
			var out status.FinalizeOutcome
			err := api.patiently(cmd.Context(), func() error {
				return api.do(cmd.Context(), http.MethodPost, "/api/v1/upgrade/finalize", []byte("{}"), &out)
			})
			if err != nil {
				return err
			}
			if api.asJSON {
				if err := json.NewEncoder(cmd.OutOrStdout()).Encode(out); err != nil {
					return err
				}
			}
			var failed []string
			for _, s := range out.Shards {
				switch {
				case s.Error != "":
					failed = append(failed, fmt.Sprintf("shard %d: %s", s.Shard, s.Error))
				case !api.asJSON:
					fmt.Fprintf(cmd.OutOrStdout(), "shard %d: level %d, it was %d\n", s.Shard, s.To, s.From)
				}
			}
			if !out.Whole {
				return fmt.Errorf("not every shard has risen: %s", strings.Join(failed, "; "))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
