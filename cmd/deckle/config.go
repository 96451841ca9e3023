package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"deckle"
	"deckle/node/config"
)

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:        "config show|diff|schema",
		Short:      "Show the configuration, compare two of them, and describe it to editors",
		SuggestFor: []string{"configuration", "settings", "conf"},
		Long: `Show what a configuration comes to, compare two, and print its JSON Schema. Secrets are
never shown, only where they come from. docs/configuration.md says what each key means.`,
		Example: `  deckle config show --config deckle.yaml
  deckle config diff --config deckle.yaml other.yaml
  deckle config schema > deckle.schema.json`,
		Args: noArgs,
		RunE: nameOneOf("show, diff or schema"),
	}
	cmd.AddCommand(newConfigShowCommand(), newConfigDiffCommand(), newConfigSchemaCommand())
	return cmd
}

func newConfigShowCommand() *cobra.Command {
	var source configFlags
	var asJSON, static bool
	cmd := &cobra.Command{
		Use:   "show --config FILE",
		Short: "Print every value, and where it comes from",
		Long: `Print every value of the configuration, defaults too, as a file that says the same. A
comment behind each says where it comes from: the line of the file, with the variables that
it names, --set, or default.

Exit code 0: shown; 2: the configuration is not good.`,
		Example: `  deckle config show --config deckle.yaml
  deckle config show --config deckle.yaml --set kafka.topic=clicks --json
  deckle config show --config deckle.yaml --static     # without the node's secrets`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := source.read(source.path, static)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), l.Values())
			}
			_, err = io.WriteString(cmd.OutOrStdout(), config.ShowYAML(l.Values()))
			return err
		},
	}
	source.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	cmd.Flags().BoolVar(&static, "static", false, "take variables and files of secrets that are missing as present")
	return cmd
}

func newConfigDiffCommand() *cobra.Command {
	var source configFlags
	var asJSON bool
	api := &nodeAPI{}
	cmd := &cobra.Command{
		Use:   "diff --config FILE [OTHER]",
		Short: "Print what differs between two configurations, or from what a node runs with",
		Long: `Print the keys whose values differ, defaults too: - is what FILE has, + what OTHER has.
Variables and files of secrets that are missing here are taken as present. Of secrets it
compares where they come from.

Without OTHER it compares with what the node runs with, at the address of FILE's http block
or at --address: - is what it runs with, + what FILE has. That takes the role operator.

Exit code 0: they say the same; 1: they differ, or the node does not answer; 2: one is not
good.`,
		Example: `  deckle config diff --config node-a.yaml node-b.yaml
  deckle config diff --config deckle.yaml deckle.yaml.new --json
  deckle config diff --config deckle.yaml               # does the node run with this file?`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return usagef("name one file to compare with (see %s --help)", cmd.CommandPath())
			case len(args) == 1 && api.address+api.ca+api.tokenFile != "":
				return usagef("with OTHER no node is asked: leave --address, --ca, --token-file away (see %s --help)",
					cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := source.read(source.path, true)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				api.config = source.path
				var running []config.Value
				if err := api.do(cmd.Context(), http.MethodGet, "/api/v1/config", nil, &running); err != nil {
					return err
				}
				return printChanges(cmd.OutOrStdout(), config.Diff(running, from.Values()), asJSON)
			}
			to, err := (&configFlags{}).read(args[0], true)
			if err != nil {
				return err
			}
			return printChanges(cmd.OutOrStdout(), config.Diff(from.Values(), to.Values()), asJSON)
		},
	}
	source.add(cmd)
	api.addressFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return cmd
}

// printChanges prints what differs, and returns errNotEqual if anything does.
func printChanges(w io.Writer, changes []config.Change, asJSON bool) error {
	if asJSON {
		if err := printJSON(w, append([]config.Change{}, changes...)); err != nil {
			return err
		}
	}
	for _, c := range changes {
		if asJSON {
			break
		}
		var err, err2 error
		if c.From != "" {
			_, err = fmt.Fprintf(w, "- %s: %s\n", c.Key, c.From)
		}
		if c.To != "" {
			_, err2 = fmt.Fprintf(w, "+ %s: %s\n", c.Key, c.To)
		}
		if err := errors.Join(err, err2); err != nil {
			return err
		}
	}
	if len(changes) > 0 {
		return errNotEqual
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	return e.Encode(v)
}

func newConfigSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print JSON Schema of the configuration, for editors",
		Long: `Print JSON Schema (draft 7) of deckle.yaml. An editor that knows it completes keys and marks
mistakes: for those with the YAML language server put this line at the top of the file:
  # yaml-language-server: $schema=deckle.schema.json`,
		Example: "  deckle config schema > deckle.schema.json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := io.WriteString(cmd.OutOrStdout(), deckle.ConfigSchema)
			return err
		},
	}
}
