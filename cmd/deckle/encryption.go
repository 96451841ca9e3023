package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"deckle/cipherfs"
	"deckle/node"
	"deckle/node/config"
)

func newEncryptionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:        "encryption",
		Short:      "Keys of the data folder",
		SuggestFor: []string{"encrypt", "key", "keys", "keygen"},
		Long: `Keys of the data folder. With encryption.keys in its configuration a node seals its
log, state and snapshots. Each node may have keys of its own; nobody else needs them.
Whoever loses a key loses that node's folder, which then joins the cluster anew, empty.`,
		Example: `  deckle encryption keygen --out /etc/deckle/key
  deckle encryption status --config deckle.yaml
  deckle encryption rewrite --config deckle.yaml       # with the node stopped`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usagef("name a command (see %s --help)", cmd.CommandPath())
		},
	}
	cmd.AddCommand(newKeygenCommand(), newKeyStatusCommand(), newRewriteCommand())
	return cmd
}

func newKeygenCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "keygen --out FILE",
		Short: "Make a key",
		Long: `Make a random key of 256 bits and write it to a file that only its owner can read. A
file that exists is never overwritten. The output is the key's id, which tells nothing
of the key: files and refusals name keys by it.`,
		Example: `  deckle encryption keygen --out /etc/deckle/key`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if out == "" {
				return usageError{errors.New("--out FILE is missing: a key is never printed")}
			}
			text := cipherfs.NewKeyFile()
			key, err := cipherfs.ParseKey(text)
			if err != nil {
				return err
			}
			f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return err
			}
			if _, err = f.Write(text); err == nil {
				err = f.Sync()
			}
			if err = errors.Join(err, f.Close()); err != nil {
				return errors.Join(err, os.Remove(out))
			}
			// A power cut must not take the name of the only file that opens a folder.
			if dir, err := vfs.Default.OpenDir(filepath.Dir(out)); err == nil {
				_ = errors.Join(dir.Sync(), dir.Close())
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), key.ID())
			return err
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "the file to write (required)")
	return cmd
}

func newKeyStatusCommand() *cobra.Command {
	var path string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status --config FILE",
		Short: "Show which key the files of the data folder have",
		Long: `Show how many files of the data folder each key has, and how many are plain. It reads the
beginning of each file; the node may be running.

Exit code 0: shown; 1: a key file or the folder cannot be read.`,
		Example: `  deckle encryption status --config deckle.yaml
  deckle encryption status --config deckle.yaml --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(path)
			if err != nil {
				return err
			}
			keys, err := node.LookAtKeys(cfg, node.Deps{})
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(keys)
			}
			return printKeys(cmd.OutOrStdout(), keys, cfg.Encryption)
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "", "configuration of the node (required)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func printKeys(to io.Writer, keys *node.FolderKeys, e *config.Encryption) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tUSE\tFILES\tBYTES")
	for _, k := range keys.Keys {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\n", k.ID, k.Use, k.Files, k.Bytes)
	}
	fmt.Fprintf(w, "plain\t\t%d\t%d\n", keys.Plain.Files, keys.Plain.Bytes)
	if keys.Other.Files > 0 {
		fmt.Fprintf(w, "other\t\t%d\t%d\n", keys.Other.Files, keys.Other.Bytes)
	}
	err := w.Flush()
	if old := keys.Old(); e != nil && e.NewFiles != "plain" && old > 0 && err == nil {
		_, err = fmt.Fprintf(to, "\n%d files do not have the first key. They get it when they are written anew, or at "+
			"once, with the node stopped, by deckle encryption rewrite\n", old)
	}
	return err
}

func newRewriteCommand() *cobra.Command {
	var path string
	var asJSON, acceptPlain bool
	cmd := &cobra.Command{
		Use:   "rewrite --config FILE",
		Short: "Give every file of the data folder the first key",
		Long: `Give every file of the data folder the first key of encryption.keys, or make it plain where
encryption.new_files is plain. The node must be stopped; the others go on. Run it as the user
of the node. Afterwards the other keys are not needed any more. An interrupted rewrite goes on
where it was, when it is called again; the node can be started in between, with all the keys.
Each file is copied, so there must be space for the largest one.

Plain files are refused, since somebody else may have put them there. Where a node wrote
them, because it had no key yet, --accept-plain seals them.

Exit code 0: done; 1: refused or interrupted; 2: wrong usage.`,
		Example: `  deckle encryption rewrite --config deckle.yaml                  # after a new first key
  deckle encryption rewrite --config deckle.yaml --accept-plain   # after the first key of all
  deckle encryption rewrite --config deckle.yaml --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(path)
			if err != nil {
				return err
			}
			if cfg.Encryption == nil {
				return usageError{fmt.Errorf("%s has no encryption.keys", path)}
			}
			if err := errors.Join(keepCoresEmpty(), checkOwner(cfg.DataDir)); err != nil {
				return err
			}
			ownFilesOnly()
			out, errs := cmd.OutOrStdout(), cmd.ErrOrStderr()
			told := time.Now()
			done, err := node.Reseal(cmd.Context(), cfg, node.Deps{Logger: slog.New(slog.NewTextHandler(errs, nil))},
				acceptPlain, func(done, all cipherfs.Count) {
					if now := time.Now(); now.Sub(told) >= time.Second {
						told = now
						fmt.Fprintf(errs, "%d of %d files, %d of %d bytes\n", done.Files, all.Files, done.Bytes,
							all.Bytes)
					}
				})
			if cmd.Context().Err() != nil {
				return fmt.Errorf("interrupted; %d files were rewritten, and it goes on from there: %w", done.Files,
					cmp.Or(err, cmd.Context().Err()))
			}
			switch {
			case err != nil:
				return err
			case asJSON:
				return json.NewEncoder(out).Encode(done)
			}
			_, err = fmt.Fprintf(out, "%d files were rewritten, %d bytes\n", done.Files, done.Bytes)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVarP(&path, "config", "c", "", "configuration of the node (required)")
	f.BoolVar(&acceptPlain, "accept-plain", false, "seal plain files, too")
	f.BoolVar(&asJSON, "json", false, "print what was done as one JSON object")
	return cmd
}
