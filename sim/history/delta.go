package history

import (
	"encoding/binary"
	"hash/fnv"
	"strconv"
	"strings"
)

// Commit is one version of a Delta table, as the files of its log describe it, or what several versions have changed
// together.
type Commit struct {
	Version int64
	Txns    map[string]int64 // by application id
	Adds    []AddedFile
	Removes []string // paths
	// Rearranges says that it has files whose adds or removes say that they change no data, Changes that it has others.
	Rearranges, Changes bool
	// Deletes says that another tool deletes rows with it, Hides that files have deletion vectors.
	Deletes, Hides bool
}

// AddedFile is a data file that a version adds.
type AddedFile struct {
	Path string
	Rows []Row
}

// Row has the columns by which a row of a table is judged: of events Partition and Offset, of sessions the others.
type Row struct {
	Partition int32
	Offset    int64

	Session, Origin string
	Revision, Total int64  // revision and total_events
	Opening         string // opening_brand, "" for null

	Batch uint64 // batch_id
}

func (r *Row) shard() uint32 { return uint32(r.Batch >> 40) }
func (r *Row) epoch() uint64 { return r.Batch & (1<<40 - 1) }

// offsets is a set of the offsets of one partition.
type offsets struct {
	bits []uint64
	n    int64
}

// add says whether the offset is new.
func (o *offsets) add(offset int64) bool {
	i, bit := int(offset>>6), uint64(1)<<(offset&63)
	for len(o.bits) <= i {
		o.bits = append(o.bits, make([]uint64, 1+len(o.bits))...)
	}
	if o.bits[i]&bit != 0 {
		return false
	}
	o.bits[i] |= bit
	o.n++
	return true
}

func (o *offsets) has(offset int64) bool {
	i := int(offset >> 6)
	return i < len(o.bits) && o.bits[i]&(1<<(offset&63)) != 0
}

// Events judges the versions of the table events, one after the other.
type Events struct {
	report     Report
	partitions map[int32]*offsets
	top        map[int32]int64   // greatest offset of a partition
	epoch      map[uint32]uint64 // greatest epoch of a shard
	txns       map[string]int64
	doubled    int64
	files      map[string]digest // of the live files
}

// digest is one of a set of rows, whatever their order.
type digest struct {
	rows int64
	sum  uint64
}

func (d *digest) add(r *Row) {
	h := fnv.New64a()
	var b [20]byte
	binary.LittleEndian.PutUint32(b[:], uint32(r.Partition))
	binary.LittleEndian.PutUint64(b[4:], uint64(r.Offset))
	binary.LittleEndian.PutUint64(b[12:], r.Batch)
	_, _ = h.Write(b[:]) // never fails
	d.rows, d.sum = d.rows+1, d.sum+h.Sum64()
}

func digestOf(rows []Row) (d digest) {
	for i := range rows {
		d.add(&rows[i])
	}
	return d
}

// NewEvents returns the history of a table without a version.
func NewEvents(report Report) *Events {
	return &Events{report: report, partitions: map[int32]*offsets{}, top: map[int32]int64{}, epoch: map[uint32]uint64{},
		txns: map[string]int64{}, files: map[string]digest{}}
}

// rearranged wants a version that says that it changes no data to change none.
func (h *Events) rearranged(c *Commit, bad func(format string, args ...any)) {
	var before, after digest
	for _, path := range c.Removes {
		d, ok := h.files[path]
		if !ok {
			bad("file %s is removed and was not there", path)
		}
		before.rows, before.sum = before.rows+d.rows, before.sum+d.sum
		delete(h.files, path)
	}
	for _, f := range c.Adds {
		d := digestOf(f.Rows)
		after.rows, after.sum = after.rows+d.rows, after.sum+d.sum
		h.files[f.Path] = d
	}
	if before != after {
		bad("%d rows are rearranged, and are %d others now", before.rows, after.rows)
	}
	if len(c.Txns) > 0 || c.Changes {
		bad("rows are rearranged in a version that does more: %v", c.Txns)
	}
}

// Commit judges the next version: an epoch appears whole and after those before it, and nothing goes or comes twice.
func (h *Events) Commit(c *Commit) {
	bad := func(format string, args ...any) {
		h.report("delta.events", "version %d: "+format, append([]any{c.Version}, args...)...)
	}
	if c.Rearranges {
		h.rearranged(c, bad)
		return
	}
	for _, path := range c.Removes {
		bad("file %s is gone", path)
	}
	epoch, top := map[uint32]uint64{}, map[int32]int64{}
	for _, f := range c.Adds {
		h.files[f.Path] = digestOf(f.Rows)
		for i := range f.Rows {
			r := &f.Rows[i]
			set := h.partitions[r.Partition]
			if set == nil {
				set = &offsets{}
				h.partitions[r.Partition] = set
				h.top[r.Partition] = -1
			}
			if !set.add(r.Offset) {
				h.doubled++
				bad("record %d/%d stands twice", r.Partition, r.Offset)
			} else if r.Offset <= h.top[r.Partition] {
				bad("record %d/%d appears after record %d of its partition", r.Partition, r.Offset, h.top[r.Partition])
			}
			if r.epoch() <= h.epoch[r.shard()] {
				bad("epoch %d of shard %d grows after epoch %d was visible (record %d/%d)", r.epoch(), r.shard(),
					h.epoch[r.shard()], r.Partition, r.Offset)
			}
			epoch[r.shard()] = max(epoch[r.shard()], r.epoch())
			top[r.Partition] = max(top[r.Partition], r.Offset)
		}
	}
	checkTxns(c, h.txns, "events", epoch, bad)
	for s, e := range epoch {
		h.epoch[s] = max(h.epoch[s], e)
	}
	for p, o := range top {
		h.top[p] = max(h.top[p], o)
	}
}

// checkTxns wants the txn of a shard to rise, and every shard with new rows to say in the same commit up to which
// epoch they go.
func checkTxns(c *Commit, txns map[string]int64, kind string, epochs map[uint32]uint64, bad func(string, ...any)) {
	for shard, epoch := range epochs {
		found := false
		for id, version := range c.Txns {
			if s, k := AppID(id); s == shard && k == kind {
				found = true
				if uint64(version) < epoch {
					bad("txn %s is at %d, and there are rows of epoch %d", id, version, epoch)
				}
			}
		}
		if !found {
			bad("rows of shard %d up to epoch %d come without their txn", shard, epoch)
		}
	}
	for id, version := range c.Txns {
		if version <= txns[id] {
			bad("txn %s goes from %d to %d", id, txns[id], version)
		}
		txns[id] = max(txns[id], version)
	}
}

// Sessions judges the versions of the table sessions.
type Sessions struct {
	report Report
	rows   map[string]sessionState // by session and origin
	files  map[string][]string     // keys of the rows of each live file
	txns   map[string]int64
	epoch  map[uint32]uint64 // how far the inserts of a shard have come
	// deleted are the rows that another tool has deleted. Nobody brings them back.
	deleted map[string]bool
}

type sessionState struct {
	file            string
	batch           uint64
	revision, total int64
	opening         string
}

// NewSessions returns the history of a table without a version.
func NewSessions(report Report) *Sessions {
	return &Sessions{report: report, rows: map[string]sessionState{}, files: map[string][]string{},
		txns: map[string]int64{}, epoch: map[uint32]uint64{}, deleted: map[string]bool{}}
}

// Commit judges the next version: a row appears with the plan of its epoch, and stands once from then on, as it was or
// newer, until another tool deletes it for ever.
func (h *Sessions) Commit(c *Commit) {
	bad := func(format string, args ...any) {
		h.report("delta.sessions", "version %d: "+format, append([]any{c.Version}, args...)...)
	}
	removed := map[string]sessionState{}
	for _, path := range c.Removes {
		keys, ok := h.files[path]
		if !ok {
			bad("file %s is removed and was not there", path)
		}
		for _, k := range keys {
			removed[k] = h.rows[k]
			delete(h.rows, k)
		}
		delete(h.files, path)
	}
	inserted := map[uint32]uint64{}
	for _, f := range c.Adds {
		keys := make([]string, 0, len(f.Rows))
		for i := range f.Rows {
			r := &f.Rows[i]
			key := r.Session + " " + r.Origin
			keys = append(keys, key)
			now := sessionState{f.Path, r.Batch, r.Revision, r.Total, r.Opening}
			if _, ok := h.rows[key]; ok {
				bad("session %s stands twice", key)
			}
			was, replaced := removed[key]
			switch same := now.batch == was.batch && now.revision == was.revision && now.total == was.total; {
			case h.deleted[key]:
				bad("session %s was deleted by another tool, and comes back", key)
			case !replaced:
				if r.epoch() <= h.epoch[r.shard()] {
					bad("session %s of epoch %d is inserted after epoch %d of shard %d was visible", key, r.epoch(),
						h.epoch[r.shard()], r.shard())
				}
				inserted[r.shard()] = max(inserted[r.shard()], r.epoch())
			case (c.Rearranges || c.Deletes) && !same:
				bad("session %s is rearranged from %+v to %+v", key, was, now)
			case now.opening != was.opening:
				bad("session %s has the opening brand %q, and had %q", key, now.opening, was.opening)
			case now.batch < was.batch || now.revision < was.revision || now.total < was.total:
				bad("session %s goes back from %+v to %+v", key, was, now)
			}
			delete(removed, key)
			h.rows[key] = now
		}
		h.files[f.Path] = keys
	}
	for key := range removed {
		if c.Deletes {
			h.deleted[key] = true
		} else {
			bad("session %s is gone", key)
		}
	}
	if c.Deletes && (c.Rearranges || len(c.Txns) > 0) {
		bad("rows are deleted in a version that does more: %v", c.Txns)
	}
	if c.Rearranges && (c.Changes || len(inserted) > 0 || len(c.Txns) > 0) {
		bad("rows are rearranged in a version that does more: %v", c.Txns)
	}
	checkTxns(c, h.txns, "sessions", inserted, bad)
	for id, version := range c.Txns { // an insert goes as far as its txn says, and not only as its rows do
		if s, kind := AppID(id); kind == "sessions" {
			h.epoch[s] = max(h.epoch[s], uint64(version))
		}
	}
}

// AppID takes the application id of a transaction apart, cluster/pipeline/shard/kind; the kind is "" if it is another
// one.
func AppID(id string) (shard uint32, kind string) {
	parts := strings.Split(id, "/")
	if len(parts) != 4 {
		return 0, ""
	}
	n, err := strconv.ParseUint(parts[2], 10, 32)
	if err != nil {
		return 0, ""
	}
	return uint32(n), parts[3]
}

// Has says whether a record stands in the table.
func (h *Events) Has(partition int32, offset int64) bool {
	set := h.partitions[partition]
	return set != nil && set.has(offset)
}

// Records returns how many different records stand in the table, and how many rows there were of records that stood
// there before.
func (h *Events) Records() (different, doubled int64) {
	for _, set := range h.partitions {
		different += set.n
	}
	return different, h.doubled
}

// Has says whether a session stands in the table.
func (h *Sessions) Has(session, origin string) bool {
	_, ok := h.rows[session+" "+origin]
	return ok
}

// Deleted says whether another tool has deleted a session's row.
func (h *Sessions) Deleted(session, origin string) bool { return h.deleted[session+" "+origin] }

// Deletions is how many rows other tools have deleted.
func (h *Sessions) Deletions() int { return len(h.deleted) }
