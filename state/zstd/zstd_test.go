package zstd

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestRoundTrip does what Pebble does: it compresses into memory of CompressBound bytes, and wants the frame there.
func TestRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	c := NewCtx()
	for _, n := range []int{1, 10, 1000, 4096, 1 << 20} {
		for _, level := range []int{1, 3, 7} {
			for _, random := range []bool{false, true} {
				src := bytes.Repeat([]byte("deckle "), n/7+1)[:n]
				if random {
					for i := range src {
						src[i] = byte(rng.Uint32())
					}
				}
				buf := make([]byte, CompressBound(n))
				frame, err := c.CompressLevel(buf, src, level)
				if err != nil || &frame[0] != &buf[0] {
					t.Fatalf("%d bytes, level %d: %v, moved %v", n, level, err, len(frame))
				}
				dst := make([]byte, n)
				if m, err := c.DecompressInto(dst, frame); err != nil || m != n || !bytes.Equal(dst, src) {
					t.Fatalf("%d bytes, level %d: %d, %v", n, level, m, err)
				}
				if _, err := c.DecompressInto(make([]byte, n-1), frame); err == nil {
					t.Fatalf("%d bytes fit into %d", n, n-1)
				}
				if _, err := c.DecompressInto(dst, frame[:len(frame)-1]); err == nil {
					t.Fatalf("%d bytes: a torn frame was read", n)
				}
			}
		}
	}
}
