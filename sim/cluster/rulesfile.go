package cluster

import (
	"fmt"
	"slices"
	"strings"

	"deckle/sim"
)

// rulesFile is what the configuration of a node says about personal data.
type rulesFile struct {
	revision int   // rules.revision; world.rules has what it means
	keys     []int // privacy.keys, by their numbers; the first is that of new rules
}

func (f rulesFile) equals(o rulesFile) bool {
	return f.revision == o.revision && slices.Equal(f.keys, o.keys)
}

const hmacPrefix = "hmac-"

// hmacKey returns what a file of privacy.keys has.
func hmacKey(path string) (key string, ok bool) {
	name, ok := strings.CutPrefix(path, hmacPrefix)
	if !ok {
		return "", false
	}
	n := 0
	_, err := fmt.Sscan(name, &n)
	return sim.PrivateKey(n), err == nil
}
