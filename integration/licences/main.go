// Command licences looks at the licence of everything that is compiled into the binary, on each platform it is built
// for, and writes NOTICE: the modules, their licences, and the texts that have to go with the binary. It fails where a
// module has no licence, one that it does not know, or one that is not allowed.
//
//	go run ./integration/licences -check    # writes nothing, and fails if NOTICE is not what it would write
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// platforms are those whose packages are looked at: some modules are compiled for one system only.
var platforms = []string{"linux/amd64", "linux/arm64", "darwin/arm64", "windows/amd64"}

func main() {
	check := flag.Bool("check", false, "write nothing, and fail if NOTICE is not what it should be")
	flag.Parse()
	if err := run(os.Stdout, "NOTICE", *check); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, file string, check bool) error {
	modules := map[string]*module{}
	for _, p := range platforms {
		list, err := packagesOf(p, "./cmd/deckle")
		if err != nil {
			return err
		}
		if err := gather(modules, list); err != nil {
			return err
		}
	}
	text, err := notice(modules)
	if err != nil {
		return err
	}
	if !check {
		fmt.Fprintf(w, "%s: %d modules\n", file, len(modules))
		return os.WriteFile(file, text, 0o644)
	}
	has, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if line := firstDifference(string(has), string(text)); line != "" {
		return fmt.Errorf("%s is not what the binary holds: %s (make licences writes it; look at what has changed)",
			file, line)
	}
	fmt.Fprintf(w, "%s: %d modules, as they are compiled\n", file, len(modules))
	return nil
}

// pack is what go list says of a package.
type pack struct {
	Dir      string
	Standard bool
	Module   *struct {
		Path, Version, Dir string
		Main               bool
		Replace            *struct{ Path, Version, Dir string }
	}
}

// packagesOf returns the packages that are compiled into a program for a platform, without those of the module itself.
// The program is what is shipped: this module alone, without C.
func packagesOf(platform, program string) (list []pack, err error) {
	goos, arch, _ := strings.Cut(platform, "/")
	cmd := exec.Command("go", "list", "-deps", "-json=Dir,Standard,Module", program)
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+arch, "CGO_ENABLED=0", "GOWORK=off")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list for %s: %w", platform, err)
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pack
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return list, nil
		case err != nil:
			return nil, fmt.Errorf("go list for %s: %w", platform, err)
		}
		list = append(list, p)
	}
}

// module is a module of which packages are compiled in.
type module struct {
	path, version string
	files         map[string]string // name of a licence file within the module → its text
}

func (m *module) String() string { return strings.TrimSpace(m.path + " " + m.version) }

// standard is the name under which the standard library is listed, which is compiled in as well.
const standard = "Go standard library"

// legal are the names of files that have to do with a licence.
var legal = regexp.MustCompile(`(?i)^((un)?licen[cs]e|copying|copyright|notice|patents)`)

// gather adds the modules of packages, with what lies in a package's folder and in those above it, up to the module's:
// a folder with code of somebody else has a licence of its own.
func gather(modules map[string]*module, list []pack) error {
	for _, p := range list {
		if p.Standard {
			if modules[standard] == nil {
				root, err := goRoot()
				if err != nil {
					return err
				}
				modules[standard] = &module{path: standard, files: map[string]string{}}
				if err := modules[standard].look(root, root); err != nil {
					return err
				}
			}
			continue
		}
		if p.Module == nil || p.Module.Main || p.Module.Replace != nil && p.Module.Replace.Version == "" {
			continue // ours
		}
		name, version, dir := p.Module.Path, p.Module.Version, p.Module.Dir
		if r := p.Module.Replace; r != nil {
			name, version, dir = r.Path, r.Version, r.Dir
		}
		m := modules[name]
		if m == nil {
			m = &module{path: name, version: version, files: map[string]string{}}
			modules[name] = m
		}
		if err := m.look(dir, p.Dir); err != nil {
			return err
		}
	}
	return nil
}

func goRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// look adds the licence files of the folders from dir up to root.
func (m *module) look(root, dir string) error {
	for {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || !legal.MatchString(e.Name()) || path.Ext(e.Name()) == ".go" {
				continue
			}
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, filepath.Join(dir, e.Name()))
			if err != nil {
				return err
			}
			m.files[filepath.ToSlash(name)] = tidy(string(text))
		}
		if dir == root {
			return nil
		}
		above := filepath.Dir(dir)
		if above == dir {
			return fmt.Errorf("%s: a package of it is not below %s: %w", m, root, fs.ErrNotExist)
		}
		dir = above
	}
}

// tidy takes away what makes equal texts differ: carriage returns, blanks at ends of lines, empty lines at both ends.
func tidy(text string) string {
	lines := strings.Split(strings.ReplaceAll(text, "\r", ""), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " \t\f")
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}

// kinds returns the kinds of the module's licences, of all its files.
func (m *module) kinds() (all []string, err error) {
	for name, text := range m.files {
		base := strings.ToLower(path.Base(name))
		if strings.HasPrefix(base, "notice") || strings.HasPrefix(base, "patents") {
			continue // goes with the licence, and is none
		}
		kinds, err := kindsOf(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", m, name, err)
		}
		all = append(all, kinds...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: it has no licence", m)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// notice returns the text of NOTICE.
func notice(modules map[string]*module) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`What is compiled into Deckle, and under which licences. Deckle's own is in the file LICENSE.
This file is written by make licences; CI fails where it is not what it would write.

Modules under MPL-2.0 are compiled in unchanged. The source of a module is at the address
that its path is (https://PATH), under the tag of the version that stands here.

`)
	var sorted []*module
	for _, m := range modules {
		sorted = append(sorted, m)
	}
	slices.SortFunc(sorted, func(a, b *module) int { return cmp.Compare(a.path, b.path) })
	texts := map[string][]string{} // the files that have a text
	var order, faults = []string{}, []error{}
	for _, m := range sorted {
		kinds, err := m.kinds()
		if err != nil {
			faults = append(faults, err)
			continue
		}
		fmt.Fprintf(&b, "%s: %s\n", m, strings.Join(kinds, ", "))
		for _, name := range sortedKeys(m.files) {
			text := m.files[name]
			if texts[text] == nil {
				order = append(order, text)
			}
			texts[text] = append(texts[text], m.path+"/"+name)
		}
	}
	for _, text := range order {
		fmt.Fprintf(&b, "\n%[1]s\n%[2]s\n%[1]s\n\n%[3]s\n", strings.Repeat("-", 80), strings.Join(texts[text], "\n"),
			text)
	}
	return b.Bytes(), errors.Join(faults...)
}

func sortedKeys(m map[string]string) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// firstDifference names the first line that differs, "" if there is none.
func firstDifference(has, want string) string {
	if has == want {
		return ""
	}
	a, b := strings.Split(has, "\n"), strings.Split(want, "\n")
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a):
			return fmt.Sprintf("line %d is missing: %q", i+1, b[i])
		case i >= len(b):
			return fmt.Sprintf("line %d is too much: %q", i+1, a[i])
		case a[i] != b[i]:
			return fmt.Sprintf("line %d is %q, and should be %q", i+1, a[i], b[i])
		}
	}
	return "" // not reached: texts that differ differ in a line
}
