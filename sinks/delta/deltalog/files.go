package deltalog

import (
	"bytes"
	"encoding/json"
	"hash/maphash"
	"iter"
	"slices"
	"strconv"
	"strings"

	"deckle/sinks/delta/deletionvector"
)

// File is one live data file.
type File struct {
	Path       string // as the log has it, URL-encoded
	Partition  string // as Partition names it
	Size       int64  // bytes
	Modified   int64  // Unix milliseconds
	NumRecords int64  // from the statistics, -1 if unknown
	Origin     Origin // of a file with rows of one shard
	// Parts are the origins of a file with rows of several shards, ascending by shard; Origin is not tagged then.
	Parts []Origin
	// Vector hides rows of the file; nil: none does.
	Vector *deletionvector.Descriptor
	Stats  string // only if the log was opened with KeepStats
	// Added is the version that added the file, or the version of the checkpoint from which it was read.
	Added int64
}

// ID names the logical file: the data file, and which of its rows are hidden.
func (f *File) ID() string { return deletionvector.FileID(f.Path, f.Vector) }

// fileTable holds the live files of a table in about 80 bytes each, without a pointer per file: a writer of a million
// files keeps 80 MB of them, and the garbage collector has nothing to follow. What a file is called is made from its
// record when somebody asks, as Deckle's names follow from partition, shard, epoch and attempt; other names are kept.
type fileTable struct {
	seed   maphash.Seed
	chunks [][]fileRecord
	used   uint32   // records in chunks, free ones included
	free   []uint32 // records that are not live
	index  []uint32 // open addressing by the hash of the path: place of the record + 1, 0 for none
	live   int
	bytes  int64 // sum of the sizes

	partitions []string
	folders    []string // of the partitions, by the columns of the first file in each
	partition  map[string]uint32
	names      map[uint32]string   // of files whose names do not follow from their records
	parts      map[uint32][]Origin // of files with rows of several shards
	stats      map[uint32]string   // nil: not kept

	scratch []byte
}

type fileRecord struct {
	from, to                    uint64
	attempt                     uint64
	size, modified, rows, added int64
	partition, shard            uint32
	kind                        uint8
}

const (
	recordFree   = iota
	recordPlain  // of any name
	recordNamed  // its name follows from the record
	recordTagged = 0x80

	chunkRecords = 4096
)

func newFileTable(keepStats bool) *fileTable {
	t := &fileTable{seed: maphash.MakeSeed(), partition: map[string]uint32{}, names: map[uint32]string{},
		parts: map[uint32][]Origin{}}
	if keepStats {
		t.stats = map[uint32]string{}
	}
	return t
}

func (t *fileTable) record(i uint32) *fileRecord { return &t.chunks[i/chunkRecords][i%chunkRecords] }

// ownName appends the name that this package's callers give to a file (delta.writer.upload).
func (t *fileTable) ownName(b []byte, r *fileRecord) []byte {
	b = append(b, t.folders[r.partition]...)
	b = append(b, "/part-"...)
	for n := uint64(10_000); n > 1 && uint64(r.shard) < n; n /= 10 {
		b = append(b, '0')
	}
	b = strconv.AppendUint(b, uint64(r.shard), 10)
	b = append(b, '-')
	b = strconv.AppendUint(b, r.to, 10)
	b = append(b, '-')
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[r.attempt>>shift&15])
	}
	return append(b, ".parquet"...)
}

// path appends the path of a record.
func (t *fileTable) path(b []byte, i uint32) []byte {
	r := t.record(i)
	if r.kind&^recordTagged == recordNamed {
		return t.ownName(b, r)
	}
	return append(b, t.names[i]...)
}

// attemptOf reads the 16 hexadecimal digits before the end of an own name; false for anything else.
func attemptOf(path []byte) (n uint64, ok bool) {
	rest, ok := bytes.CutSuffix(path, []byte(".parquet"))
	if !ok || len(rest) < 16 {
		return 0, false
	}
	for _, c := range rest[len(rest)-16:] {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

func (t *fileTable) hash(path []byte) uint64 { return maphash.Bytes(t.seed, path) }

// find returns the place of a path in the index, where its record stands or would stand.
func (t *fileTable) find(path []byte) (at uint64, found bool) {
	mask := uint64(len(t.index) - 1)
	for at = t.hash(path) & mask; t.index[at] != 0; at = (at + 1) & mask {
		t.scratch = t.path(t.scratch[:0], t.index[at]-1)
		if bytes.Equal(t.scratch, path) {
			return at, true
		}
	}
	return at, false
}

func (t *fileTable) grow() {
	if 4*(t.live+1) <= 3*len(t.index) {
		return
	}
	t.index = make([]uint32, max(64, 2*len(t.index)))
	mask := uint64(len(t.index) - 1)
	for i := range t.used {
		if t.record(i).kind == recordFree {
			continue
		}
		t.scratch = t.path(t.scratch[:0], i)
		at := t.hash(t.scratch) & mask
		for t.index[at] != 0 {
			at = (at + 1) & mask
		}
		t.index[at] = i + 1
	}
}

// fileEntry is a file as a log has it. Its texts are valid only during the call that is given it.
type fileEntry struct {
	path, columns, partition []byte // columns are separated by slashes, as the values of partition
	values                   []columnValue
	size, modified           int64
	stats                    []byte
	origin                   Origin
	parts                    []Origin
}

// add makes a file live, in the place of a former one with the path.
func (t *fileTable) add(e *fileEntry, version int64) {
	t.remove(e.path)
	t.grow()
	i := t.used
	if n := len(t.free); n > 0 {
		i, t.free = t.free[n-1], t.free[:n-1]
	} else {
		if i%chunkRecords == 0 {
			t.chunks = append(t.chunks, make([]fileRecord, chunkRecords))
		}
		t.used++
	}
	p, ok := t.partition[string(e.partition)]
	if !ok {
		p = uint32(len(t.partitions))
		t.partitions = append(t.partitions, string(e.partition))
		t.folders = append(t.folders, Folder(strings.Split(string(e.columns), "/"), string(e.partition)))
		t.partition[string(e.partition)] = p
	}
	r := t.record(i)
	*r = fileRecord{from: e.origin.From, to: e.origin.To, size: e.size, modified: e.modified,
		rows: recordsIn(e.stats), added: version, partition: p, shard: e.origin.Shard, kind: recordPlain}
	if r.attempt, ok = attemptOf(e.path); ok && e.origin.Tagged {
		t.scratch = t.ownName(t.scratch[:0], r)
		if bytes.Equal(t.scratch, e.path) {
			r.kind = recordNamed
		}
	}
	if r.kind == recordPlain {
		t.names[i] = string(e.path)
	}
	if e.origin.Tagged {
		r.kind |= recordTagged
	}
	if len(e.parts) > 0 {
		t.parts[i] = e.parts
	}
	if t.stats != nil {
		t.stats[i] = string(e.stats)
	}
	at, _ := t.find(e.path)
	t.index[at] = i + 1
	t.live++
	t.bytes += e.size
}

// remove makes a file not live, if it is.
func (t *fileTable) remove(path []byte) {
	if t.live == 0 {
		return
	}
	at, ok := t.find(path)
	if !ok {
		return
	}
	i := t.index[at] - 1
	// The records behind it that stand where they do because its place was taken are moved up.
	mask := uint64(len(t.index) - 1)
	hole := at
	for next := (at + 1) & mask; t.index[next] != 0; next = (next + 1) & mask {
		t.scratch = t.path(t.scratch[:0], t.index[next]-1)
		if home := t.hash(t.scratch) & mask; (next-home)&mask >= (next-hole)&mask {
			t.index[hole] = t.index[next]
			hole = next
		}
	}
	t.index[hole] = 0
	r := t.record(i)
	t.live--
	t.bytes -= r.size
	*r = fileRecord{}
	delete(t.names, i)
	delete(t.parts, i)
	if t.stats != nil {
		delete(t.stats, i)
	}
	t.free = append(t.free, i)
}

func (t *fileTable) file(i uint32) *File {
	r := t.record(i)
	f := &File{Path: string(t.path(nil, i)), Partition: t.partitions[r.partition], Size: r.size, Modified: r.modified,
		NumRecords: r.rows, Parts: t.parts[i], Stats: t.stats[i], Added: r.added}
	if r.kind&recordTagged != 0 {
		f.Origin = Origin{Tagged: true, Shard: r.shard, From: r.from, To: r.to}
	}
	return f
}

// files yields the live files for which want says so, in no order that means anything.
func (t *fileTable) files(want func(*fileRecord) bool) iter.Seq[*File] {
	return func(yield func(*File) bool) {
		for c, chunk := range t.chunks {
			for j := range chunk {
				if r := &chunk[j]; r.kind != recordFree && want(r) && !yield(t.file(uint32(c*chunkRecords+j))) {
					return
				}
			}
		}
	}
}

// recordsIn reads the number of records from add.stats, -1 if there is none.
func recordsIn(stats []byte) int64 {
	// Nearly every writer puts it first.
	if rest, ok := bytes.CutPrefix(stats, []byte(`{"numRecords":`)); ok {
		n := 0
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		if n > 0 && n < 19 && n < len(rest) && (rest[n] == ',' || rest[n] == '}') && (n == 1 || rest[0] != '0') {
			var v int64
			for _, c := range rest[:n] {
				v = 10*v + int64(c-'0')
			}
			return v
		}
	}
	var s struct {
		NumRecords *json.Number `json:"numRecords"`
	}
	if json.Unmarshal(stats, &s) != nil || s.NumRecords == nil {
		return -1
	}
	n, err := strconv.ParseInt(s.NumRecords.String(), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// entry is the add as a file table takes it.
func (a *Add) entry() *fileEntry {
	e := &fileEntry{path: []byte(a.Path), size: a.Size, modified: a.ModificationTime, stats: []byte(a.Stats),
		origin: parseOrigin(a.Tags), parts: parseParts(a.Tags[TagParts])}
	if e.origin.Tagged {
		e.parts = nil
	}
	for c, v := range a.PartitionValues {
		e.values = append(e.values, columnValue{[]byte(c), []byte(v)})
	}
	e.partitioned()
	return e
}

// columnValue is a partition column and its value in one file.
type columnValue struct{ column, value []byte }

// partitioned sets the partition of an entry, and its columns, by its values, which come in any order.
func (e *fileEntry) partitioned() {
	values := e.values
	switch len(values) {
	case 0:
	case 1: // nearly every table
		e.columns, e.partition = values[0].column, escape(values[0].value)
	default:
		slices.SortFunc(values, func(a, b columnValue) int { return bytes.Compare(a.column, b.column) })
		e.columns, e.partition = nil, nil
		for i, v := range values {
			if i > 0 {
				e.columns, e.partition = append(e.columns, '/'), append(e.partition, '/')
			}
			e.columns, e.partition = append(e.columns, v.column...), append(e.partition, escape(v.value)...)
		}
	}
}
