package deltalog

import "slices"

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
