package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"deckle/event"
	"deckle/node/status"
)

// suppressAPI is what the commands ask of a node.
type suppressAPI struct {
	nodeAPI

	asJSON bool
}

func newSuppressCommand() *cobra.Command {
	api := &suppressAPI{}
	cmd := &cobra.Command{
		Use:        "suppress add|remove|check|list|repair",
		Short:      "Let in no record of readers who have objected",
		SuggestFor: []string{"suppression", "suppressions", "objection", "optout", "forget", "gdpr"},
		Long: `Keep the list of suppressed readers: from the moment on at which a user or a session is on
it, no record of theirs gets into state, tables, buffers or dead letters. Ids are compared
byte by byte with user_id and session_id of the records as they come from Kafka, not as
tables show them. The cluster keeps a keyed hash of an id, never the id.

It takes nothing back: what has been written, open sessions, letters that wait to be
written, Kafka and copies keep what they have. "add" names it.

The commands ask the running node on this machine, as an administrator: any node of the
cluster will do. Other users of the machine see the arguments of a command: give ids by
--file, or by standard input with --file -, where they must not.`,
		Example: `  deckle suppress add --config deckle.yaml --user 4711
  deckle suppress add --config deckle.yaml --file users.txt       # one user_id per line
  deckle suppress check --config deckle.yaml --session abc --json
  deckle suppress list --config deckle.yaml
  deckle suppress remove --config deckle.yaml --user 4711
  deckle suppress repair --config deckle.yaml`,
		Args: noArgs,
		RunE: nameOneOf("add, remove, check, list or repair"),
	}
	api.flags(cmd)
	cmd.PersistentFlags().BoolVar(&api.asJSON, "json", false, "print JSON, one object for each answer of the node")
	cmd.AddCommand(
		newSuppressIDsCommand(api, status.ListAdd, "Let in no record of a user or a session any more",
			`Put users or sessions on the list: from then on no record of theirs is let in. To repeat it
is harmless. A user's open sessions are named: list them by --session, too, if later
records of theirs without the user_id shall not be let in either.`),
		newSuppressIDsCommand(api, status.ListRemove, "Let in records of a user or a session again",
			`Take users or sessions from the list: from then on their records are let in again. What was
left out stays out. To repeat it is harmless.`),
		newSuppressIDsCommand(api, status.ListCheck, "Show since when a user or a session is on the list",
			`Ask the leader of every shard since when it has users or sessions on its list.`),
		newSuppressListCommand(api), newSuppressRepairCommand(api))
	return cmd
}

// ids are the flags that name users and sessions.
type ids struct {
	user, session, file string
	sessions            bool
}

func newSuppressIDsCommand(api *suppressAPI, op status.ListOp, short, long string) *cobra.Command {
	var of ids
	cmd := &cobra.Command{
		Use:   string(op) + " --user ID | --session ID | --file FILE",
		Short: short,
		Long: long + `

A file has one id per line, of users or, with --sessions, of sessions; "-" is standard
input. Empty lines are passed over, and a space counts. Up to 800 ids go at once, twice per
second; if it ends early, the whole file can be given again.

Exit code 0: every shard has done it; 1: refused, or not every shard has (the text says
which: repeat it, or run deckle suppress repair); 2: wrong usage.`,
		Example: fmt.Sprintf(`  deckle suppress %[1]s --config deckle.yaml --user 4711
  deckle suppress %[1]s --config deckle.yaml --session 0a1b2c
  deckle suppress %[1]s --config deckle.yaml --file sessions.txt --sessions
  deckle suppress %[1]s --config deckle.yaml --file - < users.txt`, op),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return api.each(cmd, op, &of)
		},
	}
	f := cmd.Flags()
	f.StringVar(&of.user, "user", "", "user_id of the records; of a number its decimal digits")
	f.StringVar(&of.session, "session", "", "session_id of the records")
	f.StringVar(&of.file, "file", "", "file with one id per line; - for standard input")
	f.BoolVar(&of.sessions, "sessions", false, "the file has session ids")
	return cmd
}

// maxListChunk bounds the bytes of ids in a request.
const maxListChunk = 64 << 10

// each asks a node to do something for all ids, as many at once as it takes.
func (a *suppressAPI) each(cmd *cobra.Command, op status.ListOp, of *ids) error {
	given := 0
	for _, name := range []string{"user", "session", "file"} {
		if cmd.Flags().Changed(name) {
			given++
		}
	}
	if given != 1 || of.sessions && of.file == "" {
		return usageError{errors.New("give one of --user ID, --session ID and --file FILE; --sessions is for a file")}
	}
	kind := event.SuppressUser
	if of.session != "" || cmd.Flags().Changed("session") || of.sessions {
		kind = event.SuppressSession
	}
	t := total{op: op, whole: true}
	send := func(chunk []string) error {
		body := map[string][]string{kind.String() + "_ids": chunk}
		var out status.ListOutcome
		if err := a.post(cmd.Context(), string(op), body, &out); err != nil {
			if t.ids > 0 {
				return fmt.Errorf("after %d ids: %w", t.ids, err)
			}
			return err
		}
		t.add(&out)
		if a.asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
		}
		if op == status.ListCheck {
			printFound(cmd.OutOrStdout(), chunk, out.Found)
		}
		return nil
	}
	if of.file == "" {
		id := of.user + of.session // one of them
		if err := event.CheckSuppressID(kind, id); err != nil {
			return usageError{err}
		}
		if err := send([]string{id}); err != nil {
			return err
		}
	} else if err := a.eachLine(cmd, of.file, kind, send); err != nil {
		return err
	}
	if !a.asJSON {
		t.print(cmd.OutOrStdout())
	}
	if !t.whole {
		return fmt.Errorf("not every shard has done it: %s; repeat it, or run deckle suppress repair", t.missing)
	}
	return nil
}

// eachLine sends the lines of a file, after it has looked at all of them.
func (a *suppressAPI) eachLine(cmd *cobra.Command, file string, kind event.SuppressKind,
	send func([]string) error) error {
	in := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return usagef("--file: %w", err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	var all []string
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		id := strings.TrimSuffix(lines.Text(), "\r")
		if id == "" {
			continue
		}
		if err := event.CheckSuppressID(kind, id); err != nil {
			return usagef("--file: line %d: %w", n, err)
		}
		all = append(all, id)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("--file: %w", err)
	}
	if len(all) == 0 {
		return usageError{errors.New("--file: there is no id in it")}
	}
	for len(all) > 0 {
		n, bytes := 0, 0
		for n < len(all) && n < status.MaxListIDs && bytes < maxListChunk {
			bytes += len(all[n])
			n++
		}
		if err := send(all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// post sends a verb, and waits if the node says that there are too many.
func (a *suppressAPI) post(ctx context.Context, verb string, body any, out *status.ListOutcome) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return a.patiently(ctx, func() error {
		return a.do(ctx, http.MethodPost, "/api/v1/suppressions/"+verb, b, out)
	})
}

// total adds up what has come of all ids.
type total struct {
	op             status.ListOp
	ids, changed   int
	readers        int64
	whole          bool
	missing        string
	open           []string
	openIncomplete bool
	notStopped     []string
}

func (t *total) add(out *status.ListOutcome) {
	t.ids, t.changed, t.readers = t.ids+out.IDs, t.changed+out.Changed, out.Readers
	t.whole = t.whole && out.Whole
	if missing := missingShards(out.Shards); missing != "" {
		t.missing = missing
	}
	t.open, t.openIncomplete = append(t.open, out.OpenSessions...), t.openIncomplete || !out.SessionsWhole
	t.notStopped = out.NotStopped
}

func missingShards(shards []status.ListShard) string {
	var texts []string
	for _, s := range shards {
		if s.Error != "" {
			texts = append(texts, fmt.Sprintf("shard %d: %s", s.Shard, s.Error))
		}
	}
	return strings.Join(texts, "; ")
}

func (t *total) print(w io.Writer) {
	switch t.op {
	case status.ListAdd:
		fmt.Fprintf(w, "%d ids: %d were added, the others were on the list; it has %d readers\n", t.ids, t.changed,
			t.readers)
	case status.ListRemove:
		fmt.Fprintf(w, "%d ids: %d were removed, the others were not on the list; it has %d readers\n", t.ids,
			t.changed, t.readers)
	}
	if len(t.open) > 0 {
		fmt.Fprintln(w, "\nopen sessions of these users, which are written when they end:")
		for _, id := range t.open {
			fmt.Fprintf(w, "  %q\n", id)
		}
	}
	if t.openIncomplete {
		fmt.Fprintln(w, "\nthere may be more open sessions: not all could be looked at")
	}
	if len(t.notStopped) > 0 {
		fmt.Fprintln(w, "\nnot stopped:")
		for _, text := range t.notStopped {
			fmt.Fprintf(w, "  - %s\n", text)
		}
	}
}

func printFound(w io.Writer, ids []string, found []status.ListFound) {
	for i := range found {
		f := &found[i]
		if i >= len(ids) {
			return
		}
		text := "is not on the list"
		if f.Listed && f.Since != nil {
			text = fmt.Sprintf("is on the list since %s, in shards %v", f.Since.Format(time.RFC3339), f.Shards)
			if len(f.Without) > 0 {
				text += fmt.Sprintf(", and not in %v (deckle suppress repair)", f.Without)
			}
		} else if len(f.Shards) > 0 {
			text += fmt.Sprintf(" of shard 0, but on that of shards %v (deckle suppress repair)", f.Shards)
		}
		if len(f.Unknown) > 0 {
			text += fmt.Sprintf("; shards %v have not answered", f.Unknown)
		}
		fmt.Fprintf(w, "%s %q %s\n", f.Kind, ids[i], text)
	}
}

func newSuppressListCommand(api *suppressAPI) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Show the readers on the list, by hashes",
		Long: `Show all readers on the list, as the node that is asked has it: kind, hash, since when, and
who has put them there. Ids are not kept; "check" tells whether one is listed.

Exit code 0: shown; 1: refused, or the list has changed meanwhile.`,
		Example: `  deckle suppress list --config deckle.yaml
  deckle suppress list --address 127.0.0.1:8080 --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			if !api.asJSON {
				fmt.Fprintln(w, "KIND\tHASH\tSINCE\tBY")
			}
			var first *status.ListPage
			for from := 0; ; {
				var page status.ListPage
				err := api.do(cmd.Context(), http.MethodGet, fmt.Sprint("/api/v1/suppressions?from=", from), nil, &page)
				switch {
				case errors.Is(err, errTooMany):
					time.Sleep(time.Second)
					continue
				case err != nil:
					return err
				case first == nil:
					first = &page
				case first.Number != page.Number:
					return errors.New("the list has changed meanwhile: what is shown may lack readers; ask again")
				}
				if api.asJSON {
					if err := json.NewEncoder(cmd.OutOrStdout()).Encode(page); err != nil {
						return err
					}
				} else {
					for _, x := range page.Listings {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", x.Kind, x.Hash, x.Since.Format(time.RFC3339), x.By)
					}
					if err := w.Flush(); err != nil {
						return err
					}
				}
				if page.Next == nil {
					return nil
				}
				from = *page.Next
			}
		},
	}
}

func newSuppressRepairCommand(api *suppressAPI) *cobra.Command {
	return &cobra.Command{
		Use:   "repair",
		Short: "Give every shard the list of shard 0",
		Long: `Give every shard the list of shard 0, in both directions: what a shard lacks is added, and
what shard 0 has not is removed. Shard 0 is always changed first, so its list is the
newest. It is for the condition suppression-differs, which a change leaves that did not
reach every shard; to repeat it is harmless.

Exit code 0: all shards have the same list; 1: refused, or a shard has not (yet).`,
		Example: `  deckle suppress repair --config deckle.yaml`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out status.ListOutcome
			if err := api.post(cmd.Context(), string(status.ListRepair), struct{}{}, &out); err != nil {
				return err
			}
			if api.asJSON {
				if err := json.NewEncoder(cmd.OutOrStdout()).Encode(out); err != nil {
					return err
				}
			} else {
				for _, s := range out.Shards {
					if s.Added+s.Removed > 0 {
						fmt.Fprintf(cmd.OutOrStdout(), "shard %d: %d added, %d removed\n", s.Shard, s.Added, s.Removed)
					}
				}
			}
			if !out.Whole {
				return fmt.Errorf("not every shard has the list of shard 0: %s; ask again", missingShards(out.Shards))
			}
			if !api.asJSON {
				fmt.Fprintf(cmd.OutOrStdout(), "all shards have the same list, of %d readers\n", out.Readers)
			}
			return nil
		},
	}
}
