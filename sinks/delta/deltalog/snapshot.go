package deltalog

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"deckle/sinks/delta/deletionvector"
)

// Snapshot is the state of a table as of a version.
type Snapshot struct {
	Version  int64 // -1: the table does not exist
	Protocol *Protocol
	Metadata *Metadata
	Txns     map[string]Txn
	// Checkpoint is the version of the newest checkpoint known, -1 for none.
	Checkpoint int64

	// restored is the newest version that is known to be a RESTORE of another tool which took files of Deckle's away,
	// or to set a txn of a shard back; 0 for none. A checkpoint does not hold it; see Unsettled.
	restored int64

	inCommit       int64              // in-commit timestamp of Version, 0 if there is none or it is not known
	lowered        map[string]lowered // txns that are less than they were, by application id
	checkpointSize int64              // bytes of that checkpoint, 0 if not known
	since          []progress         // of the commits after it, ascending
	files          *fileTable         // nil if the log was opened without KeepFiles
	// vectors hide rows of live files, by path, whether files are kept or not.
	vectors      map[string]*deletionvector.Descriptor
	totals       totals
	properties   properties
	rules        *Rules
	logRetention time.Duration // where the table has no property
	foreign      int64         // the newest version that was read and is not ours, 0 for none
	// known are the columns that are written here, nil for a reader: true for those of which no file has a null.
	known map[string]bool
	fits  schemaFits
}

// schemaFits is what checkSchema has said of a metaData action: every commit asks, and a schema is 10 KB of JSON.
type schemaFits struct {
	metadata *Metadata
	want     *Creation
	err      error
}

// totals are the number of live files and the sum of their sizes. A snapshot without files counts them by what
// commits add and remove. It cannot tell what a commit of another writer has really added or removed, which may name
// a file that is live already, or one that is not: from then on the totals are not exact, until a checkpoint has been
// counted.
type totals struct {
	files, bytes int64
	exact        bool
}

// maxProgress is of how many commits the newest are known one by one: of more than any tail has.
const maxProgress = 2000

// progress is what one commit has written and changed.
type progress struct {
	version int64
	written int64  // bytes of the files added
	change  totals // exact: it is certain
}

func newSnapshot(keepFiles, keepStats bool, logRetention time.Duration) *Snapshot {
	s := &Snapshot{Version: -1, Checkpoint: -1, Txns: map[string]Txn{}, totals: totals{exact: true},
		logRetention: logRetention, vectors: map[string]*deletionvector.Descriptor{}, lowered: map[string]lowered{}}
	if keepFiles {
		s.files = newFileTable(keepStats)
	}
	s.setMetadata(nil)
	return s
}

// of notes what a writer's tables are like.
func (s *Snapshot) of(want *Creation) *Snapshot {
	if want == nil {
		return s
	}
	s.known = map[string]bool{}
	for _, f := range want.Later {
		s.known[f.Name] = false
	}
	for _, f := range want.Fields {
		s.known[f.Name] = f.Required
	}
	return s
}

func (s *Snapshot) setMetadata(m *Metadata) {
	var cfg map[string]string
	if m != nil {
		cfg = m.Configuration
	}
	s.Metadata, s.properties, s.rules = m, propertiesOf(cfg, s.logRetention), rulesOf(m, s.known)
}

// txn is the version of an application id, 0 for none.
func (s *Snapshot) txn(appID string) int64 { return max(s.Txns[appID].Version, 0) }

// apply folds in the commit of the next version.
func (s *Snapshot) apply(c *commit) {
	s.Version++
	s.inCommit = c.inCommit
	if !c.own {
		s.foreign = s.Version
	}
	if c.takesAway {
		s.restored = s.Version
	}
	if c.protocol != nil {
		s.Protocol = c.protocol
	}
	if c.metaData != nil {
		s.setMetadata(c.metaData)
	}
	for _, t := range c.txns {
		if s.noteTxn(t) && !c.own {
			s.restored = s.Version // its rows may be gone, too
		}
	}
	p := progress{version: s.Version, change: totals{exact: c.own || len(c.removes)+len(c.adds) == 0}}
	for i := range c.removes {
		r := &c.removes[i]
		// A remove with another vector is of a logical file that is not live.
		if s.vectors[r.Path].ID() == r.Vector.ID() {
			if s.files != nil {
				s.files.remove([]byte(r.Path))
			}
			delete(s.vectors, r.Path)
		}
		if p.change.files--; r.Size != nil {
			p.change.bytes -= *r.Size
		} else {
			p.change.exact = false
		}
	}
	for i := range c.adds {
		a := &c.adds[i]
		if s.files != nil {
			s.files.add(a.entry(), s.Version)
		}
		if delete(s.vectors, a.Path); a.Vector != nil {
			s.vectors[a.Path] = a.Vector
		}
		if a.Vector == nil { // one with a vector was there before
			p.written += a.Size
		}
		p.change.files++
		p.change.bytes += a.Size
	}
	s.totals.add(p.change)
	s.since = append(s.since, p)
	if n := len(s.since); n > maxProgress {
		s.since[1].written += s.since[0].written
		s.since[1].change.add(s.since[0].change)
		s.since = slices.Delete(s.since, 0, 1)
	}
}

func (t *totals) add(d totals) {
	t.files, t.bytes, t.exact = t.files+d.files, t.bytes+d.bytes, t.exact && d.exact
}

// counted is the exact number of live files and bytes, if it is known.
func (s *Snapshot) counted() (totals, bool) {
	if s.files != nil {
		return totals{files: int64(s.files.live), bytes: s.files.bytes, exact: true}, true
	}
	return s.totals, s.totals.exact
}

// learn takes note of a checkpoint of size bytes (0: not known), and of what has been counted in it (exact) or not.
func (s *Snapshot) learn(version, size int64, in totals) {
	if version < s.Checkpoint {
		return
	}
	if version > s.Checkpoint || size > 0 {
		s.checkpointSize = size
	}
	s.Checkpoint = version
	s.since = slices.DeleteFunc(s.since, func(p progress) bool { return p.version <= version })
	if in.exact && version <= s.Version {
		for _, p := range s.since {
			in.add(p.change)
		}
		// If some of them are not certain, what is known now is no better than before.
		if in.exact {
			s.totals = in
		}
	}
}

// Len is the number of live files; 0 if the log was opened without KeepFiles, like every set of files here.
func (s *Snapshot) Len() int {
	if s.files == nil {
		return 0
	}
	return s.files.live
}

// File returns a live file by its path, nil if there is none.
func (s *Snapshot) File(path string) *File {
	if s.Len() == 0 {
		return nil
	}
	at, ok := s.files.find([]byte(path))
	if !ok {
		return nil
	}
	f := s.files.file(s.files.index[at] - 1)
	f.Vector = s.vectors[f.Path]
	return f
}

// Live says whether a file is live with the deletion vector that it has.
func (s *Snapshot) Live(f *File) bool {
	is := s.File(f.Path)
	return is != nil && is.ID() == f.ID()
}

// All yields the live files, in no order that means anything.
func (s *Snapshot) All() iter.Seq[*File] { return s.where(func(*fileRecord) bool { return true }) }

// In yields the live files of the partitions for which want says so. It costs little for every other file.
func (s *Snapshot) In(want func(partition string) bool) iter.Seq[*File] {
	if s.files == nil {
		return func(func(*File) bool) {}
	}
	in := make([]bool, len(s.files.partitions))
	for i, p := range s.files.partitions {
		in[i] = want(p)
	}
	return s.where(func(r *fileRecord) bool { return in[r.partition] })
}

// addedAfter yields the live files that were added after a version.
func (s *Snapshot) addedAfter(version int64) iter.Seq[*File] {
	return s.where(func(r *fileRecord) bool { return r.added > version })
}

func (s *Snapshot) where(want func(*fileRecord) bool) iter.Seq[*File] {
	if s.files == nil {
		return func(func(*File) bool) {}
	}
	if len(s.vectors) == 0 {
		return s.files.files(want)
	}
	return func(yield func(*File) bool) {
		for f := range s.files.files(want) {
			if f.Vector = s.vectors[f.Path]; !yield(f) {
				return
			}
		}
	}
}

// Distinct is how many values a partition column has among the live files, null among them; 0 for a column that is
// none.
func (s *Snapshot) Distinct(column string) int {
	if s.Metadata == nil || s.files == nil {
		return 0
	}
	at := slices.Index(slices.Sorted(slices.Values(s.Metadata.PartitionColumns)), column)
	if at < 0 {
		return 0
	}
	used := make([]bool, len(s.files.partitions))
	for range s.files.files(func(r *fileRecord) bool { used[r.partition] = true; return false }) {
		break // nothing is yielded
	}
	values := map[string]bool{}
	for i, p := range s.files.partitions {
		if v := strings.Split(p, "/"); used[i] && at < len(v) {
			values[v[at]] = true
		}
	}
	return len(values)
}

// SortedFiles returns the live files in the order of their paths.
func (s *Snapshot) SortedFiles() []*File {
	return slices.SortedFunc(s.All(), func(a, b *File) int { return strings.Compare(a.Path, b.Path) })
}

// Configuration keys of the table that this package reads or writes.
const (
	ConfigClusterID = "deckle.clusterId"
	ConfigPipeline  = "deckle.pipeline"
)

// checkTable refuses a table that another cluster or pipeline has made, or on which the promise of this package would
// not hold.
func (s *Snapshot) checkTable(root string, want *Creation) error {
	if s.Protocol == nil || s.Metadata == nil {
		return &CorruptionError{Key: root, Err: fmt.Errorf("no protocol or no metaData action in the log")}
	}
	if err := checkReader(root, s.Protocol, s.Metadata, s.vectors); err != nil || want == nil {
		return err
	}
	if err := checkWriter(root, s.Protocol, s.Metadata); err != nil {
		return err
	}
	cfg := s.Metadata.Configuration
	stop := func(hint, format string, args ...any) error { return stop(root, hint, format, args...) }
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
	if s.rules.err != nil {
		return stop(s.rules.hint, "%v", s.rules.err)
	}
	if s.fits.metadata != s.Metadata || s.fits.want != want {
		s.fits = schemaFits{s.Metadata, want, checkSchema(s.Metadata.SchemaString, want.Fields, want.Later)}
	}
	if err := s.fits.err; err != nil {
		return stop("undo the change of the schema, or give Deckle a new location", "%v", err)
	}
	if !slices.Equal(s.Metadata.PartitionColumns, want.PartitionColumns) {
		return stop(cmp.Or(want.PartitionHint, "give Deckle a new location"), "it is partitioned by %q, want %q",
			s.Metadata.PartitionColumns, want.PartitionColumns)
	}
	return nil
}

// Unsettled is the version of the newest RESTORE of another tool that has taken rows of Deckle's away, or of the
// newest commit of another tool that has set a txn of a shard back, as long as nobody has said what becomes of them; 0
// if there is none.
func (s *Snapshot) Unsettled() int64 {
	if s.Metadata == nil {
		return 0
	}
	cluster, pipeline := s.Metadata.Configuration[ConfigClusterID], s.Metadata.Configuration[ConfigPipeline]
	v := max(s.restored, s.txn(NoticedID(cluster, pipeline)))
	if v <= s.settledUpTo() {
		return 0
	}
	return v
}

// notices are the txns by which a commit on this snapshot tells of a RESTORE.
func (s *Snapshot) notices(now int64) []Txn {
	id := NoticedID(s.Metadata.Configuration[ConfigClusterID], s.Metadata.Configuration[ConfigPipeline])
	// gofail: var bugRestoreUnnoticed struct{}
	// return nil
	if s.restored <= s.txn(id) {
		return nil
	}
	return []Txn{{AppID: id, Version: s.restored, LastUpdated: &now}}
}
