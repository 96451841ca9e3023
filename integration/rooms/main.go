// Command rooms prints the structure of the module: packages by floor, the arrows between them, and the largest circle
// of files inside each package. A circle is a set of files each of which names something declared in another one of the
// set, directly or through others (a strongly connected component): such files can only be read together.
//
// It fails when an import points up or sideways in a circle (the compiler refuses those, too) or when the largest
// circle of a package is above its limit: -most for all packages, -allow package=N for those that are honestly one
// machine.
//
//	go run ./integration/rooms                      # the table
//	go run ./integration/rooms -files ./node        # the arrows between the files of one package
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"go/types"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/go/packages"
)

const module = "deckle"

// room is one package of the module.
type room struct {
	path    string // import path without the module's name
	files   []string
	imports []string                   // rooms that it imports
	arrows  map[string]map[string]bool // file → files of the room that it names something of
	names   map[[2]string][]string     // the names behind an arrow
	floor   int
	circle  []string // largest circle of files, sorted; nil if there is none
}

func main() {
	most := flag.Int("most", 0, "fail if the largest circle of files in a package is above this; 0: never")
	allow := flag.String("allow", "", "exceptions: package=N, separated by commas")
	files := flag.Bool("files", false, "print the arrows between files, with the names behind them")
	flag.Parse()
	if err := run(os.Stdout, flag.Args(), *most, *allow, *files); err != nil {
		fmt.Fprintln(os.Stderr, "rooms:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, patterns []string, most int, allow string, files bool) error {
	limits, err := parseAllow(allow)
	if err != nil {
		return err
	}
	if len(patterns) == 0 {
		patterns = []string{module + "/..."}
	}
	rooms, err := load(patterns)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%-5s %-34s %5s %6s %6s  %s\n", "floor", "package", "files", "arrows", "circle", "imports")
	for _, r := range rooms {
		n := 0
		for _, to := range r.arrows {
			n += len(to)
		}
		fmt.Fprintf(w, "%5d %-34s %5d %6d %6d  %s\n",
			r.floor, r.path, len(r.files), n, len(r.circle), strings.Join(r.imports, " "))
	}
	var faults []error
	for _, r := range rooms {
		if files {
			r.print(w)
		}
		limit := cmp.Or(limits[r.path], most)
		if limit > 0 && len(r.circle) > limit {
			faults = append(faults, fmt.Errorf("%s: %d files in one circle, at most %d are allowed: %s",
				r.path, len(r.circle), limit, strings.Join(r.circle, " ")))
		}
	}
	return errors.Join(faults...)
}

func parseAllow(s string) (map[string]int, error) {
	limits := map[string]int{}
	for item := range strings.SplitSeq(s, ",") {
		if item == "" {
			continue
		}
		name, count, _ := strings.Cut(item, "=")
		n, err := strconv.Atoi(count)
		if err != nil {
			return nil, fmt.Errorf("-allow %s: want package=N", item)
		}
		limits[name] = n
	}
	return limits, nil
}

// load returns the rooms from the ground floor up.
func load(patterns []string) ([]*room, error) {
	pkgs, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports |
			packages.NeedTypes | packages.NeedTypesInfo | packages.NeedSyntax | packages.NeedExportFile,
	}, patterns...)
	if err != nil {
		return nil, err
	}
	byPath := map[string]*room{}
	var faults []error
	for _, p := range pkgs {
		for _, e := range p.Errors {
			faults = append(faults, e)
		}
		byPath[p.PkgPath] = inspect(p)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	for _, r := range byPath {
		r.rise(byPath)
	}
	return slices.SortedFunc(maps.Values(byPath), func(a, b *room) int {
		return cmp.Or(cmp.Compare(a.floor, b.floor), cmp.Compare(a.path, b.path))
	}), nil
}

// rise gives the room its floor: one above the highest room that it imports.
func (r *room) rise(byPath map[string]*room) int {
	if r.floor == 0 {
		r.floor = 1
		for _, i := range r.imports {
			if below := byPath[module+"/"+i]; below != nil {
				r.floor = max(r.floor, below.rise(byPath)+1)
			}
		}
	}
	return r.floor
}

func inspect(p *packages.Package) *room {
	r := &room{path: strings.TrimPrefix(p.PkgPath, module+"/"),
		arrows: map[string]map[string]bool{}, names: map[[2]string][]string{}}
	for path := range p.Imports {
		if inner, ok := strings.CutPrefix(path, module+"/"); ok {
			r.imports = append(r.imports, inner)
		}
	}
	slices.Sort(r.imports)
	file := func(o types.Object) string { return filepath.Base(p.Fset.Position(o.Pos()).Filename) }
	for _, f := range p.CompiledGoFiles {
		r.files = append(r.files, filepath.Base(f))
	}
	for id, o := range p.TypesInfo.Uses {
		// Names of packages and of what stands inside a function are of no interest; fields and methods are.
		if o.Pkg() != p.Types || !o.Pos().IsValid() {
			continue
		}
		from, to := filepath.Base(p.Fset.Position(id.Pos()).Filename), file(o)
		if from == to {
			continue
		}
		if _, ok := o.(*types.PkgName); ok {
			continue
		}
		if r.arrows[from] == nil {
			r.arrows[from] = map[string]bool{}
		}
		r.arrows[from][to] = true
		if key := [2]string{from, to}; !slices.Contains(r.names[key], o.Name()) {
			r.names[key] = append(r.names[key], o.Name())
		}
	}
	r.circle = largestCircle(r.files, r.arrows)
	return r
}

func (r *room) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n", r.path)
	for _, from := range slices.Sorted(maps.Keys(r.arrows)) {
		for _, to := range slices.Sorted(maps.Keys(r.arrows[from])) {
			names := r.names[[2]string{from, to}]
			slices.Sort(names)
			fmt.Fprintf(w, "  %s → %s: %s\n", from, to, strings.Join(names, " "))
		}
	}
	if len(r.circle) > 0 {
		fmt.Fprintf(w, "  circle: %s\n", strings.Join(r.circle, " "))
	}
}

// largestCircle returns the largest strongly connected component of more than one file, by Tarjan's algorithm.
func largestCircle(files []string, arrows map[string]map[string]bool) []string {
	var largest, stack []string
	index, low, on := map[string]int{}, map[string]int{}, map[string]bool{}
	var visit func(string)
	visit = func(f string) {
		index[f] = len(index) + 1
		low[f] = index[f]
		stack, on[f] = append(stack, f), true
		for to := range arrows[f] {
			if index[to] == 0 {
				visit(to)
				low[f] = min(low[f], low[to])
			} else if on[to] {
				low[f] = min(low[f], index[to])
			}
		}
		if low[f] != index[f] {
			return
		}
		at := slices.Index(stack, f)
		if circle := stack[at:]; len(circle) > 1 && len(circle) > len(largest) {
			largest = slices.Clone(circle)
		}
		for _, g := range stack[at:] {
			on[g] = false
		}
		stack = stack[:at]
	}
	for _, f := range files {
		if index[f] == 0 {
			visit(f)
		}
	}
	slices.Sort(largest)
	return largest
}
