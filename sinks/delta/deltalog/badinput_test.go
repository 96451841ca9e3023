package deltalog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	compact "github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"deckle/sim/testworld/objects"
	"deckle/sinks"
	"deckle/sinks/delta/store"
)

// withVector is a line of a commit that adds a file of which rows are deleted.
const withVector = `{"add":{"path":"foreign","partitionValues":{"d":"2024-01-02"},"size":1,"modificationTime":1,` +
	`"dataChange":true,"deletionVector":{"storageType":"u","pathOrInlineDv":"ab^-aqEH.-t@S}K{vb[*k^","offset":4,` +
	`"sizeInBytes":40,"cardinality":6}}}`

// TestDeletionVector: under a protocol that does not know them, a file of which rows are deleted is read and written
// over by nobody, whether files are kept or not; once it is gone everybody goes on. A checkpoint has it all the same.
func TestDeletionVector(t *testing.T) {
	for _, keepFiles := range []bool{true, false} {
		mem := objects.NewMem(nil)
		opts := writerOptions(mem)
		opts.KeepFiles = keepFiles
		running, reader := open(t, opts), open(t, Options{Store: mem, Name: "t"})
		change := &Change{Parts: on(running, "a", 1), Last: true, Adds: []Add{add("f", Origin{})}}
		refused := func(what string, err error) {
			t.Helper()
			var stop *sinks.StopError
			if !errors.As(err, &stop) || !strings.Contains(err.Error(), "foreign has a deletion vector") ||
				!strings.Contains(stop.Hint, "deletionVectors") {
				t.Errorf("%s: %v", what, err)
			}
		}
		look := func() {
			t.Helper()
			refused("running writer", running.Submit(t.Context(), change))
			refused("running reader", reader.Refresh(t.Context()))
			_, err := Open(t.Context(), opts)
			refused("new writer", err)
			_, err = Open(t.Context(), Options{Store: mem, Name: "t", KeepFiles: keepFiles})
			refused("new reader", err)
		}
		mem.Overwrite(running.commitKey(1), []byte(withVector))
		look()
		if err := running.WriteCheckpoint(t.Context(), 1, -1); err != nil {
			t.Errorf("checkpoint: %v", err)
		}
		mem.Overwrite(running.commitKey(0), []byte("it is read from the checkpoint"))
		mem.Overwrite(running.commitKey(1), []byte("it is read from the checkpoint"))
		look()
		other := strings.Replace(withVector, `"offset":4`, `"offset":8`, 1)
		mem.Overwrite(running.commitKey(2), []byte(other+"\n"+removed(`"offset":4`))) // more of its rows are deleted
		look()
		mem.Overwrite(running.commitKey(3), []byte(removed(`"offset":4`))) // it is not live with this vector
		look()
		mem.Overwrite(running.commitKey(4), []byte(removed(`"offset":8`)))
		if err := reader.Refresh(t.Context()); err != nil {
			t.Errorf("reader, undone: %v", err)
		}
		if err := running.Refresh(t.Context()); err != nil { // as a flusher does before it writes again
			t.Errorf("writer, undone: %v", err)
		}
		submit(t, running, change)
		if s := snapshot(open(t, opts)); s.Version != 5 || s.txn("a") < 1 || len(s.vectors) != 0 {
			t.Errorf("%+v", s)
		}
		if err := running.WriteCheckpoint(t.Context(), 5, 1); err != nil {
			t.Errorf("checkpoint, undone: %v", err)
		}
	}
}

// foreignCheckpoint has a file with a deletion vector, and the table of writerOptions.
func foreignCheckpoint(t *testing.T) []byte {
	t.Helper()
	type vector struct {
		StorageType string `parquet:"storageType"`
		Path        string `parquet:"pathOrInlineDv"`
		Offset      *int32 `parquet:"offset,optional"`
		Size        int32  `parquet:"sizeInBytes"`
		Cardinality int64  `parquet:"cardinality"`
	}
	type foreignAdd struct {
		Path            string            `parquet:"path"`
		PartitionValues map[string]string `parquet:"partitionValues"`
		Size            int64             `parquet:"size"`
		Modified        int64             `parquet:"modificationTime"`
		DataChange      bool              `parquet:"dataChange"`
		Vector          *vector           `parquet:"deletionVector,optional"`
	}
	type row struct {
		Add      *foreignAdd         `parquet:"add,optional"`
		MetaData *CheckpointMetadata `parquet:"metaData,optional"`
		Protocol *CheckpointProtocol `parquet:"protocol,optional"`
	}
	return writeParquet(t, []row{
		{Protocol: fromProtocol(&Protocol{MinReaderVersion: 1, MinWriterVersion: 2})},
		{MetaData: fromMetadata(&Metadata{ID: "x", Format: Format{Provider: "parquet"},
			SchemaString: SchemaString(testFields), PartitionColumns: []string{"d"},
			Configuration: map[string]string{ConfigClusterID: "c1", ConfigPipeline: "p"}})},
		{Add: &foreignAdd{Path: "foreign", PartitionValues: map[string]string{"d": "2024-01-02"}, Size: 1,
			Vector: &vector{StorageType: "u", Path: "x", Size: 40, Cardinality: 6}}},
	})
}

// TestTornCommit: of a commit of Deckle, any of its first lines alone are not taken for the commit if a file is
// missing, and no line is taken for one of its two actions. An object without a byte is no commit.
func TestTornCommit(t *testing.T) {
	mem := objects.NewMem(nil)
	l := open(t, writerOptions(mem))
	submit(t, l, &Change{Parts: on(l, "a", 1), Last: true, Adds: []Add{add("f1", Origin{}), add("f2", Origin{})}})
	submit(t, l, &Change{Parts: on(l, "a", 2), Last: true, Removes: []string{"f1"},
		Adds: []Add{add("f3", Origin{})}})
	whole, err := mem.Get(t.Context(), l.commitKey(2))
	if err != nil {
		t.Fatal(err)
	}
	var damage *CorruptionError
	lines := bytes.SplitAfter(bytes.TrimSpace(whole), []byte("\n"))
	for n := range lines {
		mem.Overwrite(l.commitKey(2), bytes.Join(lines[:n], nil))
		if _, err := Open(t.Context(), writerOptions(mem)); !errors.As(err, &damage) || damage.Key != l.commitKey(2) {
			t.Errorf("%d of %d lines: %v", n, len(lines), err)
		}
	}
	mem.Overwrite(l.commitKey(2), []byte(`{"add":{"path":"x","size":1},"remove":{"path":"f1"}}`))
	if _, err := Open(t.Context(), writerOptions(mem)); !errors.Is(err, errSeveral) {
		t.Errorf("two actions in a line: %v", err)
	}
	mem.Overwrite(l.commitKey(2), whole)
	if s := snapshot(open(t, writerOptions(mem))); s.Version != 2 || s.Len() != 2 {
		t.Errorf("whole again: %+v", s)
	}
}

// lying is a store whose listings are late.
type lying struct {
	*objects.Mem
	hide func(key string) bool
	show []store.Info // what is not there any more
}

func (l *lying) List(ctx context.Context, prefix, after string, yield func(store.Info) error) error {
	var all []store.Info
	err := l.Mem.List(ctx, prefix, after, func(i store.Info) error {
		if !l.hide(i.Key) {
			all = append(all, i)
		}
		return nil
	})
	for _, i := range l.show {
		if err == nil && strings.HasPrefix(i.Key, prefix) && i.Key > after {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(a, b store.Info) int { return strings.Compare(a.Key, b.Key) })
	for _, i := range all {
		if err == nil {
			err = yield(i)
		}
	}
	return err
}

// TestLateListing: what a listing does not show yet, or still shows, changes nothing of what is read; a listing without
// anything is no table only if nothing else says that there is one.
func TestLateListing(t *testing.T) {
	mem := objects.NewMem(nil)
	opts := writerOptions(mem)
	opts.CheckpointInterval = 4
	l := open(t, opts)
	for v := int64(1); v <= 11; v++ {
		submit(t, l, &Change{Parts: on(l, "a", v), Last: true, Adds: []Add{add(fmt.Sprint("f", v), Origin{})}})
		l.keeper.wait.Wait()
	}
	liar := &lying{Mem: mem}
	opts.Store = liar
	read := func(what string, hide func(string) bool, show ...store.Info) {
		t.Helper()
		liar.hide, liar.show = hide, show
		again, err := Open(t.Context(), opts)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		if s := snapshot(again); s.Version != 11 || s.Len() != 11 || s.txn("a") < 11 {
			t.Errorf("%s: %+v", what, s)
		}
		_ = again.Close()
	}
	read("true", func(string) bool { return false })
	for v := int64(1); v <= 11; v++ {
		read(fmt.Sprintf("without commit %d", v), func(k string) bool { return k == l.commitKey(v) })
		read(fmt.Sprintf("without commits from %d on", v), func(k string) bool {
			at, kind := logName(strings.TrimPrefix(k, "t/"+logDir))
			return kind == logCommit && at >= v
		})
	}
	read("without checkpoints", func(k string) bool { return strings.HasSuffix(k, checkpointExt) })
	read("with a checkpoint that is gone", func(string) bool { return false },
		store.Info{Key: l.checkpointKey(10), Size: 1, Modified: time.Now()})
	// The first commits are gone, and the listing is empty: no table is made there.
	if _, err := l.Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := mem.Delete(t.Context(), l.commitKey(0)); err != nil {
		t.Fatal(err)
	}
	liar.hide, liar.show = func(string) bool { return true }, nil
	if _, err := Open(t.Context(), opts); !errors.Is(err, errUnseen) {
		t.Errorf("an empty listing: %v", err)
	}
	if _, err := mem.Get(t.Context(), l.commitKey(0)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a table was made over another one: %v", err)
	}
}

// refooter replaces the numbers in the footer of a Parquet file.
func refooter(t *testing.T, data []byte, change func(*format.FileMetaData)) []byte {
	t.Helper()
	n := int(binary.LittleEndian.Uint32(data[len(data)-8:]))
	var meta format.FileMetaData
	if err := compact.Unmarshal(new(compact.CompactProtocol), data[len(data)-8-n:len(data)-8], &meta); err != nil {
		t.Fatal(err)
	}
	change(&meta)
	footer, err := compact.Marshal(new(compact.CompactProtocol), &meta)
	if err != nil {
		t.Fatal(err)
	}
	out := append(slices.Clone(data[:len(data)-8-n]), footer...)
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(footer))), "PAR1"...)
}

// TestWrongCounts: a checkpoint whose footer counts other rows than it has is damaged, and the log is read from an
// older one; none of its files is lost.
func TestWrongCounts(t *testing.T) {
	mem := objects.NewMem(nil)
	l := open(t, writerOptions(mem))
	for v := int64(1); v <= 5; v++ {
		submit(t, l, &Change{Parts: on(l, "a", v), Last: true, Adds: []Add{add(fmt.Sprint("f", v), Origin{})}})
	}
	if err := l.WriteCheckpoint(t.Context(), 3, -1); err != nil {
		t.Fatal(err)
	}
	good, err := mem.Get(t.Context(), l.checkpointKey(3))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*format.FileMetaData){
		"":                   func(*format.FileMetaData) {},
		"rows of the group":  func(m *format.FileMetaData) { m.RowGroups[0].NumRows-- },
		"rows of the file":   func(m *format.FileMetaData) { m.NumRows-- },
		"both":               func(m *format.FileMetaData) { m.NumRows--; m.RowGroups[0].NumRows-- },
		"no rows":            func(m *format.FileMetaData) { m.NumRows, m.RowGroups[0].NumRows = 0, 0 },
		"no groups":          func(m *format.FileMetaData) { m.RowGroups = nil },
		"more rows":          func(m *format.FileMetaData) { m.NumRows++; m.RowGroups[0].NumRows++ },
		"values of a column": func(m *format.FileMetaData) { m.RowGroups[0].Columns[0].MetaData.NumValues-- },
		"fewer than no rows": func(m *format.FileMetaData) { m.NumRows, m.RowGroups[0].NumRows = -1, -1 },
		"a column is not there": func(m *format.FileMetaData) {
			m.RowGroups[0].Columns = m.RowGroups[0].Columns[:len(m.RowGroups[0].Columns)-1]
		},
		"everything at once": func(m *format.FileMetaData) {
			m.NumRows--
			m.RowGroups[0].NumRows--
			for i := range m.RowGroups[0].Columns {
				m.RowGroups[0].Columns[i].MetaData.NumValues--
			}
		},
	} {
		data := refooter(t, good, change)
		mem.Overwrite(l.checkpointKey(3), data)
		s := snapshot(open(t, Options{Store: mem, Name: "t", KeepFiles: true}))
		if s.Len() != 5 || s.Version != 5 || s.txn("a") < 5 {
			t.Errorf("%s: %d files at version %d", name, s.Len(), s.Version)
		}
		if used := s.Checkpoint == 3; used != (name == "") {
			t.Errorf("%s: the checkpoint was used: %v", name, used)
		}
		err := eachCheckpointRow("c", data, func(*checkpointRow) error { return nil })
		if (err == nil) != (name == "" || name == "everything at once") {
			t.Errorf("%s, a file in memory: %v", name, err) // the three fit together there
		}
	}
}

// TestLastRowsUncounted: the last rows of a checkpoint are not passed over, however well the numbers in the footer fit
// together.
func TestLastRowsUncounted(t *testing.T) {
	mem := objects.NewMem(nil)
	l := open(t, writerOptions(mem))
	whole := foreignCheckpoint(t) // the add is its last row
	read := func(data []byte) (rows int, err error) {
		mem.Overwrite("c", data)
		err = eachCheckpointView(t.Context(), l.store, "c",
			func(c leaf) bool { return c < removePath || c > removeSize },
			func(*checkpointView) error { rows++; return nil })
		return rows, err
	}
	if n, err := read(whole); n != 3 || err != nil {
		t.Fatalf("%d rows, %v", n, err)
	}
	n, err := read(refooter(t, whole, func(m *format.FileMetaData) {
		m.NumRows--
		m.RowGroups[0].NumRows--
		for i := range m.RowGroups[0].Columns {
			m.RowGroups[0].Columns[i].MetaData.NumValues--
		}
	}))
	if _, ok := errors.AsType[*CorruptionError](err); !ok {
		t.Errorf("%d rows, %v", n, err)
	}
}

// TestCheckpointOfAnother: where another node has made the checkpoint before, its size is known all the same.
func TestCheckpointOfAnother(t *testing.T) {
	mem := objects.NewMem(nil)
	a, b := open(t, writerOptions(mem)), open(t, writerOptions(mem))
	submit(t, a, &Change{Parts: on(a, "a", 1), Last: true, Adds: []Add{add("f", Origin{})}})
	if err := b.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, l := range []*Log{a, b} {
		if err := l.WriteCheckpoint(t.Context(), 1, -1); err != nil {
			t.Fatal(err)
		}
		size := int64(len(mem.Contents()[l.checkpointKey(1)]))
		if s := snapshot(l); s.Checkpoint != 1 || s.checkpointSize != size {
			t.Errorf("checkpoint %d of %d bytes, want %d", s.Checkpoint, s.checkpointSize, size)
		}
	}
}

// TestEmptyLists: lists of features that the versions want are empty and not null, in a commit, a checksum and a
// checkpoint, and so is what another tool has left out of a metaData.
func TestEmptyLists(t *testing.T) {
	mem := objects.NewMem(nil)
	l := open(t, writerOptions(mem))
	foreign := strings.ReplaceAll(`{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":[],`+
		`"writerFeatures":[]}}
{"metaData":{"id":"x","format":{"provider":"parquet"},"schemaString":SCHEMA,"partitionColumns":["d"],`+
		`"configuration":{"deckle.clusterId":"c1","deckle.pipeline":"p"}}}`, "SCHEMA",
		fmt.Sprintf("%q", SchemaString(testFields)))
	mem.Overwrite(l.commitKey(1), []byte(foreign))
	if err := l.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	submit(t, l, &Change{Parts: on(l, "a", 1), Last: true})
	if err := l.WriteCheckpoint(t.Context(), 2, -1); err != nil {
		t.Fatal(err)
	}
	l.keeper.wait.Wait()
	sum := string(mem.Contents()[l.checksumKey(2)])
	if strings.Contains(sum, ":null") || !strings.Contains(sum, `"readerFeatures":[],"writerFeatures":[]`) ||
		!strings.Contains(sum, `"options":{}`) {
		t.Errorf("checksum: %s", sum)
	}
	submit(t, l, &Change{Parts: on(l, "a", 2), Last: true})
	if err := l.WriteCheckpoint(t.Context(), 3, 2); err != nil {
		t.Fatal(err)
	}
	for v := int64(2); v <= 3; v++ {
		levels := map[string]int{}
		err := eachLevel(mem.Contents()[l.checkpointKey(v)], func(column string, defined int) {
			levels[column] = max(levels[column], defined)
		})
		// 0: no protocol in the row, 1: no list, 2: an empty one
		if err != nil || levels["protocol.readerFeatures.list.element"] != 2 ||
			levels["protocol.writerFeatures.list.element"] != 2 {
			t.Errorf("checkpoint %d: %v, %v", v, levels, err)
		}
	}
	for _, m := range []*Metadata{{}, {Format: Format{Provider: "parquet"}}} {
		if b, err := m.MarshalJSON(); err != nil || strings.Contains(string(b), "null") {
			t.Errorf("%s, %v", b, err)
		}
	}
}

func writeParquet[T any](t *testing.T, rows []T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b)
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// eachLevel calls yield for each value of a Parquet file, with its column and its definition level.
func eachLevel(data []byte, yield func(column string, defined int)) error {
	f, err := OpenParquet(data)
	if err != nil {
		return err
	}
	columns := f.Schema().Columns()
	for _, g := range f.RowGroups() {
		rows := g.Rows()
		buf := make([]parquet.Row, 16)
		for {
			n, err := rows.ReadRows(buf)
			for _, r := range buf[:n] {
				for _, v := range r {
					yield(strings.Join(columns[v.Column()], "."), v.DefinitionLevel())
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
		}
		if err := rows.Close(); err != nil {
			return err
		}
	}
	return nil
}

// TestCheckpointProtection: where a feature was taken from the table, nothing before that version is deleted until all
// of it can go at once. Afterwards the log is cleaned as ever.
func TestCheckpointProtection(t *testing.T) {
	const protected = 35
	clock, mem, opts := overTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	l := open(t, opts)
	protocol := &Protocol{MinReaderVersion: 1, MinWriterVersion: 7,
		WriterFeatures: []string{"appendOnly", "invariants", featureProtection}}
	meta := *snapshot(l).Metadata
	meta.Configuration = map[string]string{ConfigClusterID: "c1", ConfigPipeline: "p",
		configProtected: fmt.Sprint(protected)}
	body, err := encodeCommit(&CommitInfo{Operation: "DROP FEATURE"}, protocol, &meta, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	mem.Overwrite(l.commitKey(1), body)
	for v := int64(2); v <= 960; v++ {
		clock.Pass(time.Hour)
		submit(t, l, &Change{Parts: on(l, "x", v), Last: true, Adds: []Add{add(fmt.Sprint("f", v), Origin{})}})
		l.keeper.wait.Wait()
		if s := snapshot(l); s.Checkpoint >= 0 {
			if _, err := l.Cleanup(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		oldest, checkpoints := v, 0
		for _, k := range mem.Keys("t/" + logDir + "0") {
			at, kind := logName(strings.TrimPrefix(k, "t/"+logDir))
			if oldest = min(oldest, at); kind == logCheckpoint && at < protected {
				checkpoints++
			}
		}
		switch {
		case oldest > 0 && oldest < protected:
			t.Fatalf("at version %d the log begins with %d", v, oldest)
		case oldest == 0 && v > 40 && checkpoints != 3: // of versions 10, 20 and 30
			t.Fatalf("at version %d %d protected checkpoints are left", v, checkpoints)
		case oldest == 0 && v == 960:
			t.Error("nothing was ever deleted")
		}
	}
}

// TestFeaturesThatAskNothing: versions and features of a table are taken as long as no column and no property wants
// what this package does not do.
func TestFeaturesThatAskNothing(t *testing.T) {
	for name, c := range map[string]struct {
		p       Protocol
		set     map[string]string
		refused string // what is said of a change that removes files
	}{
		"3":               {Protocol{1, 3, nil, nil}, map[string]string{"delta.constraints.k": "k <> ''"}, ""},
		"4":               {Protocol{1, 4, nil, nil}, nil, ""},
		"5, not mapped":   {Protocol{2, 5, nil, nil}, map[string]string{configMapping: "none"}, ""},
		"6":               {Protocol{1, 6, nil, nil}, nil, ""},
		"append-only":     {Protocol{1, 2, nil, nil}, map[string]string{configAppendOnly: "true"}, "is append-only"},
		"change feed off": {Protocol{1, 4, nil, nil}, map[string]string{configChangeData: "false"}, ""},
		"named": {Protocol{3, 7, []string{"timestampNtz", "vacuumProtocolCheck", "columnMapping"},
			slices.Concat(writerFeatures)}, nil, ""},
	} {
		mem := objects.NewMem(nil)
		l := open(t, writerOptions(mem))
		submit(t, l, &Change{Parts: on(l, "a", 1), Last: true, Adds: []Add{add("f", Origin{})}})
		meta := *snapshot(l).Metadata
		meta.Configuration = map[string]string{ConfigClusterID: "c1", ConfigPipeline: "p"}
		maps.Copy(meta.Configuration, c.set)
		body, err := encodeCommit(&CommitInfo{}, &c.p, &meta, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		mem.Overwrite(l.commitKey(2), body)
		if err := l.Refresh(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		rules, err := l.Rules()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		submit(t, l, &Change{Parts: on(l, "a", 2), Last: true, Adds: []Add{add("g", Origin{})}, Rules: rules.Text()})
		err = l.Submit(t.Context(), &Change{Parts: on(l, "r", 1), Last: true, Removes: []string{"f"},
			Adds: []Add{add("f2", Origin{})}, Rules: rules.Text()})
		var stop *sinks.StopError
		if errors.As(err, &stop) != (c.refused != "") || err != nil && !strings.Contains(err.Error(), c.refused) ||
			(l.CheckRemoves() != nil) != (err != nil) {
			t.Errorf("%s: a change with removes: %v, %v", name, err, l.CheckRemoves())
		}
		// What only rearranges rows needs none of it.
		submit(t, l, &Change{Rearrange: true, Removes: []string{"g"}, Adds: []Add{add("g2", Origin{})}})
	}
}
