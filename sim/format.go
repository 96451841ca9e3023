package sim

import (
	"errors"
	"fmt"
	"hash/fnv"
)

// This file names everything that a truth on disk is made of; doc.go shows its lines. Nothing else in the package
// spells a version, the kind of a line or the size of a fingerprint.
//
// A truth is written by one run of the simulator and read by `deckle verify`, the demo and integration/readers.py of
// the same tree, soon afterwards. So there is one version at a time, and a reader refuses every other one: to guess
// would be worse than to repeat a run.

// Version is the version of the truth's format, which the header of a truth names. 2: the lines below; marks as Mark
// describes them, over the columns of EventColumns in their order. (1 had no column of level 2.) Another
// kind of line, another column or
// order of EventColumns, and another hash need a new version.
const Version = 2

// checkVersion refuses a truth that was written in another version.
func checkVersion(version int) error {
	if version != Version {
		return fmt.Errorf("version %d of the truth, this program reads %d", version, Version)
	}
	return nil
}

// ErrUnfinished says that a truth has no summary: the simulator still runs, or was killed.
var ErrUnfinished = errors.New("sim: the truth is unfinished: it has no summary line")

// The kinds of lines, by the member "kind", which stands first in each.
const (
	kindHeader    = "header"    // Header; the first line
	kindSession   = "session"   // Session, when it is over
	kindDead      = "dead"      // Dead
	kindDuplicate = "duplicate" // Position
	kindSummary   = "summary"   // Summary; the last line
)

// A Mark is the fingerprint of a row of table events: rowHash bytes of 64-bit FNV-1a over the whole row, then
// columnHash bytes per column, so that a changed value is found, and its column named, at a tenth of the size of the
// row.
const (
	rowHashSize    = 8
	columnHashSize = 2
)

// markSize is the length of a Mark of a row with this number of columns.
func markSize(columns int) int { return rowHashSize + columnHashSize*columns }

// newHash is the hash of rows and columns: FNV-1a, which the standard library has and which is spread well enough here.
var newHash = fnv.New64a
