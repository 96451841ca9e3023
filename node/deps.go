package node

import (
	"context"
	"crypto/rand"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/config"
	"deckle/node/tap"
	"deckle/sinks"
	"deckle/sinks/delta/compact"
	"deckle/sinks/delta/store"
	"deckle/state"
)

// Deps is everything outside the process that a node touches and a test may replace. The zero value is the real world.
type Deps struct {
	FS         vfs.FS                // the data folder's file system; default the operating system's
	Now        func() time.Time      // wall clock with a monotonic reading; default time.Now
	Random     io.Reader             // of the salt of suppressed readers; default crypto/rand
	Logger     *slog.Logger          // default slog.Default
	Registerer prometheus.Registerer // default a registry of the node's own
	Gatherer   prometheus.Gatherer   // what /metrics shows; default Registerer if it is a Gatherer too
	// ReadFile reads certificates, keys, CA bundles and secrets, again and again, and the keys of the data folder,
	// once; default os.ReadFile.
	ReadFile func(string) ([]byte, error)
	// Reload, if set, reads the configuration again. The node takes over what config.Reloadable says, and names the
	// rest that has changed.
	Reload func() (*config.Config, error)
	// Force has a cluster be founded even if the stores of its sinks refuse the node.
	Force bool
	// LogLevel, if set, is the least level of Logger, and follows log.level.
	LogLevel *slog.LevelVar
	// Tap, if set, is where people look at what passes, of several nodes of a process at once. Whoever has made it
	// closes it. By default a node has one of its own.
	Tap *tap.Board
	// RecentLog, if set, returns the newest lines of what Logger has written, for support bundles.
	RecentLog func() []byte
	// Reread has the node look at files and configuration at once; it is told the signal for which it does.
	Reread <-chan os.Signal
	// Notify, if set, is told how the process is, for a service manager, as lines of sd_notify(3): READY once the node
	// answers over HTTP, WATCHDOG and STATUS with each look at its conditions, STOPPING at the end.
	Notify       func(state string)
	KafkaOpts    []kgo.Opt    // added last to every Kafka client, e.g. the dialer of an in-process broker
	RaftListener net.Listener // instead of cluster.listen; the node closes it
	// RaftDial and ClickHouseDial replace TCP on the way to the other nodes and to ClickHouse.
	RaftDial       func(ctx context.Context, addr string) (net.Conn, error)
	ClickHouseDial func(ctx context.Context, network, addr string) (net.Conn, error)
	// DeltaStore is the object store of the Delta tables instead of the one that the configuration names.
	DeltaStore store.Store
	// Compaction replaces defaults of compact.Options, so that little data is enough: Settle and sizes.
	Compaction compact.Options
	// MostHidden replaces the default of delta.Options, so that rows of small files are hidden. Zero means the default.
	MostHidden float64
	// WrapSink, if set, returns the sink to use in place of one that was opened, so that a test can observe its plans.
	// What it returns for the sink of raw events must be a sinks.EventsSink.
	WrapSink func(sinks.Sink) sinks.Sink
	// Applied, if set, is called with each entry that a shard's replica here has applied (state.Options.Applied).
	Applied func(shard uint32, index uint64, data []byte, result any)
	// LogBytes, SegmentBytes and CheckpointBytes replace the defaults of raftstore.Options and state.Options, so that
	// little data is enough for closed segments, truncated logs and sent snapshots. Zero means the defaults.
	LogBytes, SegmentBytes, CheckpointBytes int64
	// OnFatal is called at most once, with the error for which the process should end. Wait returns the error, too.
	OnFatal func(error)

	// stat tells the modes of the files that ReadFile reads, as far as they are real ones and modes mean something.
	stat func(string) (fs.FileInfo, error)
	// openSink replaces the sinks in tests of this package. again reads records from Kafka again.
	openSink func(again sinks.EventSource, id state.SinkID) (sinks.Sink, error)
}

// complete fills in the defaults. It may be called again.
func (d *Deps) complete() {
	if d.stat == nil {
		d.stat = func(string) (fs.FileInfo, error) { return nil, fs.ErrNotExist }
		if d.ReadFile == nil && runtime.GOOS != "windows" {
			d.stat = os.Stat
		}
	}
	if d.ReadFile == nil {
		d.ReadFile = os.ReadFile
	}
	if d.FS == nil {
		d.FS = vfs.Default
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Random == nil {
		d.Random = rand.Reader
	}
	if d.Logger == nil {
		d.Logger = slog.Default()
	}
	if d.Registerer == nil {
		reg := prometheus.NewRegistry()
		d.Registerer = reg
		if d.Gatherer == nil {
			d.Gatherer = reg
		}
	}
	if d.Gatherer == nil {
		if g, ok := d.Registerer.(prometheus.Gatherer); ok {
			d.Gatherer = g
		} else {
			d.Gatherer = prometheus.NewRegistry()
		}
	}
	if d.Notify == nil {
		d.Notify = func(string) {}
	}
	if d.OnFatal == nil {
		d.OnFatal = func(error) {}
	}
}
