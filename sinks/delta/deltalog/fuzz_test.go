package deltalog

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"deckle/sim/testworld/objects"
	"deckle/sinks"
)

// FuzzTable puts anything in the place of one object of a table's log: a commit, a checkpoint, the hint at it, or an
// object of any name. Open and Refresh read the table, or say which object is damaged, or refuse the table and say what
// to do. A wrong hint has no effect.
func FuzzTable(f *testing.F) {
	base := objects.NewMem(nil)
	ctx := context.Background()
	l, err := Open(ctx, writerOptions(base))
	if err != nil {
		f.Fatal(err)
	}
	for i := range int64(6) {
		c := &Change{Parts: on(l, "x", i+1), Last: true,
			Adds: []Add{add(fmt.Sprintf("f%d", i), Origin{true, 1, uint64(i), uint64(i) + 1})}}
		if err := l.Submit(ctx, c); err != nil {
			f.Fatal(err)
		}
	}
	if err := errors.Join(l.WriteCheckpoint(ctx, 4, -1), l.Close()); err != nil {
		f.Fatal(err)
	}
	stored := map[string][]byte{}
	for _, k := range base.Keys("") {
		if stored[k], err = base.Get(ctx, k); err != nil {
			f.Fatal(err)
		}
		f.Add(strings.TrimPrefix(k, "t/"+logDir), stored[k])
		f.Add(strings.TrimPrefix(k, "t/"+logDir), stored[k][:len(stored[k])/2])
	}
	want := snapshot(l)
	for _, hint := range []string{
		`{"version":4}`, `{"version":-1}`, `{"version":9223372036854775807}`, `{"version":4,"parts":2}`,
		`{"version":3,"size":1}`, `[]`, `{"version":"4"}`, ``,
	} {
		f.Add("_last_checkpoint", []byte(hint))
	}
	f.Add("00000000000000000007.json",
		[]byte(`{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"]}}`))
	f.Add("00000000000000000007.json",
		[]byte(`{"metaData":{"id":"i","schemaString":"{\"type\":\"struct\",`+
			`\"fields\":[{\"name\":\"k\",\"type\":{}}]}","format":{}}}`))
	f.Add("00000000000000000007.json",
		[]byte(`{"add":{"path":"f1","size":-1,"tags":{"deckle.shard":"-1"}}}`+"\n"+`{"remove":{"path":"nowhere"}}`))
	f.Add("00000000000000000009.json", []byte(`{}`))
	f.Add("00000000000000000005.checkpoint.parquet", []byte("PAR1PAR1"))
	f.Add("00000000000000000003.checkpoint.0000000001.0000000002.parquet", []byte("PAR1"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if name == "" || strings.ContainsAny(name, "/\\\x00") || len(name) > 200 {
			return // not an object of this folder
		}
		mem := objects.NewMem(nil)
		for k, v := range stored {
			mem.Overwrite(k, v)
		}
		mem.Overwrite("t/"+logDir+name, data)
		for _, create := range []bool{true, false} {
			o := writerOptions(mem)
			if !create {
				o.Create = nil
			}
			l, err := Open(ctx, o)
			if err == nil {
				err = l.Refresh(ctx)
			}
			if err != nil {
				var bad *CorruptionError
				var stop *sinks.StopError
				if !errors.As(err, &bad) && !errors.As(err, &stop) {
					t.Fatalf("%q = %q: untyped: %v", name, data, err)
				}
			}
			if name == "_last_checkpoint" {
				if err != nil {
					t.Fatalf("hint %q: %v", data, err)
				}
				if got := snapshot(l); got.Version != want.Version || !reflect.DeepEqual(names(&got), names(&want)) {
					t.Fatalf("hint %q: version %d, %v", data, got.Version, names(&got))
				}
			}
			if l != nil {
				_ = l.Close()
			}
		}
	})
}

func names(s *Snapshot) (out []string) {
	for _, f := range s.SortedFiles() {
		out = append(out, f.Path)
	}
	return out
}

// FuzzNames puts anything in the place of the small texts in a log: names of objects, tags, statistics, schemas.
func FuzzNames(f *testing.F) {
	for _, s := range []string{
		"00000000000000000007.json", "00000000000000000007.checkpoint.parquet", "-0000000000000000007.json",
		"+0000000000000000007.json", "99999999999999999999.json", "7", "18446744073709551616",
		`{"numRecords":9}`, `{"numRecords":1e300}`,
		SchemaString(testFields), `{"fields":[{"type":1}]}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, kind := logName(s)
		l := &folder{}
		if kind == logCommit && l.commitKey(v) != logDir+s || kind == logCheckpoint && l.checkpointKey(v) != logDir+s ||
			kind == logChecksum && l.checksumKey(v) != logDir+s {
			t.Fatalf("%q is version %d, whose name is %s", s, v, l.commitKey(v))
		}
		o := parseOrigin(map[string]string{TagShard: s, TagFrom: s, TagTo: s})
		if again := parseOrigin(o.Tags()); o.Tagged && again != o {
			t.Fatalf("%q is %+v, again %+v", s, o, again)
		}
		if n := recordsIn([]byte(s)); n < -1 {
			t.Fatalf("%q has %d records", s, n)
		}
		if checkSchema(s, testFields, testLater) != nil {
			return
		}
		if !strings.Contains(s, `"k"`) && !strings.Contains(s, `\u`) {
			t.Fatalf("%q is taken for the schema", s)
		}
		longer, _, err := withFields(s, testLater, nil)
		if err != nil || checkSchema(longer, append(testFields[:3:3], testLater...), nil) != nil {
			t.Fatalf("%q becomes %q, %v", s, longer, err)
		}
		if again, added, err := withFields(longer, testLater, nil); err != nil || len(added) > 0 || again != longer {
			t.Fatalf("%q becomes %q, %v", longer, again, err)
		}
	})
}
