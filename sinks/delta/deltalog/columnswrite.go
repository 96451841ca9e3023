package deltalog

import (
	"maps"
	"slices"

	"github.com/parquet-go/parquet-go"
)

// checkpointRow is a row of a checkpoint, with one action. Columns are required within their action, or pointers, as
// the Parquet writer turns zero values of optional columns into null. Files are written value by value (rowBuilder):
// given structs, the library would write every value of a map of texts that may be null as null.
type checkpointRow struct {
	Txn      *CheckpointTxn      `parquet:"txn,optional"`
	Add      *checkpointAdd      `parquet:"add,optional"`
	Remove   *checkpointRemove   `parquet:"remove,optional"`
	MetaData *CheckpointMetadata `parquet:"metaData,optional"`
	Protocol *CheckpointProtocol `parquet:"protocol,optional"`
}

// CheckpointTxn is the txn of a row of a checkpoint.
type CheckpointTxn struct {
	AppID       string `parquet:"appId"`
	Version     int64  `parquet:"version"`
	LastUpdated *int64 `parquet:"lastUpdated,optional"`
}

type checkpointAdd struct {
	Path             string            `parquet:"path"`
	PartitionValues  map[string]string `parquet:"partitionValues" parquet-value:",optional"` // "" is null, as in Values
	Size             int64             `parquet:"size"`
	ModificationTime int64             `parquet:"modificationTime"`
	DataChange       bool              `parquet:"dataChange"`
	Stats            *string           `parquet:"stats,optional"`
	Tags             map[string]string `parquet:"tags,optional"`
	Vector           *checkpointVector `parquet:"deletionVector,optional"`
}

type checkpointVector struct {
	StorageType string `parquet:"storageType"`
	Path        string `parquet:"pathOrInlineDv"`
	Offset      *int32 `parquet:"offset,optional"`
	Size        int32  `parquet:"sizeInBytes"`
	Cardinality int64  `parquet:"cardinality"`
}

type checkpointRemove struct {
	Path                 string            `parquet:"path"`
	DeletionTimestamp    *int64            `parquet:"deletionTimestamp,optional"`
	DataChange           bool              `parquet:"dataChange"`
	ExtendedFileMetadata *bool             `parquet:"extendedFileMetadata,optional"`
	PartitionValues      map[string]string `parquet:"partitionValues,optional" parquet-value:",optional"`
	Size                 *int64            `parquet:"size,optional"`
	Vector               *checkpointVector `parquet:"deletionVector,optional"`
}

type checkpointFormat struct {
	Provider string            `parquet:"provider"`
	Options  map[string]string `parquet:"options"`
}

// CheckpointMetadata is the metaData of a row of a checkpoint.
type CheckpointMetadata struct {
	ID               string            `parquet:"id"`
	Name             *string           `parquet:"name,optional"`
	Description      *string           `parquet:"description,optional"`
	Format           checkpointFormat  `parquet:"format"`
	SchemaString     string            `parquet:"schemaString"`
	PartitionColumns []string          `parquet:"partitionColumns,list"`
	Configuration    map[string]string `parquet:"configuration"`
	CreatedTime      *int64            `parquet:"createdTime,optional"`
}

// CheckpointProtocol is the protocol of a row of a checkpoint.
type CheckpointProtocol struct {
	MinReaderVersion int32    `parquet:"minReaderVersion"`
	MinWriterVersion int32    `parquet:"minWriterVersion"`
	ReaderFeatures   []string `parquet:"readerFeatures,optional,list"`
	WriterFeatures   []string `parquet:"writerFeatures,optional,list"`
}

// checkpointSchema is the schema of checkpoints as they are written.
var checkpointSchema = parquet.SchemaOf(checkpointRow{})

// columnSpec is a column, or the two of a map, of checkpointSchema.
type columnSpec struct {
	at      int // the column, or the map's keys; its values are behind it
	defined int // definition level of a value that is not null
	// emptyNull says that the values of a map may be null, and that those that are empty are.
	emptyNull bool
}

func columnOf(path ...string) columnSpec {
	c, ok := checkpointSchema.Lookup(path...)
	if !ok {
		panic("deltalog: a checkpoint has no column " + path[len(path)-1])
	}
	spec := columnSpec{at: c.ColumnIndex, defined: c.MaxDefinitionLevel}
	if n := len(path) - 1; path[n] == "key" {
		values, ok := checkpointSchema.Lookup(append(slices.Clone(path[:n]), "value")...)
		spec.emptyNull = ok && values.MaxDefinitionLevel > spec.defined
	}
	return spec
}

var (
	columnAddPath          = columnOf("add", "path")
	columnAddPartition     = columnOf("add", "partitionValues", "key_value", "key")
	columnAddSize          = columnOf("add", "size")
	columnAddModified      = columnOf("add", "modificationTime")
	columnAddDataChange    = columnOf("add", "dataChange")
	columnAddStats         = columnOf("add", "stats")
	columnAddTags          = columnOf("add", "tags", "key_value", "key")
	columnAddVector        = vectorOf("add")
	columnRemovePath       = columnOf("remove", "path")
	columnRemoveDeleted    = columnOf("remove", "deletionTimestamp")
	columnRemoveDataChange = columnOf("remove", "dataChange")
	columnRemoveExtended   = columnOf("remove", "extendedFileMetadata")
	columnRemovePartition  = columnOf("remove", "partitionValues", "key_value", "key")
	columnRemoveSize       = columnOf("remove", "size")
	columnRemoveVector     = vectorOf("remove")

	checkpointColumns = len(checkpointSchema.Columns())
)

// pairs are the entries of a map of texts.
type pairs struct{ keys, values []parquet.Value }

// sortedPairs are a map's entries in the order of its keys.
func sortedPairs(m map[string]string) (p pairs) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		p.keys, p.values = append(p.keys, parquet.ValueOf(k)), append(p.values, parquet.ValueOf(m[k]))
	}
	return p
}

// some reports whether there is an entry.
func (p pairs) some() bool {
	return slices.ContainsFunc(p.keys, func(k parquet.Value) bool { return !k.IsNull() })
}

// rowBuilder builds rows of checkpointSchema, value by value, without an allocation per row. Texts are copied.
type rowBuilder struct {
	rows    []parquet.Row
	columns [][]parquet.Value // of the row that is being built
	free    []parquet.Row     // of former rows
	texts   []byte            // of the rows
}

func (b *rowBuilder) put(column int, v parquet.Value, repetition, definition int) {
	if b.columns == nil {
		b.columns = make([][]parquet.Value, checkpointColumns)
	}
	b.columns[column] = append(b.columns[column], v.Level(repetition, definition, column))
}

// copied is a value of the same bytes, which live until reset.
func (b *rowBuilder) copied(p []byte) parquet.Value {
	if len(b.texts)+len(p) > cap(b.texts) {
		// Values before this one keep the former array.
		b.texts = make([]byte, 0, max(256<<10, len(p)))
	}
	n := len(b.texts)
	b.texts = append(b.texts, p...)
	return parquet.ByteArrayValue(b.texts[n:])
}

func (b *rowBuilder) text(c columnSpec, p []byte) { b.put(c.at, b.copied(p), 0, c.defined) }
func (b *rowBuilder) int(c columnSpec, n int64)   { b.put(c.at, parquet.Int64Value(n), 0, c.defined) }
func (b *rowBuilder) bool(c columnSpec, v bool)   { b.put(c.at, parquet.BooleanValue(v), 0, c.defined) }
func int64Value(n *int64) (v parquet.Value) {
	if n != nil {
		v = parquet.Int64Value(*n)
	}
	return v
}

// optional puts a value, or null if there is none.
func (b *rowBuilder) optional(c columnSpec, v parquet.Value, there bool) {
	switch {
	case !there:
		b.put(c.at, parquet.NullValue(), 0, c.defined-1)
	case v.Kind() == parquet.ByteArray:
		b.put(c.at, b.copied(v.ByteArray()), 0, c.defined)
	default:
		b.put(c.at, v, 0, c.defined)
	}
}

// pairs puts a map, of whose entries those with a null key are left out, and which is null if it is not there. A map
// that cannot be null is one that is there.
func (b *rowBuilder) pairs(c columnSpec, m pairs, there bool) {
	if there {
		n := 0
		for i, k := range m.keys {
			if k.IsNull() || i >= len(m.values) {
				continue
			}
			var v []byte // of null it is empty
			if !m.values[i].IsNull() {
				v = m.values[i].ByteArray()
			}
			b.put(c.at, b.copied(k.ByteArray()), min(n, 1), c.defined)
			switch {
			case c.emptyNull && len(v) == 0:
				b.put(c.at+1, parquet.NullValue(), min(n, 1), c.defined)
			case c.emptyNull:
				b.put(c.at+1, b.copied(v), min(n, 1), c.defined+1)
			default:
				b.put(c.at+1, b.copied(v), min(n, 1), c.defined)
			}
			n++
		}
		if n > 0 {
			return
		}
	}
	level := c.defined - 2
	if there {
		level = c.defined - 1
	}
	b.put(c.at, parquet.NullValue(), 0, level)
	b.put(c.at+1, parquet.NullValue(), 0, level)
}

// end finishes a row. The columns of other actions are null.
func (b *rowBuilder) end() {
	var row parquet.Row
	if n := len(b.free); n > 0 {
		row, b.free = b.free[n-1][:0], b.free[:n-1]
	}
	for i := range checkpointColumns {
		if len(b.columns[i]) == 0 {
			row = append(row, parquet.NullValue().Level(0, 0, i))
			continue
		}
		row = append(row, b.columns[i]...)
		b.columns[i] = b.columns[i][:0]
	}
	b.rows = append(b.rows, row)
}

// reset forgets the rows, which have been written.
func (b *rowBuilder) reset() {
	b.free = append(b.free, b.rows...)
	b.rows, b.texts = b.rows[:0], b.texts[:0]
}
