package delta

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
	"deckle/sinks/delta/deltalog"
)

// flushRows is how many rows of a partition are collected before they go to the Parquet columns. No row waits beyond
// the end of the call of Append that added it.
const flushRows = 256

// eventsEncoder makes one data file of one day's events, in the order in which they arrive. Each partition has its own
// row group, so that rows stand in the order (partition, offset) although batches interleave the partitions.
type eventsEncoder struct {
	table   *table                   // of its level
	columns []fileColumn[event.Item] // of that level, but batch_id
	date    int32
	out     bytes.Buffer
	w       *parquet.GenericWriter[any]
	groups  map[int32]*eventsGroup
	stats   []deltalog.ColumnStats
	rows    int64
}

type eventsGroup struct {
	rg      *parquet.ConcurrentRowGroupWriter
	columns []*parquet.ColumnWriter
	values  [][]parquet.Value // the waiting values, one slice per column
	ids     []byte            // texts of the waiting event ids
	waiting int               // rows
	unnamed int64             // rows whose batch_id is not written yet, as the epoch's number is known only at its end
}

// placeBatchID is the place of batch_id in the files, behind the columns of level 1 that follow from the record.
var placeBatchID = eventsTable.place("batch_id")

func (y *layout) newEventsEncoder(l level.Level, date int32, c compress.Codec) *eventsEncoder {
	t := y.events[l]
	e := &eventsEncoder{table: t, columns: y.eventColumns[l], date: date,
		groups: map[int32]*eventsGroup{}, stats: t.newStats()}
	e.w = parquet.NewGenericWriter[any](&e.out, append(fileOptions(c), t.file)...)
	return e
}

// add appends one event. If batchID < 0, finish gives the row its batch_id. The event's texts may be reused once flush
// has returned.
func (e *eventsEncoder) add(it *event.Item, batchID int64) error {
	g := e.groups[it.Partition]
	if g == nil {
		rg := e.w.BeginRowGroup()
		g = &eventsGroup{rg: rg, columns: rg.ColumnWriters()}
		g.values = make([][]parquet.Value, len(g.columns))
		e.groups[it.Partition] = g
	}
	for i := range e.columns {
		c := &e.columns[i]
		var v parquet.Value
		if c.Kind == schema.UUID { // the text is made here: the event has only the bytes
			if it.EventID != "" {
				v = c.value(it)
			} else {
				// AppendText never fails. If the slice grows, the values made before keep the old memory.
				g.ids, _ = it.ID.AppendText(g.ids)
				v = parquet.ByteArrayValue(g.ids[len(g.ids)-uuidLen:]).Level(0, 0, c.place)
			}
		} else {
			v = c.value(it)
		}
		g.values[c.place] = append(g.values[c.place], v)
		if at := e.table.statOf[c.place]; at >= 0 {
			count(&e.stats[at], v)
		}
	}
	if batchID >= 0 {
		e.addBatchID(g, batchID)
		e.stats[e.table.statOf[placeBatchID]].Int(batchID)
	} else {
		g.unnamed++
	}
	e.rows++
	if g.waiting++; g.waiting >= flushRows {
		return g.flush()
	}
	return nil
}

const uuidLen = 36

func (e *eventsEncoder) addBatchID(g *eventsGroup, batchID int64) {
	g.values[placeBatchID] = append(g.values[placeBatchID], parquet.Int64Value(batchID).Level(0, 0, placeBatchID))
}

func (g *eventsGroup) flush() error {
	for i, vs := range g.values {
		if len(vs) == 0 {
			continue
		}
		if _, err := g.columns[i].WriteRowValues(vs); err != nil {
			return fmt.Errorf("delta: encode events: %w", err)
		}
		clear(vs)
		g.values[i] = vs[:0]
	}
	g.waiting, g.ids = 0, g.ids[:0]
	return nil
}

// flush hands all waiting rows to the Parquet columns, which copy their texts.
func (e *eventsEncoder) flush() error {
	for _, g := range e.groups {
		if err := g.flush(); err != nil {
			return err
		}
	}
	return nil
}

// size estimates the bytes that the encoder holds.
func (e *eventsEncoder) size() int64 {
	n := int64(e.out.Len())
	for _, g := range e.groups {
		n += g.rg.Size()
	}
	return n
}

// finish gives batchID to the rows that have no batch_id yet and returns the file.
func (e *eventsEncoder) finish(batchID int64) (*dataFile, error) {
	if err := e.flush(); err != nil {
		return nil, err
	}
	partitions := slices.Sorted(maps.Keys(e.groups))
	for _, p := range partitions {
		g := e.groups[p]
		if g.unnamed > 0 {
			e.stats[e.table.statOf[placeBatchID]].Int(batchID)
		}
		for ; g.unnamed > 0; g.unnamed -= min(g.unnamed, flushRows) {
			for range min(g.unnamed, flushRows) {
				e.addBatchID(g, batchID)
			}
			if err := g.flush(); err != nil {
				return nil, err
			}
		}
		if _, err := g.rg.Commit(); err != nil {
			return nil, fmt.Errorf("delta: encode events: %w", err)
		}
	}
	if err := e.w.Close(); err != nil {
		return nil, fmt.Errorf("delta: encode events: %w", err)
	}
	return &dataFile{table: e.table, partition: partition{date: e.date}, data: e.out.Bytes(), rows: e.rows,
		cols: e.stats, groups: partitions}, nil
}
