package history

import (
	"context"
	"errors"
	"fmt"

	"github.com/parquet-go/parquet-go"

	"deckle/sinks/delta/deltalog"
)

// checkpointRow is a row of a checkpoint, with one action. Columns that a file does not have are null.
type checkpointRow struct {
	Txn      *deltalog.CheckpointTxn      `parquet:"txn,optional"`
	Add      *addRow                      `parquet:"add,optional"`
	Remove   *removeRow                   `parquet:"remove,optional"`
	MetaData *deltalog.CheckpointMetadata `parquet:"metaData,optional"`
	Protocol *deltalog.CheckpointProtocol `parquet:"protocol,optional"`
	Domain   *domainRow                   `parquet:"domainMetadata,optional"`
	Sidecar  *sidecarRow                  `parquet:"sidecar,optional"`
}

type vectorRow struct {
	StorageType string `parquet:"storageType"`
	Path        string `parquet:"pathOrInlineDv"`
	Offset      *int32 `parquet:"offset,optional"`
	Size        int32  `parquet:"sizeInBytes"`
	Cardinality int64  `parquet:"cardinality"`
}

type addRow struct {
	Path             string            `parquet:"path"`
	PartitionValues  map[string]string `parquet:"partitionValues" parquet-value:",optional"` // null is ""
	Size             int64             `parquet:"size"`
	ModificationTime int64             `parquet:"modificationTime"`
	Stats            *string           `parquet:"stats,optional"`
	Tags             map[string]string `parquet:"tags,optional"`
	DeletionVector   *vectorRow        `parquet:"deletionVector,optional"`
}

type removeRow struct {
	Path              string     `parquet:"path"`
	DeletionTimestamp *int64     `parquet:"deletionTimestamp,optional"`
	Size              *int64     `parquet:"size,optional"`
	DeletionVector    *vectorRow `parquet:"deletionVector,optional"`
}

type domainRow struct {
	Domain        string `parquet:"domain"`
	Configuration string `parquet:"configuration"`
	Removed       bool   `parquet:"removed"`
}

type sidecarRow struct {
	Path string `parquet:"path"`
}

type rowReader struct {
	r *parquet.GenericReader[checkpointRow]
}

func (r rowReader) Read(rows []checkpointRow) (int, error) {
	clear(rows) // the library does not overwrite fields that are null
	return r.r.Read(rows)
}

func (r rowReader) Close() error { return r.r.Close() }

// readCheckpoint fills an empty State. It returns a *deltalog.CorruptionError if the checkpoint is damaged or not of a
// kind that is read here.
func (t *Table) readCheckpoint(ctx context.Context, c *Checkpoint, opts Options) (*State, error) {
	s := newState(opts)
	if !c.whole() {
		return nil, &deltalog.CorruptionError{Key: c.Keys[0],
			Err: fmt.Errorf("%d of %d parts are there", len(c.Keys), c.Parts)}
	}
	for _, key := range c.Keys {
		data, err := t.st.Get(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("history: table %s: %w", t.Name(), err)
		}
		open := func(f *parquet.File) (deltalog.RowReader[checkpointRow], error) {
			return rowReader{parquet.NewGenericReader[checkpointRow](f)}, nil
		}
		row := 0
		err = deltalog.EachRow(key, data, open, 64, func(r *checkpointRow) error {
			row++
			if err := s.take(r); err != nil {
				return &deltalog.CorruptionError{Key: key, Line: row, Err: err}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if s.Protocol == nil || s.Metadata == nil {
		return nil, &deltalog.CorruptionError{Key: c.Keys[0],
			Err: errors.New("no protocol or no metaData in the checkpoint")}
	}
	s.Version, s.Checkpoint = c.Version, c.Version
	return s, nil
}

// take folds in a row of a checkpoint.
func (s *State) take(r *checkpointRow) error {
	s.actions++
	switch {
	case r.Add != nil:
		a := Add{Add: deltalog.Add{Path: r.Add.Path, PartitionValues: r.Add.PartitionValues, Size: r.Add.Size,
			ModificationTime: r.Add.ModificationTime, Tags: r.Add.Tags, Vector: r.Add.DeletionVector.vector()}}
		if r.Add.Stats != nil {
			a.Stats = *r.Add.Stats
		}
		if a.Path == "" {
			return errNoPath
		}
		if err := s.free(a.ID()); err != nil {
			return err
		}
		s.add(&a)
	case r.Remove != nil:
		if r.Remove.Path == "" {
			return errNoPath
		}
		rm := &Remove{Remove: deltalog.Remove{Path: r.Remove.Path, DeletionTimestamp: r.Remove.DeletionTimestamp,
			Size: r.Remove.Size, Vector: r.Remove.DeletionVector.vector()}}
		if err := s.free(rm.ID()); err != nil {
			return err
		}
		s.remove(rm)
	case r.Txn != nil:
		s.Txns[r.Txn.AppID] = deltalog.Txn(*r.Txn)
	case r.MetaData != nil:
		s.Metadata = r.MetaData.Action()
	case r.Protocol != nil:
		s.Protocol = r.Protocol.Action()
	case r.Domain != nil:
		if !r.Domain.Removed {
			s.Domains[r.Domain.Domain] = r.Domain.Configuration
		}
	case r.Sidecar != nil:
		return errors.New("a checkpoint with sidecars (v2) is not read here")
	}
	return nil
}

// free refuses a second row for a file: a checkpoint has no order, so that nobody could say which of the two holds.
func (s *State) free(id string) error {
	if _, removed := s.Removed[id]; removed || s.Files[id] != nil {
		return fmt.Errorf("%w: %s", errDuplicate, id)
	}
	return nil
}

func (v *vectorRow) vector() *Vector {
	if v == nil {
		return nil
	}
	return &Vector{StorageType: v.StorageType, Path: v.Path, Offset: v.Offset, Size: v.Size, Cardinality: v.Cardinality}
}
