package deltalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"deckle/sinks"
	"deckle/sinks/delta/deletionvector"
)

const (
	configMapping = "delta.columnMapping.mode"

	featureMapping    = "columnMapping"
	featureVectors    = "deletionVectors"
	featureProtection = "checkpointProtection"
)

// readerFeatures are the features that change nothing of what a reader of Deckle's columns sees, as long as no column
// is mapped, which is looked at, and deletion vectors, which are applied.
var readerFeatures = []string{featureMapping, featureVectors, "timestampNtz", "vacuumProtocolCheck"}

// legacyFeatures are what a writer version stands for, each with those before it.
var legacyFeatures = [...][]string{2: {"appendOnly", "invariants"}, 3: {"checkConstraints"},
	4: {"changeDataFeed", "generatedColumns"}, 5: {featureMapping}, 6: {"identityColumns"}}

// Features are what the protocol asks of who reads or writes the table, by the names of features: those of a version
// without a list of features are those that it stands for. Ascending.
func (p *Protocol) Features() []string {
	var all []string
	if p.MinReaderVersion == 2 {
		all = append(all, featureMapping)
	}
	if p.MinReaderVersion >= 3 {
		all = append(all, p.ReaderFeatures...)
	}
	if p.MinWriterVersion >= 7 {
		all = append(all, p.WriterFeatures...)
	} else {
		for v := 0; v <= p.MinWriterVersion && v < len(legacyFeatures); v++ {
			all = append(all, legacyFeatures[v]...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// KnowsVectors reports whether a reader of the protocol obeys deletion vectors.
func (p *Protocol) KnowsVectors() bool {
	return p.MinReaderVersion == 3 && slices.Contains(p.ReaderFeatures, featureVectors)
}

// writerFeatures are the features that this package takes. appendOnly, checkConstraints and checkpointProtection are
// obeyed, and so are changeDataFeed and inCommitTimestamp while their properties are set. What invariants, generated
// and identity columns, and mapped columns ask for is refused where a column has it (checkSchema, mapped), and so is a
// default that is no literal (defaultOf). The others ask nothing of who writes Deckle's columns.
var writerFeatures = []string{"allowColumnDefaults", "appendOnly", "invariants", "checkConstraints", "changeDataFeed",
	"generatedColumns", featureMapping, featureVectors, "identityColumns", featureInCommit, featureProtection,
	"timestampNtz", "vacuumProtocolCheck"}

// Ways back from what is refused.
const (
	hintVectors = "give the table the feature deletionVectors (Spark: set the property delta.enableDeletionVectors), " +
		"or rewrite or remove the file; Deckle goes on by itself"
	hintMapping = "Spark: set the property " + configMapping + " to none, and then ALTER TABLE ... DROP FEATURE " +
		"columnMapping; Deckle goes on by itself"
	hintConstraint = "drop the constraint (ALTER TABLE ... DROP CONSTRAINT), or write it as comparisons of columns " +
		"with values, IN, IS NULL, AND, OR and NOT; Deckle goes on by itself"
	hintDefault = "drop the default (ALTER TABLE ... ALTER COLUMN ... DROP DEFAULT), or give a literal of the " +
		"column's type; Deckle goes on by itself"
	hintFeature = "switch it off and take it from the table with ALTER TABLE ... DROP FEATURE (Spark; what it " +
		"leaves, " + featureProtection + ", is no hindrance), or restore the table to the version before; Deckle " +
		"goes on by itself. Or give Deckle a new location"
)

func stop(root, hint, format string, args ...any) error {
	return &sinks.StopError{Err: fmt.Errorf("delta: table %s: %s", root, fmt.Sprintf(format, args...)), Hint: hint}
}

// hintFor is the way back from a feature.
func hintFor(feature string) string {
	if feature == featureMapping {
		return hintMapping
	}
	return hintFeature
}

// mapped reports whether the columns have other names in the files than in the schema.
func mapped(m *Metadata) bool {
	mode := m.Configuration[configMapping]
	return mode != "" && mode != "none"
}

// checkReader refuses a table that would be read wrongly. vectors are the live files that have deletion vectors.
func checkReader(root string, p *Protocol, m *Metadata, vectors map[string]*deletionvector.Descriptor) error {
	if p.MinReaderVersion < 1 || p.MinReaderVersion > 3 {
		return stop(root, hintFeature, "minReaderVersion %d is not supported", p.MinReaderVersion)
	}
	for _, f := range p.ReaderFeatures {
		if !slices.Contains(readerFeatures, f) {
			return stop(root, hintFor(f), "reader feature %q is not supported", f)
		}
	}
	if p.MinReaderVersion > 1 && mapped(m) {
		return stop(root, hintMapping, "%s is %q", configMapping, m.Configuration[configMapping])
	}
	known := p.KnowsVectors()
	if paths := slices.Sorted(maps.Keys(vectors)); len(paths) > 0 && !known {
		return stop(root, hintVectors, "%s has a deletion vector, which the protocol (reader version %d) does not "+
			"know: in some readers its deleted rows come back", paths[0], p.MinReaderVersion)
	}
	return nil
}

// checkWriter refuses a table that this package cannot write correctly.
func checkWriter(root string, p *Protocol, m *Metadata) error {
	if mapped(m) {
		return stop(root, hintMapping, "%s is %q", configMapping, m.Configuration[configMapping])
	}
	for _, f := range p.ReaderFeatures {
		if !slices.Contains(writerFeatures, f) {
			return stop(root, hintFor(f), "reader feature %q is not supported", f)
		}
	}
	features := p.WriterFeatures
	switch v := p.MinWriterVersion; {
	case v < 1 || v >= len(legacyFeatures) && v != 7:
		return stop(root, hintFeature, "minWriterVersion %d is not supported", v)
	case v < 7:
		features = slices.Concat(legacyFeatures[:v+1]...)
	}
	for _, f := range features {
		if !slices.Contains(writerFeatures, f) {
			return stop(root, hintFor(f), "writer feature %q is not supported", f)
		}
	}
	return nil
}

// A table may have in-commit timestamps (protocol, "In-Commit Timestamps"): each commit says when it was made, and the
// times rise strictly. Time travel by a time then does not hang on when the store has written an object, which a copy
// of the bucket changes.
const (
	configInCommit  = "delta.enableInCommitTimestamps"
	featureInCommit = "inCommitTimestamp"
)

// InCommitTimestamps reports whether each commit of a table has a timestamp: the protocol has the feature, and the
// property switches it on.
func InCommitTimestamps(p *Protocol, m *Metadata) bool {
	return p != nil && m != nil && p.MinWriterVersion >= 7 && slices.Contains(p.WriterFeatures, featureInCommit) &&
		strings.EqualFold(m.Configuration[configInCommit], "true")
}

// stamped gives a table that is made its protocol with in-commit timestamps. Features that writer version 2 stands for
// have to be named beside another one.
func stamped(m *Metadata, info *CommitInfo) *Protocol {
	m.Configuration[configInCommit] = "true"
	info.InCommitTimestamp = info.Timestamp
	return &Protocol{MinReaderVersion: 1, MinWriterVersion: 7,
		WriterFeatures: append(slices.Clone(legacyFeatures[2]), featureInCommit)}
}
