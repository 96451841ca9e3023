package integration

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/integration/services"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
)

// TestSparkTakesChecksums: Spark's own code compares each version checksum with the log, and finds none wrong; it then
// commits a property, makes its own checksum from Deckle's without a replay, and Deckle goes on behind it. Spark is
// fetched for that (1 GB) if DECKLE_TEST_SPARK=1: make checksum-spark.
func TestSparkTakesChecksums(t *testing.T) {
	cache, err := services.OpenCache(os.Stderr)
	must(t, err)
	spark, err := cache.TestSpark(t.Context())
	need(t, err)
	dir := folder(t)
	open := func() *deltalog.Log {
		l, err := deltalog.Open(t.Context(), deltalog.Options{
			Store: store.NewLocal(vfs.Default, dir, "test"), Name: "t", KeepFiles: true, Rand: rand.Reader,
			Create: &deltalog.Creation{ClusterID: "c", Pipeline: "p", PartitionColumns: []string{"d"},
				Description:  "a table",
				Fields:       []deltalog.Field{{Name: "k", Type: "string"}, {Name: "d", Type: "date"}},
				StatsColumns: []string{"k"}},
		})
		must(t, err)
		return l
	}
	commit := func(l *deltalog.Log, v int64) {
		c := &deltalog.Change{Last: true}
		for i := range v % 3 {
			c.Adds = append(c.Adds, deltalog.Add{Path: fmt.Sprintf("d=2026-01-0%d/f%d-%d.parquet", 1+v%9, v, i),
				PartitionValues: map[string]string{"d": fmt.Sprintf("2026-01-0%d", 1+v%9)}, Size: 1000*v + i,
				ModificationTime: v, DataChange: true, Stats: `{"numRecords":1}`,
				Tags: deltalog.Origin{Tagged: true, Shard: 1, From: uint64(v), To: uint64(v) + 1}.Tags()})
		}
		l.View(func(s *deltalog.Snapshot) {
			c.Parts = []deltalog.Part{s.Part(fmt.Sprint("app", v%3), v)}
			if f := s.File(fmt.Sprintf("d=2026-01-0%d/f%d-0.parquet", 1+(v-4)%9, v-4)); f != nil && v%2 == 0 {
				c.Removes = append(c.Removes, f.Path)
			}
		})
		must(t, l.Submit(t.Context(), c))
	}
	l := open()
	for v := int64(1); v <= 25; v++ {
		commit(l, v)
	}
	must(t, l.Close())
	type look struct {
		There, Valid bool
		Files, Bytes int64
	}
	ask := func(at ...int) (versions map[string]look, after look) {
		args := []string{spark.Jars, filepath.Join(dir, "t")}
		for _, v := range at {
			args = append(args, fmt.Sprint(v))
		}
		cmd, err := spark.Command(t.Context(), t.TempDir(), "delta_spark.py", args...)
		must(t, err)
		out, err := cmd.CombinedOutput()
		_, result, _ := bytes.Cut(out, []byte("RESULT "))
		var got struct {
			Versions map[string]look
			Spark    look
		}
		if err != nil || json.Unmarshal(bytes.SplitN(result, []byte("\n"), 2)[0], &got) != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return got.Versions, got.Spark
	}
	check := func(versions map[string]look, at ...int) {
		for _, v := range at {
			if s := versions[fmt.Sprint(v)]; !s.There || !s.Valid {
				t.Errorf("version %d: %+v", v, s)
			}
		}
	}
	versions, after := ask(0, 10, 25)
	check(versions, 0, 10, 25)
	t.Logf("version 25: %+v, Spark's own: %+v", versions["25"], after)
	s := versions["25"]
	if !after.There || !after.Valid || after.Files != s.Files || after.Bytes != s.Bytes || s.Files < 9 {
		t.Errorf("Spark's own checksum %+v, before %+v", after, s)
	}
	l = open()
	for v := int64(26); v <= 31; v++ {
		commit(l, v)
	}
	must(t, l.Close())
	versions, _ = ask(32)
	check(versions, 32)
}
