package clickhouse_test

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"deckle/schema"
	"deckle/schema/level"
	model "deckle/sim/testworld/clickhouse"
)

// The stored tables of the sink.
const (
	sessionsTable = "session_metrics_versions"
	pagesTable    = "page_analytics_versions"
	totalsTable   = "rollup_versions"
	ledgerTable   = "deckle_ledger"
)

// The rows of a stored table that are visible in the model, in the order of Reader.Rows.
func visibleSessions(srv *model.Server) []model.Row {
	return srv.Rows(modelDB, sessionsTable, "session_id", "origin")
}

func visiblePages(srv *model.Server) []model.Row {
	return srv.Rows(modelDB, pagesTable, "session_id", "origin", "article_id", "event_type")
}

// textOf is the value of a column in the form in which Reader.Rows shows it.
func textOf(r model.Row, name string, kind schema.Kind) string {
	switch {
	case kind.IsText():
		return r.Text(name)
	case kind == schema.Date:
		return r.Date(name).Format(time.DateOnly)
	}
	return strconv.FormatUint(r.Uint(name), 10)
}

func sessionAt(r model.Row) (row []string) {
	for _, c := range schema.All().UpTo(level.First).Sessions {
		row = append(row, textOf(r, c.Name, c.Kind))
	}
	return row
}

func pageAt(r model.Row) (row []string) {
	for i := range schema.Pages {
		row = append(row, textOf(r, schema.Pages[i].Name, schema.Pages[i].Kind))
	}
	return row
}

// rollupColumns are the columns of a rollup's dimensions.
var rollupColumns = [schema.NumRollups][]string{
	{}, {"brand"}, {"device_type", "device_os", "browser"}, {"country", "city"}, {"subscription_tier", "user_segment"},
}

// rollupRows returns the rows of a rollup's view, in the order of Reader.Rows.
func rollupRows(srv *model.Server, table schema.RollupTable) (out [][]string) {
	dims := rollupColumns[table]
	for _, r := range srv.Rows(modelDB, table.String(), slices.Concat([]string{"date"}, dims)...) {
		number := func(name string) string { return strconv.FormatInt(r.Int(name), 10) }
		float := func(name string) string { return strconv.FormatFloat(r.Float(name), 'g', -1, 64) }
		x := []string{r.Date("date").Format(time.DateOnly)}
		for _, name := range dims {
			x = append(x, r.Text(name))
		}
		x = append(x, number("total_sessions"), number("total_users"), float("avg_session_duration_sec"),
			float("avg_events_per_session"), number("total_article_views"), number("total_video_plays"),
			number("total_newsletter_signups"), number("total_ad_clicks"))
		if table == schema.RollupSubscription {
			x = append(x, float("conversion_rate"))
		}
		out = append(out, x)
	}
	return out
}

// totalKey is the key of a stored total.
func totalKey(r model.Row) string {
	return strings.Join([]string{r.Text("rollup"), r.Text("date"), r.Text("dim1"), r.Text("dim2"), r.Text("dim3"),
		r.Text("shard")}, "\x00")
}
