package cipherfs

import (
	"context"
	"maps"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestLook: every file with something in it is in one of the counts, and without a key nothing but counts is told.
// Rewrite tells its progress in the same numbers.
func TestLook(t *testing.T) {
	mem := vfs.NewMem()
	makeFiles(t, mem, allNames()...)
	put(t, mem, "d/foreign", []byte("text"))
	put(t, mem, "d/shard-0/torn", make([]byte, 200))
	put(t, mem, "d/audit", []byte("no file of the layer"))
	check(t, mem.MkdirAll("d/copy", 0o700))
	put(t, mem, "d/copy/1.sst", []byte(files["d/shard-0/1.sst"]))
	want := func(sealed map[KeyID]int, plain, other int) {
		t.Helper()
		r, err := Look(mem, "d")
		check(t, err)
		got := map[KeyID]int{}
		for id, n := range r.Sealed {
			if got[id] = n.Files; n.Files > 0 && n.Bytes == 0 {
				t.Errorf("%d files have no byte", n.Files)
			}
		}
		if !maps.Equal(got, sealed) || r.Plain.Files != plain || r.Other.Files != other {
			t.Errorf("sealed %v, %d plain, %d other; want %v, %d, %d", got, r.Plain.Files, r.Other.Files, sealed, plain,
				other)
		}
	}
	empty := 0
	for _, text := range files {
		if text == "" {
			empty++
		}
	}
	ours := len(files) - empty
	k1, k2 := testKey(1), testKey(2)
	want(map[KeyID]int{}, ours+1, 2)
	o := Options{FS: mem, Keys: []*Key{k1}, Plain: true, Discard: []string{"d/copy", "d/none"}}
	_, err := begin(o)
	check(t, err)
	want(map[KeyID]int{k1.id: 1}, ours, 2)
	var told []Count
	o.Progress = func(done, all Count) { told = append(told, done, all) }
	done, err := Rewrite(context.Background(), o, "d")
	check(t, err)
	if n := len(told); n != 2*done.Files || told[n-2] != done || told[n-1] != done || told[1] != done {
		t.Errorf("%+v was rewritten, told was %+v", done, told)
	}
	want(map[KeyID]int{k1.id: ours + 2}, 0, 0)
	o.Keys, o.Plain = []*Key{k2, k1}, false
	ctx, stop := context.WithCancel(context.Background())
	o.Progress = func(done, _ Count) {
		if done.Files == 3 {
			stop()
		}
	}
	if done, err = Rewrite(ctx, o, "d"); err == nil || done.Files != 3 {
		t.Errorf("interrupted after %d files: %v", done.Files, err)
	}
	want(map[KeyID]int{k1.id: ours - 1, k2.id: 3}, 0, 0)
	o.Progress = nil
	if done, err = Rewrite(context.Background(), o, "d"); err != nil || done.Files != ours-1 {
		t.Errorf("%d files afterwards: %v", done.Files, err)
	}
	want(map[KeyID]int{k2.id: ours + 2}, 0, 0)
}
