package state

import (
	"errors"
	"fmt"
	"testing"

	"deckle/schema"
)

// TestFormatVersions: what is written has today's version at its place, and another version is refused by its number.
func TestFormatVersions(t *testing.T) {
	for _, c := range []struct {
		format format
		want   string
		bytes  []byte
		at     int
		decode func([]byte) error
	}{
		{formatEntry, "state: corrupt: entry of kind 5: entry format version 9, this binary knows %d",
			EncodeAck(SinkEvents, 7), 1,
			func(b []byte) error { _, err := decodeEntry(b); return err }},
		{formatSession, "state: corrupt: session format version 9, this binary knows %d",
			(&session{id: "s", status: schema.StatusOpen}).encode(nil), 0,
			func(b []byte) error { _, err := decodeSession(b); return err }},
		{formatEpoch, "state: corrupt: epoch format version 9, this binary knows %d",
			(&EpochInfo{Epoch: 3}).encode(nil), 0,
			func(b []byte) error { _, err := decodeEpochInfo(b); return err }},
	} {
		if got := c.bytes[c.at]; got != c.format.version {
			t.Errorf("a written %s has version %d, want %d", c.format.name, got, c.format.version)
		}
		if err := c.decode(c.bytes); err != nil {
			t.Errorf("%s: %v", c.format.name, err)
		}
		c.bytes[c.at] = 9
		want := fmt.Sprintf(c.want, c.format.version)
		if c.format != formatEntry {
			want += fmt.Sprintf(" at byte 1 of %d", len(c.bytes))
		}
		if err := c.decode(c.bytes); err == nil || !errors.Is(err, ErrCorrupt) || err.Error() != want {
			t.Errorf("version 9 of %s: %v, want %s", c.format.name, err, want)
		}
	}
	if err := formatStore.check(2); err == nil || err.Error() != "state format version 2, this binary knows 1" {
		t.Errorf("version 2 of the store: %v", err)
	}
}
