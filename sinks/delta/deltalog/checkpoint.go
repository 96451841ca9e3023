package deltalog

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"deckle/sinks/delta/deletionvector"
)

// readCheckpoint fills an empty snapshot.
func (l *folder) readCheckpoint(ctx context.Context, v int64, s *Snapshot) error {
	key := l.checkpointKey(v)
	want := func(c leaf) bool {
		switch {
		case c >= removePath && c <= removeSize:
			return false
		case c > addSize && c <= addTagValue || c == addPartitionKey || c == addPartitionValue:
			return s.files != nil
		}
		return true
	}
	var e fileEntry
	err := eachCheckpointView(ctx, l.store, key, want, func(r *checkpointView) error {
		switch {
		case r.has(addPath):
			s.totals.files++
			s.totals.bytes += r.int(addSize)
			if s.files != nil {
				r.entry(&e)
				s.files.add(&e, v)
			}
			d, err := r.vector(addVector)
			if err != nil {
				return &CorruptionError{Key: key, Err: err}
			}
			if d != nil {
				s.vectors[string(r.bytes(addPath))] = d
			}
		case r.has(txnAppID):
			t := r.txn()
			s.Txns[t.AppID] = t
		case r.has(metaID):
			s.setMetadata(r.metadata())
		case r.has(protocolReader):
			s.Protocol = r.protocol()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if s.Protocol == nil || s.Metadata == nil {
		return &CorruptionError{Key: key, Err: errors.New("no protocol or no metaData in the checkpoint")}
	}
	s.Version, s.Checkpoint = v, v
	return nil
}

// checkpointer folds commits over a former checkpoint and writes the rows of a new one.
type checkpointer struct {
	// adds are the logical files by their paths, as one of a data file is live; nil for one that is so no more: what
	// the former checkpoint says of such a path does not hold.
	adds     map[string]*Add
	removes  map[string]*Remove // by logical file
	txns     map[string]Txn
	protocol *Protocol
	metaData *Metadata
	codec    compress.Codec
	from     string // key of the former checkpoint
	cutoff   int64  // tombstones older than this are left out, Unix milliseconds

	w       *parquet.GenericWriter[checkpointRow]
	rows    rowBuilder
	rest    []parquet.Row // of txns, metaData and protocol
	actions int64
	totals  totals // of the files
}

func (c *checkpointer) fold(m *commit) {
	if m.protocol != nil {
		c.protocol = m.protocol
	}
	if m.metaData != nil {
		c.metaData = m.metaData
	}
	for _, t := range m.txns {
		c.txns[t.AppID] = t
	}
	// The removes first, as in Snapshot.apply: a commit that deletes rows of a file by a vector removes it without one
	// and adds it with one.
	for i := range m.removes {
		id := m.removes[i].id()
		if a := c.adds[m.removes[i].Path]; a != nil && a.id() == id {
			c.adds[m.removes[i].Path] = nil
		}
		c.removes[id] = &m.removes[i]
	}
	for i := range m.adds {
		delete(c.removes, m.adds[i].id())
		c.adds[m.adds[i].Path] = &m.adds[i]
	}
}

// end finishes the row that has been built.
func (c *checkpointer) end() error {
	c.actions++
	if c.rows.end(); len(c.rows.rows) < 256 {
		return nil
	}
	return c.flush()
}

func (c *checkpointer) flush() error {
	_, err := c.w.WriteRows(c.rows.rows)
	c.rows.reset()
	return err
}

// writeAdd writes a file. DataChange is false, as an action in a checkpoint changes no data.
func (c *checkpointer) writeAdd(path []byte, size, modified int64, stats []byte,
	partition, tags pairs, vector *deletionvector.Descriptor) error {
	c.totals.files++
	c.totals.bytes += size
	b := &c.rows
	b.text(columnAddPath, path)
	b.pairs(columnAddPartition, partition, true)
	b.int(columnAddSize, size)
	b.int(columnAddModified, modified)
	b.bool(columnAddDataChange, false)
	b.optional(columnAddStats, parquet.ByteArrayValue(stats), len(stats) > 0)
	b.pairs(columnAddTags, tags, tags.some())
	b.vector(&columnAddVector, vector)
	return c.end()
}

func (c *checkpointer) writeRemove(path []byte, deleted *int64, extended bool, size *int64,
	partition pairs, vector *deletionvector.Descriptor) error {
	b := &c.rows
	b.text(columnRemovePath, path)
	b.optional(columnRemoveDeleted, int64Value(deleted), deleted != nil)
	b.bool(columnRemoveDataChange, false)
	b.optional(columnRemoveExtended, parquet.BooleanValue(extended), true)
	b.pairs(columnRemovePartition, partition, partition.some())
	b.optional(columnRemoveSize, int64Value(size), size != nil)
	b.vector(&columnRemoveVector, vector)
	return c.end()
}

func (c *checkpointer) expired(deleted *int64) bool { return deleted == nil || *deleted < c.cutoff }

// base takes over one row of the former checkpoint, unless a later commit has an action for the same path, application
// id, metaData or protocol.
func (c *checkpointer) base(r *checkpointView) error {
	switch {
	case r.has(addPath):
		path := r.bytes(addPath)
		vector, err := r.vector(addVector)
		if err != nil {
			return &CorruptionError{Key: c.from, Err: err}
		}
		_, since := c.adds[string(path)]
		if since || c.removes[deletionvector.FileID(string(path), vector)] != nil {
			return nil
		}
		return c.writeAdd(path, r.int(addSize), r.int(addModified), r.bytes(addStats),
			pairs{r[addPartitionKey], r[addPartitionValue]}, pairs{r[addTagKey], r[addTagValue]}, vector)
	case r.has(removePath):
		path, deleted := r.bytes(removePath), r.time(removeDeleted)
		vector, err := r.vector(removeVector)
		if err != nil {
			return &CorruptionError{Key: c.from, Err: err}
		}
		id := deletionvector.FileID(string(path), vector)
		if a := c.adds[string(path)]; a != nil && a.id() == id || c.removes[id] != nil || c.expired(deleted) {
			return nil
		}
		extended, _ := r.one(removeExtended)
		return c.writeRemove(path, deleted, !extended.IsNull() && extended.Boolean(), r.time(removeSize),
			pairs{r[removePartitionKey], r[removePartitionValue]}, vector)
	case r.has(txnAppID):
		if t := r.txn(); c.txns[t.AppID].AppID == "" {
			c.txns[t.AppID] = t
		}
	case r.has(metaID):
		if c.metaData == nil {
			c.metaData = r.metadata()
		}
	case r.has(protocolReader):
		if c.protocol == nil {
			c.protocol = r.protocol()
		}
	}
	return nil
}

// own writes the files and tombstones that the commits since the former checkpoint have left, and the txns, metaData
// and protocol of checkpoint and commits together.
func (c *checkpointer) own() error {
	for _, p := range slices.Sorted(maps.Keys(c.adds)) {
		a := c.adds[p]
		if a == nil {
			continue
		}
		err := c.writeAdd([]byte(p), a.Size, a.ModificationTime, []byte(a.Stats), sortedPairs(a.PartitionValues),
			sortedPairs(a.Tags), a.Vector)
		if err != nil {
			return err
		}
	}
	for _, p := range slices.Sorted(maps.Keys(c.removes)) {
		if r := c.removes[p]; !c.expired(r.DeletionTimestamp) {
			err := c.writeRemove([]byte(r.Path), r.DeletionTimestamp, r.ExtendedFileMetadata, r.Size,
				sortedPairs(r.PartitionValues), r.Vector)
			if err != nil {
				return err
			}
		}
	}
	if c.protocol == nil || c.metaData == nil {
		return errors.New("no protocol or no metaData")
	}
	if c.rest == nil {
		c.rest = c.others()
	}
	for _, r := range c.rest {
		// By rows, like the others: the library loses some of a writer's rows that is given both rows and structs.
		c.rows.rows = append(c.rows.rows, r.Clone())
		c.actions++
	}
	return c.flush()
}

// others are the rows of txns, metaData and protocol. They are made once: maps have no order.
func (c *checkpointer) others() (rows []parquet.Row) {
	var rest []checkpointRow
	for _, id := range slices.Sorted(maps.Keys(c.txns)) {
		t := CheckpointTxn(c.txns[id])
		rest = append(rest, checkpointRow{Txn: &t})
	}
	rest = append(rest, checkpointRow{MetaData: fromMetadata(c.metaData)},
		checkpointRow{Protocol: fromProtocol(c.protocol)})
	for i := range rest {
		rows = append(rows, checkpointSchema.Deconstruct(nil, &rest[i]))
	}
	return rows
}

// rowsPerGroup is how many rows a row group of a checkpoint has. A row group is what a reader here holds in memory,
// as it is stored, and reads with one request.
const rowsPerGroup = 50_000

// inMemory is the size in bytes up to which a checkpoint is made once and held in memory. A larger one is made twice,
// once to find out its size, which a put must say, and once into the put: so memory does not grow with it.
const inMemory = 8 << 20 // default of Options.inMemory

// output takes the bytes of a checkpoint, as long as they are not too many, and counts them.
type output struct {
	b    []byte
	size int64
	most int64
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	if o.size += int64(len(p)); o.size > o.most {
		o.b = nil
		return len(p), nil
	}
	o.b = append(o.b, p...)
	return len(p), nil
}

// render writes the checkpoint of what has been folded over the one of version base (-1 for none). Done again it
// writes the same bytes.
func (l *folder) render(ctx context.Context, c *checkpointer, base int64, to io.Writer) error {
	c.actions, c.totals = 0, totals{exact: true}
	// Statistics in page headers are of no use beside those of the footer and the column index, and there the schema
	// would stand four times.
	c.w = parquet.NewGenericWriter[checkpointRow](to,
		parquet.DataPageVersion(1), parquet.DefaultEncoding(&parquet.Plain), parquet.Compression(c.codec),
		parquet.DataPageStatistics(false), parquet.MaxRowsPerRowGroup(rowsPerGroup),
		parquet.CreatedBy("deckle", "1", ""))
	if base >= 0 {
		c.from = l.checkpointKey(base)
		every := func(leaf) bool { return true }
		if err := eachCheckpointView(ctx, l.store, c.from, every, c.base); err != nil {
			return err
		}
		if c.protocol == nil || c.metaData == nil {
			return &CorruptionError{Key: l.checkpointKey(base),
				Err: errors.New("no protocol or no metaData in the checkpoint")}
		}
	}
	return errors.Join(c.own(), c.w.Close())
}

func fromMetadata(m *Metadata) *CheckpointMetadata {
	return &CheckpointMetadata{ID: m.ID, Name: m.Name, Description: m.Description,
		Format: checkpointFormat{Provider: m.Format.Provider, Options: m.Format.Options}, SchemaString: m.SchemaString,
		PartitionColumns: m.PartitionColumns, Configuration: m.Configuration, CreatedTime: m.CreatedTime}
}

func fromProtocol(p *Protocol) *CheckpointProtocol {
	c := &CheckpointProtocol{MinReaderVersion: int32(p.MinReaderVersion), MinWriterVersion: int32(p.MinWriterVersion)}
	// As in JSON: an empty list and none are different things to other readers.
	if p.MinReaderVersion >= 3 {
		c.ReaderFeatures = append([]string{}, p.ReaderFeatures...)
	}
	if p.MinWriterVersion >= 7 {
		c.WriterFeatures = append([]string{}, p.WriterFeatures...)
	}
	return c
}

// Action returns the metaData action of the row.
func (m *CheckpointMetadata) Action() *Metadata {
	return &Metadata{ID: m.ID, Name: m.Name, Description: m.Description,
		Format: Format{Provider: m.Format.Provider, Options: m.Format.Options}, SchemaString: m.SchemaString,
		PartitionColumns: m.PartitionColumns, Configuration: m.Configuration, CreatedTime: m.CreatedTime}
}

// Action returns the protocol action of the row.
func (p *CheckpointProtocol) Action() *Protocol {
	return &Protocol{MinReaderVersion: int(p.MinReaderVersion), MinWriterVersion: int(p.MinWriterVersion),
		ReaderFeatures: p.ReaderFeatures, WriterFeatures: p.WriterFeatures}
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
