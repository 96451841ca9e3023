package deltalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"deckle/sim/testworld/objects"
)

// rawValues are the partition values of a checkpoint's files as they stand there, by action and path.
func rawValues(t *testing.T, data []byte) map[string]string {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	at := func(path ...string) int {
		if c, ok := f.Schema().Lookup(path...); ok {
			return c.ColumnIndex
		}
		return -1
	}
	text := func(v parquet.Value) string {
		if v.IsNull() {
			return "null"
		}
		return fmt.Sprintf("%q", v.ByteArray())
	}
	out := map[string]string{}
	for _, g := range f.RowGroups() {
		rows := g.Rows()
		for buf := make([]parquet.Row, 1); ; {
			n, err := rows.ReadRows(buf)
			if n == 0 {
				if !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				break
			}
			for _, action := range []string{"add", "remove"} {
				var path, keys, values []string
				for _, v := range buf[0] {
					switch v.Column() {
					case at(action, "path"):
						path = append(path, text(v))
					case at(action, "partitionValues", "key_value", "key"):
						keys = append(keys, text(v))
					case at(action, "partitionValues", "key_value", "value"):
						values = append(values, text(v))
					}
				}
				if len(path) == 0 || path[0] == "null" {
					continue
				}
				for i, k := range keys {
					keys[i] = k + ":" + values[i]
				}
				slices.Sort(keys)
				out[action+" "+strings.Trim(path[0], `"`)] = strings.Join(keys, " ")
			}
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestNullPartitionValue: a null is written as null, in commits and in checkpoints. The empty text that other tools
// write says the same, in commits and in checkpoints: those files are in the same partition, a guard sees them, and
// what is written of them later has null.
func TestNullPartitionValue(t *testing.T) {
	mem := objects.NewMem(nil)
	opts := writerOptions(mem)
	opts.Create.PartitionColumns = []string{"b", "d"}
	opts.Create.Fields = append(slices.Clone(testFields), Field{Name: "b", Type: "string"})
	l := open(t, opts)
	file := func(path, brand string) Add {
		a := add(path, Origin{true, 1, 0, 5})
		a.PartitionValues = Values{"b": brand, "d": "2024-01-02"}
		return a
	}
	null := Partition("", "2024-01-02")
	in := func(l *Log) (paths []string) {
		l.View(func(s *Snapshot) {
			for f := range s.In(func(p string) bool { return p == null }) {
				paths = append(paths, f.Path)
			}
		})
		return slices.Sorted(slices.Values(paths))
	}
	submit(t, l, &Change{Parts: on(l, "x", 5), Last: true, Adds: []Add{file("f1", ""), file("f2", "ü<>&")}})
	for i, value := range []string{`""`, "null"} { // as another tool writes it
		read := snapshot(l).Version
		mem.Overwrite(l.commitKey(read+1), fmt.Appendf(nil, `{"add":{"path":"g%d","partitionValues":{"d":"2024-01-02",`+
			`"b":%s},"size":1,"modificationTime":1,"dataChange":true}}`, i, value))
		err := l.Submit(t.Context(), &Change{Parts: on(l, "r", 1), Adds: []Add{file("ins", "")}, ReadVersion: read,
			Guard: []Place{{Partition: null, Shard: 1, Epochs: []uint64{3}}}})
		if !errors.Is(err, ErrRebuild) {
			t.Errorf("a file of %s has not been seen: %v", value, err)
		}
	}
	if got := in(l); !slices.Equal(got, []string{"f1", "g0", "g1"}) {
		t.Errorf("in the partition null: %v", got)
	}

	written := func(version int64) map[string]string {
		t.Helper()
		v, _, made, err := l.Checkpoint(t.Context())
		if err != nil || !made || v != version {
			t.Fatalf("checkpoint %d, %v, %v", v, made, err)
		}
		data, err := mem.Get(t.Context(), l.checkpointKey(v))
		if err != nil {
			t.Fatal(err)
		}
		return rawValues(t, data)
	}
	const isNull, isText = `"b":null "d":"2024-01-02"`, `"b":"ü<>&" "d":"2024-01-02"`
	want := map[string]string{"add f1": isNull, "add f2": isText, "add g0": isNull, "add g1": isNull}
	if got := written(3); !maps.Equal(got, want) {
		t.Errorf("checkpoint of commits: %v", got)
	}

	// A checkpoint by another tool, in whose map there is no null.
	key := l.checkpointKey(3)
	data, err := mem.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	type texts struct {
		Path             string            `parquet:"path"`
		PartitionValues  map[string]string `parquet:"partitionValues"`
		Size             int64             `parquet:"size"`
		ModificationTime int64             `parquet:"modificationTime"`
		DataChange       bool              `parquet:"dataChange"`
	}
	type row struct {
		Add      *texts              `parquet:"add,optional"`
		MetaData *CheckpointMetadata `parquet:"metaData,optional"`
		Protocol *CheckpointProtocol `parquet:"protocol,optional"`
	}
	var rows []row
	if err := eachCheckpointRow(key, data, func(r *checkpointRow) error {
		o := row{MetaData: r.MetaData, Protocol: r.Protocol}
		if r.Add != nil {
			o.Add = &texts{r.Add.Path, r.Add.PartitionValues, r.Add.Size, r.Add.ModificationTime, false}
		}
		if r.Txn == nil {
			rows = append(rows, o)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	data = writeParquet(t, rows)
	if got := rawValues(t, data); got["add f1"] != `"b":"" "d":"2024-01-02"` {
		t.Fatalf("no checkpoint with empty texts: %v", got)
	}
	mem.Overwrite(key, data)
	l = open(t, opts)
	if got := in(l); snapshot(l).Checkpoint != 3 || !slices.Equal(got, []string{"f1", "g0", "g1"}) {
		t.Errorf("in the partition null, from checkpoint %d: %v", snapshot(l).Checkpoint, got)
	}
	submit(t, l, &Change{Parts: on(l, "r", 1), Last: true, Removes: []string{"g0", "f2"}, Adds: []Add{file("f3", "")}})
	commit, err := mem.Get(t.Context(), l.commitKey(4))
	if err != nil || bytes.Count(commit, []byte(`"partitionValues":{"b":null,"d":"2024-01-02"}`)) != 2 ||
		bytes.Count(commit, []byte(`"partitionValues":{"b":"ü<>&","d":"2024-01-02"}`)) != 1 {
		t.Errorf("%v:\n%s", err, commit)
	}
	want = map[string]string{"add f1": isNull, "add g1": isNull, "add f3": isNull, "remove g0": isNull,
		"remove f2": isText}
	if got := written(4); !maps.Equal(got, want) {
		t.Errorf("checkpoint of a checkpoint: %v", got)
	}
	l = open(t, opts)
	if got := in(l); snapshot(l).Checkpoint != 4 || !slices.Equal(got, []string{"f1", "f3", "g1"}) {
		t.Errorf("in the partition null, from checkpoint %d: %v", snapshot(l).Checkpoint, got)
	}
}

// TestValues: null in either form is "", and is written as null; without values there is an empty map.
func TestValues(t *testing.T) {
	for text, want := range map[string]Values{`{"a":null}`: {"a": ""}, `{"a":""}`: {"a": ""},
		`{"a":"null"}`: {"a": "null"}, `{}`: {}, `null`: nil} {
		var v Values
		if err := json.Unmarshal([]byte(text), &v); err != nil || !maps.Equal(v, want) {
			t.Errorf("%s: %q, %v", text, v, err)
		}
		b, err := json.Marshal(v)
		if expect := strings.NewReplacer(`""`, "null").Replace(text); err != nil ||
			string(b) != expect && !(text == "null" && string(b) == "{}") {
			t.Errorf("%s: written as %s, %v", text, b, err)
		}
	}
	b, err := json.Marshal(Cdc{Path: "p", PartitionValues: Values{"b": "", "d": "2024-01-02"}, Size: 1})
	if err != nil || !bytes.Contains(b, []byte(`"partitionValues":{"b":null,"d":"2024-01-02"}`)) {
		t.Errorf("%s, %v", b, err)
	}
	o := offers()[LaneSessions]
	o.Adds[0].PartitionValues = Values{"b": "", "d": "2024-01-02"}
	b, err = EncodeOffer(o)
	if err != nil {
		t.Fatal(err)
	}
	again, err := DecodeOffer(b)
	if err != nil || !again.Adds[0].same(&o.Adds[0]) {
		t.Errorf("%s: %+v, %v", b, again, err)
	}
}

// Distinct counts the values of a partition column among live files, null among them, and no others.
func TestDistinct(t *testing.T) {
	s := newSnapshot(true, false, 0)
	s.Metadata = &Metadata{PartitionColumns: []string{"date", "brand"}}
	file := func(brand, date string) Add {
		return Add{Path: fmt.Sprint(brand, date), PartitionValues: Values{"brand": brand, "date": date}}
	}
	put := func(a Add) { s.files.add(a.entry(), 1) }
	if n := s.Distinct("brand"); n != 0 {
		t.Errorf("no file has %d brands", n)
	}
	for _, a := range []Add{file("a", "1"), file("a", "2"), file("b/c d", "1"), file("", "2"), file("gone", "3")} {
		put(a)
	}
	s.files.remove([]byte("gone3"))
	if b, d, x := s.Distinct("brand"), s.Distinct("date"), s.Distinct("other"); b != 3 || d != 2 || x != 0 {
		t.Errorf("%d brands, %d dates, %d others", b, d, x)
	}
	put(file("gone", "3"))
	if n := s.Distinct("brand"); n != 4 {
		t.Errorf("%d brands", n)
	}
}
