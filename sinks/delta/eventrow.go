package delta

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"unsafe"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"deckle/event"
	"deckle/sinks/delta/deltalog"
)

// eventRow is a row of the table events as its files hold it. It gives the schema and serves reading; it is never
// written through, because the Parquet writer would turn its zero values of optional columns into null by luck only:
// eventsEncoder writes each column with its definition levels.
type eventRow struct {
	EventID           string `parquet:"event_id"`
	SessionID         string `parquet:"session_id"`
	UserID            int64  `parquet:"user_id"`
	EventType         string `parquet:"event_type,dict"`
	Timestamp         int64  `parquet:"timestamp,timestamp(microsecond)"`
	Brand             string `parquet:"brand,optional,dict"`
	Category          string `parquet:"category,optional,dict"`
	ArticleID         string `parquet:"article_id,optional"`
	ArticleTitle      string `parquet:"article_title,optional"`
	ArticleType       string `parquet:"article_type,optional,dict"`
	PageURL           string `parquet:"page_url,optional"`
	Referrer          string `parquet:"referrer,optional,dict"`
	DeviceType        string `parquet:"device_type,optional,dict"`
	DeviceOS          string `parquet:"device_os,optional,dict"`
	Browser           string `parquet:"browser,optional,dict"`
	Country           string `parquet:"country,optional,dict"`
	City              string `parquet:"city,optional,dict"`
	Timezone          string `parquet:"timezone,optional,dict"`
	SubscriptionTier  string `parquet:"subscription_tier,optional,dict"`
	UserSegment       string `parquet:"user_segment,optional,dict"`
	EngagementMetrics string `parquet:"engagement_metrics,optional"`
	Metadata          string `parquet:"metadata,optional"`
	Extra             string `parquet:"extra,optional"`
	KafkaPartition    int32  `parquet:"kafka_partition"`
	KafkaOffset       int64  `parquet:"kafka_offset"`
	KafkaTimestamp    int64  `parquet:"kafka_timestamp,timestamp(microsecond)"`
	BatchID           int64  `parquet:"batch_id"`
}

// The statistics of the table events, by their place in eventsTable.stats.
const (
	statSession = iota
	statUser
	statType
	statTimestamp
	statBrand
	statCategory
	statCountry
	statDevice
	statPartition
	statOffset
	statKafkaTimestamp
	statBatch
)

// flushRows is how many rows are collected before they go to the Parquet columns; rows of one call never wait longer.
const flushRows = 256

// eventsEncoder makes one data file of one day's events, as they come. Each partition has a row group of its own, so
// that rows stand in the order (partition, offset) although batches interleave the partitions.
type eventsEncoder struct {
	date   int32
	out    bytes.Buffer
	w      *parquet.GenericWriter[eventRow]
	groups map[int32]*eventsGroup
	stats  []deltalog.ColumnStats
	rows   int64
}

type eventsGroup struct {
	rg      *parquet.ConcurrentRowGroupWriter
	columns []*parquet.ColumnWriter
	values  [][]parquet.Value // a column each, waiting
	ids     []byte            // texts of the waiting event ids
	waiting int
	unnamed int64 // rows whose batch_id is not written yet, as the epoch's number is known only at its end
}

func newEventsEncoder(date int32, c compress.Codec) *eventsEncoder {
	e := &eventsEncoder{date: date, groups: map[int32]*eventsGroup{}, stats: eventsTable.newStats()}
	e.w = parquet.NewGenericWriter[eventRow](&e.out, fileOptions(c)...)
	return e
}

// add appends one event. With batchID < 0 it is given by finish. The event's texts may be reused once flush has
// returned.
func (e *eventsEncoder) add(it *event.Item, batchID int64) error {
	g := e.groups[it.Partition]
	if g == nil {
		rg := e.w.BeginRowGroup()
		g = &eventsGroup{rg: rg, columns: rg.ColumnWriters()}
		g.values = make([][]parquet.Value, len(g.columns))
		e.groups[it.Partition] = g
	}
	g.ids = appendUUID(g.ids, it.ID)
	col := 0
	put := func(v parquet.Value) {
		g.values[col] = append(g.values[col], v)
		col++
	}
	text := func(s string) { put(parquet.ByteArrayValue(alias(s)).Level(0, 0, col)) }
	opt := func(s string) {
		if s == "" {
			put(parquet.NullValue().Level(0, 0, col))
		} else {
			put(parquet.ByteArrayValue(alias(s)).Level(0, 1, col))
		}
	}
	long := func(v int64) { put(parquet.Int64Value(v).Level(0, 0, col)) }

	put(parquet.ByteArrayValue(g.ids[len(g.ids)-36:]).Level(0, 0, col))
	text(it.SessionID)
	long(int64(it.UserID))
	text(it.Type.String())
	long(it.Timestamp * 1e6)
	for _, s := range [...]string{
		it.Brand, it.Category, it.ArticleID, it.ArticleTitle, it.ArticleType, it.PageURL, it.Referrer, it.DeviceType,
		it.DeviceOS, it.Browser, it.Country, it.City, it.Timezone, it.SubscriptionTier, it.UserSegment,
		it.EngagementMetrics, it.Metadata, it.Extra,
	} {
		opt(s)
	}
	put(parquet.Int32Value(it.Partition).Level(0, 0, col))
	long(it.Offset)
	long(kafkaMicros(it.KafkaTimestamp))
	if batchID >= 0 {
		long(batchID)
	} else {
		g.unnamed++
	}
	e.count(it, batchID)
	e.rows++
	if g.waiting++; g.waiting >= flushRows {
		return g.flush()
	}
	return nil
}

// count folds an event into the file's statistics.
func (e *eventsEncoder) count(it *event.Item, batchID int64) {
	s := e.stats
	text := func(i int, v string) {
		if v == "" {
			s[i].Null()
		} else {
			s[i].Text(v)
		}
	}
	s[statSession].Text(it.SessionID)
	s[statUser].Int(int64(it.UserID))
	s[statType].Text(it.Type.String())
	s[statTimestamp].Int(it.Timestamp * 1e6)
	text(statBrand, it.Brand)
	text(statCategory, it.Category)
	text(statCountry, it.Country)
	text(statDevice, it.DeviceType)
	s[statPartition].Int(int64(it.Partition))
	s[statOffset].Int(it.Offset)
	s[statKafkaTimestamp].Int(kafkaMicros(it.KafkaTimestamp))
	if batchID >= 0 {
		s[statBatch].Int(batchID)
	}
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

// flush copies all waiting texts.
func (e *eventsEncoder) flush() error {
	for _, g := range e.groups {
		if err := g.flush(); err != nil {
			return err
		}
	}
	return nil
}

// size estimates the bytes held.
func (e *eventsEncoder) size() int64 {
	n := int64(e.out.Len())
	for _, g := range e.groups {
		n += g.rg.Size()
	}
	return n
}

// finish gives the rows without a batch_id theirs and returns the file.
func (e *eventsEncoder) finish(batchID int64) (*dataFile, error) {
	if err := e.flush(); err != nil {
		return nil, err
	}
	for _, p := range slices.Sorted(maps.Keys(e.groups)) {
		g := e.groups[p]
		last := len(g.columns) - 1
		if g.unnamed > 0 {
			e.stats[statBatch].Int(batchID)
		}
		for ; g.unnamed > 0; g.unnamed -= min(g.unnamed, flushRows) {
			for range min(g.unnamed, flushRows) {
				g.values[last] = append(g.values[last], parquet.Int64Value(batchID).Level(0, 0, last))
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
	return &dataFile{date: e.date, data: e.out.Bytes(), rows: e.rows, stats: deltalog.Stats(e.rows, e.stats)}, nil
}

// lastMillis is 9999-12-31T23:59:59.999Z, the last millisecond that every reader of the tables can show.
const lastMillis = 253402300799999

// kafkaMicros turns a record's timestamp, Unix milliseconds, into the column's microseconds. Any producer may set any
// number, -1 for none: what no reader could show becomes the nearest that it can.
func kafkaMicros(ms int64) int64 { return min(max(ms, 0), lastMillis) * 1e3 }

// alias shows a text as bytes without a copy; the Parquet columns copy what they take and change nothing.
func alias(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// appendUUID appends the canonical text. A grown slice leaves the texts given out before in the old one, unchanged.
func appendUUID(dst []byte, id event.ID) []byte {
	var t [36]byte
	hex.Encode(t[0:8], id[0:4])
	hex.Encode(t[9:13], id[4:6])
	hex.Encode(t[14:18], id[6:8])
	hex.Encode(t[19:23], id[8:10])
	hex.Encode(t[24:36], id[10:16])
	t[8], t[13], t[18], t[23] = '-', '-', '-', '-'
	return append(dst, t[:]...)
}
