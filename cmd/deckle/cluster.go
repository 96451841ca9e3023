package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"deckle/node/status"
)

// clusterAPI is what the commands ask of a node.
type clusterAPI struct {
	nodeAPI

	asJSON bool
}

func newClusterCommand() *cobra.Command {
	api := &clusterAPI{}
	cmd := &cobra.Command{
		Use:        "cluster transfer|drain|undrain",
		Short:      "Say which node leads which shards: before a restart, or for good",
		SuggestFor: []string{"nodes", "leader", "transfer", "drain", "undrain", "cordon"},
		Long: `Move the leadership of shards from node to node. Nothing is lost by it, and a shard stands
still for a moment only. All of it is the business of the running processes: a restart ends
what was asked, and shards then go back to their preferred nodes.

The commands ask the running node on this machine, as an operator: any node of the cluster
will do. "deckle status" shows which node leads what, and which is drained.`,
		Example: `  deckle cluster drain b --config deckle.yaml --wait        # before node b is restarted
  deckle cluster undrain b --config deckle.yaml
  deckle cluster transfer --shard 3 --to c --config deckle.yaml
  deckle cluster transfer --all --to c --config deckle.yaml --json`,
		Args: noArgs,
		RunE: nameOneOf("transfer, drain or undrain"),
	}
	api.flags(cmd)
	cmd.PersistentFlags().BoolVar(&api.asJSON, "json", false, "print the node's answer, one JSON object")
	cmd.AddCommand(newClusterTransferCommand(api), newClusterDrainCommand(api), newClusterUndrainCommand(api))
	return cmd
}

func newClusterTransferCommand(api *clusterAPI) *cobra.Command {
	var shard uint32
	var all bool
	var to string
	cmd := &cobra.Command{
		Use:   "transfer --shard N|--all --to NODE",
		Short: "Hand shards to a node, which keeps them",
		Long: `Have the leader of a shard, or of every shard, hand it to a node. That node takes it only if it
votes in the shard, has caught up and is not drained. It keeps the shard, also if another node
is the preferred one, until it loses it: until it is restarted, or drained. To let shards go
home, drain the node and undrain it.

Exit code 0: the node leads them; 1: refused, or not every shard (the text says which), or not
known (see deckle status); 2: wrong usage.`,
		Example: `  deckle cluster transfer --shard 3 --to c --config deckle.yaml
  deckle cluster transfer --all --to c --config deckle.yaml --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			one := cmd.Flags().Changed("shard")
			if one == all || to == "" {
				return usageError{errors.New("give one of --shard N and --all, and --to NODE")}
			}
			body := map[string]any{"to": to, "all": true}
			if one {
				body = map[string]any{"to": to, "shard": shard}
			}
			var out status.TransferOutcome
			if err := api.post(cmd.Context(), "transfer", body, &out); err != nil {
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
				case api.asJSON:
				case s.From == out.To:
					fmt.Fprintf(cmd.OutOrStdout(), "shard %d: node %s leads it, and keeps it\n", s.Shard, out.To)
				default:
					fmt.Fprintf(cmd.OutOrStdout(), "shard %d: from node %s to node %s\n", s.Shard, s.From, out.To)
				}
			}
			if !out.Whole {
				return fmt.Errorf("not every shard has been handed over: %s", strings.Join(failed, "; "))
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.Uint32Var(&shard, "shard", 0, "the shard to hand over")
	f.BoolVar(&all, "all", false, "hand all shards over")
	f.StringVar(&to, "to", "", "the node that shall lead")
	return cmd
}

func newClusterDrainCommand(api *clusterAPI) *cobra.Command {
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "drain NODE [--wait]",
		Short: "Let a node lead no shard that another one can lead",
		Long: `Have a node give its shards, one after the other, to nodes that vote in them and have caught up,
and take none any more. It goes on to vote and to have every record. A shard that no other
node can take stays, and runs on. It holds until the node is restarted or undrained.

It is refused where no other node is up that is not drained. It warns if the node had better
not be stopped.

Exit code 0: drained, with --wait: and it leads nothing; 1: refused, or it still leads
something when --timeout is over, or not known (see deckle status); 2: wrong usage.`,
		Example: `  deckle cluster drain b --config deckle.yaml
  deckle cluster drain b --config deckle.yaml --wait --timeout 2m && systemctl restart deckle
  deckle cluster drain b --config deckle.yaml --json`,
		Args: oneNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := api.drain(cmd, "drain", args[0])
			if err != nil {
				return err
			}
			for _, w := range out.Warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
			}
			if wait {
				if out.Leads, err = api.empty(cmd.Context(), args[0], timeout); err != nil {
					return err
				}
			}
			switch {
			case api.asJSON:
				return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
			case len(out.Leads) > 0:
				fmt.Fprintf(cmd.OutOrStdout(), "node %s is drained; it still leads shards %s, until other nodes take "+
					"them\n", out.Node, numbers(out.Leads))
			default:
				fmt.Fprintf(cmd.OutOrStdout(), "node %s is drained, and leads no shard\n", out.Node)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "return once the node leads no shard")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait")
	return cmd
}

func newClusterUndrainCommand(api *clusterAPI) *cobra.Command {
	return &cobra.Command{
		Use:   "undrain NODE",
		Short: "Let a node that was drained lead again",
		Long: `End what drain has begun: the node takes leaderships again, and gets back those shards for which
it is the preferred node. One that is not drained stays as it is.

Exit code 0: done; 1: refused, or not known (see deckle status); 2: wrong usage.`,
		Example: `  deckle cluster undrain b --config deckle.yaml
  deckle cluster undrain b --address 127.0.0.1:8080 --json`,
		Args: oneNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := api.drain(cmd, "undrain", args[0])
			switch {
			case err != nil:
				return err
			case api.asJSON:
				return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "node %s may lead shards\n", out.Node)
			return nil
		},
	}
}

func oneNode(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return usagef("name one node (see %s --help)", cmd.CommandPath())
	}
	return nil
}

// post sends a verb, and waits if the node says that there are too many.
func (a *clusterAPI) post(ctx context.Context, verb string, body, out any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return a.patiently(ctx, func() error {
		return a.do(ctx, http.MethodPost, "/api/v1/cluster/"+verb, b, out)
	})
}

func (a *clusterAPI) drain(cmd *cobra.Command, verb, node string) (out status.DrainOutcome, err error) {
	err = a.post(cmd.Context(), verb, map[string]string{"node": node}, &out)
	return out, err
}

// drainLook is how often it is asked whether a node leads nothing any more.
const drainLook = time.Second

// empty waits until a drained node tells that it leads nothing, and returns what it leads: nothing.
func (a *clusterAPI) empty(ctx context.Context, node string, timeout time.Duration) ([]uint32, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	last := errors.New("it has not told where it stands")
	for seen := false; ; {
		var c clusterStatus
		err := a.do(ctx, http.MethodGet, "/api/v1/cluster", nil, &c)
		if err != nil && ctx.Err() == nil {
			last = err
		}
		for i := range c.Members {
			m := &c.Members[i]
			switch f := m.Figures; {
			case m.Node != node || f == nil:
			case !m.Answers:
				last = errors.New("it does not answer")
			case !f.Drained && seen:
				return nil, fmt.Errorf("node %s is not drained any more: it was restarted, or undrained", node)
			case !f.Drained: // what it told last is from before
			case len(f.Leads) > 0:
				seen, last = true, fmt.Errorf("it leads shards %s", numbers(f.Leads))
			default:
				return []uint32{}, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("node %s is drained, and it was waited for in vain until it leads nothing: %w", node,
				last)
		case <-time.After(drainLook):
		}
	}
}
