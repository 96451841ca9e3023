package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"deckle/node/status"
)

// dlqAPI is what the commands ask of a node.
type dlqAPI struct {
	nodeAPI

	asJSON bool
}

func newDLQCommand() *cobra.Command {
	api := &dlqAPI{nodeAPI: nodeAPI{patience: 2 * time.Minute}}
	cmd := &cobra.Command{
		Use:        "dlq list|show|edit|replay|purge",
		Short:      "Look at dead letters, mend them, and let their records in again",
		SuggestFor: []string{"letters", "letter", "deadletters", "dead-letters", "deadletter", "rejects"},
		Long: `Look at the dead letters: records that could not be used, and rows that a sink has refused,
each with its reason; and decide about them. What a letter shows of its record is said by
rules.dead_letters and rules.privacy. A letter is open until it was replayed (as it was, or
edited) or purged; rows that a sink has refused can be purged only.

The commands ask the running node on this machine: any node of the cluster will do, and it
reads the topic of letters with its own account in Kafka.`,
		Example: `  deckle dlq list --config deckle.yaml --reason too_late
  deckle dlq show web_clicks/3/5120 --config deckle.yaml
  deckle dlq replay --config deckle.yaml --reason session_full --from 24h --dry-run
  deckle dlq edit web_clicks/3/5120 --config deckle.yaml --file record.json
  deckle dlq purge --config deckle.yaml --reason malformed --until 168h`,
		Args: noArgs,
		RunE: nameOneOf("list, show, edit, replay or purge"),
	}
	api.flags(cmd)
	cmd.PersistentFlags().BoolVar(&api.asJSON, "json", false, "print JSON, one object for each letter or answer")
	cmd.AddCommand(newDLQListCommand(api), newDLQShowCommand(api), newDLQEditCommand(api), newDLQReplayCommand(api),
		newDLQPurgeCommand(api))
	return cmd
}

// letterFilter are the flags that choose letters.
type letterFilter struct {
	from, until, reason, state string
	partition                  int32
}

func (l *letterFilter) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&l.from, "from", "", "refused at this time or later: 2026-11-30T12:00:00Z, or 36h for that long ago")
	f.StringVar(&l.until, "until", "", "refused before this time")
	f.StringVar(&l.reason, "reason", "", "of this reason: malformed, wrong_type, too_late, …")
	f.Int32Var(&l.partition, "partition", 0, "of records of this partition of the source topic")
}

// given says whether any of the flags is there.
func (l *letterFilter) given(cmd *cobra.Command) bool {
	for _, name := range []string{"from", "until", "reason", "partition"} {
		if cmd.Flags().Changed(name) {
			return true
		}
	}
	return false
}

// query returns what to ask for.
func (l *letterFilter) query(cmd *cobra.Command) (url.Values, error) {
	q := url.Values{}
	for name, text := range map[string]string{"from": l.from, "until": l.until} {
		if text == "" {
			continue
		}
		at, ok := instant(text, time.Now(), time.RFC3339)
		if !ok {
			return nil, usagef("--%s %q: give a time (2026-11-30T12:00:00Z) or a duration (36h)", name, text)
		}
		q.Set(name, at.UTC().Format(time.RFC3339Nano))
	}
	if l.reason != "" {
		q.Set("reason", l.reason)
	}
	if l.state != "" && l.state != "all" {
		q.Set("state", l.state)
	}
	if cmd.Flags().Changed("partition") {
		if l.partition < 0 {
			return nil, usageError{errors.New("--partition is 0 or more")}
		}
		q.Set("partition", strconv.Itoa(int(l.partition)))
	}
	return q, nil
}

// pages asks for one page after the other until there are none, or take wants no more.
func (a *dlqAPI) pages(ctx context.Context, q url.Values, take func(*status.LetterPage) (more bool, err error)) error {
	for {
		var page status.LetterPage
		if err := a.patiently(ctx, func() error {
			return a.do(ctx, http.MethodGet, "/api/v1/letters?"+q.Encode(), nil, &page)
		}); err != nil {
			return err
		}
		more, err := take(&page)
		if err != nil || !more || page.Next == "" {
			return err
		}
		q.Set("place", page.Next)
	}
}

func newDLQListCommand(api *dlqAPI) *cobra.Command {
	var filter letterFilter
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, without their values",
		Long: `List dead letters in the order of their topic, without their values: key, reason, when it was
refused, what it shows, and what has been decided about it. By default those that are open:
nobody has decided about them.

A letter that was written twice may be listed twice if there are many. It takes the role
analyst.

Exit code 0: listed; 1: the node does not answer, or Kafka does not; 2: wrong usage.`,
		Example: `  deckle dlq list --config deckle.yaml --from 24h
  deckle dlq list --config deckle.yaml --reason wrong_type --partition 3 --limit 20
  deckle dlq list --config deckle.yaml --state all --json | jq -r .key`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return usageError{errors.New("--limit is 1 or more")}
			}
			q, err := filter.query(cmd)
			if err != nil {
				return err
			}
			left, next := limit, ""
			var all []status.Letter
			q.Set("limit", strconv.Itoa(min(limit, status.MaxLetters)))
			if err := api.pages(cmd.Context(), q, func(p *status.LetterPage) (bool, error) {
				n := min(left, len(p.Letters))
				left, next = left-n, p.Next
				if !api.asJSON {
					all = append(all, p.Letters[:n]...)
					return left > 0, nil
				}
				for i := range p.Letters[:n] {
					if err := json.NewEncoder(cmd.OutOrStdout()).Encode(&p.Letters[i]); err != nil {
						return false, err
					}
				}
				return left > 0, nil
			}); err != nil {
				return err
			}
			if !api.asJSON {
				printLetters(cmd.OutOrStdout(), all)
			}
			if left == 0 && next != "" {
				fmt.Fprintf(cmd.ErrOrStderr(), "there may be more: --limit is %d\n", limit)
			}
			return nil
		},
	}
	filter.flags(cmd)
	cmd.Flags().StringVar(&filter.state, "state", string(status.LetterOpen), "open, replayed, discarded or all")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many at most")
	return cmd
}

func printLetters(to io.Writer, all []status.Letter) {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REJECTED\tREASON\tSTATE\tSHOWS\tKEY\tDETAIL")
	for i := range all {
		l := &all[i]
		at := "-"
		if l.RejectedAt != nil {
			at = l.RejectedAt.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", at, printable(l.Reason), l.State, printable(l.Shown),
			printable(l.Key), printable(l.Detail))
	}
	_ = w.Flush()
}

func newDLQShowCommand(api *dlqAPI) *cobra.Command {
	var valueOnly bool
	cmd := &cobra.Command{
		Use:   "show KEY",
		Short: "Show one dead letter with what it shows of its value",
		Long: `Show one dead letter: why it was refused, what has been decided about it, and its value, as
far as the letter has it and the present rules show it, too. Each look stands in the audit
log, with the key. --value prints the value alone, byte by byte, to be mended in a file.

It takes the role analyst.

Exit code 0: shown; 1: there is no such letter, or Kafka does not answer; 2: wrong usage.`,
		Example: `  deckle dlq show web_clicks/3/5120 --config deckle.yaml
  deckle dlq show web_clicks/3/5120 --config deckle.yaml --value > record.json`,
		Args: oneLetter,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, text, err := api.letter(cmd.Context(), args[0])
			switch out := cmd.OutOrStdout(); {
			case err != nil:
				return err
			case valueOnly && l.Value == nil && l.Value64 == nil:
				return fmt.Errorf("the letter shows nothing of its value (%s) %s", l.Shown, l.Withheld)
			case valueOnly && l.Value != nil:
				_, err = io.WriteString(out, *l.Value)
			case valueOnly:
				_, err = out.Write(l.Value64)
			case api.asJSON:
				_, err = fmt.Fprintf(out, "%s\n", text)
			default:
				err = writeSession(out, text)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&valueOnly, "value", false, "print the value alone, as it is")
	return cmd
}

// oneLetter refuses anything but one key.
func oneLetter(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return usagef("name one letter by its key, as deckle dlq list shows it (see %s --help)", cmd.CommandPath())
	}
	return nil
}

// letter asks for one letter.
func (a *dlqAPI) letter(ctx context.Context, key string) (l *status.Letter, text json.RawMessage, err error) {
	path := "/api/v1/letters/show?key=" + url.QueryEscape(key)
	if err := a.patiently(ctx, func() error { return a.do(ctx, http.MethodGet, path, nil, &text) }); err != nil {
		return nil, nil, err
	}
	l = &status.Letter{}
	if err := json.Unmarshal(text, l); err != nil {
		return nil, nil, fmt.Errorf("the node's answer: %w", err)
	}
	return l, text, nil
}
