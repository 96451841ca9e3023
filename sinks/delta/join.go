package delta

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"golang.org/x/sync/errgroup"

	"deckle/schema/level"
	"deckle/sinks/delta/deltalog"
	"deckle/state"
)

// joins reports whether the rows of a plan, of so many bytes, may stand in one file with those of other plans. Before
// level.Lake none do: an older build would read such files whole for each revision.
func (w *writer) joins(plan *state.Plan, bytes int64) bool {
	return plan.Level >= level.Lake && bytes <= w.opts.join.plan
}

// looseEvents are the encoded events of a plan: finished files that are not staged, and that never change.
type looseEvents struct {
	w      *writer
	files  []*dataFile
	origin deltalog.Origin
}

// size is the bytes of the files.
func (l *looseEvents) size() (n int64) {
	for _, f := range l.files {
		n += int64(len(f.data))
	}
	return n
}

// piece is a file of one plan.
type piece struct {
	*dataFile
	origin deltalog.Origin
}

// apart orders pieces by what cannot be in one file: dates, and columns, which follow from the level.
func apart(a, b piece) int {
	return cmp.Or(a.partition.compare(b.partition), cmp.Compare(a.table.level, b.table.level))
}

// each uploads the files as they are. It returns the number of their rows, too.
func (l *looseEvents) each(ctx context.Context) ([]deltalog.Add, int64, error) {
	var all [][]piece
	for _, f := range l.files {
		all = append(all, []piece{{f, l.origin}})
	}
	return uploadJoined(ctx, l.w, all)
}

// stage implements unstaged: one file for each date, as far as the limits allow.
func (l *looseEvents) stage(ctx context.Context, others []unstaged) ([]deltalog.Add, int64, error) {
	plans := []*looseEvents{l}
	for _, o := range others {
		plans = append(plans, o.(*looseEvents))
	}
	slices.SortStableFunc(plans, func(a, b *looseEvents) int { return cmp.Compare(a.origin.Shard, b.origin.Shard) })
	var pieces []piece
	for _, p := range plans {
		for _, f := range p.files {
			pieces = append(pieces, piece{f, p.origin})
		}
	}
	slices.SortStableFunc(pieces, apart)
	var files [][]piece
	size, groups := int64(0), 0
	for i, p := range pieces {
		n := int64(len(p.data))
		if i == 0 || apart(pieces[i-1], p) != 0 || size+n > l.w.opts.FileBytes ||
			groups+len(p.groups) > l.w.opts.join.groups || shards(files[len(files)-1], p) > deltalog.MaxParts {
			files, size, groups = append(files, nil), 0, 0
		}
		last := len(files) - 1
		files[last], size, groups = append(files[last], p), size+n, groups+len(p.groups)
	}
	return uploadJoined(ctx, l.w, files)
}

// shards is how many shards the pieces of a file and one more are of.
func shards(of []piece, more piece) int {
	seen := map[uint32]bool{more.origin.Shard: true}
	for _, p := range of {
		seen[p.origin.Shard] = true
	}
	return len(seen)
}

// uploadJoined makes one file of each group of pieces, and uploads them, several at a time.
func uploadJoined(ctx context.Context, w *writer, files [][]piece) ([]deltalog.Add, int64, error) {
	adds, counts := make([]deltalog.Add, len(files)), make([]int64, len(files))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i, pieces := range files {
		g.Go(func() error {
			f, err := joinFiles(pieces, w.codec)
			if err != nil {
				return err
			}
			var origins []deltalog.Origin
			for _, p := range pieces {
				origins = append(origins, p.origin)
			}
			counts[i] = f.rows
			adds[i], err = w.upload(gctx, f, deltalog.UnionOrigins(origins...)...)
			return err
		})
	}
	err := g.Wait()
	rows := int64(0)
	for _, n := range counts {
		rows += n
	}
	return adds, rows, err
}

// joinFiles makes one file of several files of events of one date and level. Nothing is encoded again:
// their column chunks are copied as they are, with their page indexes, and the footer is new. Row groups stand in the
// order of their partitions, and those of one partition in the order of the files. Statistics are those of all rows.
func joinFiles(pieces []piece, c compress.Codec) (*dataFile, error) {
	if len(pieces) == 1 {
		return pieces[0].dataFile, nil
	}
	// gofail: var bugJoinedRowsLost struct{}
	// pieces = pieces[:len(pieces)-1]

	type group struct {
		parquet.RowGroup
		partition int32
	}
	first := pieces[0]
	joined := &dataFile{table: first.table, partition: first.partition, cols: first.table.newStats()}
	var groups []group
	size := 0
	for _, p := range pieces {
		f, err := parquet.OpenFile(bytes.NewReader(p.data), int64(len(p.data)), parquet.SkipBloomFilters(true))
		if err != nil {
			return nil, fmt.Errorf("delta: join files of events: %w", err)
		}
		for i, g := range f.RowGroups() {
			groups = append(groups, group{g, p.groups[i]})
		}
		for i := range joined.cols {
			joined.cols[i].Merge(&p.cols[i])
		}
		joined.rows, size = joined.rows+p.rows, size+len(p.data)
	}
	slices.SortStableFunc(groups, func(a, b group) int { return cmp.Compare(a.partition, b.partition) })
	out := bytes.NewBuffer(make([]byte, 0, size))
	w := parquet.NewGenericWriter[any](out, append(fileOptions(c), joined.table.file)...)
	written := int64(0)
	for _, g := range groups {
		n, err := w.WriteRowGroup(g.RowGroup)
		if err != nil {
			return nil, fmt.Errorf("delta: join files of events: %w", err)
		}
		written += n
		joined.groups = append(joined.groups, g.partition)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("delta: join files of events: %w", err)
	}
	if joined.data = out.Bytes(); written != joined.rows {
		return nil, fmt.Errorf("%w: %d were joined, want %d", errRows, written, joined.rows)
	}
	return joined, nil
}

// looseSessions are the rows of a plan, not encoded.
type looseSessions struct {
	w      *writer
	table  *table // of the plan's level
	judge  *judge
	origin deltalog.Origin
	parts  partitioned
	bytes  int64
}

// stage implements unstaged: one file for each date, sorted, as far as the limits allow.
func (l *looseSessions) stage(ctx context.Context, others []unstaged) (adds []deltalog.Add, rows int64, err error) {
	plans := []*looseSessions{l}
	for _, o := range others {
		plans = append(plans, o.(*looseSessions))
	}
	slices.SortStableFunc(plans, func(a, b *looseSessions) int {
		return cmp.Or(cmp.Compare(a.table.level, b.table.level), cmp.Compare(a.origin.Shard, b.origin.Shard))
	})
	for len(plans) > 0 {
		n, size := 0, int64(0)
		for n < len(plans) && n < deltalog.MaxParts && plans[n].table == plans[0].table &&
			(n == 0 || size+plans[n].bytes <= l.w.opts.FileBytes) {
			size += plans[n].bytes
			n++
		}
		change := &deltalog.Change{}
		if err := joinSessions(ctx, plans[:n], change); err != nil {
			return nil, 0, err
		}
		adds, rows, plans = append(adds, change.Adds...), rows+change.Rows, plans[n:]
	}
	return adds, rows, nil
}

// joinSessions uploads the rows of plans of one level as one file for each partition.
func joinSessions(ctx context.Context, plans []*looseSessions, change *deltalog.Change) error {
	first := plans[0]
	b := sessionsBuilder{ctx: ctx, w: first.w, table: first.table, change: change, judge: first.judge}
	parts, origins := map[partition][]sessionRow{}, map[partition][]deltalog.Origin{}
	for _, p := range plans {
		for in, rows := range p.parts {
			parts[in] = append(parts[in], *rows...)
			origins[in] = append(origins[in], p.origin)
		}
	}
	for _, in := range sorted(parts) {
		// gofail: var bugJoinedSessionsLost struct{}
		// if len(origins[in]) > 1 {
		// 	parts[in] = parts[in][1:]
		// }
		if err := b.newRows(b.table, in, parts[in], deltalog.UnionOrigins(origins[in]...)...); err != nil {
			return err
		}
	}
	return nil
}
