package deltalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/snappy"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"deckle/sim/testworld/objects"
)

// eachCheckpointRow decodes a checkpoint by the library's structs: a second reader beside that of the package.
func eachCheckpointRow(key string, data []byte, yield func(*checkpointRow) error) error {
	open := func(f *parquet.File) (RowReader[checkpointRow], error) {
		return checkpointReader{parquet.NewGenericReader[checkpointRow](f)}, nil
	}
	return EachRow(key, data, open, 64, yield)
}

type checkpointReader struct {
	r *parquet.GenericReader[checkpointRow]
}

func (r checkpointReader) Read(rows []checkpointRow) (int, error) {
	clear(rows) // the library does not overwrite fields that are null
	return r.r.Read(rows)
}

func (r checkpointReader) Close() error { return r.r.Close() }

func (a *checkpointAdd) add() *Add {
	return &Add{Path: a.Path, PartitionValues: a.PartitionValues, Size: a.Size, ModificationTime: a.ModificationTime,
		DataChange: a.DataChange, Stats: deref(a.Stats), Tags: a.Tags}
}

func (r *checkpointRemove) remove() *Remove {
	return &Remove{Path: r.Path, DeletionTimestamp: r.DeletionTimestamp, DataChange: r.DataChange,
		PartitionValues: r.PartitionValues, Size: r.Size,
		ExtendedFileMetadata: r.ExtendedFileMetadata != nil && *r.ExtendedFileMetadata}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// eachView reads a checkpoint in memory.
func eachView(data []byte, yield func(*checkpointView) error) error {
	mem := objects.NewMem(nil)
	mem.Overwrite("c", data)
	return eachCheckpointView(context.Background(), mem, "c", func(leaf) bool { return true }, yield)
}

// described are the rows of a checkpoint as text.
type described []string

func (d *described) row(kind string, v ...any) { *d = append(*d, fmt.Sprintf("%s %+v", kind, v)) }

func at(n *int64) any {
	if n == nil {
		return nil
	}
	return *n
}

func texts(m map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "%q=%q ", k, m[k])
	}
	return b.String()
}

func describeRows(data []byte) (d described, err error) {
	err = eachCheckpointRow("c", data, func(r *checkpointRow) error {
		switch {
		case r.Add != nil:
			a := r.Add
			d.row("add", a.Path, texts(a.PartitionValues), a.Size, a.ModificationTime, deref(a.Stats), texts(a.Tags))
		case r.Remove != nil:
			m := r.Remove
			d.row("remove", m.Path, at(m.DeletionTimestamp), m.ExtendedFileMetadata != nil && *m.ExtendedFileMetadata,
				texts(m.PartitionValues), at(m.Size))
		case r.Txn != nil:
			d.row("txn", r.Txn.AppID, r.Txn.Version, at(r.Txn.LastUpdated))
		case r.MetaData != nil:
			m := r.MetaData
			d.row("metaData", m.ID, deref(m.Name), m.Name == nil, deref(m.Description), m.Description == nil, m.Format,
				m.SchemaString, m.PartitionColumns, texts(m.Configuration), at(m.CreatedTime))
		case r.Protocol != nil:
			d.row("protocol", int(r.Protocol.MinReaderVersion), int(r.Protocol.MinWriterVersion),
				r.Protocol.ReaderFeatures, r.Protocol.WriterFeatures)
		}
		return nil
	})
	return d, err
}

func describeViews(data []byte) (d described, err error) {
	err = eachView(data, func(r *checkpointView) error {
		switch {
		case r.has(addPath):
			d.row("add", string(r.bytes(addPath)), texts(r.texts(addPartitionKey, addPartitionValue)), r.int(addSize),
				r.int(addModified), string(r.bytes(addStats)), texts(r.texts(addTagKey, addTagValue)))
		case r.has(removePath):
			extended, ok := r.one(removeExtended)
			d.row("remove", string(r.bytes(removePath)), at(r.time(removeDeleted)), ok && extended.Boolean(),
				texts(r.texts(removePartitionKey, removePartitionValue)), at(r.time(removeSize)))
		case r.has(txnAppID):
			t := r.txn()
			d.row("txn", t.AppID, t.Version, at(t.LastUpdated))
		case r.has(metaID):
			m := r.metadata()
			d.row("metaData", m.ID, deref(m.Name), m.Name == nil, deref(m.Description), m.Description == nil,
				checkpointFormat(m.Format), m.SchemaString, m.PartitionColumns, texts(m.Configuration),
				at(m.CreatedTime))
		case r.has(protocolReader):
			p := r.protocol()
			d.row("protocol", p.MinReaderVersion, p.MinWriterVersion, p.ReaderFeatures, p.WriterFeatures)
		}
		return nil
	})
	return d, err
}

// randomRows are actions with everything that may be there, missing or empty.
func randomRows(rng *rand.Rand, n int) (rows []checkpointRow) {
	word := func() string { return strings.Repeat(string(rune('a'+rng.IntN(26))), rng.IntN(40)) }
	dict := func(most int) map[string]string {
		m := map[string]string{}
		for i := range rng.IntN(most + 1) {
			m[fmt.Sprint("k", i)] = word()
		}
		return m
	}
	maybe := func() *int64 {
		if rng.IntN(3) == 0 {
			return nil
		}
		n := rng.Int64()
		return &n
	}
	for i := range n {
		switch rng.IntN(12) {
		case 0:
			rows = append(rows, checkpointRow{Txn: &CheckpointTxn{fmt.Sprint("app", i), rng.Int64(), maybe()}})
		case 1:
			extended := rng.IntN(2) == 0
			rows = append(rows, checkpointRow{Remove: &checkpointRemove{Path: fmt.Sprint("r", i),
				DeletionTimestamp: maybe(), ExtendedFileMetadata: &extended, PartitionValues: dict(2), Size: maybe()}})
		case 2:
			rows = append(rows, checkpointRow{Protocol: &CheckpointProtocol{1, 7, nil, []string{word() + "x", "y"}}})
		case 3:
			rows = append(rows, checkpointRow{MetaData: &CheckpointMetadata{ID: fmt.Sprint("id", i),
				Name: optional(word()), Format: checkpointFormat{"parquet", dict(1)}, SchemaString: word(),
				PartitionColumns: []string{"d"}, Configuration: dict(3), CreatedTime: maybe()}})
		default:
			rows = append(rows, checkpointRow{Add: &checkpointAdd{Path: fmt.Sprint("f", i), PartitionValues: dict(1),
				Size: rng.Int64(), ModificationTime: rng.Int64(), Stats: optional(word()), Tags: dict(4)}})
		}
	}
	return rows
}

// structRow is checkpointRow as the library's writer of structs takes it: of a map of texts it writes each value that
// may be null as null.
type structRow struct {
	Txn      *CheckpointTxn      `parquet:"txn,optional"`
	Add      *structAdd          `parquet:"add,optional"`
	Remove   *structRemove       `parquet:"remove,optional"`
	MetaData *CheckpointMetadata `parquet:"metaData,optional"`
	Protocol *CheckpointProtocol `parquet:"protocol,optional"`
}

type structAdd struct {
	Path             string             `parquet:"path"`
	PartitionValues  map[string]*string `parquet:"partitionValues"`
	Size             int64              `parquet:"size"`
	ModificationTime int64              `parquet:"modificationTime"`
	DataChange       bool               `parquet:"dataChange"`
	Stats            *string            `parquet:"stats,optional"`
	Tags             map[string]string  `parquet:"tags,optional"`
}

type structRemove struct {
	Path                 string             `parquet:"path"`
	DeletionTimestamp    *int64             `parquet:"deletionTimestamp,optional"`
	DataChange           bool               `parquet:"dataChange"`
	ExtendedFileMetadata *bool              `parquet:"extendedFileMetadata,optional"`
	PartitionValues      map[string]*string `parquet:"partitionValues,optional"`
	Size                 *int64             `parquet:"size,optional"`
}

// structs are rows for the library's writer. Of the partition values that are empty half are null.
func structs(rows []checkpointRow) (out []structRow) {
	n := 0
	values := func(m map[string]string) map[string]*string {
		out := map[string]*string{}
		for k, v := range m {
			if n++; v != "" || n%2 == 0 {
				out[k] = &v
			} else {
				out[k] = nil
			}
		}
		return out
	}
	for _, r := range rows {
		s := structRow{Txn: r.Txn, MetaData: r.MetaData, Protocol: r.Protocol}
		if a := r.Add; a != nil {
			s.Add = &structAdd{a.Path, values(a.PartitionValues), a.Size, a.ModificationTime, a.DataChange, a.Stats,
				a.Tags}
		}
		if m := r.Remove; m != nil {
			s.Remove = &structRemove{m.Path, m.DeletionTimestamp, m.DataChange, m.ExtendedFileMetadata,
				values(m.PartitionValues), m.Size}
		}
		out = append(out, s)
	}
	return out
}

// TestCheckpointReaders: the reader by columns sees what the library's reader by structs sees, whatever pages, row
// groups, encodings and codecs a writer has chosen.
func TestCheckpointReaders(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for i, options := range [][]parquet.WriterOption{
		{parquet.DataPageVersion(1), parquet.DefaultEncoding(&parquet.Plain), parquet.Compression(&snappy.Codec{})},
		{parquet.DataPageVersion(1), parquet.PageBufferSize(512), parquet.Compression(&zstd.Codec{})},
		{parquet.DataPageVersion(2), parquet.PageBufferSize(300)},
		{parquet.DataPageVersion(2), parquet.MaxRowsPerRowGroup(97), parquet.Compression(&snappy.Codec{})},
		{parquet.DataPageVersion(1), parquet.DefaultEncoding(&parquet.RLEDictionary), parquet.PageBufferSize(700)},
	} {
		for _, n := range []int{1, 300, 5000} {
			var b bytes.Buffer
			w := parquet.NewGenericWriter[structRow](&b, options...)
			_, err := w.Write(structs(randomRows(rng, n)))
			if err = errors.Join(err, w.Close()); err != nil {
				t.Fatal(err)
			}
			want, err1 := describeRows(b.Bytes())
			got, err2 := describeViews(b.Bytes())
			if err := errors.Join(err1, err2); err != nil || len(want) != n || !reflect.DeepEqual(got, want) {
				t.Fatalf("writer %d, %d rows: %d and %d, %v", i, n, len(want), len(got), err)
			}
		}
	}
}

// TestCheckpointWriter: what is written column by column is what the library writes of the same actions.
func TestCheckpointWriter(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	rows := randomRows(rng, 3000)
	var b bytes.Buffer
	c := &checkpointer{adds: map[string]*Add{}, removes: map[string]*Remove{}, txns: map[string]Txn{}, cutoff: -1 << 63,
		w: parquet.NewGenericWriter[checkpointRow](&b, parquet.MaxRowsPerRowGroup(700))}
	var want described
	for i, r := range rows {
		switch {
		case r.Add != nil && i%2 == 0:
			c.adds[r.Add.Path] = r.Add.add()
		case r.Remove != nil && r.Remove.DeletionTimestamp != nil && i%2 == 0:
			c.removes[r.Remove.Path] = r.Remove.remove()
		case r.Txn != nil:
			c.txns[r.Txn.AppID] = Txn(*r.Txn)
		}
	}
	var base bytes.Buffer
	w := parquet.NewGenericWriter[structRow](&base)
	_, err := w.Write(structs(rows))
	if err = errors.Join(err, w.Close(), eachView(base.Bytes(), c.base), c.own(), c.w.Close()); err != nil {
		t.Fatal(err)
	}
	all, err := describeRows(base.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	once := map[string]bool{}
	for _, r := range all { // the first metaData and protocol count
		kind, _, _ := strings.Cut(r, " ")
		if !strings.HasPrefix(r, "remove") || !strings.Contains(r, "<nil> ") && !strings.Contains(r, " <nil>") {
			if (kind == "metaData" || kind == "protocol") && once[kind] {
				continue
			}
			once[kind] = true
			want = append(want, r)
		} else if deleted := strings.Fields(r)[2]; deleted != "<nil>" {
			want = append(want, r)
		}
	}
	got, err := describeRows(b.Bytes())
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || !reflect.DeepEqual(got, want) {
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Errorf("%s\nwant %s", got[i], want[i])
				break
			}
		}
		t.Fatalf("%d rows, want %d, %v", len(got), len(want), err)
	}
}

// A checkpoint that another tool replaces while it is read is no mixture of the two.
func TestReplacedWhileRead(t *testing.T) {
	rows := randomRows(rand.New(rand.NewPCG(11, 12)), 12_000)
	file := func() []byte { // of the same layout each time, and with other sizes
		for _, r := range rows {
			if r.Add != nil {
				r.Add.Size++
			}
		}
		var b bytes.Buffer
		w := parquet.NewGenericWriter[checkpointRow](&b, parquet.MaxRowsPerRowGroup(3000),
			parquet.DefaultEncoding(&parquet.Plain))
		_, err := w.Write(rows)
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	mem := objects.NewMem(nil)
	mem.Overwrite("c", file())
	n := 0
	err := eachCheckpointView(t.Context(), mem, "c", func(leaf) bool { return true }, func(*checkpointView) error {
		if n++; n == 10 {
			mem.Overwrite("c", file())
		}
		return nil
	})
	if _, ok := errors.AsType[*CorruptionError](err); !ok {
		t.Fatalf("%d rows, %v", n, err)
	}
	// An error of the store stays what it is.
	mem.SetHook(func(op, key string) error {
		if n--; n < 0 {
			return objects.ErrFault
		}
		return nil
	})
	for n = range 4 {
		at := n
		err = eachCheckpointView(t.Context(), mem, "c", func(leaf) bool { return true },
			func(*checkpointView) error { return nil })
		if !errors.Is(err, objects.ErrFault) {
			t.Fatalf("request %d: %v", at, err)
		}
		n = at
	}
}
