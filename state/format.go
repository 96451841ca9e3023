package state

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"deckle/schema/level"
)

// The formats of this package follow the level of the shard (package level has their versions, docs/formats.md lists
// those of all packages). A binary reads every version up to its own, and writes those of the shard's level:
//
//	level.Entry    an entry of a shard's Raft log: its first byte is the kind, its second the version. Version 1 is
//	               the first. Version 2 adds fields to kindBatch, and the kinds kindRules, kindSkip and
//	               kindSkipEvents; the other kinds are still written as in version 1. The config of a kindConfig entry
//	               is JSON: a field may be added, and is ignored by a binary that does not know it. A kindBatch entry
//	               carries a batch in a format of package event. Version 3 is that of a kindRules entry whose rules
//	               say anything about personal data (Rules.Level), so that a binary that would pass over that waits;
//	               other rules are still written as in version 2. It is also that of the kind kindSuppress,
//	               which it adds. A kindBatch entry has it from level 3 on.
//	level.Store    the Pebble store as a whole: the keys that doc.go lists, and all their values that have no version
//	               of their own (rollups, timers, live keys, garbage, dead letters as JSON). It stands in the meta
//	               value, which is JSON, as Version: a binary that does not know it must not pass over new fields.
//	               Version 3 has rules about personal data, and the list of suppressed readers, in it. Version 4 says
//	               which rows of sessions may not stand in their table: a binary that passed over that would forget
//	               it, and rows would be lost for ever.
//	level.Session  a session's image, its first byte. It has its own version, because images live for as long as the
//	               retention and are too many to be rewritten at once. Version 2 adds touched, the first key and the
//	               list of segments after the rollups. In the list of events, the highest bit of an event's type says
//	               that its engagement_metrics were left out. A segment has no version: it is a part of that list.
//	               Version 3 adds the brand of the record that opened the row: two bits of the flags, and, behind the
//	               first event's texts, the brand if it is not the one among them.
//	level.Epoch    what is known of an epoch (EpochInfo), its first byte. Version 2 adds the level, the rules and the
//	               gaps, version 3 the number of suppressed records.

// firstVersion is the version of the entries whose form no level has changed.
const firstVersion = 1

// imageShape is the length of each list in a session's image. The lists follow package schema, which grows, and are
// stored in the image without a length. So a new text, sum or event type needs a new version of level.Session, and its
// line in imageShapes.
type imageShape struct {
	texts  int // of schema.FirstTexts
	sums   int // of schema.MeasureSums
	counts int // of event.Counted
	// real says that the image holds a visit, names the segments that hold its first events, and says when it was
	// touched.
	real bool
	// opening says that the image may hold the brand of the record that opened the row.
	opening bool
}

// imageShapes are the shapes by version of level.Session. Whatever an older version lacks is empty or 0.
var imageShapes = [...]imageShape{
	1: {texts: 10, sums: 3, counts: 8},
	2: {texts: 10, sums: 3, counts: 9, real: true},
	3: {texts: 10, sums: 3, counts: 9, real: true, opening: true},
}

// imageShape reads the version of an image and returns its shape.
func (d *decoder) imageShape() imageShape {
	v := d.version(level.Session)
	if d.err != nil {
		return imageShape{}
	}
	return imageShapes[v]
}

// formatPebble is the format of Pebble's own files. Pebble raises an older store to it when it opens the store, and
// refuses one with a newer format than it knows. FormatValueSeparation was the newest that was not experimental when
// the store was first written.
const formatPebble = pebble.FormatValueSeparation

// checkVersion says whether this binary reads the version of a format: nil, a *level.TooNewError, or ErrCorrupt for
// what is no version.
func checkVersion(f level.Format, version int) error {
	if version <= 0 {
		return fmt.Errorf("%w: %s format version %d", ErrCorrupt, f.Name, version)
	}
	return f.Check(version)
}

// version reads a byte that must be a version of the format that this binary reads.
func (d *decoder) version(f level.Format) int {
	v := int(d.byte())
	if d.err == nil {
		d.err = checkVersion(f, v)
	}
	return v
}
