package delta

import (
	"context"
	"fmt"
	"strings"

	"github.com/parquet-go/parquet-go"

	"deckle/schema"
	"deckle/sinks/delta/deltalog"
	"deckle/state"
)

// Sessions is the sink that inserts each session once it is closed. It implements sinks.Sink.
type Sessions struct {
	sharedWriter
	*gather
}

// Close implements sinks.Sink.
func (s *Sessions) Close() error {
	s.close()
	return s.sharedWriter.Close()
}

// Write implements sinks.Sink: all rows of the plan in one commit.
func (s *Sessions) Write(ctx context.Context, plan *state.Plan) error {
	seat := s.come(ctx, plan.Config.Shard)
	defer seat.leave()
	err := s.untilJudged(ctx, func(j *judge) error { return s.write(ctx, plan, j, seat) })
	if err != nil {
		return fmt.Errorf("delta: sessions of shard %d, plan (%d, %d]: %w", plan.Config.Shard, plan.A, plan.B, err)
	}
	return nil
}

func (s *Sessions) write(ctx context.Context, plan *state.Plan, j *judge, seat *seat) error {
	change, done, err := s.start(s.appID(plan.Config.Shard), plan)
	if done || err != nil {
		return err
	}
	change.Last, change.Rules = true, j.text()
	b := sessionsBuilder{ctx: ctx, w: &s.writer, table: s.table(plan), change: change, judge: j,
		origin: deltalog.Origin{Tagged: true, Shard: plan.Config.Shard, From: plan.A, To: plan.B}}
	err = plan.Sessions(func(row *schema.SessionRow) error { return b.add(row) })
	d := &draft{change: change}
	if err == nil && len(change.Adds) == 0 && s.joins(plan, b.bytes) {
		d.rows, change.Rows = &looseSessions{w: &s.writer, table: b.table, judge: j, parts: b.parts, bytes: b.bytes,
			origin: b.origin}, b.rows()
	} else if err == nil {
		err = b.flush()
	}
	if err != nil || change.Rows == 0 {
		return err
	}
	return s.insert(ctx, plan, d, seat)
}

// sessionsBuilder collects rows. Whenever they reach Options.FileBytes, it uploads one file per partition.
type sessionsBuilder struct {
	ctx    context.Context
	w      *writer
	table  *table // of the plan's level
	origin deltalog.Origin
	change *deltalog.Change
	judge  *judge

	parts  partitioned
	memory rowMemory
	bytes  int64
}

func (b *sessionsBuilder) add(row *schema.SessionRow) error {
	r, err := b.w.layout.sessionRow(b.table, row, &b.memory)
	if err != nil {
		return err
	}
	if err := b.judge.row(parquet.Row(r), b.table.of(row), b.judge.fresh()); err != nil {
		return refused(row, err)
	}
	if b.parts == nil {
		b.parts = partitioned{}
	}
	b.parts.add(b.table.of(row), r)
	b.bytes += r.size()
	if b.bytes >= b.w.opts.FileBytes {
		return b.flush()
	}
	return nil
}

// rows is how many rows have been collected since the last flush.
func (b *sessionsBuilder) rows() (n int64) {
	for _, rows := range b.parts {
		n += int64(len(*rows))
	}
	return n
}

func (b *sessionsBuilder) flush() error {
	for _, p := range sorted(b.parts) {
		if err := b.newRows(b.table, p, *b.parts[p], b.origin); err != nil {
			return err
		}
	}
	b.parts, b.memory, b.bytes = nil, rowMemory{}, 0
	return nil
}

// newRows uploads rows of one partition that are new in the table, with the defaults of columns of others.
func (b *sessionsBuilder) newRows(t *table, p partition, rows []sessionRow, origins ...deltalog.Origin) error {
	data, cols, err := b.w.layout.encodeSessions(t, rows, b.w.codec, nil)
	if err == nil {
		data, err = b.judge.fill(t.file, data, b.w.codec)
	}
	if err != nil {
		return err
	}
	return b.upload(&dataFile{table: t, partition: p, data: data, rows: int64(len(rows)), cols: cols}, origins...)
}

// file uploads the rows of one partition as a file of the table's level and adds them to the change. Without origins
// those are not known.
// more are columns of others, of which each row has the values; nil: none.
func (b *sessionsBuilder) file(t *table, p partition, rows []sessionRow, more *foreign,
	origins ...deltalog.Origin) error {
	data, cols, err := b.w.layout.encodeSessions(t, rows, b.w.codec, more)
	if err != nil {
		return err
	}
	return b.upload(&dataFile{table: t, partition: p, data: data, rows: int64(len(rows)), cols: cols}, origins...)
}

func (b *sessionsBuilder) upload(f *dataFile, origins ...deltalog.Origin) error {
	add, err := b.w.upload(b.ctx, f, origins...)
	if err != nil {
		return err
	}
	b.change.Adds = append(b.change.Adds, add)
	b.change.Rows += f.rows
	return nil
}

// partitioned are rows by their partition.
type partitioned map[partition]*[]sessionRow

// add keeps a row, and no text of p.
func (m partitioned) add(p partition, r sessionRow) {
	rows := m[p]
	if rows == nil {
		rows = new([]sessionRow)
		p.brand = strings.Clone(p.brand)
		m[p] = rows
	}
	*rows = append(*rows, r)
}
