package cluster

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/parquet-go/parquet-go"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sim"
	"deckle/sinks/delta"
	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
	"deckle/state"
)

// deleteRows has the foreign tool delete rows a few times: as delta-rs does it, a file is replaced by one without the
// rows, and without Deckle's tags; or as Spark does it, by a deletion vector.
func (w *world) deleteRows(ctx context.Context) {
	n := 0
	for range 1 + w.rng.IntN(4) {
		gone, err := w.deleteOnce(ctx)
		if err != nil && ctx.Err() == nil {
			w.history.fail("the foreign tool cannot delete rows: %v", err)
			return
		}
		n += gone
		_ = sim.Pause(ctx, w.rng.between(0, 3*time.Second))
	}
	if n > 0 {
		w.history.fault("foreign_delete", "%d rows of sessions", n)
	}
}

// deleteOnce deletes about a third of the rows of one file, of those of which the state must know that they stand in
// the table. It begins again as long as others are faster, ten times at most.
func (w *world) deleteOnce(ctx context.Context) (int, error) {
	for range 10 {
		table, err := delta.OpenTable(ctx, w.objects.Mem, "sessions")
		if err != nil {
			return 0, err
		}
		snap := table.Snapshot()
		if len(snap.Files) == 0 {
			return 0, nil
		}
		f := snap.Files[w.rng.IntN(len(snap.Files))]
		info, err := w.foreignInfo(ctx, snap.Version)
		if err != nil {
			return 0, err
		}
		commit, gone, err := w.without(ctx, f, table.PartitionValues(f), info)
		if errors.Is(err, store.ErrNotFound) {
			continue // it was removed meanwhile, and vacuumed
		}
		if err != nil || len(gone) == 0 {
			return 0, err
		}
		_ = sim.Pause(ctx, w.rng.between(0, 2*time.Second)) // while it writes its file
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		err = w.objects.PutIfAbsent(ctx, fmt.Sprintf("sessions/_delta_log/%020d.json", snap.Version+1), commit)
		if errors.Is(err, store.ErrExists) {
			continue
		}
		if err != nil {
			return 0, err
		}
		w.foreign.note(gone)
		return len(gone), nil
	}
	return 0, nil
}

// foreignInfo is the commitInfo of a commit that is to follow a version. A tool that may write to a table with
// in-commit timestamps gives its commits one.
func (w *world) foreignInfo(ctx context.Context, version int64) (map[string]any, error) {
	now := time.Now().UnixMilli()
	info := map[string]any{"timestamp": now, "operation": "DELETE"}
	key := fmt.Sprintf("sessions/_delta_log/%020d.json", version)
	data, err := w.objects.Mem.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	var first struct {
		Info struct {
			InCommit int64 `json:"inCommitTimestamp"`
		} `json:"commitInfo"`
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	if err := json.Unmarshal(line, &first); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if first.Info.InCommit > 0 {
		info["inCommitTimestamp"] = max(now, first.Info.InCommit+1)
	}
	return info, nil
}

// without stores what a file becomes without some of its rows, or the deletion vector that hides them, and returns the
// commit, with this commitInfo, and what is gone. Of the file's partition values it writes null in one of the two forms
// that the protocol has for it.
func (w *world) without(ctx context.Context, f *delta.File, partition deltalog.Values, info map[string]any) (
	commit []byte, gone map[string]uint64, err error,
) {
	data, err := w.objects.Mem.Get(ctx, "sessions/"+f.Path)
	if err != nil {
		return nil, nil, err
	}
	hidden, err := deletionvector.Read(ctx, w.objects.Mem, "sessions", f.Vector)
	if err != nil {
		return nil, nil, err
	}
	file, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, nil, err
	}
	columns := file.Schema()
	session, _ := columns.Lookup("session_id")
	origin, _ := columns.Lookup("origin")
	batch, _ := columns.Lookup("batch_id")
	var rest bytes.Buffer
	out, left := parquet.NewWriter(&rest, columns), 0
	gone = map[string]uint64{}
	var places []int64 // of the rows that go
	total := int64(0)
	for _, g := range file.RowGroups() {
		rows := g.Rows()
		for buf := make([]parquet.Row, 1); ; {
			n, err := rows.ReadRows(buf)
			total += int64(n)
			if n > 0 && !hidden.Has(total-1) {
				r := buf[0]
				key := schema.RowKey(r[session.ColumnIndex].String(), r[origin.ColumnIndex].String())
				if _, epoch := schema.SplitBatchID(uint64(r[batch.ColumnIndex].Int64())); w.rng.IntN(3) == 0 &&
					w.plans.stands(key) {
					gone[strings.Clone(key)], places = epoch, append(places, total-1)
				} else if _, err := out.WriteRows(buf[:1]); err != nil {
					return nil, nil, err
				} else {
					left++
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, nil, err
			}
		}
		if err := rows.Close(); err != nil {
			return nil, nil, err
		}
	}
	if err := out.Close(); err != nil {
		return nil, nil, err
	}
	at := time.Now().UnixMilli()
	actions := []any{
		map[string]any{"commitInfo": info},
		map[string]any{"remove": deltalog.Remove{Path: f.Path, DataChange: true, DeletionTimestamp: &at,
			Vector: f.Vector}},
	}
	if left > 0 && len(gone) > 0 && w.rng.IntN(2) == 0 {
		hide, err := w.hide(ctx, f, partition, hidden.With(places...), total)
		if err != nil {
			return nil, nil, err
		}
		actions = append(actions, hide...)
	} else if left > 0 && len(gone) > 0 {
		n := w.foreign.file()
		var values any = partition
		if n%2 == 0 {
			values = map[string]string(partition) // "" for null
		}
		name := fmt.Sprintf("%s/part-%05d-foreign.parquet", path.Dir(f.Path), n)
		if err := w.objects.Mem.PutIfAbsent(ctx, "sessions/"+name, rest.Bytes()); err != nil {
			return nil, nil, err
		}
		actions = append(actions, map[string]any{"add": map[string]any{"path": name, "size": rest.Len(),
			"partitionValues": values, "modificationTime": at,
			"dataChange": true, "stats": fmt.Sprintf(`{"numRecords":%d}`, left)}})
	}
	for _, a := range actions {
		line, err := json.Marshal(a)
		if err != nil {
			return nil, nil, err
		}
		commit = append(append(commit, line...), '\n')
	}
	return commit, gone, nil
}

// hide stores the deletion vector by which rows of a file of so many rows are hidden, and returns the add, and the
// protocol that the table must have.
func (w *world) hide(ctx context.Context, f *delta.File, partition deltalog.Values, rows *deletionvector.Rows,
	n int64) ([]any, error) {
	log, err := deltalog.Open(ctx, deltalog.Options{Store: w.objects.Mem, Name: "sessions"})
	if err != nil {
		return nil, err
	}
	var protocol *deltalog.Protocol
	log.View(func(s *deltalog.Snapshot) { protocol = s.Protocol.WithVectors() })
	if err := log.Close(); err != nil {
		return nil, err
	}
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[8:], uint64(w.foreign.file()))
	object := deletionvector.NewObject(id)
	vector, err := object.Add(rows)
	if err != nil {
		return nil, err
	}
	if err := w.objects.Mem.PutIfAbsent(ctx, "sessions/"+object.Key(), object.Data()); err != nil {
		return nil, err
	}
	return []any{map[string]any{"protocol": protocol}, map[string]any{"add": deltalog.Add{Path: f.Path, Size: f.Size,
		PartitionValues: partition, ModificationTime: f.Modified, DataChange: true,
		Stats: fmt.Sprintf(`{"numRecords":%d,"tightBounds":false}`, n), Tags: deltalog.TagsOf(f.Origins()),
		Vector: vector}}}, nil
}

// stands says whether the state must know that a session's row was written when it was closed: the plan of sessions
// that has it is of epochs whose level remembers what was not.
func (k *plans) stands(key string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for at, rec := range k.by {
		if _, ok := rec.rows[key]; at.sink != state.SinkSessions || !ok {
			continue
		}
		for i := range rec.epochs {
			if rec.epochs[i].Level < level.Lake {
				return false
			}
		}
		return true
	}
	return false
}

// deleted wants the versions of table sessions to have lost exactly the rows that the foreign tool has deleted.
func (o *oracle) deleted() {
	f := &o.w.foreign
	f.mu.Lock()
	defer f.mu.Unlock()
	for key := range f.deleted {
		if !o.delta.shownSessions.Deleted(idOf(key)) {
			o.w.history.fail("the foreign tool has deleted the row %q, and no version has", key)
		}
	}
	if n := o.delta.shownSessions.Deletions(); n != len(f.deleted) {
		o.w.history.fail("%d rows were deleted by versions, %d by the foreign tool", n, len(f.deleted))
	}
}
