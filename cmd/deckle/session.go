package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func newSessionCommand() *cobra.Command {
	api := &nodeAPI{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:        "session ID",
		Short:      "Show one session as it stands in the state",
		SuggestFor: []string{"sessions", "reader", "lookup", "get"},
		Long: `Show one session as the node that is asked has it now: open, or ended within the retention.
Of what ended before, the tables know. A node that follows may be some records behind.

It takes the role analyst; one that is held to some brands sees theirs only, and a session of
another brand is as one that is not there. Each look stands in the audit log, with the id.

Exit code 0: shown; 1: there is no such session, or the node could not be asked; 2: wrong
usage.`,
		Example: `  deckle session f4e0f0bc-fe0f-47b7-b3fe-f6878adf7610 --config deckle.yaml
  deckle session --config deckle.yaml --json -- -an-odd-id | jq '.page_events'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usagef("name one session (see %s --help)", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var answer json.RawMessage
			path := "/api/v1/sessions?id=" + url.QueryEscape(args[0])
			if err := api.do(cmd.Context(), http.MethodGet, path, nil, &answer); err != nil {
				return err
			}
			if asJSON {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", answer)
				return err
			}
			return writeSession(cmd.OutOrStdout(), answer)
		},
	}
	api.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the answer of /api/v1/sessions")
	return cmd
}

// writeSession prints the fields of a JSON object in its order, one a line; the elements of a list and the fields of an
// object stand below it. What a text has for a terminal is dropped, and fields without a value are left out.
func writeSession(to io.Writer, object json.RawMessage) error {
	d := json.NewDecoder(bytes.NewReader(object))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.Join(errors.New("the node's answer is not a session"), err)
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		line := func(name, text string) { fmt.Fprintf(w, "%s\t%s\n", printable(name), printable(text)) }
		var list []json.RawMessage
		switch text := string(value); {
		case text == "null", text == `""`, text == "[]", text == "{}":
		case json.Unmarshal(value, &list) == nil:
			label := fmt.Sprint(name)
			for _, e := range list {
				line(label, scalar(e))
				label = ""
			}
		default:
			line(fmt.Sprint(name), scalar(value))
		}
	}
	return w.Flush()
}

// scalar is a JSON value in one line; a text without its quotes.
func scalar(v json.RawMessage) string {
	var text string
	if json.Unmarshal(v, &text) == nil {
		return text
	}
	var b bytes.Buffer
	if json.Compact(&b, v) != nil {
		return strings.TrimSpace(string(v))
	}
	return b.String()
}
