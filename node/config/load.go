package config

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"
)

// Error is everything that is wrong with a configuration, in the order of the file.
type Error struct {
	Path     string // "" for a Config built in Go
	Problems []Problem
}

// Error gives one line for each problem: path:line:column: key: text, or --set key: key: text.
func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		line := cmp.Or(e.Path, "configuration")
		if p.Set != "" {
			line = "--set"
		} else if p.Line > 0 {
			line += fmt.Sprintf(":%d:%d", p.Line, p.Column)
		}
		if p.Key != "" {
			line += ": " + p.Key
		}
		lines = append(lines, line+": "+p.Text)
	}
	return strings.Join(lines, "\n")
}

// Load reads the configuration at path, strictly: an unknown key, a wrong type, a missing value or a value that makes
// no sense is an error (*Error) with its place and what to do. It names as many mistakes at once as it can. Secrets
// are fetched through env and readFile. The result is complete: every default is filled in.
func Load(path string, env func(string) (string, bool), readFile func(string) ([]byte, error)) (*Config, error) {
	l, err := Source{Path: path, Env: env, ReadFile: readFile}.Load()
	if err != nil {
		return nil, err
	}
	return l.Config, nil
}

// Source is where a configuration comes from.
type Source struct {
	Path     string                       // of the file
	Env      func(string) (string, bool)  // as os.LookupEnv
	ReadFile func(string) ([]byte, error) // as os.ReadFile
	Set      []string                     // assignments key=value, each over the file and those before it
	// Static takes what is not set as present: variables that texts and secrets name, and files of secrets. What such
	// values would have to be is not judged.
	Static bool
}

// Loaded is a configuration, and where its values come from.
type Loaded struct {
	*Config
	Assumed []Assumed // of Source.Static

	path      string
	places    map[string]place
	variables map[string][]string
}

// Assumed is a value that Source.Static has taken as present: of a variable, or of a file.
type Assumed struct{ Key, Name, File string }

// assumedText stands for a text that is taken as present.
const assumedText = "not-set"

// Load is the function Load, with what else the source says.
func (s Source) Load() (*Loaded, error) {
	text, err := s.ReadFile(s.Path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	cfg, d, err := parse(text, s.Env, s.Static)
	if err != nil {
		return nil, withPath(err, s.Path)
	}
	if slices.ContainsFunc(d.problems, func(p Problem) bool { return p.Key == "" }) {
		return nil, &Error{Path: s.Path, Problems: d.problems}
	}
	for _, a := range s.Set {
		d.assign(reflect.ValueOf(cfg).Elem(), a)
	}
	d.secrets(reflect.ValueOf(cfg).Elem(), "", s.Env, s.ReadFile)
	cfg.setDefaults()
	d.refuseZeros()
	decoding := slices.Clone(d.problems)
	for _, p := range cfg.problems() {
		// A key that is present but could not be decoded has its own problem already; one whose value is not known has
		// none that can be told.
		if !slices.ContainsFunc(decoding, func(q Problem) bool { return covers(q.Key, p.Key) }) &&
			!slices.ContainsFunc(d.assumed, func(a Assumed) bool { return covers(a.Key, p.Key) }) {
			d.problem(p.Key, "%s", p.Text)
		}
	}
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		return nil, &Error{Path: s.Path, Problems: d.problems}
	}
	return &Loaded{Config: cfg, Assumed: d.assumed, path: s.Path, places: d.places, variables: d.variables}, nil
}

// LoadCluster reads who the nodes of the cluster are (cluster.name, cluster.pipeline, cluster.nodes), and cluster.tls.
// It judges nothing else, since a file is not good before there are certificates, which are made by what it says. Name
// is "" if the file has none and its pipeline cannot stand for it.
func LoadCluster(
	path string, env func(string) (string, bool), readFile func(string) ([]byte, error),
) (*Cluster, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	cfg, d, err := parse(text, env, false)
	if err != nil {
		return nil, withPath(err, path)
	}
	decoding := slices.Clone(d.problems)
	cfg.setDefaults()
	k := &checker{}
	cfg.checkCluster(k)
	for _, p := range k.problems {
		if !slices.ContainsFunc(decoding, func(q Problem) bool { return covers(q.Key, p.Key) }) {
			d.problem(p.Key, "%s", p.Text)
		}
	}
	d.problems = slices.DeleteFunc(d.problems, func(p Problem) bool {
		return !covers("cluster.nodes", p.Key) && p.Key != "cluster" && p.Key != "cluster.name" &&
			p.Key != "cluster.pipeline"
	})
	if len(d.problems) > 0 {
		return nil, &Error{Path: path, Problems: d.problems}
	}
	return &cfg.Cluster, nil
}

// Complete fills in the defaults of a Config built in Go and checks it. It may be called again.
func (c *Config) Complete() error {
	c.setDefaults()
	if ps := c.problems(); len(ps) > 0 {
		return &Error{Problems: ps}
	}
	return nil
}

// parse decodes the text into a Config. The decoder holds the problems; an error is a mistake in the syntax.
func parse(text []byte, env func(string) (string, bool), static bool) (*Config, *decoder, error) {
	text, err := utf8Text(text)
	if err != nil {
		return nil, nil, &Error{Problems: []Problem{{Line: 1, Column: 1, Text: err.Error()}}}
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		var y yaml.Error
		if errors.As(err, &y) && y.GetToken() != nil && y.GetToken().Position != nil {
			pos := y.GetToken().Position
			return nil, nil, &Error{Problems: []Problem{{Line: pos.Line, Column: pos.Column, Text: y.GetMessage()}}}
		}
		return nil, nil, &Error{Problems: []Problem{{Text: err.Error()}}}
	}
	d := &decoder{places: map[string]place{"": {line: 1, column: 1}}, env: env, static: static,
		variables: map[string][]string{}}
	cfg := new(Config)
	switch {
	case len(file.Docs) == 0 || file.Docs[0].Body == nil:
		return nil, nil,
			&Error{Problems: []Problem{{Text: "the file is empty; deckle.example.yaml shows a complete one"}}}
	case len(file.Docs) > 1:
		return nil, nil,
			&Error{Problems: []Problem{{Text: "the file holds more than one YAML document (---); give one"}}}
	}
	d.value(file.Docs[0].Body, "", reflect.ValueOf(cfg).Elem())
	return cfg, d, nil
}

func withPath(err error, path string) error {
	if c, ok := errors.AsType[*Error](err); ok {
		c.Path = path
	}
	return err
}

// covers says whether a problem at key a makes one at key b superfluous: b is a, or lies inside the block a.
func covers(a, b string) bool {
	return a == b || a != "" && (strings.HasPrefix(b, a+".") || strings.HasPrefix(b, a+"["))
}
