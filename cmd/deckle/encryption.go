package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"deckle/cipherfs"
)

func newEncryptionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:        "encryption",
		Short:      "Keys of the data folder",
		SuggestFor: []string{"encrypt", "key", "keys", "keygen"},
		Long: `Keys of the data folder. With encryption.keys in its configuration a node seals its
log, state and snapshots. Each node may have keys of its own; nobody else needs them.
Whoever loses a key loses that node's folder, which then joins the cluster anew, empty.`,
		Example: `  deckle encryption keygen --out /etc/deckle/key`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usagef("name a command (see %s --help)", cmd.CommandPath())
		},
	}
	cmd.AddCommand(newKeygenCommand())
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
			_, err = fmt.Fprintln(cmd.OutOrStdout(), key.ID())
			return err
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "the file to write (required)")
	return cmd
}
