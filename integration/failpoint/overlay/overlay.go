package overlay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/gofail/code"
)

// Overlay is what Write has made.
type Overlay struct {
	// Path is the file for go's -overlay flag.
	Path string
	// Points are all failpoints of the module, by file and line.
	Points []Point
}

// Point is one failpoint.
type Point struct {
	Name string
	File string // relative to the module's root
	Acts bool   // it has code of its own: it changes what a process does, a setting or a rule
}

// Stops returns the names of the points at which a process can be stopped and does nothing else: every process that
// works comes past them.
func (o *Overlay) Stops() []string {
	return o.names(func(p Point) bool { return !p.Acts && !p.isBug() })
}

// Bugs returns the names of the planted bugs.
func (o *Overlay) Bugs() []string { return o.names(Point.isBug) }

func (o *Overlay) names(keep func(Point) bool) []string {
	var names []string
	for _, p := range o.Points {
		if keep(p) {
			names = append(names, p.Name)
		}
	}
	return names
}

func (p Point) isBug() bool { return strings.HasPrefix(p.Name, "bug") }

// marker is what a line must begin with for gofail.
const marker = "// " + "gofail:"

// Write makes the overlay of the module at root in the folder dir. It replaces what an earlier Write left there.
func Write(root, dir string) (*Overlay, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("overlay: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("overlay: %w", err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		return nil, fmt.Errorf("overlay: %s is no module's root: %w", root, err)
	}
	src := filepath.Join(dir, "src")
	if err := errors.Join(os.RemoveAll(src), os.MkdirAll(src, 0o755)); err != nil {
		return nil, fmt.Errorf("overlay: %w", err)
	}
	w := &writer{root: root, src: src, replace: map[string]string{}, seen: map[string]string{},
		o: &Overlay{Path: filepath.Join(dir, "overlay.json")}}
	if err := filepath.WalkDir(root, w.visit); err != nil {
		return nil, fmt.Errorf("overlay: %w", err)
	}
	b, err := json.MarshalIndent(map[string]any{"Replace": w.replace}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("overlay: %w", err)
	}
	if err := os.WriteFile(w.o.Path, b, 0o644); err != nil {
		return nil, fmt.Errorf("overlay: %w", err)
	}
	return w.o, nil
}

type writer struct {
	root, src string
	replace   map[string]string
	seen      map[string]string // for each name, its file
	o         *Overlay
}

func (w *writer) visit(path string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	name := d.Name()
	if d.IsDir() {
		if path == w.root {
			return nil
		}
		if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "vendor" {
			return filepath.SkipDir
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
			return filepath.SkipDir
		}
		return nil
	}
	if !d.Type().IsRegular() || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if declared(text) == 0 {
		return nil
	}
	return w.file(path, text)
}

// declared counts the lines that declare failpoints.
func declared(text []byte) (n int) {
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(bytes.TrimSpace(line), []byte(marker+" var ")) {
			n++
		}
	}
	return n
}

// actingIn returns the names of the failpoints that have code, which stands in the comment below them.
func actingIn(text []byte) map[string]bool {
	acting, above := map[string]bool{}, ""
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		after, declares := bytes.CutPrefix(line, []byte(marker+" var "))
		if above != "" && !declares && bytes.HasPrefix(line, []byte("//")) {
			acting[above] = true
		}
		above = ""
		if declares {
			name, _, _ := bytes.Cut(after, []byte(" "))
			above = string(name)
		}
	}
	return acting
}

// file rewrites one file that has failpoints.
func (w *writer) file(path string, text []byte) error {
	rel, err := filepath.Rel(w.root, path)
	if err != nil {
		return err
	}
	var out, binding bytes.Buffer
	points, err := code.ToFailpoints(&out, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	if want := declared(text); len(points) != want {
		return fmt.Errorf("%s: %d failpoints are declared, gofail sees %d: two need an empty line or code between them",
			rel, want, len(points))
	}
	acting := actingIn(text)
	for _, p := range points {
		if first, ok := w.seen[p.Name()]; ok {
			return fmt.Errorf("failpoint %s stands in %s and in %s", p.Name(), first, rel)
		}
		w.seen[p.Name()] = rel
		w.o.Points = append(w.o.Points, Point{Name: p.Name(), File: rel, Acts: acting[p.Name()]})
	}
	// A comment that gofail makes broken code of is better told here than by the compiler in a copy.
	parsed, err := parser.ParseFile(token.NewFileSet(), rel, out.Bytes(), 0)
	if err != nil {
		return fmt.Errorf("%s with its failpoints is no Go: %w", rel, err)
	}
	if err := code.NewBinding(parsed.Name.Name, points).Write(&binding); err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	bound := strings.TrimSuffix(rel, ".go") + ".fail.go"
	return errors.Join(w.put(rel, out.Bytes()), w.put(bound, binding.Bytes()))
}

func (w *writer) put(rel string, text []byte) error {
	to := filepath.Join(w.src, rel)
	w.replace[filepath.Join(w.root, rel)] = to
	return errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, text, 0o644))
}
