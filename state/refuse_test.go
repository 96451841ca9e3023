package state

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"deckle/schema/level"
)

// TestRefusedRowIsCut: the row of a large session takes megabytes, of which a letter carries the beginning. From level
// 2 on the log carries no more than that, and the letter still tells the length and the hash of the whole. Level 1
// writes what v0.1.0 writes, and so does level 2 of a row that fits.
func TestRefusedRowIsCut(t *testing.T) {
	row := bytes.Repeat([]byte("0123456789abcdef"), MaxRefusedRow/16+1)
	for _, c := range []struct {
		l   level.Level
		row []byte
		cut bool
	}{{level.First, row, false}, {level.Real, row, true}, {level.Real, row[:MaxRefusedRow], false}} {
		b := EncodeRefuse(SinkClickHouse, "s\x000/0", c.row, "too large", c.l)
		e, err := decodeEntry(b)
		must(t, err)
		want := c.row
		var hash [sha256.Size]byte
		if c.cut {
			want, hash = row[:MaxRefusedRow], sha256.Sum256(row)
		}
		if !bytes.Equal(e.row, want) || e.length != int64(len(c.row)) || e.hash != hash || (b[1] == 2) != c.cut {
			t.Errorf("level %d: %d bytes of %d, hash %x, version %d", c.l, len(e.row), e.length, e.hash, b[1])
		}
	}
}
