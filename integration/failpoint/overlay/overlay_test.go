package overlay

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module writes files, given by path, into a new module and returns its root.
func module(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	files["go.mod"] = "module m\n\ngo 1.26\n"
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func point(name string) string { return marker + " var " + name + " struct{}\n" }

func TestWrite(t *testing.T) {
	plain := "package other // in folder plain\n\nfunc F() {\n\t" + point("one") + "\tprintln()\n}\n"
	root := module(t, map[string]string{
		"plain/f.go":          plain,
		"plain/f_test.go":     "package other\n\nfunc g() {\n\t" + point("test") + "\tprintln()\n}\n",
		"plain/none.go":       "package other\n",
		"plain/testdata/f.go": plain,
		".hidden/f.go":        plain,
		"nested/go.mod":       "module n\n",
		"nested/f.go":         plain,
		"cmd/main.go": "package main\n\nfunc main() {\n\t" + point("bugTwo") + "\t// println()\n\n\t" +
			point("two") + "\t// println()\n}\n",
		"plain/ignored/f.go.in": plain,
	})
	dir := t.TempDir()
	o, err := Write(root, dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []Point{
		{Name: "bugTwo", File: "cmd/main.go", Acts: true}, {Name: "two", File: "cmd/main.go", Acts: true},
		{Name: "one", File: "plain/f.go"},
	}
	if !slices.Equal(o.Points, want) {
		t.Errorf("points %v, want %v", o.Points, want)
	}
	if got := o.Bugs(); !slices.Equal(got, []string{"bugTwo"}) {
		t.Errorf("bugs %v", got)
	}
	if got := o.Stops(); !slices.Equal(got, []string{"one"}) {
		t.Errorf("stops %v", got)
	}
	b, err := os.ReadFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Replace map[string]string }
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for _, rel := range []string{"plain/f.go", "plain/f.fail.go", "cmd/main.go", "cmd/main.fail.go"} {
		text, err := os.ReadFile(got.Replace[filepath.Join(root, rel)])
		if err != nil {
			t.Errorf("%s: %v", rel, err)
		}
		if !strings.Contains(string(text), "__fp_") {
			t.Errorf("%s has no failpoint:\n%s", rel, text)
		}
	}
	if len(got.Replace) != 4 {
		t.Errorf("replaced: %v", got.Replace)
	}
	if text, err := os.ReadFile(filepath.Join(root, "plain/f.go")); err != nil || string(text) != plain {
		t.Errorf("the tree was changed: %v\n%s", err, text)
	}
}

func TestWriteRefuses(t *testing.T) {
	f := func(points string) string { return "package p\n\nfunc F() {\n" + points + "\tprintln()\n}\n" }
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"a name twice": {map[string]string{"a/a.go": f(point("x")), "b/b.go": f(point("x"))},
			"failpoint x stands in a/a.go and in b/b.go"},
		"two without a gap":  {map[string]string{"a/a.go": f(point("x") + point("y"))}, "need an empty line"},
		"a malformed header": {map[string]string{"a/a.go": f(marker + " var x\n")}, "malformed"},
		"code that is no Go": {map[string]string{"a/a.go": f(point("x") + "\t// if {\n")}, "is no Go"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Write(module(t, c.files), t.TempDir())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	if _, err := Write(t.TempDir(), t.TempDir()); err == nil {
		t.Error("a folder without go.mod was taken")
	}
}

// TestModule builds this module with its own failpoints. The binary knows each point by its name, no point is switched
// on, and without the overlay there are no points.
func TestModule(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the command twice")
	}
	dir := t.TempDir()
	o, err := Write("../../..", dir)
	if err != nil {
		t.Fatal(err)
	}
	build := func(args ...string) string {
		bin := filepath.Join(dir, "deckle")
		cmd := exec.Command("go", append(append([]string{"build", "-o", bin}, args...), "./cmd/deckle")...)
		cmd.Dir = "../../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		text, err := os.ReadFile(bin)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	with, without := build("-overlay", o.Path), build()
	for _, p := range o.Points {
		if !strings.Contains(with, p.Name) {
			t.Errorf("%s is not in the binary", p.Name)
		}
	}
	if strings.Contains(without, "gofail") {
		t.Error("the ordinary binary has gofail in it")
	}
}
