package deltalog

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// TestFileTable compares the table with a map, through adds, replaced adds and removes of own, odd and foreign names.
func TestFileTable(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	s := newSnapshot(true, true, 0)
	model := map[string]File{}
	var bytes int64
	path := func(date string, o Origin) string {
		switch rng.IntN(6) {
		case 0:
			return fmt.Sprintf("d=%s/part-%d.snappy.parquet", date, rng.IntN(300))
		case 1: // nearly an own name
			return fmt.Sprintf("d=%s/part-%05d-%d-%016X.parquet", date, o.Shard, o.To+1, rng.IntN(20))
		case 2:
			return fmt.Sprintf("e=%s/part-%05d-%d-%016x.parquet", date, o.Shard, o.To, rng.IntN(20))
		}
		return fmt.Sprintf("d=%s/part-%05d-%d-%016x.parquet", date, o.Shard, o.To, rng.Uint64()>>rng.IntN(64))
	}
	var known []string
	for i := range 60_000 {
		if len(known) > 0 && rng.IntN(100) < 48 {
			p := known[rng.IntN(len(known))]
			if f, ok := model[p]; ok {
				bytes -= f.Size
			}
			delete(model, p)
			s.files.remove([]byte(p))
		} else {
			date := fmt.Sprintf("2024-01-%02d", rng.IntN(5))
			o := Origin{Tagged: true, Shard: rng.Uint32() >> rng.IntN(32), From: rng.Uint64N(50), To: rng.Uint64N(1e6)}
			if rng.IntN(9) == 0 {
				o = Origin{}
			}
			p := path(date, o)
			f := File{Path: p, Partition: date, Size: rng.Int64N(1e9), Modified: rng.Int64(), NumRecords: rng.Int64N(9),
				Origin: o, Added: int64(i)}
			f.Stats = fmt.Sprintf(`{"numRecords":%d,"x":1}`, f.NumRecords)
			if old, ok := model[p]; ok {
				bytes -= old.Size
			}
			a := &Add{Path: p, PartitionValues: map[string]string{strings.SplitN(p, "=", 2)[0]: date}, Size: f.Size,
				ModificationTime: f.Modified, Stats: f.Stats}
			if o.Tagged {
				a.Tags = o.Tags()
			}
			s.files.add(a.entry(), f.Added)
			model[p], bytes = f, bytes+f.Size
			known = append(known, p)
		}
		if i%5_000 != 0 && i != 59_999 {
			continue
		}
		if s.Len() != len(model) || s.files.bytes != bytes {
			t.Fatalf("%d files of %d bytes, want %d of %d", s.Len(), s.files.bytes, len(model), bytes)
		}
		n := 0
		for f := range s.All() {
			if n++; !reflect.DeepEqual(model[f.Path], *f) {
				t.Fatalf("%+v, want %+v", *f, model[f.Path])
			}
		}
		for p, want := range model {
			if f := s.File(p); f == nil || !reflect.DeepEqual(*f, want) {
				t.Fatalf("%s: %+v, want %+v", p, f, want)
			}
		}
		newer, in := 0, 0
		for f := range s.addedAfter(int64(i / 2)) {
			newer++
			n -= min(1, max(0, int(f.Added-int64(i/2)))) // every one is newer
		}
		for f := range s.In(func(p string) bool { return p == "2024-01-03" }) {
			if in++; f.Partition != "2024-01-03" {
				t.Fatalf("%+v", f)
			}
		}
		for _, f := range model {
			if f.Added > int64(i/2) {
				newer--
				n++
			}
			if f.Partition == "2024-01-03" {
				in--
			}
		}
		if n != len(model) || newer != 0 || in != 0 || s.File("nowhere") != nil {
			t.Fatalf("%d files, %d newer and %d in a partition are too many", n, newer, in)
		}
	}
}
