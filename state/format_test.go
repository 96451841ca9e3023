package state

import (
	"errors"
	"strings"
	"testing"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
)

// tooNew says whether an error waits for a newer binary. Packages that do not know package level ask in the same way.
func tooNew(err error) bool {
	var e interface{ TooNew() bool }
	return errors.As(err, &e) && e.TooNew()
}

// TestFormatVersions: what is written has its level's version at its place, what a newer binary wrote is too new and no
// corruption, and 0 is no version.
func TestFormatVersions(t *testing.T) {
	for l := level.First; l <= level.Current; l++ {
		for _, c := range []struct {
			format level.Format
			bytes  []byte
			at     int
			decode func([]byte) error
		}{
			{level.Entry, AppendBatch(nil, &BatchEntry{Level: l}), 1,
				func(b []byte) error { _, err := decodeEntry(b); return err }},
			{level.Session, (&session{id: "s", status: schema.StatusOpen}).encode(nil, l), 0,
				func(b []byte) error { _, err := decodeSession(b); return err }},
			{level.Epoch, (&EpochInfo{Epoch: 3, Level: l}).encode(nil), 0,
				func(b []byte) error { _, err := decodeEpochInfo(b); return err }},
		} {
			if got := c.bytes[c.at]; got != c.format.At(l) {
				t.Errorf("level %d: a written %s has version %d, want %d", l, c.format.Name, got, c.format.At(l))
			}
			if err := c.decode(c.bytes); err != nil {
				t.Errorf("level %d: %s: %v", l, c.format.Name, err)
			}
			c.bytes[c.at] = 9
			if err := c.decode(c.bytes); !tooNew(err) || errors.Is(err, ErrCorrupt) ||
				!strings.Contains(err.Error(), c.format.Name+" format version 9") {
				t.Errorf("version 9 of %s: %v", c.format.Name, err)
			}
			c.bytes[c.at] = 0
			if err := c.decode(c.bytes); !errors.Is(err, ErrCorrupt) {
				t.Errorf("version 0 of %s: %v", c.format.Name, err)
			}
		}
	}
	// Rules that a binary of level 2 would read and pass over a part of have a version that it cannot read.
	for letters, want := range map[event.Letters]level.Level{
		{}: level.Real, {Values: event.MaskValues}: level.Guarded,
	} {
		r := Rules{Event: event.Rules{Letters: letters}}
		if got := EncodeRules(1, r)[1]; got != level.Entry.At(want) {
			t.Errorf("rules with letters %+v have version %d, want that of level %d", letters, got, want)
		}
	}
	if _, err := decodeEntry([]byte{kindPartitions + 1, 1}); !tooNew(err) || errors.Is(err, ErrCorrupt) {
		t.Errorf("an entry of a kind of the next level: %v", err)
	}
	if _, err := decodeEntry([]byte{0, 1}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("an entry of kind 0: %v", err)
	}
}
