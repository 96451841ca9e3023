package cipherfs

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

var (
	// ErrVersion is of a file, or of the file encryption, that a newer version has written.
	ErrVersion = errors.New("cipherfs: unknown format version")
	// ErrKey is of a folder that needs a key which was not given, or that another key was proven for. Nothing is
	// damaged, and nothing was changed.
	ErrKey = errors.New("cipherfs: wrong or missing key")
	// ErrPlainFile is of a folder with a file that is not sealed, where those are not accepted. It is no damage: the
	// file is older than the first key, or somebody has put it there.
	ErrPlainFile = errors.New("cipherfs: a file is not sealed")

	errHeader      = errors.New("cipherfs: no whole header")
	errRewrite     = errors.New("cipherfs: sealed files are written once, from their beginning to their end")
	errNotReadable = errors.New("cipherfs: the file was opened for writing")
	errNotWritable = errors.New("cipherfs: the file was opened for reading")
	errProofBroken = errors.New("cipherfs: the file does not fit its checksum")
	// errKeyFile says what a key file must be, and nothing of what it is.
	errKeyFile = errors.New("cipherfs: a key file is one line, deckle-key-1: and 43 characters " +
		"(make one with deckle encryption keygen)")
)

// KeyError says which keys a folder needs, and which were given. It is ErrKey.
type KeyError struct {
	Needed map[KeyID]string // by id, the path of a file that needs it
	Given  []KeyID
	Check  string // the path of the proof that did not open, though the id was given; "" if an id was not given
}

// Error names ids only.
func (e *KeyError) Error() string {
	var needed []string
	for _, id := range slices.SortedFunc(maps.Keys(e.Needed), compareIDs) {
		needed = append(needed, fmt.Sprintf("%s (%s)", id, e.Needed[id]))
	}
	given := "none"
	if len(e.Given) > 0 {
		var ids []string
		for _, id := range slices.SortedFunc(slices.Values(e.Given), compareIDs) {
			ids = append(ids, id.String())
		}
		given = strings.Join(ids, ", ")
	}
	why := "needs keys that encryption.keys does not give"
	if e.Check != "" {
		why = e.Check + " was proven by another key of the same id"
	}
	return fmt.Sprintf("%v: %s: needed %s; given %s. Nothing was changed", ErrKey, why, strings.Join(needed, ", "),
		given)
}

// Is tells that a KeyError is ErrKey.
func (e *KeyError) Is(target error) bool { return target == ErrKey }

func compareIDs(a, b KeyID) int { return bytes.Compare(a[:], b[:]) }
