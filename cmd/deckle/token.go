package main

import (
	"encoding/json"
	"errors"
	"fmt"
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
		RunE: nameOneOf("create, list or revoke"),
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
			t, secret, err := access.NewToken(r, brands, name, time.Now(), lives)
			if err != nil {
				return usageError{err}
			}
			if err := changeTokens(cmd.Context(), *file, true, func(all []*access.Token) ([]*access.Token, error) {
				return append(all, t), nil
			}); err != nil {
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
			tokens, err := readTokens(*file)
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
			if err := changeTokens(cmd.Context(), *file, false, func(all []*access.Token) ([]*access.Token, error) {
				i := slices.IndexFunc(all, func(t *access.Token) bool { return t.ID == args[0] })
				if i < 0 {
					return nil, fmt.Errorf("%s has no token %q", *file, args[0])
				}
				return slices.Delete(all, i, i+1), nil
			}); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "token %s is revoked\n", args[0])
			return nil
		},
	}
}
