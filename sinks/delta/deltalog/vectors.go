package deltalog

import (
	"slices"
	"strings"

	"deckle/sinks/delta/deletionvector"
)

const (
	configVectors = "delta.enableDeletionVectors"
	// ConfigVectorsGiven says that Deckle has given the table its deletion vectors once: who takes them away afterwards
	// means it.
	ConfigVectorsGiven = "deckle.deletionVectorsGiven"
)

// Vectors reports whether files may be given deletion vectors: the protocol has the feature, and the property switches
// it on, as the protocol of Delta asks.
func (s *Snapshot) Vectors() bool {
	p, m := s.Protocol, s.Metadata
	return p != nil && m != nil && p.MinReaderVersion >= 3 && p.MinWriterVersion >= 7 &&
		slices.Contains(p.ReaderFeatures, featureVectors) && slices.Contains(p.WriterFeatures, featureVectors) &&
		strings.EqualFold(m.Configuration[configVectors], "true")
}

// vectorsTaken reports whether somebody does not want the table to be given deletion vectors.
func (s *Snapshot) vectorsTaken() bool {
	_, said := s.Metadata.Configuration[configVectors]
	return said || s.Metadata.Configuration[ConfigVectorsGiven] != ""
}

// WithVectors is the protocol with deletion vectors. What its versions stand for without lists of features is listed.
func (p *Protocol) WithVectors() *Protocol {
	var reader, all []string
	for _, f := range append(p.Features(), featureVectors) {
		// A feature of readers must be in both lists. What a writer version of before lists stands for is a feature
		// only where the reader version stands for it, too.
		if f == featureMapping && p.MinReaderVersion < 2 && p.MinWriterVersion < 7 {
			continue
		}
		if slices.Contains(readerFeatures, f) {
			reader = append(reader, f)
		}
		all = append(all, f)
	}
	slices.Sort(reader)
	slices.Sort(all)
	return &Protocol{MinReaderVersion: 3, MinWriterVersion: 7, ReaderFeatures: slices.Compact(reader),
		WriterFeatures: slices.Compact(all)}
}

// Hide has the change hide more rows of a file: as it was read, the file goes, and it comes back with another deletion
// vector. values are those of its partition, and stats those of the data file, hidden rows among them.
func (c *Change) Hide(f *File, values Values, stats string, vector *deletionvector.Descriptor) {
	c.Remove(f)
	c.Adds = append(c.Adds, Add{Path: f.Path, PartitionValues: values, Size: f.Size, ModificationTime: f.Modified,
		DataChange: true, Stats: stats, Tags: TagsOf(f.Origins()), Vector: vector})
}

// Written are the adds of files that were written for the change: not those that only have another deletion vector.
func (c *Change) Written() []Add {
	if !slices.ContainsFunc(c.Adds, func(a Add) bool { return a.Vector != nil }) {
		return c.Adds
	}
	return slices.DeleteFunc(slices.Clone(c.Adds), func(a Add) bool { return slices.Contains(c.Removes, a.Path) })
}
