package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks"
	"deckle/state"
)

// insertSettings are sent with every INSERT.
var insertSettings = []ch.Setting{
	{Key: "insert_deduplicate", Value: "0", Important: true},
	// From 26.2 on, this setting, which is on by default, overrides the one above. Older servers do not know it, and
	// ignore it because it is not marked as important.
	{Key: "deduplicate_insert", Value: "disable"},
	{Key: "async_insert", Value: "0", Important: true},
	// A backlog may touch any number of months; the default refuses more than 100 in one block.
	{Key: "max_partitions_per_insert_block", Value: "0", Important: true},
}

// Position returns the greatest b of the shard's plans in the ledger, or 0 if there is none.
func (s *Sink) Position(ctx context.Context, shard uint32) (uint64, error) {
	if err := s.ready(ctx, level.First); err != nil {
		return 0, err
	}
	var b proto.ColUInt64
	var pos uint64
	err := s.query(ctx, ch.Query{
		Body: fmt.Sprintf("SELECT max(b) AS b FROM %s WHERE cluster = %s AND pipeline = %s AND shard = %d",
			s.table(ledgerTable), quoteText(s.opts.ClusterID), quoteText(s.opts.Pipeline), shard),
		Result: proto.Results{{Name: "b", Data: &b}},
		OnResult: func(context.Context, proto.Block) error {
			if b.Rows() > 0 {
				pos = b.Row(0)
			}
			return nil
		},
	})
	if err != nil {
		if classify(err) == classSchema {
			err = s.schemaError(ctx, err)
		}
		return 0, fmt.Errorf("clickhouse: read the position of shard %d: %w", shard, err)
	}
	s.note(shard, pos)
	return pos, nil
}

// Write inserts the plan's sessions, their pages and the totals, and then the ledger's row. The first plan of a higher
// level than the tables have gives them its columns before. It streams: at most one block of sessions and one of pages
// are in memory.
func (s *Sink) Write(ctx context.Context, plan *state.Plan) error {
	cfg := &plan.Config
	if cfg.ClusterID != s.opts.ClusterID || cfg.Pipeline != s.opts.Pipeline {
		return &sinks.StopError{
			Err: fmt.Errorf("clickhouse: a plan of %s/%s for the sink of %s/%s", cfg.ClusterID, cfg.Pipeline,
				s.opts.ClusterID, s.opts.Pipeline),
			Hint: "the shard's log belongs to another cluster: check data_dir",
		}
	}
	if err := s.ready(ctx, s.layoutOf(plan).level); err != nil {
		return err
	}
	if !s.standsAt(cfg.Shard, plan.A) {
		pos, err := s.Position(ctx, cfg.Shard)
		switch {
		case err != nil:
			return err
		case pos >= plan.B:
			return nil
		case pos < plan.A:
			return &sinks.StopError{
				Err: fmt.Errorf("clickhouse: the ledger of shard %d ends at epoch %d, but epoch %d was acknowledged: "+
					"rows are lost",
					cfg.Shard, pos, plan.A),
				Hint: "restore the database " + s.opts.Database + " from a backup that is not older than that, " +
					"or write it again from the Delta tables",
			}
		}
	}
	err := newWriter(s, plan).run(ctx)
	if err != nil && classify(err) == classSchema {
		err = s.schemaError(ctx, err)
	}
	return err
}

// layoutOf returns the layout of the plan's level.
func (s *Sink) layoutOf(plan *state.Plan) *layout { return s.layouts[max(plan.Level, level.First)] }

// writer is one attempt to write one plan.
type writer struct {
	sink   *Sink
	layout *layout // of the plan's level
	plan   *state.Plan
	shard  uint32
	rows   uint64
	insert func(context.Context, *block) error // of sessions and pages
}

func newWriter(s *Sink, plan *state.Plan) *writer {
	return &writer{sink: s, layout: s.layoutOf(plan), plan: plan, shard: plan.Config.Shard, insert: s.insert}
}

func (w *writer) run(ctx context.Context) error {
	// gofail: var bugClickHouseLedgerFirst struct{}
	// if err := w.ledger(ctx); err != nil {
	//	return err
	// }

	// gofail: var bugClickHouseTotalsFirst struct{}
	// if err := w.rollups(ctx); err != nil {
	//	return err
	// }
	if err := w.sessions(ctx); err != nil {
		return err
	}
	// gofail: var clickhousePagesInserted struct{}
	if err := w.rollups(ctx); err != nil {
		return err
	}
	// gofail: var clickhouseTotalsInserted struct{}
	return w.ledger(ctx)
}

// ledger records that everything else of the plan is visible.
func (w *writer) ledger(ctx context.Context) error {
	var checksum uint64
	if n := len(w.plan.Epochs); n > 0 {
		checksum = w.plan.Epochs[n-1].Checksum
	}
	err := w.sink.insertLedger(ctx, ledgerRow{shard: w.shard, a: w.plan.A, b: w.plan.B, rows: w.rows,
		checksum: checksum})
	if err != nil {
		return fmt.Errorf("clickhouse: insert into the ledger: %w", err)
	}
	w.sink.note(w.shard, w.plan.B)
	// gofail: var clickhouseLedgerInserted struct{}
	return nil
}

// sessions inserts sessions and pages. A block that is refused is traced to one of its sessions.
func (w *writer) sessions(ctx context.Context) error {
	err := w.blocks(ctx)
	if r, ok := errors.AsType[*refusedBlock](err); ok {
		return w.bisect(ctx, r)
	}
	return err
}

// blocks inserts sessions and pages block by block, up to the first that fails.
func (w *writer) blocks(ctx context.Context) error {
	free := w.sink.takeBlocks(w.layout)
	defer w.sink.blocks[w.layout.level].Put(free)
	sb, pb := free.sessions, free.pages
	flushSessions := func() error { return w.flush(ctx, &sb.block) }
	flushPages := func() error { return w.flush(ctx, &pb.block) }
	ord := 0
	err := w.plan.Sessions(func(r *schema.SessionRow) error {
		if w.sink.full(&sb.block, 1, w.layout.sessionBytes(r)) {
			if err := flushSessions(); err != nil {
				return err
			}
		}
		if err := sb.append(ord, w.shard, r); err != nil {
			return w.refused(r, err)
		}
		if len(r.Pages) > 0 {
			if w.sink.full(&pb.block, len(r.Pages), pageBytes(r)) {
				if err := flushPages(); err != nil {
					return err
				}
			}
			if err := pb.append(ord, w.shard, r); err != nil {
				return w.refused(r, err)
			}
		}
		ord++
		return nil
	})
	if err != nil {
		return err
	}
	if err := flushSessions(); err != nil {
		return err
	}
	// gofail: var clickhouseSessionsInserted struct{}
	return flushPages()
}

// blocks are the blocks that one write of a shard fills.
type blocks struct {
	sessions *sessionBlock
	pages    *pageBlock
}

// takeBlocks returns empty blocks.
func (s *Sink) takeBlocks(y *layout) *blocks {
	if b, ok := s.blocks[y.level].Get().(*blocks); ok {
		b.sessions.reset()
		b.pages.reset()
		return b
	}
	return &blocks{newSessionBlock(y), newPageBlock(y)}
}

// full tells whether the block must be inserted before it takes that many more rows and bytes. A row that is larger
// than a block is inserted alone.
func (s *Sink) full(b *block, rows, bytes int) bool {
	return b.rows > 0 && (b.rows+rows > s.opts.BlockRows || b.bytes+bytes > s.opts.BlockBytes)
}

// refusedBlock is a block that the table has refused for the data of a row. It is an error type of its own because
// flush is called while the plan is being read, and a plan cannot be read again (by bisect) before that has ended.
type refusedBlock struct {
	table    *table
	from, to int // ordinals of its sessions in the plan: [from, to)
	cause    error
}

func (r *refusedBlock) Error() string { return r.cause.Error() }
func (r *refusedBlock) Unwrap() error { return r.cause }

// flush inserts a block of sessions or pages; if a row's data is at fault, the error is a *refusedBlock.
func (w *writer) flush(ctx context.Context, b *block) error {
	if b.rows == 0 {
		return nil
	}
	from, to, rows := b.from, b.to, b.rows
	err := w.insert(ctx, b)
	b.reset()
	if err == nil {
		w.rows += uint64(rows)
		return nil
	}
	if classify(err) == classData {
		return &refusedBlock{b.table, from, to, err}
	}
	return err
}

// rollups inserts the totals. A total that ClickHouse refuses cannot become a dead letter: it stops the shard.
func (w *writer) rollups(ctx context.Context) error {
	b := newRollupBlock(w.layout)
	var last string
	flush := func() error {
		if b.rows == 0 {
			return nil
		}
		err := w.sink.insert(ctx, &b.block)
		if err == nil {
			w.rows += uint64(b.rows)
			b.reset()
		}
		return err
	}
	err := w.plan.Rollups(func(r *schema.RollupRow) error {
		if w.sink.full(&b.block, 1, 1024) {
			if err := flush(); err != nil {
				return err
			}
		}
		// gofail: var bugTotalsTwice struct{}
		// if twice := *r; true {
		// 	twice.Sessions, twice.Events = 2*r.Sessions, 2*r.Events
		// 	r = &twice
		// }
		last = fmt.Sprintf("%s %s %q", r.Table, schema.DateText(r.Date), r.Dims)
		return b.append(w.shard, r)
	})
	if err == nil {
		err = flush()
	}
	if err != nil && classify(err) == classData {
		return &sinks.StopError{
			Err:  fmt.Errorf("clickhouse: a total up to %s is refused: %w", last, err),
			Hint: "remove what refuses it (a constraint added to " + rollupsTable + "?)",
		}
	}
	return err
}

// insert inserts one block as one query.
func (s *Sink) insert(ctx context.Context, b *block) error {
	start := s.opts.Now()
	err := s.query(ctx, ch.Query{
		Body:     "INSERT INTO " + s.table(b.table.name) + " " + b.input.Columns() + " VALUES",
		Input:    b.input,
		Settings: insertSettings,
	})
	if err != nil {
		return fmt.Errorf("clickhouse: insert %d rows into %s: %w", b.rows, b.table.name, err)
	}
	m, name := s.metrics, b.table.name
	m.seconds.WithLabelValues(name).Observe(s.opts.Now().Sub(start).Seconds())
	m.rows.WithLabelValues(name).Add(float64(b.rows))
	m.blocks.WithLabelValues(name).Inc()
	m.bytes.WithLabelValues(name).Add(float64(b.bytes))
	sinks.Wrote(ctx, int64(b.rows), int64(b.bytes))
	return nil
}

var errEndOfWindow = errors.New("end of window")

// bisect finds a session of the block whose rows the table refuses, and returns it as refused. The halves that are
// accepted are rows of the plan, so that inserting them on the way does no harm. It reads the plan, so that no one else
// may be reading it.
func (w *writer) bisect(ctx context.Context, r *refusedBlock) error {
	from, to, cause := r.from, r.to, r.cause
	for to-from > 1 {
		mid := from + (to-from)/2
		_, err := w.window(ctx, r.table, from, mid)
		switch {
		case err == nil:
			from = mid
		case classify(err) == classData:
			to, cause = mid, err
		default:
			return err
		}
	}
	row, err := w.window(ctx, r.table, from, to)
	if err == nil {
		return fmt.Errorf("clickhouse: a block was refused, but none of its rows is: %w", cause)
	}
	if classify(err) != classData || row == nil {
		return err
	}
	return row.because(err)
}

// refusedRow is a copy of a row that may be refused.
type refusedRow struct {
	key  string
	json []byte
}

func (r *refusedRow) because(err error) error {
	brief := "a value does not fit its column"
	if e, ok := ch.AsException(err); ok { // its message may quote the values of the row
		brief = fmt.Sprintf("ClickHouse refuses it with its error %d, %s", e.Code, e.Code)
	}
	return &sinks.RefusedError{RowKey: r.key, Row: r.json, Err: err, Brief: brief}
}

func (w *writer) refused(r *schema.SessionRow, err error) error {
	text, jerr := w.layout.rowJSON(r)
	return (&refusedRow{r.Key(), text}).because(errors.Join(err, jerr))
}

// window inserts the rows that the sessions [from, to) have in the table, as one block, read from the plan again. It
// returns the last of them.
func (w *writer) window(ctx context.Context, t *table, from, to int) (*refusedRow, error) {
	sb, pb := newSessionBlock(w.layout), newPageBlock(w.layout)
	b, add := &sb.block, sb.append
	if t == &w.layout.pages {
		b, add = &pb.block, pb.append
	}
	var last *refusedRow
	ord := 0
	err := w.plan.Sessions(func(r *schema.SessionRow) error {
		if ord >= to {
			return errEndOfWindow
		}
		if ord >= from {
			if err := add(ord, w.shard, r); err != nil {
				return err
			}
			if ord == to-1 {
				text, err := w.layout.rowJSON(r)
				if err != nil {
					return err
				}
				last = &refusedRow{r.Key(), text}
			}
		}
		ord++
		return nil
	})
	if err != nil && !errors.Is(err, errEndOfWindow) {
		return last, err
	}
	if b.rows == 0 {
		return last, nil
	}
	return last, w.insert(ctx, b)
}

// ledgerRow is a plan in the ledger, or, with b = 0, a claim.
type ledgerRow struct {
	shard                uint32
	a, b, rows, checksum uint64
}

func (s *Sink) insertLedger(ctx context.Context, r ledgerRow) error {
	blk := newBlock(&ledger)
	str := func(v string) proto.ColInput { c := new(proto.ColStr); c.Append(v); return c }
	u64 := func(v uint64) proto.ColInput { return &proto.ColUInt64{v} }
	at := new(proto.ColDateTime64).WithPrecision(proto.PrecisionMilli).WithLocation(time.UTC)
	at.Append(s.opts.Now().UTC())
	for _, c := range []proto.ColInput{
		str(s.opts.ClusterID), str(s.opts.Pipeline), &proto.ColUInt32{r.shard}, u64(r.a), u64(r.b), u64(r.rows),
		u64(r.checksum), str(s.opts.NodeName), at,
	} {
		blk.add(c)
	}
	blk.count(0, 1, 100)
	return s.insert(ctx, &blk)
}
