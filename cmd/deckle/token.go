package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"deckle/node/access"
)

func newTokenCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:        "token create|list|revoke",
		Short:      "Make the tokens with which clients ask over HTTP",
		SuggestFor: []string{"tokens", "auth", "login"},
		Long: `Make, list and revoke the tokens of a file, which http.auth.tokens of the nodes names. The
file has no token, only the hash of one. Give each node the same file: they read it anew
within ten seconds after it has changed. If it is missing, or cannot be read, for a
minute, none of its tokens counts any more.

Roles, each with all of those before it: viewer (figures, status), analyst (sessions of
persons), operator (verbs that change how things run), admin.`,
		Example: `  deckle token create --file /etc/deckle/tokens --role viewer --name prometheus
  deckle token create --file tokens --role analyst --brand welt --ttl 30d
  deckle token list --file tokens
  deckle token revoke k3f9x2ab --file tokens`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(cmd.ErrOrStderr())
			_ = cmd.Help()
			return usageError{errors.New("name a command: create, list or revoke")}
		},
	}
	cmd.PersistentFlags().StringVarP(&file, "file", "f", "", "the file of tokens (required)")
	cmd.AddCommand(newTokenCreateCommand(&file), newTokenListCommand(&file), newTokenRevokeCommand(&file))
	return cmd
}

func newTokenCreateCommand(file *string) *cobra.Command {
	var role, ttl, name string
	var brands []string
	cmd := &cobra.Command{
		Use:   "create --file FILE --role ROLE",
		Short: "Make a token, and print it once",
		Long: `Make a token and add it to the file, which is made if it does not exist. The token is printed
once, on standard output, and stands nowhere else: keep it like a password.

A role of viewer or analyst can be held to some brands, with --brand for each. It then
sees figures and sessions of these only.

Exit code 0: made; 1: the file cannot be read or written; 2: wrong usage.`,
		Example: `  deckle token create --file tokens --role admin --ttl 8h
  deckle token create --file tokens --role analyst --brand welt --brand bild --name "team x"`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := access.ParseRole(role)
			if role == "" {
				err = errors.New("--role is missing")
			}
			if err != nil {
				return usageError{err}
			}
			lives, err := parseTTL(ttl)
			if err != nil {
				return usageError{err}
			}
			tokens, err := readTokens(*file, true)
			if err != nil {
				return err
			}
			t, secret, err := access.NewToken(r, brands, name, time.Now(), lives)
			if err != nil {
				return usageError{err}
			}
			if err := writeTokens(*file, append(tokens, t)); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "token %s of role %s, until %s:\n", t.ID, t.Role,
				t.Expires.Format(time.RFC3339))
			fmt.Fprintln(cmd.OutOrStdout(), secret)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&role, "role", "", "viewer, analyst, operator or admin (required)")
	f.StringArrayVar(&brands, "brand", nil, "hold the role to this brand; may be given several times")
	f.StringVar(&ttl, "ttl", "90d", "how long it lives: 8h, 90d; at most 10 years")
	f.StringVar(&name, "name", "", "what it is for, for those who look at the list or at the audit log")
	return cmd
}

// parseTTL reads a duration that may have days: 90d, 1d12h, 8h.
func parseTTL(text string) (time.Duration, error) {
	days, rest, ok := strings.Cut(text, "d")
	if !ok {
		days, rest = "0", text
	}
	n, err := strconv.ParseUint(days, 10, 16)
	d := time.Duration(0)
	if err == nil && rest != "" {
		d, err = time.ParseDuration(rest)
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("--ttl %q is no time: 8h, 90d", text)
	}
	return d + time.Duration(n)*24*time.Hour, nil
}

func newTokenListCommand(file *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list --file FILE",
		Short: "Show the tokens of the file, without what proves them",
		Long: `Show id, role, brands, name and the end of each token of the file.

Exit code 0: shown; 1: the file cannot be read.`,
		Example: `  deckle token list --file tokens
  deckle token list --file tokens --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			tokens, err := readTokens(*file, false)
			if err != nil {
				return err
			}
			if asJSON {
				for _, t := range tokens {
					t.Hash = ""
				}
				return json.NewEncoder(cmd.OutOrStdout()).Encode(append([]*access.Token{}, tokens...))
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tROLE\tBRANDS\tCREATED\tEXPIRES\tNAME")
			now := time.Now()
			for _, t := range tokens {
				brands, ends := "all", t.Expires.UTC().Format(time.RFC3339)
				if t.Brands != nil {
					brands = fmt.Sprintf("%q", t.Brands)
				}
				if !now.Before(t.Expires) {
					ends += " (has expired)"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, t.Role, brands, t.Created.UTC().Format(time.RFC3339),
					ends, t.Name)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return cmd
}

func newTokenRevokeCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID --file FILE",
		Short: "Take a token out of the file",
		Long: `Take a token out of the file, by its id. It is out on each node within ten seconds after the
node has the file; SIGHUP has a node look at once.

Exit code 0: taken out; 1: there is none of that id, or the file cannot be written.`,
		Example: `  deckle token revoke k3f9x2ab --file tokens`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("give the id of one token; token list shows them")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			tokens, err := readTokens(*file, false)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(tokens, func(t *access.Token) bool { return t.ID == args[0] })
			if i < 0 {
				return fmt.Errorf("%s has no token %q", *file, args[0])
			}
			if err := writeTokens(*file, slices.Delete(tokens, i, i+1)); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "token %s is revoked\n", args[0])
			return nil
		},
	}
}

// readTokens reads a file of tokens; one that does not exist is empty if it is to be made.
func readTokens(file string, make bool) ([]*access.Token, error) {
	if file == "" {
		return nil, usageError{errors.New("--file FILE is missing: the file that http.auth.tokens names")}
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && make {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	tokens, err := access.ParseTokens(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return tokens, nil
}

// writeTokens puts a file in place whole, so that no node reads half of it, for this user alone.
func writeTokens(file string, tokens []*access.Token) (err error) {
	if len(tokens) > access.MaxTokens {
		return fmt.Errorf("%s would have more than %d tokens", file, access.MaxTokens)
	}
	text, err := access.FormatTokens(tokens)
	if err != nil {
		return err
	}
	if whole, err := filepath.EvalSymlinks(file); err == nil { // a link stays one
		file = whole
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // of mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	if info, err := os.Stat(file); err == nil { // who may read it stays who an operator has said
		if err := errors.Join(keepOwner(tmp, info), tmp.Chmod(info.Mode().Perm())); err != nil {
			return errors.Join(err, tmp.Close())
		}
	}
	_, err = tmp.Write(text)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}
