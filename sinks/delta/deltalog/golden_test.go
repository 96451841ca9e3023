package deltalog

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"deckle/sim/testworld/objects"
	"deckle/sinks"
)

var goldenFolder = flag.String("golden", "", "the golden tables of the Delta projects (repository delta-io/delta, "+
	"connectors/golden-tables/src/main/resources/golden), which are read, too")

// outcome is what comes of reading a table: its live files, as its log has them, or a part of the error.
type outcome struct {
	live    []string
	refused string
}

// look reads the newest version of a table as a reader.
func look(t *testing.T, mem *objects.Mem) (live []string, err error) {
	t.Helper()
	log, err := Open(t.Context(), Options{Store: mem, Name: "t", KeepFiles: true})
	if err != nil {
		return nil, err
	}
	log.View(func(s *Snapshot) {
		for f := range s.All() {
			live = append(live, f.Path)
		}
	})
	slices.Sort(live)
	return live, log.Close()
}

func (o *outcome) check(t *testing.T, live []string, err error) {
	t.Helper()
	switch {
	case o.refused != "":
		_, stop := errors.AsType[*sinks.StopError](err)
		_, corrupt := errors.AsType[*CorruptionError](err)
		if !stop && !corrupt || !strings.Contains(err.Error(), o.refused) {
			t.Errorf("read %v, %v; want it to be refused: %s", live, err, o.refused)
		}
	case err != nil || !slices.Equal(live, o.live):
		t.Errorf("read %v, %v; want %v", live, err, o.live)
	}
}

const (
	plainProtocol = `{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}`
	plainMetadata = `{"metaData":{"id":"i","format":{"provider":"parquet","options":{}},"schemaString":` +
		`"{\"type\":\"struct\",\"fields\":[]}","partitionColumns":[],"configuration":{}}}`
)

func addOf(path string) string {
	return fmt.Sprintf(`{"add":{"path":%q,"partitionValues":{},"size":1,"modificationTime":1,"dataChange":true}}`, path)
}

func removeOf(path string) string {
	return fmt.Sprintf(`{"remove":{"path":%q,"deletionTimestamp":1,"dataChange":true}}`, path)
}

// featureTable is a table with a feature that readers have to know, or one that writers have to know.
func featureTable(readers bool, feature string) string {
	if readers {
		return fmt.Sprintf(`{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":[%q],`+
			`"writerFeatures":[%[1]q]}}`, feature)
	}
	return fmt.Sprintf(`{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":[%q]}}`, feature)
}

// likeGolden are logs that have, each, what a golden table of the Delta projects is there for, and that table's name;
// lines of a commit are joined, commits are a list.
var likeGolden = []struct {
	name    string
	commits []string
	outcome
}{
	{"basic-with-inserts-merge", []string{plainProtocol + "\n" + plainMetadata + "\n" + addOf("a") + "\n" + addOf("b"),
		removeOf("a") + "\n" + addOf("c") + "\n" + removeOf("b")}, outcome{live: []string{"c"}}},
	{"basic-with-inserts-overwrite-restore", []string{plainProtocol + "\n" + plainMetadata + "\n" + addOf("a"),
		removeOf("a") + "\n" + addOf("b"), removeOf("b") + "\n" + addOf("a")}, outcome{live: []string{"a"}}},
	{"commit-info-containing-arbitrary-operationParams-types", []string{
		`{"commitInfo":{"timestamp":1,"operation":"OPTIMIZE","operationParameters":{"clusterBy":[],"auto":false,` +
			`"n":1.5,"o":{"a":null}},"operationMetrics":{"n":1}}}` + "\n" + plainProtocol + "\n" + plainMetadata +
			"\n" + addOf("month=1/a")}, outcome{live: []string{"month=1/a"}}},
	{"log-replay-special-characters-b", []string{plainProtocol + "\n" + plainMetadata + "\n" +
		addOf("special%20p@%23h")}, outcome{live: []string{"special%20p@%23h"}}},
	{"log-replay-special-characters-a", []string{plainProtocol + "\n" + plainMetadata + "\n" +
		addOf("special%20p@%23h"), removeOf("special%20p@%23h")}, outcome{}},
	{"basic-with-vacuum-protocol-check-feature", []string{plainProtocol + "\n" + plainMetadata + "\n" + addOf("a"),
		featureTable(true, "vacuumProtocolCheck")}, outcome{live: []string{"a"}}},
	{"collations-table", []string{featureTable(false, "collations") + "\n" + plainMetadata}, outcome{}},
	{"deltalog-invalid-protocol-version", []string{`{"protocol":{"minReaderVersion":99,"minWriterVersion":7,` +
		`"readerFeatures":[],"writerFeatures":[]}}` + "\n" + plainMetadata + "\n" + addOf("abc")},
		outcome{refused: "minReaderVersion 99 is not supported"}},
	{"deltalog-state-reconstruction-without-protocol", []string{plainMetadata + "\n" + addOf("a")},
		outcome{refused: "no protocol or no metaData"}},
	{"deltalog-state-reconstruction-without-metadata", []string{plainProtocol + "\n" + addOf("a")},
		outcome{refused: "no protocol or no metaData"}},
	{"versions-not-contiguous", []string{plainProtocol + "\n" + plainMetadata + "\n" + addOf("a"), "", addOf("b")},
		outcome{refused: "00000000000000000001.json"}},
	{"checkpoint-v2-compatibility", []string{featureTable(true, "v2Checkpoint") + "\n" + plainMetadata},
		outcome{refused: `reader feature "v2Checkpoint" is not supported`}},
	{"type-widening", []string{featureTable(true, "typeWidening") + "\n" + plainMetadata},
		outcome{refused: `reader feature "typeWidening" is not supported`}},
	{"table-with-columnmapping-mode-id", []string{`{"protocol":{"minReaderVersion":2,"minWriterVersion":5}}` + "\n" +
		strings.Replace(plainMetadata, `"configuration":{}`, `"configuration":{"delta.columnMapping.mode":"id"}`, 1)},
		outcome{refused: `delta.columnMapping.mode is "id"`}},
	// The file is removed without its vector, behind the line that adds it with one.
	{"dv-partitioned-with-checkpoint", []string{featureTable(true, "deletionVectors") + "\n" + plainMetadata + "\n" +
		addOf("a"), strings.TrimSuffix(addOf("a"), "}}") +
		`,"deletionVector":{"storageType":"u","pathOrInlineDv":"ab^-aqEH.-t@S}K{vb[*k^","offset":1,` +
		`"sizeInBytes":34,"cardinality":1}}}` + "\n" + removeOf("a")}, outcome{live: []string{"a"}}},
}

// TestLikeGoldenTables: what the golden tables of the Delta projects are there for is read, or refused by its name.
func TestLikeGoldenTables(t *testing.T) {
	for _, c := range likeGolden {
		t.Run(c.name, func(t *testing.T) {
			mem := objects.NewMem(nil)
			for v, text := range c.commits {
				if text != "" {
					mem.Overwrite(fmt.Sprintf("t/_delta_log/%020d.json", v), []byte(text+"\n"))
				}
			}
			live, err := look(t, mem)
			c.check(t, live, err)
		})
	}
}

// golden is what comes of golden tables themselves. Of the others is asked that they are read, or refused by name.
var golden = map[string]outcome{
	"basic-with-inserts-merge": {live: []string{
		"part-00000-992247c6-6cf4-45f8-8367-11a5e14b8ea9-c000.snappy.parquet"}},
	"log-replay-special-characters-b": {live: []string{"special%20p@%23h"}},
	"basic-with-vacuum-protocol-check-feature": {live: []string{
		"part-00000-e719b63b-4142-4bad-9776-45642d5858ae-c000.snappy.parquet",
		"part-00001-fd905e0a-6d0c-4ce3-bb41-147517448b3b-c000.snappy.parquet"}},
	"collations-table":                  {},
	"deltalog-invalid-protocol-version": {refused: "minReaderVersion 99 is not supported"},
	"table-with-columnmapping-mode-id":  {refused: `delta.columnMapping.mode is "id"`},
	"checkpoint-v2-compatibility":       {refused: `reader feature "v2Checkpoint" is not supported`},
	// The file is removed under its URL. It stays live, but who is to read it refuses, as it lies outside of the table.
	"canonicalized-paths-special-b": {live: []string{"/some/unqualified/with%20space/p@%23h"}},
}

// TestGoldenTables reads the golden tables of a folder (-golden).
func TestGoldenTables(t *testing.T) {
	if *goldenFolder == "" {
		t.Skip("skipped: -golden names no folder")
	}
	entries, err := os.ReadDir(*goldenFolder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(*goldenFolder, e.Name(), logDir)); err != nil {
			continue
		}
		t.Run(e.Name(), func(t *testing.T) {
			mem := objects.NewMem(nil)
			root := filepath.Join(*goldenFolder, e.Name())
			err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				data, err := os.ReadFile(p)
				mem.Overwrite("t/"+filepath.ToSlash(strings.TrimPrefix(p, root+string(filepath.Separator))), data)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			live, err := look(t, mem)
			t.Logf("%d files live, %v", len(live), err)
			if want, ok := golden[e.Name()]; ok {
				want.check(t, live, err)
				return
			}
			_, stop := errors.AsType[*sinks.StopError](err)
			_, corrupt := errors.AsType[*CorruptionError](err)
			if err != nil && !stop && !corrupt {
				t.Error(err)
			}
		})
	}
}
