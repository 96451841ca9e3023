package main

import (
	"archive/zip"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// database makes the folder of a database of nothing, and a zip file of it.
func database(t *testing.T) (folder, file string) {
	t.Helper()
	folder = t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "index"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"db": `{"modified":"2026-11-29T12:00:00Z"}`, "modules": "[]",
		"vulns": "[]"} {
		if err := os.WriteFile(filepath.Join(folder, "index", name+".json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file = filepath.Join(t.TempDir(), "vulndb.zip")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	if err := z.AddFS(os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return folder, file
}

// A database is a folder, a zip file or a server that answers; anything else is none, and the error says why.
func TestReach(t *testing.T) {
	folder, file := database(t)
	srv := httptest.NewServer(http.FileServer(http.Dir(folder)))
	defer srv.Close()
	none := httptest.NewServer(http.NotFoundHandler())
	defer none.Close()
	tmp := t.TempDir()
	for _, row := range []struct{ db, want, err string }{
		{folder, "file://" + folder, ""},
		{"file://" + folder, "file://" + folder, ""},
		{file, "file://" + tmp, ""},
		{srv.URL, srv.URL, ""},
		{srv.URL + "/", srv.URL + "/", ""},
		{none.URL, "", "404"},
		{"http://127.0.0.1:1", "", "refused"},
		{t.TempDir(), "", "no database"},
		{filepath.Join(folder, "none"), "", "no such file"},
		{filepath.Join(folder, "index", "db.json"), "", "zip"},
	} {
		got, err := reach(row.db, tmp)
		if row.err == "" && (err != nil || got != row.want) ||
			row.err != "" && (err == nil || !strings.Contains(err.Error(), row.err)) {
			t.Errorf("%s: %q, %v; want %q, %q", row.db, got, err, row.want, row.err)
		}
	}
}

// Without a database it is a failure, or one line if -skip is given; one that somebody names must be there either way.
// What the tool finds is a failure.
func TestRun(t *testing.T) {
	folder, _ := database(t)
	tool := filepath.Join(t.TempDir(), "tool")
	script := "#!/bin/sh\necho \"$@ in ${PWD##*/}, $GOWORK\"\n[ \"${PWD##*/}\" != bad ]\n"
	if err := os.WriteFile(tool, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	here := t.TempDir()
	for _, name := range []string{"good", "bad"} {
		if err := os.Mkdir(filepath.Join(here, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	good := "-db file://" + folder + " ./... in good, off\n"
	for _, row := range []struct {
		skip                                bool
		govulndb, vulndb, modules, out, err string
	}{
		{true, "http://127.0.0.1:1", "", "good", "vuln: skipped: nothing was looked at, no database can be reached: ",
			""},
		{false, "http://127.0.0.1:1", "", "good", "", "nothing was looked at, no database can be reached: "},
		{false, "http://127.0.0.1:1", folder, "good", good, ""},
		{true, "http://127.0.0.1:1", folder, "good", good, ""},
		{false, "file://" + folder, "", "good", good, ""},
		{true, "file://" + folder, "/does/not/exist", "good", "", "no such file"},
		{false, "file://" + folder, "/does/not/exist", "good", "", "no such file"},
		{true, "file://" + folder, "", "bad good", "-db file://" + folder + " ./... in bad, off\n" + good,
			"bad: exit status 1"},
	} {
		t.Setenv("GOVULNDB", row.govulndb)
		t.Setenv("VULNDB", row.vulndb)
		var out strings.Builder
		var dirs []string
		for name := range strings.FieldsSeq(row.modules) {
			dirs = append(dirs, filepath.Join(here, name))
		}
		err := run(&out, tool, "v0", row.skip, dirs)
		if !strings.HasPrefix(out.String(), row.out) || (out.Len() == 0) != (row.out == "") ||
			(err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
			t.Errorf("%+v: %q, %v", row, out.String(), err)
		}
	}
}
