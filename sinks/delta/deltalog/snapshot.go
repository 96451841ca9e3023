package deltalog

import (
	"fmt"
	"maps"
	"slices"

	"deckle/sinks"
)

// File is one live data file. Its table has exactly one partition column.
type File struct {
	Path       string // as the log has it, URL-encoded
	Partition  string // value of the partition column, "" for null
	Size       int64  // bytes
	Modified   int64  // Unix milliseconds
	NumRecords int64  // from the statistics, -1 if unknown
	Origin     Origin
	Stats      string // only if the log was opened with KeepStats
	// Added is the version that added the file, or the version of the checkpoint from which it was read.
	Added int64
}

// Snapshot is the state of a table as of a version.
type Snapshot struct {
	Version  int64 // -1: the table does not exist
	Protocol *Protocol
	Metadata *Metadata
	Txns     map[string]Txn
	// Files are the live files by path; empty if the log was opened without KeepFiles.
	Files map[string]*File
	// Checkpoint is the version of the newest checkpoint known, -1 for none.
	Checkpoint int64

	keepFiles, keepStats bool
	partitions           map[string]string // interned partition values
}

func newSnapshot(keepFiles, keepStats bool) *Snapshot {
	return &Snapshot{
		Version: -1, Checkpoint: -1, Txns: map[string]Txn{}, Files: map[string]*File{},
		keepFiles: keepFiles, keepStats: keepStats, partitions: map[string]string{},
	}
}

// Done reports whether a commit with the application id and at least the version is in the log.
func (s *Snapshot) Done(appID string, version int64) bool {
	t, ok := s.Txns[appID]
	return ok && t.Version >= version
}

// apply folds in the commit of the next version.
func (s *Snapshot) apply(c *commit) {
	s.Version++
	if c.protocol != nil {
		s.Protocol = c.protocol
	}
	if c.metaData != nil {
		s.Metadata = c.metaData
	}
	for _, t := range c.txns {
		s.Txns[t.AppID] = t
	}
	for i := range c.removes {
		delete(s.Files, c.removes[i].Path)
	}
	for i := range c.adds {
		s.add(&c.adds[i], s.Version)
	}
}

func (s *Snapshot) add(a *Add, version int64) {
	if !s.keepFiles {
		return
	}
	f := &File{Path: a.Path, Size: a.Size, Modified: a.ModificationTime, NumRecords: numRecords(a.Stats),
		Origin: parseOrigin(a.Tags), Added: version}
	for _, v := range a.PartitionValues {
		p, ok := s.partitions[v]
		if !ok {
			p = v
			s.partitions[v] = v
		}
		f.Partition = p
	}
	if s.keepStats {
		f.Stats = a.Stats
	}
	s.Files[f.Path] = f
}

// SortedFiles returns the live files in the order of their paths.
func (s *Snapshot) SortedFiles() []*File {
	return slices.SortedFunc(maps.Values(s.Files), func(a, b *File) int {
		switch {
		case a.Path < b.Path:
			return -1
		case a.Path > b.Path:
			return 1
		}
		return 0
	})
}

// knownWriterFeatures are the writer features that need nothing else from this package: append-only is checked, and
// checkSchema refuses columns with invariants.
var knownWriterFeatures = []string{"appendOnly", "invariants"}

// checkProtocol refuses a table that this package cannot read and write correctly.
func checkProtocol(root string, p *Protocol) error {
	refuse := func(format string, args ...any) error {
		return &sinks.StopError{
			Err: fmt.Errorf("delta: table %s: %s", root, fmt.Sprintf(format, args...)),
			Hint: "another tool has upgraded the table; rewrite it with reader version 1 and writer version 2, " +
				"or give Deckle a new location",
		}
	}
	if p == nil {
		return &CorruptionError{Key: root, Err: fmt.Errorf("no protocol action in the log")}
	}
	if p.MinReaderVersion != 1 && p.MinReaderVersion != 3 {
		return refuse("minReaderVersion %d is not supported", p.MinReaderVersion)
	}
	if p.MinWriterVersion != 1 && p.MinWriterVersion != 2 && p.MinWriterVersion != 7 {
		return refuse("minWriterVersion %d is not supported", p.MinWriterVersion)
	}
	if len(p.ReaderFeatures) > 0 {
		return refuse("reader features %q are not supported", p.ReaderFeatures)
	}
	for _, f := range p.WriterFeatures {
		if !slices.Contains(knownWriterFeatures, f) {
			return refuse("writer feature %q is not supported", f)
		}
	}
	return nil
}

// Configuration keys of the table that this package reads or writes.
const (
	ConfigClusterID    = "deckle.clusterId"
	ConfigPipeline     = "deckle.pipeline"
	configTxnRetention = "delta.setTransactionRetentionDuration"
	configAppendOnly   = "delta.appendOnly"
)

// checkTable refuses a table that another cluster or pipeline has made, or on which the promise of this package would
// not hold.
func (s *Snapshot) checkTable(root string, want *Creation) error {
	if err := checkProtocol(root, s.Protocol); err != nil {
		return err
	}
	if s.Metadata == nil {
		return &CorruptionError{Key: root, Err: fmt.Errorf("no metaData action in the log")}
	}
	if want == nil {
		return nil
	}
	cfg := s.Metadata.Configuration
	stop := func(hint, format string, args ...any) error {
		return &sinks.StopError{Err: fmt.Errorf("delta: table %s: %s", root, fmt.Sprintf(format, args...)), Hint: hint}
	}
	if id := cfg[ConfigClusterID]; id != want.ClusterID {
		return stop("give this cluster a location of its own; a table belongs to the cluster that made it",
			"it belongs to cluster %q, not to %q", id, want.ClusterID)
	}
	if p := cfg[ConfigPipeline]; p != want.Pipeline {
		return stop("give this pipeline a location of its own", "it belongs to pipeline %q, not to %q", p,
			want.Pipeline)
	}
	if v, ok := cfg[configTxnRetention]; ok {
		return stop("unset the property "+configTxnRetention+": it lets other tools forget what Deckle has written",
			"%s is %q", configTxnRetention, v)
	}
	if err := checkSchema(s.Metadata.SchemaString, want.Fields, want.Later); err != nil {
		return stop("undo the change of the schema, or give Deckle a new location", "%v", err)
	}
	if !slices.Equal(s.Metadata.PartitionColumns, []string{want.PartitionColumn}) {
		return stop("give Deckle a new location", "it is partitioned by %q, want %q", s.Metadata.PartitionColumns,
			want.PartitionColumn)
	}
	return nil
}
