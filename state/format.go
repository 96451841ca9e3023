package state

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// format is the form of something that this package stores or sends, with the version that this binary writes. It reads
// that version and no other: a change of a format needs a new version here, and code that reads the one before it as
// well, or the replicas of a shard cannot be upgraded one by one.
type format struct {
	name    string
	version byte
}

// The formats of this package. docs/formats.md lists those of all packages.
var (
	// formatEntry is the form of an entry of a shard's Raft log: its first byte is the kind, its second this version,
	// the same for all kinds. Version 1 is the first. The config of a kindConfig entry is JSON: a field may be added,
	// and is ignored by a binary that does not know it. A kindBatch entry carries a batch in a format of package event.
	formatEntry = format{"entry", 1}
	// formatStore is the form of the Pebble store as a whole: the keys that doc.go lists, and all their values that
	// have no version of their own (rollups, timers, live keys, garbage, dead letters as JSON). It stands in the meta
	// value, which is JSON, as Version. Version 1 is the first.
	formatStore = format{"state", 1}
	// formatSession is the form of a session's image, its first byte. It has its own version, because images live for
	// as long as the retention and are too many to be rewritten at once. Version 1 is the first.
	formatSession = format{"session", 1}
	// formatEpoch is the form of what is known of an epoch (EpochInfo), its first byte. Version 1 is the first.
	formatEpoch = format{"epoch", 1}
)

// imageShape is the length of each list in a session's image. The lists follow package schema, which grows, and are
// stored in the image without a length. So a new text, sum or event type needs a new version of formatSession, and its
// line in imageShapes.
type imageShape struct {
	texts  int // of schema.FirstTexts
	sums   int // of schema.MeasureSums
	counts int // of event.Counted
}

// imageShapes are the shapes by version of formatSession. Today's version is read and written. Whatever an older
// version lacks is empty or 0.
var imageShapes = [...]imageShape{1: {texts: 10, sums: 3, counts: 8}}

// imageShape reads the version of an image and returns its shape.
func (d *decoder) imageShape() imageShape {
	v := int(d.byte())
	if d.err == nil && (v == 0 || v >= len(imageShapes)) {
		d.fail(formatSession.check(v).Error())
	}
	if d.err != nil {
		return imageShape{}
	}
	return imageShapes[v]
}

// formatPebble is the format of Pebble's own files. Pebble raises an older store to it when it opens the store, and
// refuses one with a newer format than it knows. FormatValueSeparation was the newest that was not experimental when
// the store was first written.
const formatPebble = pebble.FormatValueSeparation

// check says whether this binary reads the version, and if not, what to say.
func (f format) check(version int) error {
	if version != int(f.version) {
		return fmt.Errorf("%s format version %d, this binary knows %d", f.name, version, f.version)
	}
	return nil
}

// version reads a byte that must be a version of the format that this binary reads.
func (d *decoder) version(f format) {
	v := d.byte()
	if d.err != nil {
		return
	}
	if err := f.check(int(v)); err != nil {
		d.fail(err.Error())
	}
}
