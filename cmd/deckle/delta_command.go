package main

import "github.com/spf13/cobra"

func newDeltaCommand() *cobra.Command {
	l := &lake{}
	cmd := &cobra.Command{
		Use:        "delta describe|log|show|diff|files|fsck|checkpoint|compact|vacuum|restore|forget-gaps",
		Short:      "Look at the Delta tables, check, compact, vacuum and restore them",
		SuggestFor: []string{"lake", "table", "history", "vacuum", "fsck", "optimize", "rollback"},
		Long: `Look at the Delta tables of a cluster, or at any others: history, versions, files, faults.

The commands open the store themselves, with the keys of the configuration, and need no
running node, except restore and forget-gaps, which ask one. All but those, checkpoint,
compact and vacuum only read, and read tables of others, too: features that bind writers
alone are named, and what cannot be read exactly is refused.`,
		Example: `  deckle delta describe sessions --config deckle.yaml
  deckle delta log sessions --config deckle.yaml --limit 5
  deckle delta show sessions --config deckle.yaml --timestamp 2026-11-29T12:00:00Z
  deckle delta diff sessions 118 120 --config deckle.yaml
  deckle delta fsck --config deckle.yaml
  deckle delta vacuum --config deckle.yaml`,
		Args: noArgs,
		RunE: nameOneOf("describe, log, show, diff, files, fsck, checkpoint, compact, vacuum, restore or forget-gaps"),
	}
	f := cmd.PersistentFlags()
	f.StringVarP(&l.config, "config", "c", "", "configuration of any node of the cluster")
	f.StringVar(&l.url, "url", "", "the folder of the tables instead of the configuration's: a path, or "+
		"s3://BUCKET/PREFIX with the endpoint and the keys of the configuration")
	cmd.AddCommand(newDeltaDescribeCommand(l), newDeltaLogCommand(l), newDeltaShowCommand(l), newDeltaDiffCommand(l),
		newDeltaFilesCommand(l), newDeltaFsckCommand(l), newDeltaCheckpointCommand(l), newDeltaCompactCommand(l),
		newDeltaVacuumCommand(l), newDeltaRestoreCommand(l), newDeltaForgetCommand(l))
	return cmd
}
