package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// localTokenFile is the name, in the data folder, of the token of this machine's own commands.
const localTokenFile = "local-token"

// writeLocalToken puts the token in place for this user alone. It is a new one with every start.
func writeLocalToken(dir, token string) (err error) {
	tmp, err := os.CreateTemp(dir, localTokenFile+".*") // of mode 0600
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	_, err = tmp.WriteString(token + "\n")
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(dir, localTokenFile))
	}
	if err != nil {
		return fmt.Errorf("node: %w", errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}

// LocalToken returns the token with which the user of a node on this machine may ask it for anything.
func LocalToken(dataDir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dataDir, localTokenFile))
	if err != nil {
		return "", fmt.Errorf("the node's token for commands on its machine (it runs as another user, or not at "+
			"all?): %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
