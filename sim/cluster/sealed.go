package cluster

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/cipherfs"
)

// sealedSeeds is of how many seeds one has encrypted data folders. Schedules look into folders themselves, and have
// plain ones.
const sealedSeeds = 3

// keyPath is the key file of a node: each has a key of its own.
func keyPath(node string) string { return node + ".key" }

// keyText is what the key file of the i-th node says.
func keyText(i int) []byte {
	return []byte("deckle-key-1:" + strings.Repeat(string(rune('A'+i)), 42) + "A\n")
}

// unsealed returns what reads and writes the plain files on an image of the i-th node's disk.
func unsealed(image vfs.FS, i int) (vfs.FS, error) {
	key, err := cipherfs.ParseKey(keyText(i))
	if err != nil {
		return nil, err
	}
	return cipherfs.New(cipherfs.Options{FS: image, Keys: []*cipherfs.Key{key}})
}
