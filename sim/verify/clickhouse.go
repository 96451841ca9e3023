package verify

import (
	"context"
	"fmt"

	"deckle/sim"
	"deckle/sinks/clickhouse"
)

// ClickHouse reads the views of a database. The caller closes the Reader.
func ClickHouse(r *clickhouse.Reader) Reader { return clickHouseReader{r} }

type clickHouseReader struct{ r *clickhouse.Reader }

// Count implements Reader.
func (c clickHouseReader) Count(ctx context.Context, table string) (int64, error) {
	n, err := c.r.Count(ctx, table)
	return int64(n), err
}

// Rows implements Reader.
func (c clickHouseReader) Rows(ctx context.Context, table string, yield func([]string) error) error {
	var columns []string
	switch table {
	case "session_metrics":
		columns = sim.SessionColumns
	case "page_analytics":
		columns = sim.PageColumns
	default:
		if columns = RollupColumns(table); columns == nil {
			return fmt.Errorf("there is no view %q", table)
		}
	}
	return c.r.Rows(ctx, table, columns, func(row []string) error {
		for i, name := range columns {
			row[i] = sim.Canonical(name, row[i])
		}
		return yield(row)
	})
}
