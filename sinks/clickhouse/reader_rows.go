package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"

	"deckle/schema"
)

// SessionsOf calls yield for every row of session_metrics of a date (days since 1970-01-01, UTC) with the values of the
// named columns as Rows gives them, in no order. The slice is reused after the call; its texts are not.
func (r *Reader) SessionsOf(ctx context.Context, date int32, columns []string, yield func(row []string) error) error {
	const view = "session_metrics"
	result, texts, err := r.results(view, columns)
	if err != nil {
		return err
	}
	return r.rows(ctx, view, fmt.Sprintf("SELECT %s FROM %s WHERE session_date = '%s'",
		strings.Join(columns, ", "), r.sink.table(view), schema.DateText(date)), result, texts, yield)
}

// Dates returns the dates that session_metrics has rows of between two, both included, ascending.
func (r *Reader) Dates(ctx context.Context, from, to int32) (dates []int32, err error) {
	var date proto.ColDate
	var rows proto.ColUInt64
	err = r.sink.query(ctx, ch.Query{
		Body: fmt.Sprintf("SELECT session_date, count() FROM %s WHERE session_date > '%s' AND "+
			"session_date < '%s' GROUP BY session_date", r.sink.table("session_metrics"),
			schema.DateText(from-1), schema.DateText(to+1)),
		Result: proto.Results{{Name: "session_date", Data: &date}, {Name: "count()", Data: &rows}},
		OnResult: func(context.Context, proto.Block) error {
			for _, d := range date {
				dates = append(dates, int32(d))
			}
			return nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("clickhouse: dates of session_metrics: %w", err)
	}
	slices.Sort(dates)
	return dates, nil
}
