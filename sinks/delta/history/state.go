package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
)

// Options say how much of each file a State keeps.
type Options struct {
	Stats bool // statistics and tags, as the log has them
	sums  bool // a sum of the statistics, for comparisons
}

// File is a live file.
type File struct {
	Path      string // as the log has it, URL-encoded
	Partition string // column=value, separated by slashes, in the order of the names; "" for a table without
	Values    deltalog.Values
	Size      int64 // bytes
	Modified  int64 // Unix milliseconds, by the writer's clock
	Records   int64 // rows in the file by its statistics, those that a deletion vector hides among them; -1 if unknown
	Vector    *Vector
	Stats     string
	Tags      map[string]string
	statsSum  uint64
}

type partition struct {
	text   string
	values deltalog.Values
}

// ID is the file's Add.ID.
func (f *File) ID() string { return deletionvector.FileID(f.Path, f.Vector) }

// State is a table as of a version.
type State struct {
	Version    int64
	Checkpoint int64 // the version of the checkpoint from which it was replayed, -1 for none
	Protocol   *deltalog.Protocol
	Metadata   *deltalog.Metadata
	Txns       map[string]deltalog.Txn
	Files      map[string]*File  // live, by ID
	Removed    map[string]Remove // tombstones that log and checkpoint have, by ID
	Domains    map[string]string // configuration by domain

	opts       Options
	actions    int64 // rows of the checkpoint
	partitions map[string]*partition
}

func newState(opts Options) *State {
	return &State{Version: -1, Checkpoint: -1, Txns: map[string]deltalog.Txn{}, Files: map[string]*File{},
		Removed: map[string]Remove{}, Domains: map[string]string{}, opts: opts, partitions: map[string]*partition{}}
}

// SortedFiles are the live files, ascending by path.
func (s *State) SortedFiles() []*File {
	return slices.SortedFunc(maps.Values(s.Files), func(a, b *File) int { return strings.Compare(a.ID(), b.ID()) })
}

// Apply folds in the commit of the next version.
func (s *State) Apply(c *Commit) {
	s.Version = c.Version
	if c.Protocol != nil {
		s.Protocol = c.Protocol
	}
	if c.Metadata != nil {
		s.Metadata = c.Metadata
	}
	for _, t := range c.Txns {
		s.Txns[t.AppID] = t
	}
	for i := range c.Removes {
		s.remove(&c.Removes[i])
	}
	for i := range c.Adds {
		s.add(&c.Adds[i])
	}
	for d, text := range c.Domains {
		if s.Domains[d] = text; text == "" {
			delete(s.Domains, d)
		}
	}
}

func (s *State) remove(r *Remove) {
	id := r.ID()
	delete(s.Files, id)
	s.Removed[id] = Remove{Remove: deltalog.Remove{Path: r.Path, DeletionTimestamp: r.DeletionTimestamp, Size: r.Size,
		Vector: r.Vector}}
}

func (s *State) add(a *Add) {
	id := a.ID()
	delete(s.Removed, id)
	f := &File{Path: a.Path, Size: a.Size, Modified: a.ModificationTime, Records: records(a.Stats),
		Vector: a.Vector}
	text := partitionText(a.PartitionValues)
	p := s.partitions[text]
	if p == nil {
		p = &partition{text, a.PartitionValues}
		s.partitions[text] = p
	}
	f.Partition, f.Values = p.text, p.values
	if s.opts.Stats {
		f.Stats, f.Tags = a.Stats, a.Tags
	} else if shard, ok := a.Tags[deltalog.TagShard]; ok {
		f.Tags = map[string]string{deltalog.TagShard: shard}
	}
	if s.opts.sums {
		f.Tags, f.statsSum = nil, sumOf(a.Stats, a.Tags)
	}
	s.Files[id] = f
}

func partitionText(values deltalog.Values) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(values)) {
		parts = append(parts, k+"="+values[k])
	}
	return strings.Join(parts, "/")
}

// records reads the number of records of statistics, -1 if there is none.
func records(stats string) int64 {
	var s struct {
		NumRecords *int64 `json:"numRecords"`
	}
	if stats == "" || json.Unmarshal([]byte(stats), &s) != nil || s.NumRecords == nil {
		return -1
	}
	return *s.NumRecords
}

// sumOf is the same for statistics that say the same, in whatever order. It is 0 for none, which a checkpoint need not
// have as text.
func sumOf(stats string, tags map[string]string) uint64 {
	var v any
	d := json.NewDecoder(strings.NewReader(stats))
	d.UseNumber()
	if stats == "" || d.Decode(&v) != nil {
		return 0
	}
	b, err := json.Marshal([]any{v, tags})
	if err != nil {
		return 0
	}
	return max(xxhash.Sum64(b), 1)
}

// FeatureError says which feature of readers keeps a table from being read here.
type FeatureError struct {
	Table, Feature string
}

func (e *FeatureError) Error() string {
	return fmt.Sprintf("history: table %s needs %s of its readers, which is not known here: a reader that knows it "+
		"can take it from the table (Spark: ALTER TABLE ... DROP FEATURE)", e.Table, e.Feature)
}

// readable are the features of readers that change nothing of what this package says, or that it knows. Column mapping
// changes the names of the columns in partition values and statistics, which are shown as they are.
var readable = []string{"deletionVectors", "columnMapping", "timestampNtz", "typeWidening", "typeWidening-preview",
	"v2Checkpoint", "vacuumProtocolCheck", "variantType", "variantType-preview"}

// checkReadable refuses a state that a reader without further features would take for another one.
func (t *Table) checkReadable(s *State) error {
	p := s.Protocol
	if p == nil || s.Metadata == nil {
		return &deltalog.CorruptionError{Key: t.root + logDir, Err: errors.New("no protocol or no metaData action")}
	}
	if p.MinReaderVersion < 1 || p.MinReaderVersion > 3 {
		return &FeatureError{t.Name(), fmt.Sprintf("reader version %d", p.MinReaderVersion)}
	}
	for _, f := range p.ReaderFeatures {
		if !slices.Contains(readable, f) {
			return &FeatureError{t.Name(), "feature " + f}
		}
	}
	if p.KnowsVectors() {
		return nil
	}
	for _, f := range s.Files {
		if f.Vector != nil {
			return &deltalog.CorruptionError{Key: t.root + logDir, Err: fmt.Errorf("%s has a deletion vector, which "+
				"the protocol (reader version %d, features %q) does not know: readers would give rows that are "+
				"deleted, until it is rewritten (Spark: REORG TABLE ... APPLY (PURGE)) or removed", f.Path,
				p.MinReaderVersion, p.ReaderFeatures)}
		}
	}
	return nil
}

// At returns the table as of a version. Its error wraps ErrNoVersion if the version does not exist or if its log has
// been cleaned; it is a *FeatureError or a *deltalog.CorruptionError if it cannot be read exactly.
func (t *Table) At(ctx context.Context, version int64, opts Options) (*State, error) {
	if version < 0 || version > t.Newest() {
		return nil, fmt.Errorf("%w: version %d of %s: the newest is %d", ErrNoVersion, version, t.Name(), t.Newest())
	}
	var firstErr error
	for i := len(t.checkpoints) - 1; i >= -1; i-- {
		var s *State
		var err error
		if i >= 0 {
			if t.checkpoints[i].Version > version {
				continue
			}
			s, err = t.readCheckpoint(ctx, &t.checkpoints[i], opts)
		} else {
			s = newState(opts)
		}
		for v := int64(0); err == nil && s.Version < version; {
			v = s.Version + 1
			err = t.advance(ctx, s, v)
		}
		if err == nil {
			return s, t.checkReadable(s)
		}
		var damage *deltalog.CorruptionError
		if !errors.As(err, &damage) && !errors.Is(err, ErrNoVersion) && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if firstErr == nil {
			firstErr = err
		}
	}
	if firstErr != nil && errors.Is(firstErr, ErrNoVersion) && len(t.foreign) > 0 {
		return nil, &FeatureError{t.Name(), "v2 checkpoints (" + t.foreign[len(t.foreign)-1] + ")"}
	}
	return nil, firstErr
}

// advance folds the commit of version v into s.
func (t *Table) advance(ctx context.Context, s *State, v int64) error {
	c, err := t.Commit(ctx, v)
	if err != nil {
		return err
	}
	s.Apply(c)
	return nil
}
