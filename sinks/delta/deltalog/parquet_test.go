package deltalog

import (
	"errors"
	"runtime"
	"testing"
)

// TestDamagedParquet flips bits in the whole footer and at the file's beginning, where a page's header is. Lengths in
// the file are compared with the bytes that are there: nothing asks for much memory, and nothing panics.
func TestDamagedParquet(t *testing.T) {
	data := checkpointFile(t)
	if err := eachView(data, func(*checkpointView) error { return nil }); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	refused := 0
	flip := func(at, bit int) {
		bad := append([]byte(nil), data...)
		bad[at] ^= 1 << bit
		runtime.ReadMemStats(&before)
		err := eachView(bad, func(*checkpointView) error { return nil })
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 2*maxPage {
			t.Errorf("bit %d of byte %d: %d bytes allocated for %d: %v", bit, at, got, len(bad), err)
		}
		if _, ok := errors.AsType[*CorruptionError](err); err != nil && !ok {
			t.Errorf("bit %d of byte %d: %v", bit, at, err)
		}
		if err != nil {
			refused++
		} else if at >= len(data)-4 {
			t.Errorf("bit %d of byte %d: not noticed", bit, at)
		}
	}
	// Under the race detector the library's unsafe code ends the process where it panics otherwise.
	whole := !testing.Short()
	for i, at := 0, 4; at < len(data); i, at = i+1, at+1 {
		if at >= len(data)-12 || whole && (at < 400 || at > len(data)-4000) && i%4 == 0 {
			for _, bit := range []int{i / 4 % 8, 7} {
				flip(at, bit)
			}
		}
	}
	t.Logf("%d flipped bits were refused", refused)
	for n := range 12 {
		if _, err := OpenParquet(data[len(data)-n:]); err == nil {
			t.Errorf("the last %d bytes are taken for a file", n)
		}
	}
}

// TestThrift reads lists and texts whose lengths exceed the bytes that are left, and structures without an end.
func TestThrift(t *testing.T) {
	for _, b := range [][]byte{
		{}, {0x15}, {0x15, 0x80}, {0x18, 0x7f, 'x', 0}, {0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 7, 0, 0},
		{0x19, 0x5c, 0, 0, 0, 0}, {0x1b, 0x7f, 0x55, 2, 2, 0},
		{0x1d, 0}, {0x1c, 0x1c, 0x1c}, {0x17, 1, 2, 3, 0},
	} {
		w := thrift{b: b}
		if w.structure(0, nil); w.err == nil {
			t.Errorf("% x is taken", b)
		}
	}
	deep := make([]byte, 1000)
	for i := range deep {
		deep[i] = 0x1c
	}
	w := thrift{b: deep}
	if w.structure(0, nil); w.err == nil || len(w.b) > 0 {
		t.Error("a structure 1,000 deep is taken")
	}
	got := map[int]int64{}
	w = thrift{b: []byte{0x15, 0x04, 0x06, 0x80, 0x01, 0x05, 0x18, 0x02, 'a', 'b', 0x11, 0x1c, 0x15, 0x02, 0x00, 0x00,
		'r'}}
	w.structure(0, func(field int, v int64) { got[field] = v })
	if w.err != nil || string(w.b) != "r" || len(got) != 2 || got[1] != 2 || got[64] != -3 {
		t.Errorf("%v, %v left, %v", got, w.b, w.err)
	}
}
