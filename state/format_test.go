package state

import (
	"errors"
	"testing"
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
		{formatEntry, "state: corrupt: entry of kind 5: entry format version 9, this binary knows 1",
			EncodeAck(SinkEvents, 7), 1,
			func(b []byte) error { _, err := decodeEntry(b); return err }},
		{formatSession, "state: corrupt: session format version 9, this binary knows 1 at byte 1 of 66",
			(&session{id: "s", status: StatusOpen}).encode(nil), 0,
			func(b []byte) error { _, err := decodeSession(b); return err }},
		{formatEpoch, "state: corrupt: epoch format version 9, this binary knows 1 at byte 1 of 17",
			(&EpochInfo{Epoch: 3}).encode(nil), 0,
			func(b []byte) error { _, err := decodeEpochInfo(b); return err }},
	} {
		if got := c.bytes[c.at]; got != c.format.version || got != 1 {
			t.Errorf("a written %s has version %d, want 1", c.format.name, got)
		}
		if err := c.decode(c.bytes); err != nil {
			t.Errorf("%s: %v", c.format.name, err)
		}
		c.bytes[c.at] = 9
		if err := c.decode(c.bytes); err == nil || !errors.Is(err, ErrCorrupt) || err.Error() != c.want {
			t.Errorf("version 9 of %s: %v, want %s", c.format.name, err, c.want)
		}
	}
	if err := formatStore.check(2); err == nil || err.Error() != "state format version 2, this binary knows 1" {
		t.Errorf("version 2 of the store: %v", err)
	}
}
