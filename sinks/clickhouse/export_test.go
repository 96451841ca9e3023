package clickhouse

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/ClickHouse/ch-go"

	"deckle/schema/level"
	"deckle/state"
)

// The tests of package clickhouse_test, which may import the model server, use these parts of this package.

// Model is the naive state that the views are compared with.
type Model = model

// NewModel returns a model without a session.
func NewModel(rng *rand.Rand, shards int) *Model { return newModel(rng, shards) }

// Advance is advance.
func (m *model) Advance(shard, epochs int) *state.Plan { return m.advance(shard, epochs) }

// Compare is compare.
func (m *model) Compare(t *testing.T, r *Reader, when string) { m.compare(t, r, when) }

// ModelRows are the rows that a view must show.
func (m *model) ModelRows(view string) [][]string { return m.rows(view) }

// ModelViews are the views that have a model.
func ModelViews() []string { return modelViews }

// ReadView reads all columns of a view.
func ReadView(t *testing.T, r *Reader, view string) [][]string {
	t.Helper()
	return readView(t, r, view)
}

// Attempt writes the plan as a leader that knows nothing of the ledger would.
func (s *Sink) Attempt(ctx context.Context, p *state.Plan) error { return newWriter(s, p).run(ctx) }

// ReaderOf returns a reader over the sink's connections.
func ReaderOf(s *Sink) *Reader { return &Reader{s} }

// Rows runs a query whose columns are texts.
func (s *Sink) Rows(t *testing.T, columns int, format string, args ...any) [][]string {
	t.Helper()
	return s.texts(t, columns, format, args...)
}

// Exec runs a statement.
func (s *Sink) Exec(t *testing.T, format string, args ...any) {
	t.Helper()
	s.mustExec(t, format, args...)
}

// EngineOptions returns the options of a real server, or skips.
func EngineOptions(t *testing.T) Options { return engineOptions(t) }

// OpenEngine opens a sink on a database of its own.
func OpenEngine(t *testing.T, opts Options) *Sink { return openEngine(t, opts) }

// IsRetry tells whether the node would repeat the query.
func IsRetry(err error) bool { return classify(err) == classRetry }

// Query runs a query.
func (s *Sink) Query(ctx context.Context, q ch.Query) error { return s.query(ctx, q) }

// Statement runs a statement and drops its rows.
func (s *Sink) Statement(ctx context.Context, q string) error { return s.exec(ctx, q) }

// Wider gives the options tables of level 2 with columns of a test.
func Wider(opts Options) Options { return withLayouts(opts, wider) }

// AtLevel is atLevel.
func AtLevel(p *state.Plan, l level.Level) *state.Plan { return atLevel(p, l) }

// Rise says that the views are those of level 2 from here on.
func (m *model) Rise() { m.risen = true }
