package deltalog

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/parquet-go/parquet-go"

	"deckle/sinks/delta/store"
)

// leaf is a column of a checkpoint that is read here.
type leaf int

const (
	txnAppID leaf = iota
	txnVersion
	txnLastUpdated
	addPath
	addPartitionKey
	addPartitionValue
	addSize
	addModified
	addStats
	addTagKey
	addTagValue
	addVector // storageType; the others of the descriptor follow
	addVectorPath
	addVectorOffset
	addVectorSize
	addVectorRows
	removePath
	removeDeleted
	removeExtended
	removePartitionKey
	removePartitionValue
	removeVector
	removeVectorPath
	removeVectorOffset
	removeVectorSize
	removeVectorRows
	removeSize
	metaID
	metaName
	metaDescription
	metaProvider
	metaOptionKey
	metaOptionValue
	metaSchema
	metaPartitions
	metaConfigurationKey
	metaConfigurationValue
	metaCreated
	protocolReader
	protocolWriter
	protocolReaderFeatures
	protocolWriterFeatures
	leaves
)

// leafSpec says where a column is: under its path, alone or, for a map or a list, as one of the only columns there
// (writers call those differently).
type leafSpec struct {
	path  []string
	kind  parquet.Kind
	of    int // columns under the path: 1, of a map 2
	place int // among them
}

var leafSpecs = [leaves]leafSpec{
	txnAppID:               {[]string{"txn", "appId"}, parquet.ByteArray, 1, 0},
	txnVersion:             {[]string{"txn", "version"}, parquet.Int64, 1, 0},
	txnLastUpdated:         {[]string{"txn", "lastUpdated"}, parquet.Int64, 1, 0},
	addPath:                {[]string{"add", "path"}, parquet.ByteArray, 1, 0},
	addPartitionKey:        {[]string{"add", "partitionValues"}, parquet.ByteArray, 2, 0},
	addPartitionValue:      {[]string{"add", "partitionValues"}, parquet.ByteArray, 2, 1},
	addSize:                {[]string{"add", "size"}, parquet.Int64, 1, 0},
	addModified:            {[]string{"add", "modificationTime"}, parquet.Int64, 1, 0},
	addStats:               {[]string{"add", "stats"}, parquet.ByteArray, 1, 0},
	addTagKey:              {[]string{"add", "tags"}, parquet.ByteArray, 2, 0},
	addTagValue:            {[]string{"add", "tags"}, parquet.ByteArray, 2, 1},
	addVector:              {[]string{"add", "deletionVector", "storageType"}, parquet.ByteArray, 1, 0},
	addVectorPath:          {[]string{"add", "deletionVector", "pathOrInlineDv"}, parquet.ByteArray, 1, 0},
	addVectorOffset:        {[]string{"add", "deletionVector", "offset"}, parquet.Int32, 1, 0},
	addVectorSize:          {[]string{"add", "deletionVector", "sizeInBytes"}, parquet.Int32, 1, 0},
	addVectorRows:          {[]string{"add", "deletionVector", "cardinality"}, parquet.Int64, 1, 0},
	removePath:             {[]string{"remove", "path"}, parquet.ByteArray, 1, 0},
	removeDeleted:          {[]string{"remove", "deletionTimestamp"}, parquet.Int64, 1, 0},
	removeExtended:         {[]string{"remove", "extendedFileMetadata"}, parquet.Boolean, 1, 0},
	removePartitionKey:     {[]string{"remove", "partitionValues"}, parquet.ByteArray, 2, 0},
	removePartitionValue:   {[]string{"remove", "partitionValues"}, parquet.ByteArray, 2, 1},
	removeVector:           {[]string{"remove", "deletionVector", "storageType"}, parquet.ByteArray, 1, 0},
	removeVectorPath:       {[]string{"remove", "deletionVector", "pathOrInlineDv"}, parquet.ByteArray, 1, 0},
	removeVectorOffset:     {[]string{"remove", "deletionVector", "offset"}, parquet.Int32, 1, 0},
	removeVectorSize:       {[]string{"remove", "deletionVector", "sizeInBytes"}, parquet.Int32, 1, 0},
	removeVectorRows:       {[]string{"remove", "deletionVector", "cardinality"}, parquet.Int64, 1, 0},
	removeSize:             {[]string{"remove", "size"}, parquet.Int64, 1, 0},
	metaID:                 {[]string{"metaData", "id"}, parquet.ByteArray, 1, 0},
	metaName:               {[]string{"metaData", "name"}, parquet.ByteArray, 1, 0},
	metaDescription:        {[]string{"metaData", "description"}, parquet.ByteArray, 1, 0},
	metaProvider:           {[]string{"metaData", "format", "provider"}, parquet.ByteArray, 1, 0},
	metaOptionKey:          {[]string{"metaData", "format", "options"}, parquet.ByteArray, 2, 0},
	metaOptionValue:        {[]string{"metaData", "format", "options"}, parquet.ByteArray, 2, 1},
	metaSchema:             {[]string{"metaData", "schemaString"}, parquet.ByteArray, 1, 0},
	metaPartitions:         {[]string{"metaData", "partitionColumns"}, parquet.ByteArray, 1, 0},
	metaConfigurationKey:   {[]string{"metaData", "configuration"}, parquet.ByteArray, 2, 0},
	metaConfigurationValue: {[]string{"metaData", "configuration"}, parquet.ByteArray, 2, 1},
	metaCreated:            {[]string{"metaData", "createdTime"}, parquet.Int64, 1, 0},
	protocolReader:         {[]string{"protocol", "minReaderVersion"}, parquet.Int32, 1, 0},
	protocolWriter:         {[]string{"protocol", "minWriterVersion"}, parquet.Int32, 1, 0},
	protocolReaderFeatures: {[]string{"protocol", "readerFeatures"}, parquet.ByteArray, 1, 0},
	protocolWriterFeatures: {[]string{"protocol", "writerFeatures"}, parquet.ByteArray, 1, 0},
}

// locate returns the place of each leaf among a schema's columns, -1 for one that is not there.
func locate(schema *parquet.Schema) (at [leaves]int, err error) {
	columns := schema.Columns()
	for l, spec := range leafSpecs {
		at[l] = -1
		var under []int
		for i, path := range columns {
			if len(path) >= len(spec.path) && slices.Equal(path[:len(spec.path)], spec.path) {
				under = append(under, i)
			}
		}
		if len(under) == 0 {
			continue
		}
		if len(under) != spec.of {
			return at, fmt.Errorf("%d columns of %v, want %d", len(under), spec.path, spec.of)
		}
		column, ok := schema.Lookup(columns[under[spec.place]]...)
		if !ok || column.Node.Type().Kind() != spec.kind {
			return at, fmt.Errorf("column %v is not stored as %v", columns[under[spec.place]], spec.kind)
		}
		at[l] = under[spec.place]
	}
	return at, nil
}

// checkpointView is one row of a checkpoint: the values of its columns, in bytes that are valid until the next row. A
// column that the file does not have has no values.
type checkpointView [leaves][]parquet.Value

// one is the value of a column with one per row, and whether it is not null.
func (v *checkpointView) one(l leaf) (parquet.Value, bool) {
	if len(v[l]) != 1 || v[l][0].IsNull() {
		return parquet.Value{}, false
	}
	return v[l][0], true
}

func (v *checkpointView) bytes(l leaf) []byte {
	if x, ok := v.one(l); ok {
		return x.ByteArray()
	}
	return nil
}

func (v *checkpointView) text(l leaf) *string {
	if x, ok := v.one(l); ok {
		s := string(x.ByteArray())
		return &s
	}
	return nil
}

func (v *checkpointView) int(l leaf) int64 {
	if x, ok := v.one(l); ok {
		return x.Int64()
	}
	return 0
}

func (v *checkpointView) time(l leaf) *int64 {
	if x, ok := v.one(l); ok {
		n := x.Int64()
		return &n
	}
	return nil
}

// pairs calls yield for the entries of a map. A null value is empty, as the protocol reads partition values.
func (v *checkpointView) pairs(key, value leaf, yield func(k, v []byte)) {
	for i, k := range v[key] {
		if k.IsNull() || i >= len(v[value]) {
			continue
		}
		var b []byte
		if x := v[value][i]; !x.IsNull() {
			b = x.ByteArray()
		}
		yield(k.ByteArray(), b)
	}
}

func (v *checkpointView) texts(key, value leaf) map[string]string {
	m := map[string]string{}
	v.pairs(key, value, func(k, v []byte) { m[string(k)] = string(v) })
	return m
}

func (v *checkpointView) list(l leaf) (out []string) {
	for _, x := range v[l] {
		if !x.IsNull() {
			out = append(out, string(x.ByteArray()))
		}
	}
	return out
}

// entry fills e with the row's add.
func (v *checkpointView) entry(e *fileEntry) {
	*e = fileEntry{path: v.bytes(addPath), size: v.int(addSize), modified: v.int(addModified), stats: v.bytes(addStats),
		values: e.values[:0]}
	v.pairs(addPartitionKey, addPartitionValue, func(k, v []byte) { e.values = append(e.values, columnValue{k, v}) })
	e.partitioned()
	ok := 0
	v.pairs(addTagKey, addTagValue, func(k, v []byte) {
		var err error
		switch string(k) {
		case TagShard:
			var n uint64
			n, err = strconv.ParseUint(string(v), 10, 32)
			e.origin.Shard = uint32(n)
		case TagFrom:
			e.origin.From, err = strconv.ParseUint(string(v), 10, 64)
		case TagTo:
			e.origin.To, err = strconv.ParseUint(string(v), 10, 64)
		case TagParts:
			e.parts = parseParts(string(v))
			return
		default:
			return
		}
		if err == nil {
			ok++
		}
	})
	if e.origin.Tagged = ok == 3; e.origin.Tagged {
		e.parts = nil
	} else {
		e.origin = Origin{}
	}
}

func (v *checkpointView) txn() Txn {
	return Txn{AppID: string(v.bytes(txnAppID)), Version: v.int(txnVersion), LastUpdated: v.time(txnLastUpdated)}
}

func (v *checkpointView) metadata() *Metadata {
	return &Metadata{ID: string(v.bytes(metaID)), Name: v.text(metaName), Description: v.text(metaDescription),
		Format:       Format{Provider: string(v.bytes(metaProvider)), Options: v.texts(metaOptionKey, metaOptionValue)},
		SchemaString: string(v.bytes(metaSchema)), PartitionColumns: v.list(metaPartitions),
		Configuration: v.texts(metaConfigurationKey, metaConfigurationValue), CreatedTime: v.time(metaCreated)}
}

func (v *checkpointView) protocol() *Protocol {
	p := &Protocol{ReaderFeatures: v.list(protocolReaderFeatures), WriterFeatures: v.list(protocolWriterFeatures)}
	if x, ok := v.one(protocolReader); ok {
		p.MinReaderVersion = int(x.Int32())
	}
	if x, ok := v.one(protocolWriter); ok {
		p.MinWriterVersion = int(x.Int32())
	}
	return p
}

// has reports whether the row's action is the one to which a column belongs that this action cannot be without.
func (v *checkpointView) has(l leaf) bool { _, ok := v.one(l); return ok }

// footerGuess is how many bytes of a checkpoint's end are read first: the footer, or all of a small one.
const footerGuess = 256 << 10

const parquetTail = 8 // length of the footer u32, "PAR1"

// source reads the object of a checkpoint in ranges. While it is open the object may be replaced, as other tools do.
type source struct {
	ctx   context.Context
	store store.Store
	key   string
	size  int64
	image string
	end   []byte // the object's last bytes
	err   error  // of the store
}

func openSource(ctx context.Context, s store.Store, key string) (*source, error) {
	o := &source{ctx: ctx, store: s, key: key}
	buf := make([]byte, footerGuess)
	r, err := s.GetRange(ctx, key, -1, buf)
	if errors.Is(err, store.ErrRange) {
		return nil, &CorruptionError{Key: key, Err: errNotParquet}
	}
	if err != nil {
		return nil, err
	}
	o.size, o.image, o.end = r.Size, r.Image, buf[:r.N]
	return o, nil
}

// read fills p with the bytes from off on, all of which the object must have.
func (o *source) read(off int64, p []byte) error {
	if begin := o.size - int64(len(o.end)); off >= begin {
		copy(p, o.end[off-begin:])
		return nil
	}
	for len(p) > 0 {
		// A range is bounded, so that each request has its own time limit.
		n := min(len(p), 16<<20)
		r, err := o.store.GetRange(o.ctx, o.key, off, p[:n])
		if err != nil && !errors.Is(err, store.ErrRange) {
			o.err = err
			return err
		}
		if err != nil || r.Image != o.image || r.N != n {
			return &CorruptionError{Key: o.key, Err: errors.New("it was replaced while it was read")}
		}
		off, p = off+int64(n), p[n:]
	}
	return nil
}

// ReadAt implements io.ReaderAt, for the footer alone.
func (o *source) ReadAt(p []byte, off int64) (int, error) {
	if off < o.size-int64(len(o.end)) || off+int64(len(p)) > o.size {
		return 0, errNotParquet
	}
	return copy(p, o.end[off-(o.size-int64(len(o.end))):]), nil
}

// open checks the lengths in the footer, as OpenParquet does, and has the library read it.
func (o *source) open() (*parquet.File, error) {
	if len(o.end) < parquetTail || string(o.end[len(o.end)-4:]) != "PAR1" {
		return nil, errNotParquet
	}
	n := int64(binary.LittleEndian.Uint32(o.end[len(o.end)-parquetTail:]))
	if n > o.size-4-parquetTail {
		return nil, fmt.Errorf("a footer of %d bytes in a file of %d", n, o.size)
	}
	if all := n + parquetTail; all > int64(len(o.end)) {
		end := make([]byte, all)
		if err := o.read(o.size-all, end); err != nil {
			return nil, err
		}
		o.end = end
	}
	footer := thrift{b: o.end[int64(len(o.end)-parquetTail)-n : len(o.end)-parquetTail]}
	if footer.structure(0, nil); footer.err != nil {
		return nil, fmt.Errorf("footer: %w", footer.err)
	}
	return parquet.OpenFile(o, o.size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true),
		parquet.SkipMagicBytes(true), parquet.ReadBufferSize(16<<10))
}

// window is a part of a file that stands in memory.
type window struct {
	off  int64
	data []byte
}

// ReadAt implements io.ReaderAt.
func (w *window) ReadAt(p []byte, off int64) (int, error) {
	if off < w.off || off > w.off+int64(len(w.data)) {
		return 0, errNotParquet
	}
	return bytes.NewReader(w.data).ReadAt(p, off-w.off)
}

// cursor reads the values of one column, row by row.
type cursor struct {
	pages    *parquet.FilePages
	repeated bool
	page     parquet.Page
	held     []parquet.Page // of which values of the current row are still in use
	values   parquet.ValueReader
	buf      [256]parquet.Value
	at, n    int
	row      []parquet.Value
}

// fill makes at least one value available, false at the column's end.
func (c *cursor) fill() (bool, error) {
	for c.at == c.n {
		if c.values == nil {
			page, err := c.pages.ReadPage()
			if errors.Is(err, io.EOF) {
				return false, nil
			}
			if err != nil {
				return false, err
			}
			c.page, c.values = page, page.Values()
		}
		n, err := c.values.ReadValues(c.buf[:])
		c.at, c.n = 0, n
		if errors.Is(err, io.EOF) && n == 0 || err == nil && n == 0 {
			c.held, c.page, c.values = append(c.held, c.page), nil, nil
		} else if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
	}
	return true, nil
}

// next reads the values of the next row.
func (c *cursor) next() error {
	c.release() // what is left in buf stands in the page that is open
	c.row = c.row[:0]
	for {
		ok, err := c.fill()
		if err != nil {
			return err
		}
		if !ok || len(c.row) > 0 && c.buf[c.at].RepetitionLevel() == 0 {
			if len(c.row) == 0 {
				return io.ErrUnexpectedEOF
			}
			return nil
		}
		c.row = append(c.row, c.buf[c.at])
		if c.at++; !c.repeated {
			return nil
		}
	}
}

func (c *cursor) release() {
	for _, p := range c.held {
		parquet.Release(p)
	}
	c.held = c.held[:0]
}

func (c *cursor) close() {
	if c.page != nil {
		c.held = append(c.held, c.page)
	}
	c.release()
	_ = c.pages.Close() // the window is in memory
}

// groupSpans says where the columns of a row group stand in the file.
type groupSpans struct {
	spans     [leaves][2]int64 // from, to; zero for one that is not read
	low, high int64            // of all of them
}

// spansOf checks where the columns at some places are in a row group of a file of size bytes.
func spansOf(f *parquet.File, group int, at [leaves]int, size int64) (s groupSpans, err error) {
	meta := f.Metadata().RowGroups[group].Columns
	s.low = size
	for l, i := range at {
		if i < 0 {
			continue
		}
		if i >= len(meta) || i >= len(f.RowGroups()[group].ColumnChunks()) {
			return s, fmt.Errorf("%d columns in a row group, want more than %d", len(meta), i)
		}
		c := &meta[i].MetaData
		from, n := c.DataPageOffset, c.TotalCompressedSize
		if d := c.DictionaryPageOffset; d != 0 {
			from = d
		}
		if from < 0 || n < 0 || from > size || n > size-from {
			return s, fmt.Errorf("column %v: %d bytes at %d in a file of %d", c.PathInSchema, n, from, size)
		}
		s.spans[l] = [2]int64{from, from + n}
		s.low, s.high = min(s.low, from), max(s.high, from+n)
	}
	return s, nil
}

// eachCheckpointView reads a checkpoint from the store, one row group at a time, and calls yield for each row. Of the
// columns only those of want are read. Memory is what a row group takes as it is stored, and a page of each column. The
// Parquet library panics on some damaged files; that is a CorruptionError, like any other damage. Errors of the store
// and of yield are returned unchanged.
func eachCheckpointView(ctx context.Context, s store.Store, key string, want func(leaf) bool,
	yield func(*checkpointView) error) (err error) {
	row, inYield := 0, false
	corrupt := func(cause error) error {
		if _, ok := errors.AsType[*CorruptionError](cause); ok {
			return cause
		}
		return &CorruptionError{Key: key, Line: row, Err: cause}
	}
	o, err := openSource(ctx, s, key)
	if err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			if inYield {
				panic(p)
			}
			err = corrupt(fmt.Errorf("decoder panicked: %v", p))
		}
	}()
	f, err := o.open()
	if o.err != nil {
		return o.err
	}
	if err != nil {
		return corrupt(err)
	}
	if err := checkCounts(f); err != nil {
		return corrupt(err)
	}
	at, err := locate(f.Schema())
	if err != nil {
		return corrupt(err)
	}
	for l := range leaves {
		if !want(l) {
			at[l] = -1
		}
	}
	groups, most := make([]groupSpans, len(f.RowGroups())), int64(0)
	for i := range groups {
		if groups[i], err = spansOf(f, i, at, o.size); err != nil {
			return corrupt(err)
		}
		most = max(most, groups[i].high-groups[i].low)
	}
	var view checkpointView
	buf := make([]byte, most)
	for i, g := range f.RowGroups() {
		chunks, spans, low := g.ColumnChunks(), groups[i].spans, groups[i].low
		if groups[i].high <= low {
			continue
		}
		buf = buf[:groups[i].high-low]
		if err := o.read(low, buf); err != nil {
			return err
		}
		w := &window{low, buf}
		cursors, places := make([]*cursor, 0, leaves), make([]leaf, 0, leaves)
		err := func() error {
			defer func() {
				for _, c := range cursors {
					c.close()
				}
			}()
			for l := range leaves {
				span := spans[l]
				if span[1] == 0 {
					continue
				}
				if err := checkPages(buf[span[0]-low : span[1]-low]); err != nil {
					return corrupt(fmt.Errorf("column %v: %w", leafSpecs[l].path, err))
				}
				chunk, ok := chunks[at[l]].(*parquet.FileColumnChunk)
				if !ok {
					return corrupt(fmt.Errorf("column %v: cannot be read", leafSpecs[l].path))
				}
				column, _ := f.Schema().Lookup(f.Schema().Columns()[at[l]]...)
				cursors = append(cursors, &cursor{pages: chunk.PagesFrom(w), repeated: column.MaxRepetitionLevel > 0})
				places = append(places, l)
			}
			for range g.NumRows() {
				row++
				for j, c := range cursors {
					if err := c.next(); err != nil {
						return corrupt(err)
					}
					view[places[j]] = c.row
				}
				inYield = true
				if err := yield(&view); err != nil {
					return err
				}
				inYield = false
			}
			for j, c := range cursors {
				if more, err := c.fill(); more || err != nil {
					return corrupt(fmt.Errorf("column %v: more values than rows: %w", leafSpecs[places[j]].path,
						cmp.Or(err, errNotParquet)))
				}
			}
			return nil
		}()
		if err != nil {
			return err
		}
		clear(view[:])
	}
	return nil
}
