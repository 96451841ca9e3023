package clickhouse

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"deckle/schema/level"
	"deckle/sinks"
)

// Options say where ClickHouse is and to which cluster and pipeline the tables belong.
type Options struct {
	Address  string // host:port of the native protocol
	Database string // default "analytics"
	User     string // default "default"
	// Password returns the password, which is never logged; nil: none. It is asked for each connection, and connections
	// that are idle are not used again once it, or TLS, returns something else.
	Password func() string
	// TLS returns the configuration of one connection, which is not changed; nil: plain TCP. It is asked for each.
	TLS         func() *tls.Config
	Compression string        // "lz4" (default), "zstd", "none"
	ReadTimeout time.Duration // longest silence of the server within a query; default 60s
	DialTimeout time.Duration // connection, TLS and hello together; default 5s

	// Level is the level at which tables are created that are missing; default level.First. A plan of a higher level
	// adds its columns (Sink.Write), one of a lower level does without the others.
	Level level.Level

	ClusterID string // owner of the tables; required by EnsureSchema and Write
	Pipeline  string // as ClusterID
	NodeName  string // written to the ledger, for human readers

	// MaxConns bounds the connections, and with them the blocks in flight; default 4.
	MaxConns int
	// BlockRows and BlockBytes bound one INSERT; defaults 50,000 rows and 8 MiB, greatest values 50,000 rows and 64
	// MiB. A shard that writes holds up to two blocks: one of sessions, one of pages; each is in memory about three
	// times, as columns, encoded and compressed.
	BlockRows  int
	BlockBytes int

	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: metrics are kept but not registered
	Now        func() time.Time
	Dial       func(ctx context.Context, network, address string) (net.Conn, error)

	compression ch.Compression
	layouts     *layouts // nil: declared; for tests
}

// Bounds of one INSERT (docs/design.md §6).
const (
	maxBlockRows      = 50_000
	maxBlockBytes     = 64 << 20
	defaultBlockBytes = 8 << 20
)

func (o *Options) complete() error {
	o.Database = cmp.Or(o.Database, "analytics")
	o.User = cmp.Or(o.User, "default")
	o.ReadTimeout = cmp.Or(o.ReadTimeout, time.Minute)
	o.DialTimeout = cmp.Or(o.DialTimeout, 5*time.Second)
	o.MaxConns = cmp.Or(o.MaxConns, 4)
	o.BlockRows = cmp.Or(o.BlockRows, maxBlockRows)
	o.BlockBytes = cmp.Or(o.BlockBytes, defaultBlockBytes)
	o.Level = cmp.Or(o.Level, level.First)
	o.layouts = cmp.Or(o.layouts, &declared)
	if o.Address == "" {
		return errors.New("clickhouse: no address")
	}
	if o.ReadTimeout < 0 || o.DialTimeout < 0 || o.MaxConns < 0 {
		return errors.New("clickhouse: timeouts and connection count must be positive")
	}
	if o.BlockRows < 1 || o.BlockRows > maxBlockRows || o.BlockBytes < 1 || o.BlockBytes > maxBlockBytes {
		return fmt.Errorf("clickhouse: a block has 1 to %d rows and 1 to %d bytes", maxBlockRows, maxBlockBytes)
	}
	switch o.Compression {
	case "", "lz4":
		o.compression = ch.CompressionLZ4
	case "zstd":
		o.compression = ch.CompressionZSTD
	case "none":
		o.compression = ch.CompressionDisabled
	default:
		return fmt.Errorf("clickhouse: compression %q is not lz4, zstd or none", o.Compression)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext
	}
	return nil
}

// Sink writes the plans of all shards that this node leads. It is safe for concurrent use.
type Sink struct {
	opts    Options
	pool    *pool
	metrics *metrics

	layouts  *layouts
	blocks   [level.Current + 1]sync.Pool // by level, of *blocks, whose columns have grown to the size that is needed
	checking *semaphore.Weighted          // one check at a time; the wait for it ends with the waiter's context
	level    atomic.Uint32                // the greatest level that the tables have had, at least Options.Level
	ensured  atomic.Uint32                // the level up to which they are known to fit; 0: to be checked

	mu     sync.Mutex
	ledger map[uint32]seen // by shard: the last known position of its ledger; emptied after any error
}

// seen is a position that this sink has read or written.
type seen struct {
	pos uint64
	at  time.Time
}

// trustFor is how long a position is used without reading it again. Another leader may have moved it meanwhile; a
// position other than the plan's A is read again in any case. This saves one statement per plan where epochs are short,
// and the second of two statements at the start of a leadership.
const trustFor = 5 * time.Second

func (s *Sink) note(shard uint32, pos uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger[shard] = seen{pos, s.opts.Now()}
}

// standsAt tells whether the shard's ledger was seen at this position less than trustFor ago.
func (s *Sink) standsAt(shard uint32, pos uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.ledger[shard]
	age := s.opts.Now().Sub(l.at)
	return ok && l.pos == pos && age >= 0 && age < trustFor
}

var _ sinks.Sink = (*Sink)(nil)

// Open returns a sink whose server has answered once: a wrong address, password or certificate is found here.
// EnsureSchema checks whether the tables fit.
func Open(ctx context.Context, opts Options) (*Sink, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	s := New(opts)
	if err := s.ping(ctx); err != nil {
		s.pool.close()
		return nil, err
	}
	return s, nil
}

// New returns a sink without asking the server anything, for a node that starts while ClickHouse is down. Position and
// Write call EnsureSchema themselves until it has succeeded once. Options must be those that Open accepts.
func New(opts Options) *Sink {
	if err := opts.complete(); err != nil {
		// Only a programming error leads here; every call reports it.
		opts.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, err }
		opts.MaxConns, opts.DialTimeout = 1, time.Second
	}
	s := &Sink{opts: opts, pool: newPool(opts), metrics: newMetrics(opts.Registerer), layouts: opts.layouts,
		checking: semaphore.NewWeighted(1), ledger: map[uint32]seen{}}
	s.level.Store(uint32(opts.Level))
	return s
}

// Close closes the connections; a Write in progress fails.
func (s *Sink) Close() error {
	s.pool.close()
	return nil
}

func (s *Sink) ping(ctx context.Context) error {
	return s.exec(ctx, "SELECT 1")
}

// exec runs a statement without input and drops the rows that it returns.
func (s *Sink) exec(ctx context.Context, q string, settings ...ch.Setting) error {
	return s.query(ctx, ch.Query{
		Body: q, Settings: settings, Result: discard(),
		OnResult: func(context.Context, blockInfo) error { return nil },
	})
}

// query runs a query and counts its failure.
func (s *Sink) query(ctx context.Context, q ch.Query) error {
	err := s.pool.do(ctx, q)
	if err != nil {
		s.metrics.failure(err)
		s.mu.Lock()
		clear(s.ledger) // the server may have been restored to an earlier state
		s.mu.Unlock()
		if !ch.IsException(err) || ch.IsErr(err, proto.ErrAuthenticationFailed) {
			s.pool.dropIdle()
		}
	}
	return err
}

// table returns a full, quoted name.
func (s *Sink) table(name string) string { return quoteIdent(s.opts.Database) + "." + quoteIdent(name) }
