package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"

	"deckle/schema"
	"deckle/schema/level"
)

// Reader reads the views with plain SELECTs, as an analyst would. The reconciliation of sim/verify and the demo use it.
// It writes nothing and needs neither ClusterID nor Pipeline (except for Positions). It is safe for concurrent use.
type Reader struct{ sink *Sink }

// OpenReader connects to the server; the views need not exist before they are read.
func OpenReader(ctx context.Context, opts Options) (*Reader, error) {
	s, err := Open(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &Reader{s}, nil
}

// Close closes the connections.
func (r *Reader) Close() error { return r.sink.Close() }

// Count returns the number of rows of a view.
func (r *Reader) Count(ctx context.Context, view string) (uint64, error) {
	var n uint64
	var c proto.ColUInt64
	err := r.sink.query(ctx, ch.Query{
		Body:     "SELECT count() AS n FROM " + r.sink.table(view),
		Result:   proto.Results{{Name: "n", Data: &c}},
		OnResult: func(context.Context, proto.Block) error { n += sum(c); return nil },
	})
	if err != nil {
		return 0, fmt.Errorf("clickhouse: count %s: %w", view, err)
	}
	return n, nil
}

func sum(c proto.ColUInt64) (n uint64) {
	for _, v := range c {
		n += v
	}
	return n
}

// Positions returns the ledger's position of every shard that has a plan in it, regardless of which node wrote it.
func (r *Reader) Positions(ctx context.Context) (map[uint32]uint64, error) {
	var shard proto.ColUInt32
	var b proto.ColUInt64
	pos := map[uint32]uint64{}
	err := r.sink.query(ctx, ch.Query{
		Body:   "SELECT shard, max(b) AS b FROM " + r.sink.table(ledgerTable) + " GROUP BY shard HAVING b > 0",
		Result: proto.Results{{Name: "shard", Data: &shard}, {Name: "b", Data: &b}},
		OnResult: func(context.Context, proto.Block) error {
			for i := range shard.Rows() {
				pos[shard.Row(i)] = b.Row(i)
			}
			return nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("clickhouse: read the ledger: %w", err)
	}
	return pos, nil
}

// Rows calls yield for every row of a view with the values of the named columns, in the order in which they are named:
// integers and Unix times (DateTime in seconds, DateTime64 in milliseconds) in decimal, dates as 2006-01-02, floats in
// the shortest form that identifies them, schema.Null for a number that is null, "" for a text that is (a column that
// can be null has no empty text), and everything else as it is stored. Rows come in the byte order of the view's key.
// The slice is reused after the call; its texts are not.
func (r *Reader) Rows(ctx context.Context, view string, columns []string, yield func(row []string) error) error {
	_, key, err := r.sink.layouts[level.Current].viewNamed(view)
	if err != nil {
		return err
	}
	result, texts, err := r.results(view, columns)
	if err != nil {
		return err
	}
	return r.rows(ctx, view, fmt.Sprintf("SELECT %s FROM %s ORDER BY %s", strings.Join(columns, ", "),
		r.sink.table(view), strings.Join(key, ", ")), result, texts, yield)
}

// results are what takes the named columns of a view, and the texts of their row i.
func (r *Reader) results(view string, columns []string) (proto.Results, []func(i int) string, error) {
	v, _, err := r.sink.layouts[level.Current].viewNamed(view)
	if err != nil {
		return nil, nil, err
	}
	result := make(proto.Results, len(columns))
	texts := make([]func(i int) string, len(columns))
	for i, name := range columns {
		at := slices.IndexFunc(v.columns, func(c column) bool { return c.name == name })
		if at < 0 {
			return nil, nil, fmt.Errorf("clickhouse: view %s has no column %q", view, name)
		}
		result[i].Name = name
		result[i].Data, texts[i] = resultColumn(v.columns[at].typ)
	}
	return result, texts, nil
}

// rows calls yield for each row that a query about a view gives.
func (r *Reader) rows(ctx context.Context, view, query string, result proto.Results, texts []func(i int) string,
	yield func(row []string) error) error {
	row := make([]string, len(texts))
	err := r.sink.query(ctx, ch.Query{
		Body:   query,
		Result: result,
		OnResult: func(_ context.Context, b proto.Block) error {
			for i := range b.Rows {
				for c, text := range texts {
					row[c] = text(i)
				}
				if err := yield(row); err != nil {
					return err
				}
			}
			return nil
		},
	})
	if err != nil {
		return fmt.Errorf("clickhouse: read %s: %w", view, err)
	}
	return nil
}

// Columns returns the names of a view's columns in their order, or nil if there is no such view.
func Columns(view string) (names []string) {
	v, _, err := newest().viewNamed(view)
	if err != nil {
		return nil
	}
	for _, c := range v.columns {
		names = append(names, c.name)
	}
	return names
}

// viewNamed returns a view and the columns by which its rows are ordered.
func (y *layout) viewNamed(name string) (v view, key []string, err error) {
	for _, v := range y.views("") {
		if v.name != name {
			continue
		}
		switch name {
		case "session_metrics":
			return v, []string{"session_id", "origin"}, nil
		case "page_analytics":
			return v, []string{"session_id", "origin", "article_id", "event_type"}, nil
		}
		for i := range schema.Rollups {
			if r := &schema.Rollups[i]; r.Name == name {
				return v, append([]string{"date"}, r.Dims...), nil
			}
		}
	}
	return view{}, nil, fmt.Errorf("clickhouse: there is no view %q", name)
}

// resultColumn returns a column that takes results of a type, and the text of its row i.
func resultColumn(typ string) (proto.ColResult, func(i int) string) {
	if inner, ok := strings.CutPrefix(typ, "Nullable("); ok {
		inner = strings.TrimSuffix(inner, ")")
		values, value := resultColumn(inner)
		c, null := &nullableResult{values: values}, schema.Null
		if inner == text {
			null = "" // a text may be that of a null
		}
		return c, func(i int) string {
			if c.nulls[i] != 0 {
				return null
			}
			return value(i)
		}
	}
	switch typ {
	case text:
		c := new(proto.ColStr)
		return c, func(i int) string { return c.Row(i) }
	case lowText:
		c := lowCardinality()
		return c, func(i int) string { return c.Row(i) }
	case "UInt8":
		c := new(proto.ColUInt8)
		return c, func(i int) string { return strconv.FormatUint(uint64(c.Row(i)), 10) }
	case "UInt32":
		c := new(proto.ColUInt32)
		return c, func(i int) string { return strconv.FormatUint(uint64(c.Row(i)), 10) }
	case "UInt64":
		c := new(proto.ColUInt64)
		return c, func(i int) string { return strconv.FormatUint(c.Row(i), 10) }
	case "Int64":
		c := new(proto.ColInt64)
		return c, func(i int) string { return strconv.FormatInt(c.Row(i), 10) }
	case "Float64":
		c := new(proto.ColFloat64)
		return c, func(i int) string { return strconv.FormatFloat(c.Row(i), 'g', -1, 64) }
	case "Date":
		c := new(proto.ColDate)
		return c, func(i int) string { return schema.DateText(int32((*c)[i])) }
	case seconds:
		c := new(proto.ColDateTime)
		return c, func(i int) string { return strconv.FormatInt(int64(c.Data[i]), 10) }
	case millis:
		c := new(proto.ColDateTime64)
		return c, func(i int) string { return strconv.FormatInt(int64(c.Data[i]), 10) }
	case statuses:
		c := new(proto.ColEnum)
		return c, func(i int) string { return c.Row(i) }
	}
	panic("clickhouse: no results of type " + typ)
}

// nullableResult takes values that may be null.
type nullableResult struct {
	nulls  proto.ColUInt8
	values proto.ColResult
}

func (c *nullableResult) Type() proto.ColumnType {
	return proto.ColumnTypeNullable.Sub(c.values.Type())
}
func (c *nullableResult) Rows() int { return c.nulls.Rows() }

func (c *nullableResult) DecodeColumn(r *proto.Reader, rows int) error {
	if err := c.nulls.DecodeColumn(r, rows); err != nil {
		return err
	}
	return c.values.DecodeColumn(r, rows)
}

// Reset implements proto.Resettable.
func (c *nullableResult) Reset() {
	c.nulls.Reset()
	c.values.Reset()
}
