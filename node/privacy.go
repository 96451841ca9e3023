package node

import (
	"bytes"
	"errors"
	"fmt"

	"deckle/node/config"
	"deckle/node/shard"
	"deckle/trust"
)

// Lengths in bytes of an HMAC key. A shorter one can be guessed from the hashes of known values.
const (
	leastHMACKey = 32
	mostHMACKey  = 4096
)

// openKeys reads the keys of privacy.keys. Their files are watched like all others, and what one has must stay: a
// change shows as file-unusable while the node goes on with the key that it has, instead of at the next start.
func openKeys(files *trust.Files, cfg *config.Config) (shard.Keys, error) {
	var keys shard.Keys
	for i, f := range cfg.Privacy.Keys {
		at := fmt.Sprintf("privacy.keys[%d].file", i)
		var key []byte
		err := files.Bytes(at, f.File, func(b []byte) error {
			b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
			switch {
			case len(b) < leastHMACKey || len(b) > mostHMACKey:
				return fmt.Errorf("a key has %d to %d bytes, and this one has %d: openssl rand -hex 32 makes one",
					leastHMACKey, mostHMACKey, len(b))
			case key == nil:
				key = bytes.Clone(b)
			case !bytes.Equal(key, b):
				return errors.New("it has another key now, and the former one is still needed: give each key a file " +
					"of its own, the new one first in privacy.keys, and raise rules.revision")
			}
			return nil
		})
		if err != nil {
			return shard.Keys{}, fmt.Errorf("node: %w", err)
		}
		if !keys.Add(key) {
			return shard.Keys{}, fmt.Errorf("node: %s: %s has the same key as a file before it", at, f.File)
		}
	}
	return keys, nil
}
