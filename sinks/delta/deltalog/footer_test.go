package deltalog

import (
	"runtime"
	"testing"
)

// TestFooterLength flips every bit of the last twelve bytes of a checkpoint. What a file says of its footer is not believed
// before it fits.
func TestFooterLength(t *testing.T) {
	data := checkpointFile(t)
	if err := CheckFooter(data); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	for bit := range 12 * 8 {
		bad := append([]byte(nil), data...)
		bad[len(bad)-1-bit/8] ^= 1 << (bit % 8)
		runtime.ReadMemStats(&before)
		err := eachCheckpointRow("k", bad, func(*checkpointRow) error { return nil })
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 16<<20 {
			t.Errorf("bit %d from the end: %d bytes allocated for %d: %v", bit, got, len(bad), err)
		}
		if bit < 4*8 && err == nil {
			t.Errorf("bit %d from the end: not noticed", bit)
		}
	}
	for n := range 12 {
		if CheckFooter(data[len(data)-n:]) == nil {
			t.Errorf("the last %d bytes are taken for a file", n)
		}
	}
}
