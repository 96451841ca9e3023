package main

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newSupportCommand() *cobra.Command {
	api := &nodeAPI{patience: 2 * time.Minute}
	var out string
	cmd := &cobra.Command{
		Use:        "support-bundle",
		Short:      "Keep what helps others to say what is wrong with a node, as a zip",
		SuggestFor: []string{"support", "bundle", "diagnose", "diagnostics", "bugreport", "debug"},
		Long: `Ask a running node for a support bundle and keep it as a file: its conditions, the cluster
as it knows it, shards, sinks and delays, metrics, the newest lines of its log, its
configuration with secrets masked, the build, memory, and what each goroutine is at.

No events, no sessions, no letters and no secrets are in it; names of hosts, topics, tables
and nodes are. Look into it before you send it to anybody. A file that is there already is
not replaced. It takes the role operator, and the audit log has a line of it.

Make one of each node: what a node says of the others is what it has heard of them.`,
		Example: `  deckle support-bundle --config deckle.yaml
  deckle support-bundle --config deckle.yaml --out /tmp/node-a.zip
  deckle support-bundle --address node-2:8080 --ca ca.pem --token-file token
  deckle support-bundle --config deckle.yaml --out - | ssh desk 'cat > node-a.zip'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			data, header, err := api.ask(cmd.Context(), http.MethodGet, "/api/v1/support-bundle", nil)
			if err != nil {
				return err
			}
			if out == "-" {
				_, err := cmd.OutOrStdout().Write(data)
				return err
			}
			if out == "" {
				out = attachment(header, "deckle-support.zip")
			}
			f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return fmt.Errorf("the bundle is not kept: %w", err)
			}
			_, err = io.Copy(f, bytes.NewReader(data))
			if cerr := f.Close(); err == nil {
				err = cerr
			}
			if err != nil {
				return fmt.Errorf("%s is not whole: %w", out, err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d bytes\n", out, len(data))
			return err
		},
	}
	api.flags(cmd)
	cmd.Flags().StringVarP(&out, "out", "o", "", "file to make; - for standard output (default deckle-NODE-TIME.zip)")
	return cmd
}

// attachment returns the name of a file that an answer proposes, without a folder, or another one.
func attachment(h http.Header, other string) string {
	_, params, err := mime.ParseMediaType(h.Get("Content-Disposition"))
	name := filepath.Base(filepath.ToSlash(params["filename"]))
	if err != nil || !strings.HasSuffix(name, ".zip") || strings.ContainsAny(name, `\/:`) {
		return other
	}
	return name
}
