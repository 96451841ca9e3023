package deletionvector_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"deckle/sim/testworld/objects"
	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/deletionvector/vectortest"
	"deckle/sinks/delta/store"
)

// example is the protocol's third example, rows 3, 4, 7, 11, 18 and 29, as delta-kernel has it: the text in the
// protocol is in a format that nobody writes.
var example = deletionvector.Descriptor{StorageType: "i",
	Path: "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L", Size: 44, Cardinality: 6}

var exampleRows = []int64{3, 4, 7, 11, 18, 29}

func rowsIn(r *deletionvector.Rows, below int64) (out []int64) {
	for i := range below {
		if r.Has(i) {
			out = append(out, i)
		}
	}
	return out
}

// The protocol's own examples: an inline vector, and the names of objects.
func TestExamples(t *testing.T) {
	r, err := deletionvector.Read(t.Context(), objects.NewMem(nil), "t", &example)
	if err != nil {
		t.Fatal(err)
	}
	if got := rowsIn(r, 100); !slices.Equal(got, exampleRows) || r.Len() != 6 {
		t.Errorf("rows %v, %d of them", got, r.Len())
	}
	if r.Fits(30) != nil || r.Fits(29) == nil || r.Has(-1) || r.Has(3|1<<32) {
		t.Error("the vector names other rows than it does")
	}
	d := deletionvector.Descriptor{StorageType: "u", Path: "ab^-aqEH.-t@S}K{vb[*k^", Offset: new(int32(4)), Size: 40,
		Cardinality: 6}
	const name = "deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin"
	if key, err := d.Key(); err != nil || key != "ab/"+name {
		t.Errorf("key %q, %v", key, err)
	}
	if id := d.ID(); id != "uab^-aqEH.-t@S}K{vb[*k^@4" {
		t.Errorf("id %q", id)
	}
	if id := example.ID(); id != "i"+example.Path {
		t.Errorf("id %q", id)
	}
	d.Path = d.Path[2:]
	if key, err := d.Key(); err != nil || key != name {
		t.Errorf("key without prefix %q, %v", key, err)
	}
	var none *deletionvector.Descriptor
	r, err = deletionvector.Read(t.Context(), objects.NewMem(nil), "t", none)
	if r != nil || err != nil || none.ID() != "" || r.Has(0) || r.Len() != 0 ||
		r.Fits(0) != nil || deletionvector.FileID("p", none) != "p" {
		t.Error("no vector hides something")
	}
}

// sparks is a vector that Spark 4.0.1 has written, of a file with the numbers from 0 to 199,999, of which DELETE took
// those with the remainder 3 by 97, those from 70,000 to 140,000, and the last.
var sparks = deletionvector.Descriptor{StorageType: "u", Path: "3@gV%Vop=WWSu6i(]o1Q", Offset: new(int32(1)),
	Size: 4005, Cardinality: 71342}

func TestSparks(t *testing.T) {
	key, err := sparks.Key()
	if err != nil {
		t.Fatal(err)
	}
	data, err := fromSpark()
	if err != nil {
		t.Fatal(err)
	}
	mem := objects.NewMem(nil)
	mem.Overwrite("t/"+key, data)
	r, err := deletionvector.Read(t.Context(), mem, "t", &sparks)
	if err != nil {
		t.Fatal(err)
	}
	for n := range int64(200_100) {
		if want := n%97 == 3 && n < 200_000 || n >= 70_000 && n <= 140_000 || n == 199_999; r.Has(n) != want {
			t.Fatalf("row %d is hidden: %t", n, !want)
		}
	}
	if r.Fits(200_000) != nil || r.Fits(199_999) == nil {
		t.Error("the last row is another one")
	}
}

// Vectors in objects: arrays, runs and bitmaps of all containers, places above 2^32, and none at all.
func TestStored(t *testing.T) {
	var many, run []int64
	for i := range int64(40_000) {
		many = append(many, 2*i)
		run = append(run, 100_000+i)
	}
	for name, rows := range map[string][]int64{"none": nil, "one": {0}, "several": exampleRows, "a bitmap": many,
		"a run": run, "far": {5, 1 << 16, 1<<32 + 7, 1<<33 + 1}} {
		mem := objects.NewMem(nil)
		d := vectortest.Put(t, mem, "t", 1, 33, vectortest.Encode(t, rows...), int64(len(rows)))
		r, err := deletionvector.Read(t.Context(), mem, "t", d)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, row := range rows {
			if !r.Has(row) {
				t.Errorf("%s: row %d is missing", name, row)
			}
		}
		if r.Len() != int64(len(rows)) || r.Has(99_999) || r.Has(1<<34) {
			t.Errorf("%s: %d rows", name, r.Len())
		}
	}
}

// Rows are among others if each of them is, wherever it stands.
func TestIn(t *testing.T) {
	var none *deletionvector.Rows
	few := none.With(1, 70_000, 1<<32+3)
	many := few.With(2, 1<<33)
	for _, c := range []struct {
		rows, others *deletionvector.Rows
		is           bool
	}{
		{none, none, true}, {none, few, true}, {none.With(), none, true}, {few, none, false}, {few, few, true},
		{few, many, true}, {many, few, false}, {none.With(1<<32 + 4), many, false}, {none.With(1 << 34), many, false},
		{none.With(3), many, false},
	} {
		if c.rows.In(c.others) != c.is {
			t.Errorf("%d rows among %d: %t", c.rows.Len(), c.others.Len(), !c.is)
		}
	}
}

// What is written is read again, whatever was hidden before; vectors of one object do not meet.
func TestWrite(t *testing.T) {
	mem := objects.NewMem(nil)
	var before *deletionvector.Rows
	object := deletionvector.NewObject(uuid.UUID{1, 2, 3, 250})
	var vectors []*deletionvector.Descriptor
	var want [][]int64
	for _, more := range [][]int64{{7}, {1, 7, 1<<32 + 3}, {0, 99_999, 70_000, 70_001}, nil} {
		before = before.With(more...)
		d, err := object.Add(before)
		if err != nil {
			t.Fatal(err)
		}
		all := slices.Clone(more)
		if len(want) > 0 {
			all = append(all, want[len(want)-1]...)
		}
		slices.Sort(all)
		vectors, want = append(vectors, d), append(want, slices.Compact(all))
	}
	mem.Overwrite("t/"+object.Key(), object.Data())
	for i, d := range vectors {
		if key, err := d.Key(); key != object.Key() || err != nil {
			t.Fatalf("key %q, %v, want %q", key, err, object.Key())
		}
		rows, err := deletionvector.Read(t.Context(), mem, "t", d)
		if err != nil || rows.Len() != int64(len(want[i])) || d.Cardinality != rows.Len() {
			t.Fatalf("vector %d: %d rows, %v", i, rows.Len(), err)
		}
		for _, r := range want[i] {
			if !rows.Has(r) {
				t.Errorf("vector %d lacks row %d", i, r)
			}
		}
	}
	if before.Fits(1<<32+3) == nil || before.Fits(1<<32+4) != nil {
		t.Error("the last row is another one")
	}
}

// Whatever is wrong is an error: a vector that hides fewer rows brings rows back.
func TestDamage(t *testing.T) {
	vector := vectortest.Encode(t, exampleRows...)
	mem := objects.NewMem(nil)
	d := vectortest.Put(t, mem, "t", 1, 0, vector, 6)
	key, _ := d.Key()
	whole, err := mem.Get(t.Context(), "t/"+key)
	if err != nil {
		t.Fatal(err)
	}
	look := func(what string) {
		t.Helper()
		_, err := deletionvector.Read(t.Context(), mem, "t", d)
		if _, ok := errors.AsType[*deletionvector.DamageError](err); !ok {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := 1; i < 1+len(vector)+8; i++ {
		b := bytes.Clone(whole)
		b[i] ^= 0x10
		mem.Overwrite("t/"+key, b)
		look("a flipped bit")
		mem.Overwrite("t/"+key, whole[:i])
		look("cut off")
	}
	mem.Overwrite("t/"+key, whole)
	for what, change := range map[string]func(){
		"fewer rows":    func() { d.Cardinality = 5 },
		"more rows":     func() { d.Cardinality = 7 },
		"another size":  func() { d.Size-- },
		"too large":     func() { d.Size = deletionvector.MaxSize + 1 },
		"no size":       func() { d.Size = -1 },
		"before it":     func() { d.Offset = new(int32(0)) },
		"far away":      func() { d.Offset = new(int32(1 << 30)) },
		"negative":      func() { d.Offset = new(int32(-4)) },
		"no such type":  func() { d.StorageType = "x" },
		"leads outside": func() { d.Path = "../" + d.Path },
		"no UUID":       func() { d.Path = "short" },
		"no Z85":        func() { d.Path = strings.Repeat("~", 20) },
		"inline":        func() { d.StorageType = "i" },
	} {
		was := *d
		change()
		look(what)
		*d = was
	}
	d.StorageType = "p"
	if _, err := deletionvector.Read(t.Context(), mem, "t", d); !errors.Is(err, deletionvector.ErrElsewhere) {
		t.Errorf("an absolute path: %v", err)
	}
	d.StorageType = "u"
	mem.Overwrite("t/"+key, whole)
	if _, err := deletionvector.Read(t.Context(), mem, "u", d); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no object: %v", err)
	}
	for i := range len(vector) {
		if _, err := deletionvector.Decode(vector[:i], 6); err == nil {
			t.Errorf("%d bytes of the vector are one", i)
		}
	}
	if _, err := deletionvector.Decode(append(bytes.Clone(vector), 0), 6); err == nil {
		t.Error("a byte behind the vector's end")
	}
}

// FuzzDecode: whatever the bytes are, decode returns, without much memory, and what it returns agrees with itself.
func FuzzDecode(f *testing.F) {
	inline, err := example.Inline()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(inline)
	data, err := fromSpark()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[5 : len(data)-4])
	f.Add(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(nil, 1681511377), 1<<40))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := deletionvector.Decode(data, 1<<16)
		if err != nil {
			return
		}
		if n := r.Len(); n < 0 || n > 1<<16 || n > 0 && r.Fits(0) == nil || n == 0 && r.Fits(0) != nil {
			t.Fatalf("%d rows; of a file without rows: %v", n, r.Fits(0))
		}
		n := int64(0)
		for row := range int64(1 << 16) {
			if r.Has(row) {
				n++
			}
		}
		if n > r.Len() {
			t.Fatalf("%d rows, counted %d", r.Len(), n)
		}
	})
}

// fromSpark is the object of sparks.
func fromSpark() ([]byte, error) {
	text, err := os.ReadFile("testdata/spark-4.0.1.hex")
	if err != nil {
		return nil, err
	}
	return hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
}
