package deltalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/snappy"

	"deckle/sinks/delta/store"
)

// checkpointRow is a row of a checkpoint, with one action. Columns are required within their action, or pointers, as
// the Parquet writer turns zero values of optional columns into null.
type checkpointRow struct {
	Txn      *checkpointTxn      `parquet:"txn,optional"`
	Add      *checkpointAdd      `parquet:"add,optional"`
	Remove   *checkpointRemove   `parquet:"remove,optional"`
	MetaData *checkpointMetadata `parquet:"metaData,optional"`
	Protocol *checkpointProtocol `parquet:"protocol,optional"`
}

type checkpointTxn struct {
	AppID       string `parquet:"appId"`
	Version     int64  `parquet:"version"`
	LastUpdated *int64 `parquet:"lastUpdated,optional"`
}

type checkpointAdd struct {
	Path             string            `parquet:"path"`
	PartitionValues  map[string]string `parquet:"partitionValues"`
	Size             int64             `parquet:"size"`
	ModificationTime int64             `parquet:"modificationTime"`
	DataChange       bool              `parquet:"dataChange"`
	Stats            *string           `parquet:"stats,optional"`
	Tags             map[string]string `parquet:"tags,optional"`
}

type checkpointRemove struct {
	Path                 string            `parquet:"path"`
	DeletionTimestamp    *int64            `parquet:"deletionTimestamp,optional"`
	DataChange           bool              `parquet:"dataChange"`
	ExtendedFileMetadata *bool             `parquet:"extendedFileMetadata,optional"`
	PartitionValues      map[string]string `parquet:"partitionValues,optional"`
	Size                 *int64            `parquet:"size,optional"`
}

type checkpointFormat struct {
	Provider string            `parquet:"provider"`
	Options  map[string]string `parquet:"options"`
}

type checkpointMetadata struct {
	ID               string            `parquet:"id"`
	Name             *string           `parquet:"name,optional"`
	Description      *string           `parquet:"description,optional"`
	Format           checkpointFormat  `parquet:"format"`
	SchemaString     string            `parquet:"schemaString"`
	PartitionColumns []string          `parquet:"partitionColumns,list"`
	Configuration    map[string]string `parquet:"configuration"`
	CreatedTime      *int64            `parquet:"createdTime,optional"`
}

type checkpointProtocol struct {
	MinReaderVersion int32    `parquet:"minReaderVersion"`
	MinWriterVersion int32    `parquet:"minWriterVersion"`
	ReaderFeatures   []string `parquet:"readerFeatures,optional,list"`
	WriterFeatures   []string `parquet:"writerFeatures,optional,list"`
}

// eachCheckpointRow decodes a checkpoint row by row.
func eachCheckpointRow(key string, data []byte, yield func(*checkpointRow) error) error {
	open := func(f *parquet.File) (RowReader[checkpointRow], error) {
		return checkpointReader{parquet.NewGenericReader[checkpointRow](f)}, nil
	}
	return EachRow(key, data, open, 64, yield)
}

type checkpointReader struct {
	r *parquet.GenericReader[checkpointRow]
}

func (r checkpointReader) Read(rows []checkpointRow) (int, error) {
	clear(rows) // the library does not overwrite fields that are null
	return r.r.Read(rows)
}

func (r checkpointReader) Close() error { return r.r.Close() }

// readCheckpoint fills an empty snapshot.
func (l *Log) readCheckpoint(ctx context.Context, v int64, s *Snapshot) error {
	key := l.checkpointKey(v)
	data, err := l.opts.Store.Get(ctx, key)
	if err != nil {
		return err
	}
	err = eachCheckpointRow(key, data, func(r *checkpointRow) error {
		switch {
		case r.Add != nil:
			s.totals.files++
			s.totals.bytes += r.Add.Size
			if s.files != nil {
				s.files.add(r.Add.add().entry(), v)
			}
		case r.Txn != nil:
			s.Txns[r.Txn.AppID] = Txn(*r.Txn)
		case r.MetaData != nil:
			s.setMetadata(r.MetaData.metadata())
		case r.Protocol != nil:
			s.Protocol = r.Protocol.protocol()
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
	adds     map[string]*Add
	removes  map[string]*Remove
	txns     map[string]Txn
	protocol *Protocol
	metaData *Metadata
	cutoff   int64 // tombstones older than this are left out, Unix milliseconds

	w       *parquet.GenericWriter[checkpointRow]
	rows    []checkpointRow
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
	// Without deletion vectors no commit adds and removes the same path, so the order of the two does not matter.
	for i := range m.removes {
		delete(c.adds, m.removes[i].Path)
		c.removes[m.removes[i].Path] = &m.removes[i]
	}
	for i := range m.adds {
		delete(c.removes, m.adds[i].Path)
		c.adds[m.adds[i].Path] = &m.adds[i]
	}
}

func (c *checkpointer) write(r checkpointRow) error {
	c.rows = append(c.rows, r)
	c.actions++
	if r.Add != nil {
		c.totals.files++
		c.totals.bytes += r.Add.Size
	}
	if len(c.rows) < 256 {
		return nil
	}
	return c.flush()
}

func (c *checkpointer) flush() error {
	_, err := c.w.Write(c.rows)
	clear(c.rows)
	c.rows = c.rows[:0]
	return err
}

func (c *checkpointer) expired(r *Remove) bool {
	return r.DeletionTimestamp == nil || *r.DeletionTimestamp < c.cutoff
}

// base takes over one row of the former checkpoint, unless a later commit has an action for the same path, application
// id, metaData or protocol.
func (c *checkpointer) base(r *checkpointRow) error {
	switch {
	case r.Add != nil:
		if c.adds[r.Add.Path] == nil && c.removes[r.Add.Path] == nil {
			return c.write(checkpointRow{Add: fromAdd(r.Add.add())})
		}
	case r.Remove != nil:
		rm := r.Remove.remove()
		if c.adds[rm.Path] == nil && c.removes[rm.Path] == nil && !c.expired(rm) {
			return c.write(checkpointRow{Remove: fromRemove(rm)})
		}
	case r.Txn != nil:
		if _, ok := c.txns[r.Txn.AppID]; !ok {
			c.txns[r.Txn.AppID] = Txn(*r.Txn)
		}
	case r.MetaData != nil:
		if c.metaData == nil {
			c.metaData = r.MetaData.metadata()
		}
	case r.Protocol != nil:
		if c.protocol == nil {
			c.protocol = r.Protocol.protocol()
		}
	}
	return nil
}

// own writes the files and tombstones that the commits since the former checkpoint have left, and the txns, metaData
// and protocol of checkpoint and commits together.
func (c *checkpointer) own() error {
	for _, p := range slices.Sorted(maps.Keys(c.adds)) {
		if err := c.write(checkpointRow{Add: fromAdd(c.adds[p])}); err != nil {
			return err
		}
	}
	for _, p := range slices.Sorted(maps.Keys(c.removes)) {
		if r := c.removes[p]; !c.expired(r) {
			if err := c.write(checkpointRow{Remove: fromRemove(r)}); err != nil {
				return err
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.txns)) {
		t := checkpointTxn(c.txns[id])
		if err := c.write(checkpointRow{Txn: &t}); err != nil {
			return err
		}
	}
	if c.protocol == nil || c.metaData == nil {
		return errors.New("no protocol or no metaData")
	}
	if err := c.write(checkpointRow{MetaData: fromMetadata(c.metaData)}); err != nil {
		return err
	}
	return c.write(checkpointRow{Protocol: fromProtocol(c.protocol)})
}

// WriteCheckpoint writes the checkpoint of an existing version, and then the hint. It is made from the checkpoint of
// version base, the newest older one known (-1 for none), and the commits since.
func (l *Log) WriteCheckpoint(ctx context.Context, version, base int64) error {
	size, counted, err := l.writeCheckpoint(ctx, version, base)
	if err != nil {
		return fmt.Errorf("delta: checkpoint %d: %w", version, err)
	}
	_, err = l.locked(ctx, func(s *Snapshot) { s.learn(version, size, counted) })
	return err
}

// writeCheckpoint returns the size in bytes, 0 if another node's stands there, and what it has counted.
func (l *Log) writeCheckpoint(ctx context.Context, version, base int64) (size int64, counted totals, err error) {
	props, err := l.locked(ctx, func(*Snapshot) {})
	if err != nil {
		return 0, counted, err
	}
	c := &checkpointer{
		adds: map[string]*Add{}, removes: map[string]*Remove{}, txns: map[string]Txn{},
		cutoff: l.opts.Now().Add(-props.tombstoneRetention).UnixMilli(), totals: totals{exact: true},
	}
	if err := l.readCommits(ctx, base+1, version, c.fold); err != nil {
		return 0, counted, err
	}
	var buf bytes.Buffer
	c.w = parquet.NewGenericWriter[checkpointRow](&buf,
		parquet.DataPageVersion(1), parquet.DefaultEncoding(&parquet.Plain), parquet.Compression(&snappy.Codec{}),
		parquet.MaxRowsPerRowGroup(100_000), parquet.CreatedBy("deckle", "1", ""))
	if base >= 0 {
		key := l.checkpointKey(base)
		data, err := l.opts.Store.Get(ctx, key)
		if err != nil {
			return 0, counted, err
		}
		if err := eachCheckpointRow(key, data, c.base); err != nil {
			return 0, counted, err
		}
	}
	if err := errors.Join(c.own(), c.flush(), c.w.Close()); err != nil {
		return 0, counted, err
	}
	// If another node has written the checkpoint of this version before, it holds the same state.
	err = l.opts.Store.PutIfAbsent(ctx, l.checkpointKey(version), buf.Bytes())
	if err != nil && !errors.Is(err, store.ErrExists) {
		return 0, counted, err
	}
	hint := lastCheckpointHint{Version: version, Size: c.actions, NumOfAddFiles: c.totals.files}
	if err == nil {
		size = int64(buf.Len())
		hint.SizeInBytes = size
		l.metrics.checkpointBytes.WithLabelValues(l.name()).Add(float64(size))
	}
	b, err := json.Marshal(hint)
	if err != nil {
		return 0, counted, err
	}
	if err := l.opts.Store.Put(ctx, l.root+lastCheckpoint, b); err != nil {
		return 0, counted, fmt.Errorf("hint: %w", err)
	}
	return size, c.totals, nil
}

func (a *checkpointAdd) add() *Add {
	return &Add{Path: a.Path, PartitionValues: a.PartitionValues, Size: a.Size, ModificationTime: a.ModificationTime,
		DataChange: a.DataChange, Stats: deref(a.Stats), Tags: a.Tags}
}

// fromAdd converts an add. It leaves DataChange false, as an action in a checkpoint changes no data.
func fromAdd(a *Add) *checkpointAdd {
	pv := a.PartitionValues
	if pv == nil {
		pv = map[string]string{}
	}
	return &checkpointAdd{Path: a.Path, PartitionValues: pv, Size: a.Size, ModificationTime: a.ModificationTime,
		Stats: optional(a.Stats), Tags: a.Tags}
}

func (r *checkpointRemove) remove() *Remove {
	return &Remove{Path: r.Path, DeletionTimestamp: r.DeletionTimestamp, DataChange: r.DataChange,
		PartitionValues: r.PartitionValues, Size: r.Size,
		ExtendedFileMetadata: r.ExtendedFileMetadata != nil && *r.ExtendedFileMetadata}
}

func fromRemove(r *Remove) *checkpointRemove {
	return &checkpointRemove{Path: r.Path, DeletionTimestamp: r.DeletionTimestamp,
		ExtendedFileMetadata: &r.ExtendedFileMetadata, PartitionValues: r.PartitionValues, Size: r.Size}
}

func (m *checkpointMetadata) metadata() *Metadata {
	return &Metadata{ID: m.ID, Name: m.Name, Description: m.Description,
		Format: Format{Provider: m.Format.Provider, Options: m.Format.Options}, SchemaString: m.SchemaString,
		PartitionColumns: m.PartitionColumns, Configuration: m.Configuration, CreatedTime: m.CreatedTime}
}

func fromMetadata(m *Metadata) *checkpointMetadata {
	return &checkpointMetadata{ID: m.ID, Name: m.Name, Description: m.Description,
		Format: checkpointFormat{Provider: m.Format.Provider, Options: m.Format.Options}, SchemaString: m.SchemaString,
		PartitionColumns: m.PartitionColumns, Configuration: m.Configuration, CreatedTime: m.CreatedTime}
}

func (p *checkpointProtocol) protocol() *Protocol {
	return &Protocol{MinReaderVersion: int(p.MinReaderVersion), MinWriterVersion: int(p.MinWriterVersion),
		ReaderFeatures: p.ReaderFeatures, WriterFeatures: p.WriterFeatures}
}

func fromProtocol(p *Protocol) *checkpointProtocol {
	return &checkpointProtocol{MinReaderVersion: int32(p.MinReaderVersion), MinWriterVersion: int32(p.MinWriterVersion),
		ReaderFeatures: p.ReaderFeatures, WriterFeatures: p.WriterFeatures}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
