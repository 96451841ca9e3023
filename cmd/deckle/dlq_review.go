package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"deckle/node/status"
)

// mostChosen is how many letters a command chooses at once.
const mostChosen = 100_000

// reviewing are the flags of a verb of letters.
type reviewing struct {
	letterFilter

	dryRun, again, yes bool
}

func newDLQReplayCommand(api *dlqAPI) *cobra.Command {
	r := &reviewing{letterFilter: letterFilter{state: string(status.LetterOpen)}}
	cmd := &cobra.Command{
		Use:   "replay KEY… | replay --reason R --from TIME --until TIME --partition P",
		Short: "Write the records of letters into the source topic again",
		Long: `Write the records of letters into the source topic again, each with its key and value into the
partition that it came from, after a rule was changed or a limit was raised. The record and
the decision about its letter are one Kafka transaction: each letter is replayed exactly
once, whoever else asks for it, and whatever fails on the way. To repeat the command is
harmless.

It tells first what would become of each letter by the present rules. One that would be a
letter again, is of before the horizon, or whose record is nowhere whole any more, is left
as it is. --again replays what was replayed before, too.

It takes the role operator.

Exit code 0: done, or there was nothing to do; 1: refused, not confirmed, or not known (run it
again); 2: wrong usage.`,
		Example: `  deckle dlq replay --config deckle.yaml --reason session_full --from 24h --dry-run
  deckle dlq replay --config deckle.yaml --reason unknown_event_type --from 2026-11-30T12:00:00Z
  deckle dlq replay web_clicks/3/5120 web_clicks/3/5121 --config deckle.yaml --yes --json`,
		RunE: func(cmd *cobra.Command, args []string) error { return api.review(cmd, r, status.LetterReplay, args) },
	}
	r.letterFilter.flags(cmd)
	r.flags(cmd)
	cmd.Flags().BoolVar(&r.again, "again", false, "replay letters that were replayed before, too")
	return cmd
}

func newDLQPurgeCommand(api *dlqAPI) *cobra.Command {
	r := &reviewing{letterFilter: letterFilter{state: string(status.LetterOpen)}}
	cmd := &cobra.Command{
		Use:   "purge KEY… | purge --reason R --from TIME --until TIME --partition P",
		Short: "Delete letters that nobody needs any more",
		Long: `Delete letters: they are marked as discarded, and get a tombstone, in one Kafka transaction;
Kafka removes their bytes when it compacts the topic. The records themselves stay in the
source topic for as long as it keeps them. It cannot be undone.

It takes the role operator.

Exit code 0: done, or there was nothing to do; 1: refused, not confirmed, or not known (run it
again); 2: wrong usage.`,
		Example: `  deckle dlq purge --config deckle.yaml --reason malformed --until 168h --dry-run
  deckle dlq purge web_clicks/3/5120 --config deckle.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error { return api.review(cmd, r, status.LetterPurge, args) },
	}
	r.letterFilter.flags(cmd)
	r.flags(cmd)
	return cmd
}

func newDLQEditCommand(api *dlqAPI) *cobra.Command {
	r := &reviewing{}
	var file string
	cmd := &cobra.Command{
		Use:   "edit KEY --file FILE",
		Short: "Write a mended value in the place of a letter's into the source topic",
		Long: `Write the value in FILE ("-" is standard input) into the source topic, in the place of the
letter's and as replay does it: with the key of the record, into its partition, exactly once.
A value that would be a letter again is refused. The review topic keeps the hashes of both
values, if the letter shows its own.

It takes the role operator.

Exit code 0: done, or it was done before; 1: refused, not confirmed, or not known (run it
again); 2: wrong usage.`,
		Example: `  deckle dlq show web_clicks/3/5120 --config deckle.yaml --value > record.json
  deckle dlq edit web_clicks/3/5120 --config deckle.yaml --file record.json --dry-run
  deckle dlq edit web_clicks/3/5120 --config deckle.yaml --file record.json`,
		Args: oneLetter,
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return usageError{errors.New("--file FILE is missing: the value to write")}
			}
			if file == "-" && !r.yes && !r.dryRun {
				return usageError{errors.New("--file -: the answer to the question comes from there, too; give --yes")}
			}
			var value []byte
			var err error
			if file == "-" {
				value, err = io.ReadAll(cmd.InOrStdin())
			} else {
				value, err = os.ReadFile(file)
			}
			if err != nil {
				return usagef("--file: %w", err)
			}
			return api.carryOut(cmd, r, status.LetterEdit, []status.LetterRef{{Key: args[0]}},
				strings.TrimRight(string(value), "\r\n"))
		},
	}
	r.flags(cmd)
	cmd.Flags().StringVar(&file, "file", "", "file with the value; - for standard input (required)")
	cmd.Flags().BoolVar(&r.again, "again", false, "although it was replayed before")
	return cmd
}

func (r *reviewing) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&r.dryRun, "dry-run", false, "say what would become of each letter, and change nothing")
	f.BoolVarP(&r.yes, "yes", "y", false, "do not ask")
}

// review chooses letters, by their keys or by what is true of them, and carries a verb out.
func (a *dlqAPI) review(cmd *cobra.Command, r *reviewing, op status.LetterOp, keys []string) error {
	switch chosen := r.given(cmd); {
	case chosen == (len(keys) > 0):
		return usagef("name letters by their keys, or choose them by --reason, --from, --until or --partition (see %s "+
			"--help)", cmd.CommandPath())
	case slices.Contains(keys, ""):
		return usageError{errors.New("an empty key is no letter's")}
	}
	var refs []status.LetterRef
	for _, k := range keys {
		refs = append(refs, status.LetterRef{Key: k})
	}
	if len(keys) == 0 {
		if r.again {
			r.state = "" // what was replayed is to be chosen, too
		}
		q, err := r.query(cmd)
		if err != nil {
			return err
		}
		seen := map[string]bool{}
		if err := a.pages(cmd.Context(), q, func(p *status.LetterPage) (bool, error) {
			for i := range p.Letters {
				l := &p.Letters[i]
				if !seen[l.Key] && l.State != status.LetterDiscarded {
					seen[l.Key] = true
					refs = append(refs, status.LetterRef{Key: l.Key, Place: l.Place})
				}
			}
			if len(refs) > mostChosen {
				return false, fmt.Errorf("there are more than %d such letters: choose fewer", mostChosen)
			}
			return true, nil
		}); err != nil {
			return err
		}
	}
	if len(refs) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "there is no such letter that is open")
		return nil
	}
	return a.carryOut(cmd, r, op, refs, "")
}

// carryOut asks what would become of letters, shows it, asks whether to go on, and does it.
func (a *dlqAPI) carryOut(cmd *cobra.Command, r *reviewing, op status.LetterOp, refs []status.LetterRef,
	value string) error {
	would, err := a.each(cmd.Context(), r, op, refs, value, true, nil)
	if err != nil {
		return err
	}
	if r.dryRun && a.asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(would)
	}
	printWould(cmd.ErrOrStderr(), op, would)
	if would.Done == 0 || r.dryRun {
		if would.Done == 0 && would.Refused > 0 && !r.dryRun {
			return errors.New("nothing has changed")
		}
		return nil
	}
	if !r.yes && !confirmed(cmd) {
		return errors.New("not confirmed, nothing has changed (--yes does not ask)")
	}
	place := map[string]string{}
	for _, ref := range refs {
		place[ref.Key] = ref.Place
	}
	var doing []status.LetterRef // those of which it was shown that it would be done
	for _, x := range would.Letters {
		if x.Outcome == status.LetterDone {
			doing = append(doing, status.LetterRef{Key: x.Key, Place: place[x.Key]})
		}
	}
	done, err := a.each(cmd.Context(), r, op, doing, value, false, func(done int) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d letters\n", done, len(doing))
	})
	if err != nil {
		return fmt.Errorf("after %d of %d letters: %w", done.Done, len(doing), err)
	}
	if a.asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(done)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %d; decided by somebody else meanwhile: %d; refused: %d\n",
		map[status.LetterOp]string{status.LetterPurge: "purged", status.LetterReplay: "replayed",
			status.LetterEdit: "edited and replayed"}[op], done.Done, done.Already, done.Refused)
	return nil
}

// each sends letters, as many at once as a node takes, and adds up what has come of them.
func (a *dlqAPI) each(ctx context.Context, r *reviewing, op status.LetterOp, refs []status.LetterRef, value string,
	dryRun bool, progress func(done int)) (*status.LetterOutcome, error) {
	all := &status.LetterOutcome{DryRun: dryRun, Letters: []status.LetterResult{}}
	for len(refs) > 0 {
		n := min(len(refs), status.MaxReview)
		body := map[string]any{"letters": refs[:n], "dry_run": dryRun}
		if op != status.LetterPurge {
			body["again"] = r.again
		}
		if op == status.LetterEdit {
			body["value"] = value
		}
		text, err := json.Marshal(body)
		if err != nil {
			return all, err
		}
		var out status.LetterOutcome
		if err := a.patiently(ctx, func() error {
			return a.do(ctx, http.MethodPost, "/api/v1/letters/"+url.PathEscape(string(op)), text, &out)
		}); err != nil {
			return all, err
		}
		all.Done, all.Already, all.Refused = all.Done+out.Done, all.Already+out.Already, all.Refused+out.Refused
		var left []status.LetterRef
		for i, x := range out.Letters {
			if x.Outcome == status.LetterLeft {
				left = append(left, refs[i])
				continue
			}
			all.Letters = append(all.Letters, x)
		}
		if len(left) == n {
			return all, errors.New("the node takes none of the letters")
		}
		refs = append(left, refs[n:]...)
		if progress != nil && len(refs) > 0 {
			progress(all.Done)
		}
	}
	return all, nil
}

// printWould says what would become of letters: how many, and of those of which it would not be done, why.
func printWould(to io.Writer, op status.LetterOp, o *status.LetterOutcome) {
	const shown = 20
	left := shown
	for _, x := range o.Letters {
		if x.Outcome == status.LetterDone {
			continue
		}
		if left--; left >= 0 {
			fmt.Fprintf(to, "%s: %s: %s\n", printable(x.Key), x.Outcome, printable(x.Why))
		}
	}
	if left < 0 {
		fmt.Fprintf(to, "and %d more (--dry-run --json shows all)\n", -left)
	}
	what := map[status.LetterOp]string{
		status.LetterReplay: "Letters whose records go into the source topic again",
		status.LetterEdit:   "Letters in whose place the value goes into the source topic",
		status.LetterPurge:  "Letters that are deleted for good",
	}[op]
	fmt.Fprintf(to, "%s: %d. Decided already: %d. That cannot be: %d.\n", what, o.Done, o.Already, o.Refused)
}
