package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"deckle/sinks/delta/deltalog"
)

// Change is a value before and after; nil where it is not there.
type Change struct {
	Name string  `json:"name"`
	From *string `json:"from"` // null if it is not there
	To   *string `json:"to"`
}

// Diff is what differs between two versions of a table.
type Diff struct {
	From, To         int64
	Added, Removed   []*File // of To but not of From, and the other way round; ascending by path
	Txns, Properties []Change
	Columns          []Change // types by name
	Protocol         []Change
}

// Rows is the sum of the rows of the added files, and of the removed ones, by their statistics; -1 if one has none.
// What deletion vectors hide is not counted.
func (d *Diff) Rows() (added, removed int64) { return sumRows(d.Added), sumRows(d.Removed) }

func sumRows(files []*File) (n int64) {
	for _, f := range files {
		r := f.Rows()
		if r < 0 {
			return -1
		}
		n += r
	}
	return n
}

// Rows is the number of rows that readers see; -1 if the statistics do not say it.
func (f *File) Rows() int64 {
	if f.Vector == nil || f.Records < 0 {
		return f.Records
	}
	return f.Records - f.Vector.Cardinality
}

// Compare says what b has and a has not, and the other way round.
func Compare(a, b *State) *Diff {
	d := &Diff{From: a.Version, To: b.Version}
	for _, f := range b.SortedFiles() {
		if a.Files[f.ID()] == nil {
			d.Added = append(d.Added, f)
		}
	}
	for _, f := range a.SortedFiles() {
		if b.Files[f.ID()] == nil {
			d.Removed = append(d.Removed, f)
		}
	}
	txns := func(s *State) map[string]string {
		m := map[string]string{}
		for id, t := range s.Txns {
			m[id] = fmt.Sprint(t.Version)
		}
		return m
	}
	d.Txns = changes(txns(a), txns(b))
	d.Properties = changes(a.Metadata.Configuration, b.Metadata.Configuration)
	d.Columns = changes(Columns(a.Metadata), Columns(b.Metadata))
	d.Protocol = changes(protocolTexts(a.Protocol), protocolTexts(b.Protocol))
	return d
}

func changes(a, b map[string]string) (out []Change) {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, b)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		x, inA := a[k]
		y, inB := b[k]
		if inA && inB && x == y {
			continue
		}
		c := Change{Name: k}
		if inA {
			c.From = &x
		}
		if inB {
			c.To = &y
		}
		out = append(out, c)
	}
	return out
}

func protocolTexts(p *deltalog.Protocol) map[string]string {
	m := map[string]string{"minReaderVersion": fmt.Sprint(p.MinReaderVersion),
		"minWriterVersion": fmt.Sprint(p.MinWriterVersion)}
	for name, list := range map[string][]string{"readerFeatures": p.ReaderFeatures,
		"writerFeatures": p.WriterFeatures} {
		if len(list) > 0 {
			m[name] = strings.Join(slices.Sorted(slices.Values(list)), ", ")
		}
	}
	return m
}

// Columns gives the types of a table's columns by name, with " not null" where the schema says so. A type that is no
// single word is JSON.
func Columns(m *deltalog.Metadata) map[string]string {
	out := map[string]string{}
	for _, c := range ColumnList(m) {
		out[c[0]] = c[1]
	}
	return out
}

// ColumnList gives name and type of each column in the order of the schema; nil if the schema cannot be understood.
func ColumnList(m *deltalog.Metadata) (out [][2]string) {
	for _, c := range ColumnsOf(m) {
		if !c.Nullable {
			c.Type += " not null"
		}
		out = append(out, [2]string{c.Name, c.Type})
	}
	return out
}
