package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"deckle/node/web"
)

func newVersionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the build's version",
		Long:    "Print the version, the revision it was built from, and Go's version and platform.",
		Example: "  deckle version\n  deckle version --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := web.Version()
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
			}
			modified := ""
			if v.Modified {
				modified = " (modified)"
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "deckle %s %s%s %s %s/%s\n", v.Version, v.Revision, modified, v.Go, v.OS, v.Arch)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
