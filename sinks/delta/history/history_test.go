package history

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"go.uber.org/goleak"

	"deckle/sim/testworld/objects"
	"deckle/sinks/delta/deletionvector/vectortest"
	"deckle/sinks/delta/deltalog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// tab is a table with 8 versions, an hour apart: 0 makes it, 1 to 7 add a file each, 4 and 6 remove one. Version 5 has
// a checkpoint.
type tab struct {
	t   *testing.T
	mem *objects.Mem
}

func newTab(t *testing.T) *tab {
	clock := objects.NewClock(start)
	w := &tab{t: t, mem: objects.NewMem(clock.Now)}
	log, err := deltalog.Open(t.Context(), deltalog.Options{Store: w.mem, Name: "t", KeepFiles: true, Node: "n1",
		Rand: rand.NewChaCha8([32]byte{}), Now: clock.Now, CheckpointInterval: 1 << 30,
		Create: &deltalog.Creation{ClusterID: "c", Pipeline: "p", PartitionColumns: []string{"d"},
			Fields: []deltalog.Field{{Name: "x", Type: "long"}, {Name: "d", Type: "date"}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for v := 1; v < 8; v++ {
		clock.Pass(time.Hour)
		c := &deltalog.Change{Last: true, Rows: 10, Adds: []deltalog.Add{w.file(v, clock.Now())}}
		log.View(func(s *deltalog.Snapshot) {
			c.Parts = []deltalog.Part{s.Part(fmt.Sprintf("c/p/%d/t", v%2), int64(v))}
		})
		if v == 4 || v == 6 {
			c.Operation = "MERGE"
			log.View(func(s *deltalog.Snapshot) { c.Removes = []string{s.SortedFiles()[0].Path} })
		}
		if err := log.Submit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if v == 5 {
			if err := log.WriteCheckpoint(t.Context(), 5, -1); err != nil {
				t.Fatal(err)
			}
		}
	}
	return w
}

func (w *tab) file(n int, at time.Time) deltalog.Add {
	path := fmt.Sprintf("d=2026-11-0%d/part-%d.parquet", 1+n%2, n)
	if err := w.mem.Put(w.t.Context(), "t/"+path, make([]byte, 100+n)); err != nil {
		w.t.Fatal(err)
	}
	return deltalog.Add{Path: path, PartitionValues: map[string]string{"d": path[2:12]}, Size: int64(100 + n),
		ModificationTime: at.UnixMilli(), DataChange: true, Stats: `{"numRecords":10}`,
		Tags: deltalog.Origin{Tagged: true, Shard: uint32(n % 2), To: uint64(n)}.Tags()}
}

func (w *tab) commitKey(v int) string { return fmt.Sprintf("t/_delta_log/%020d.json", v) }

// write puts a commit as another writer would.
func (w *tab) write(v int, lines ...string) {
	w.mem.Overwrite(w.commitKey(v), []byte(strings.Join(lines, "\n")+"\n"))
}

func (w *tab) open() *Table {
	w.t.Helper()
	t, err := Open(w.t.Context(), w.mem, "t")
	if err != nil {
		w.t.Fatal(err)
	}
	return t
}

func (w *tab) at(v int64) *State {
	w.t.Helper()
	s, err := w.open().At(w.t.Context(), v, Options{Stats: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// Every version is the same from a checkpoint and without one, and as the writer's own package has it.
func TestVersions(t *testing.T) {
	w := newTab(t)
	want := []int{0, 1, 2, 3, 3, 4, 4, 5}
	describe := func(s *State) (out string) {
		for _, f := range s.SortedFiles() {
			out += fmt.Sprintln(f.Path, f.Partition, f.Size, f.Modified, f.Records, f.Stats, f.Tags)
		}
		return out + fmt.Sprint(versionsOf(s), metadataTexts(s), protocolTexts(s.Protocol))
	}
	for v, files := range want {
		s := w.at(int64(v))
		if len(s.Files) != files {
			t.Errorf("version %d has %d files, want %d", v, len(s.Files), files)
		}
	}
	before := w.at(7)
	if before.Checkpoint != 5 {
		t.Errorf("read from checkpoint %d", before.Checkpoint)
	}
	if err := w.mem.Delete(t.Context(), "t/_delta_log/00000000000000000005.checkpoint.parquet"); err != nil {
		t.Fatal(err)
	}
	s := w.at(7)
	if describe(s) != describe(before) {
		t.Errorf("with checkpoint:\n%s\nwithout:\n%s", describe(before), describe(s))
	}
	if s.Checkpoint != -1 || len(s.Files) != 5 || len(s.Txns) != 2 || s.Txns["c/p/1/t"].Version != 7 {
		t.Errorf("without the checkpoint: %d, %d files, txns %v", s.Checkpoint, len(s.Files), s.Txns)
	}
	for _, bad := range []int64{-1, 8} {
		if _, err := w.open().At(t.Context(), bad, Options{}); !errors.Is(err, ErrNoVersion) {
			t.Errorf("version %d: %v", bad, err)
		}
	}
	if _, err := Open(t.Context(), w.mem, "none"); !errors.Is(err, ErrNoTable) {
		t.Errorf("no table: %v", err)
	}
}

func TestVersionAt(t *testing.T) {
	w := newTab(t)
	for hours, want := range map[float64]int64{0: 0, 0.5: 0, 1: 1, 6.9: 6, 100: 7} {
		v, err := w.open().VersionAt(t.Context(), start.Add(time.Duration(hours*float64(time.Hour))))
		if err != nil || v != want {
			t.Errorf("after %v hours: %d, %v, want %d", hours, v, err, want)
		}
	}
	if _, err := w.open().VersionAt(t.Context(), start.Add(-time.Second)); !errors.Is(err, ErrNoVersion) {
		t.Errorf("before the table: %v", err)
	}
}

func TestCompare(t *testing.T) {
	w := newTab(t)
	w.write(8, `{"metaData":{"id":"x","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":`+
		`\"struct\",\"fields\":[{\"name\":\"x\",\"type\":\"long\",\"nullable\":true,\"metadata\":{}}]}",`+
		`"partitionColumns":["d"],"configuration":{"delta.appendOnly":"true"}}}`,
		`{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":`+
			`["domainMetadata","rowTracking","somethingNew"]}}`,
		`{"domainMetadata":{"domain":"delta.rowTracking","configuration":"{}","removed":false}}`, `{"strange":{}}`,
		`{"commitInfo":{"operation":"SET TBLPROPERTIES","operationParameters":{"n":1},"userId":7,"timestamp":1}}`)
	d := Compare(w.at(3), w.at(8)) // features of writers alone are read, and named
	added, removed := d.Rows()
	if len(d.Added) != 3 || len(d.Removed) != 1 || added != 30 || removed != 10 {
		t.Errorf("%d added, %d removed, %d and %d rows", len(d.Added), len(d.Removed), added, removed)
	}
	if len(d.Columns) != 1 || d.Columns[0].Name != "d" || len(d.Properties) != 4 || len(d.Protocol) != 2 ||
		len(d.Txns) != 2 {
		t.Errorf("%+v", d)
	}
	c, err := w.open().Commit(t.Context(), 8)
	if err != nil || fmt.Sprint(c.Unknown) != "[strange]" || c.Info.Parameters["n"] != "1" || c.Info.By != "7" {
		t.Errorf("%+v, %+v, %v", c, c.Info, err)
	}
}

const vector = `{"add":{"path":"d=2026-11-01/v.parquet","partitionValues":{"d":"2026-11-01"},"size":1,` +
	`"modificationTime":1,"dataChange":true,"stats":"{\"numRecords\":10}","deletionVector":{"storageType":"u",` +
	`"pathOrInlineDv":"x","sizeInBytes":1,"cardinality":3}}}`

// A deletion vector is read where the protocol knows it, and refused where it does not; a feature of readers that is
// not known is refused.
func TestDeletionVectors(t *testing.T) {
	w := newTab(t)
	w.write(8, vector)
	_, err := w.open().At(t.Context(), 8, Options{})
	var damage *deltalog.CorruptionError
	if !errors.As(err, &damage) || !strings.Contains(err.Error(), "deletion vector") {
		t.Errorf("under the old protocol: %v", err)
	}
	protocol := `{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],` +
		`"writerFeatures":["deletionVectors"]}}`
	w.write(8, vector, protocol)
	f := w.at(8).Files["d=2026-11-01/v.parquet\x00ux"]
	if f == nil || f.Rows() != 7 || f.Records != 10 {
		t.Errorf("%+v", f)
	}
	w.write(8, strings.ReplaceAll(protocol, `["deletionVectors"]`, `["catalogManaged"]`))
	var feature *FeatureError
	if _, err := w.open().At(t.Context(), 8, Options{}); !errors.As(err, &feature) ||
		feature.Feature != "feature catalogManaged" {
		t.Errorf("unknown feature: %v", err)
	}
}

// What a check must find, and nothing else.
func TestCheck(t *testing.T) {
	key := func(v int) string { return fmt.Sprintf("t/_delta_log/%020d.checkpoint.parquet", v) }
	del := func(w *tab, key string) {
		if err := w.mem.Delete(w.t.Context(), key); err != nil {
			w.t.Fatal(err)
		}
	}
	over := func(key, text string) func(*tab) {
		return func(w *tab) { w.mem.Overwrite("t/_delta_log/"+key, []byte(text)) }
	}
	writes := func(line string) func(*tab) { return func(w *tab) { w.write(8, line) } }
	for name, row := range map[string]struct {
		harm func(w *tab)
		want string // kinds
		deep bool
	}{
		"nothing":      {func(*tab) {}, "", false},
		"file missing": {func(w *tab) { del(w, "t/d=2026-11-02/part-7.parquet") }, FileMissing, false},
		"file cut":     {func(w *tab) { w.mem.Overwrite("t/d=2026-11-02/part-7.parquet", nil) }, FileSize, false},
		"no Parquet":   {func(*tab) {}, strings.Repeat(FileDamaged+" ", 5), true},
		"odd name": {func(w *tab) {
			w.write(8, `{"add":{"path":"d=a%2520b/x.parquet","partitionValues":{"d":"a b"},"size":1}}`)
			w.mem.Overwrite("t/d=a%20b/x.parquet", []byte("x"))
		}, strings.Repeat(FileDamaged+" ", 6), true},
		"unprintable name": {func(w *tab) {
			w.write(8, `{"add":{"path":"d=a%07b/x.parquet","partitionValues":{"d":"a"},"size":1}}`)
			w.mem.Overwrite("t/d=a\x07b/x.parquet", []byte("x"))
		}, strings.Repeat(FileDamaged+" ", 5) + FilePath, true},
		"commit torn":  {over("00000000000000000007.json", `{"add":{"pa`), CommitDamaged + " " + Unreadable, false},
		"commit gone":  {func(w *tab) { del(w, w.commitKey(6)) }, CommitMissing + " " + Unreadable, false},
		"gone before":  {func(w *tab) { del(w, w.commitKey(3)) }, CommitMissing, false},
		"cleaned":      {func(w *tab) { del(w, w.commitKey(0)); del(w, w.commitKey(1)) }, "", false},
		"hint nowhere": {over("_last_checkpoint", `{"version":4,"size":1}`), HintNowhere, false},
		"hint torn":    {over("_last_checkpoint", `{"ver`), HintDiffers, false},
		"hint counts":  {over("_last_checkpoint", `{"version":5,"size":1}`), HintDiffers, false},
		"checkpoint":   {func(w *tab) { w.mem.Overwrite(key(5), []byte("PAR1")) }, CheckpointDamaged, false},
		"another's":    {func(w *tab) { w.mem.Overwrite(key(6), w.mem.Contents()[key(5)]) }, CheckpointDiffers, false},
		"in parts": {func(w *tab) {
			w.mem.Overwrite("t/_delta_log/00000000000000000006.checkpoint.0000000001.0000000002.parquet", nil)
		}, CheckpointIncomplete, false},
		"txn back": {writes(`{"txn":{"appId":"c/p/1/t","version":6}}`), TxnBack, false},
		"remove":   {writes(`{"remove":{"path":"none","dataChange":true}}`), RemoveUnknown, false},
		"vector": {func(w *tab) {
			w.write(8, vector)
			w.mem.Overwrite("t/d=2026-11-01/v.parquet", []byte("x"))
		}, Unreadable + " " + FilePath, false},
		"absolute path": {func(w *tab) {
			w.write(8, `{"add":{"path":"s3://b/x","partitionValues":{},"size":1,"modificationTime":1}}`)
		}, FilePath, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTab(t)
			row.harm(w)
			r, err := w.open().Check(t.Context(), CheckOptions{Deep: row.deep})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, f := range r.Findings {
				got += f.Kind + " "
			}
			if strings.TrimSpace(got) != strings.TrimSpace(row.want) {
				t.Errorf("found %q, want %q: %+v", got, row.want, r.Findings)
			}
		})
	}
}

// A check looks for the objects of deletion vectors, and reads them if it is deep.
func TestCheckVectors(t *testing.T) {
	for name, row := range map[string]struct {
		harm func(w *tab, key string)
		want string
		deep bool
	}{
		"nothing": {func(*tab, string) {}, "", false},
		"missing": {func(w *tab, key string) {
			if err := w.mem.Delete(w.t.Context(), key); err != nil {
				w.t.Fatal(err)
			}
		}, FileMissing, false},
		"damaged":           {func(w *tab, key string) { w.mem.Overwrite(key, make([]byte, 100)) }, "", false},
		"damaged, and read": {func(w *tab, key string) { w.mem.Overwrite(key, make([]byte, 100)) }, FileDamaged, true},
	} {
		w := newTab(t)
		d := vectortest.Put(t, w.mem, "t", 1, 0, vectortest.Encode(t, 2, 5, 7), 3)
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		w.mem.Overwrite("t/d=2026-11-01/v.parquet", []byte("x"))
		w.write(8, strings.Replace(vector, vector[strings.Index(vector, `{"storageType"`):], string(text)+"}}", 1),
			`{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],`+
				`"writerFeatures":["deletionVectors"]}}`)
		key, err := d.Key()
		if err != nil {
			t.Fatal(err)
		}
		row.harm(w, "t/"+key)
		r, err := w.open().Check(t.Context(), CheckOptions{Deep: row.deep})
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, f := range r.Findings {
			found[f.Kind] = found[f.Kind] || strings.Contains(f.Text, "deletion vector")
		}
		if row.want == "" && len(r.Findings) > 0 || row.want != "" && !found[row.want] {
			t.Errorf("%s: %+v", name, r.Findings)
		}
		for _, l := range r.Loose {
			if strings.Contains(l.Key, "deletion_vector") {
				t.Errorf("%s: nothing is said to name %s", name, l.Key)
			}
		}
	}
}

// What no live file is, is told by what it is; hidden names are nobody's business here.
func TestLooseObjects(t *testing.T) {
	w := newTab(t)
	w.file(50, start)
	for _, k := range []string{"t/_deckle_vacuum/clock", "t/.hidden", "t/_temporary/0/x.parquet"} {
		w.mem.Overwrite(k, nil)
	}
	r, err := w.open().Check(t.Context(), CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, l := range r.Loose {
		got += fmt.Sprintln(l.Key, l.Removed)
	}
	if want := "t/d=2026-11-01/part-2.parquet true\nt/d=2026-11-01/part-4.parquet true\n" +
		"t/d=2026-11-01/part-50.parquet false\n"; got != want || len(r.Findings) != 0 {
		t.Errorf("%s\nwant\n%s%+v", got, want, r.Findings)
	}
}

// A file that becomes live, and one that is removed and vacuumed, while the objects are listed are no faults.
func TestCheckWhileOthersWrite(t *testing.T) {
	w := newTab(t)
	done := false
	w.mem.SetHook(func(op, key string) error {
		if op == "list" && key == "t/" && !done {
			done = true
			a := w.file(60, start)
			w.write(8, fmt.Sprintf(`{"add":{"path":%q,"partitionValues":{"d":"2026-11-01"},"size":%d}}`,
				a.Path, a.Size), `{"remove":{"path":"d=2026-11-02/part-7.parquet","dataChange":true}}`)
			return w.mem.Delete(context.Background(), "t/d=2026-11-02/part-7.parquet")
		}
		return nil
	})
	r, err := w.open().Check(t.Context(), CheckOptions{})
	if err != nil || len(r.Findings) != 0 || r.Version != 8 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestIntervals(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"interval 1 week": 7 * 24 * time.Hour, "INTERVAL 2 DAYS 3 hours": 51 * time.Hour, "30 days": 720 * time.Hour,
		"": -1, "interval": -1, "interval 1 month": -1, "interval x days": -1, "interval -1 day": -1,
		"interval 9999999999 weeks": -1, "interval 1": -1, "interval 0 hours": 0,
	} {
		d, err := DeletedFileRetention(&deltalog.Metadata{Configuration: map[string]string{PropertyRetention: text}})
		if (err != nil) != (want < 0) || err == nil && d != want {
			t.Errorf("%q: %v, %v, want %v", text, d, err, want)
		}
	}
}

func TestKey(t *testing.T) {
	for path, want := range map[string]string{
		"d=1/x.parquet": "d=1/x.parquet", "d=a%20b/x": "d=a b/x", "d=a%2520b/x": "d=a%20b/x", "./a//b": "a/b",
		"s3://b/k": "", "/abs": "", "file:/x": "", "../x": "", "a/../../x": "", "%zz": "", "": "",
	} {
		if got, err := Key(path); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", path, got, err)
		}
	}
}

// Nothing that a store may give makes the reader panic, or take a damaged commit for a whole one.
func FuzzParseCommit(f *testing.F) {
	f.Add([]byte(vector))
	f.Add([]byte(`{"remove":{"path":"a"}}` + "\n" + `{"txn":{"appId":"x","version":1}}`))
	f.Add([]byte(`{"commitInfo":{"operationMetrics":{"a":[1]},"timestamp":"x"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseCommit("k", 1, data)
		var damage *deltalog.CorruptionError
		if err != nil && !errors.As(err, &damage) {
			t.Fatalf("%v", err)
		}
		if err == nil {
			newState(Options{sums: true}).Apply(c)
		}
	})
}

// A partition value that is null in a commit and an empty text in a checkpoint, or the other way round, is the same.
func TestNullPartitionValue(t *testing.T) {
	w := newTab(t)
	for i, value := range []string{`""`, "null"} {
		path := fmt.Sprintf("d=__HIVE_DEFAULT_PARTITION__/part-%d.parquet", i)
		if err := w.mem.Put(t.Context(), "t/"+path, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		w.write(8+i, fmt.Sprintf(`{"add":{"path":%q,"partitionValues":{"d":%s},"size":5,"modificationTime":1,`+
			`"dataChange":true,"stats":"{\"numRecords\":1}"}}`, path, value))
	}
	texts := func(s *State) (out string) {
		for _, f := range s.SortedFiles() {
			b, err := json.Marshal(f.Values)
			if err != nil {
				t.Fatal(err)
			}
			out += fmt.Sprintf("%s %q %s\n", f.Path, f.Partition, b)
		}
		return out
	}
	before := texts(w.at(9))
	if strings.Count(before, `{"d":null}`) != 2 {
		t.Errorf("%s", before)
	}
	log, err := deltalog.Open(t.Context(), deltalog.Options{Store: w.mem, Name: "t", KeepFiles: true,
		Now: func() time.Time { return start.Add(8 * time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := log.WriteCheckpoint(t.Context(), 9, 5); err != nil {
		t.Fatal(err)
	}
	s := w.at(9)
	if after := texts(s); s.Checkpoint != 9 || after != before {
		t.Errorf("from checkpoint %d:\n%swant\n%s", s.Checkpoint, after, before)
	}
	differs := func() {
		t.Helper()
		report, err := w.open().Check(t.Context(), CheckOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range report.Findings {
			if f.Kind == CheckpointDiffers {
				t.Errorf("%+v", f)
			}
		}
	}
	differs()

	// The same checkpoint as another tool writes it, whose map has no null.
	type plainAdd struct {
		Path             string            `parquet:"path"`
		PartitionValues  map[string]string `parquet:"partitionValues"`
		Size             int64             `parquet:"size"`
		ModificationTime int64             `parquet:"modificationTime"`
		Stats            *string           `parquet:"stats,optional"`
		Tags             map[string]string `parquet:"tags,optional"`
	}
	type row struct {
		Txn      *deltalog.CheckpointTxn      `parquet:"txn,optional"`
		Add      *plainAdd                    `parquet:"add,optional"`
		Remove   *removeRow                   `parquet:"remove,optional"`
		MetaData *deltalog.CheckpointMetadata `parquet:"metaData,optional"`
		Protocol *deltalog.CheckpointProtocol `parquet:"protocol,optional"`
	}
	key := "t/_delta_log/00000000000000000009.checkpoint.parquet"
	data, err := w.mem.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	open := func(f *parquet.File) (deltalog.RowReader[checkpointRow], error) {
		return rowReader{parquet.NewGenericReader[checkpointRow](f)}, nil
	}
	if err := deltalog.EachRow(key, data, open, 64, func(r *checkpointRow) error {
		o := row{Txn: r.Txn, Remove: r.Remove, MetaData: r.MetaData, Protocol: r.Protocol}
		if a := r.Add; a != nil {
			o.Add = &plainAdd{a.Path, a.PartitionValues, a.Size, a.ModificationTime, a.Stats, a.Tags}
		}
		rows = append(rows, o)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	writer := parquet.NewGenericWriter[row](&b)
	if _, err := writer.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	w.mem.Overwrite(key, b.Bytes())
	s = w.at(9)
	if after := texts(s); s.Checkpoint != 9 || after != before {
		t.Errorf("from a checkpoint of others (%d):\n%swant\n%s", s.Checkpoint, after, before)
	}
	differs()
}
