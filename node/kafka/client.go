package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"deckle/node/config"
)

// Client is a node's way to the Kafka cluster of its source topic. It is safe for concurrent use.
type Client struct {
	opts     []kgo.Opt // of every client of the node
	admin    *kgo.Client
	topic    string
	seeds    []string                // kafka.brokers
	maxBatch int64                   // kafka.max_batch_bytes; 0 means the client library's own bound
	quiet    time.Duration           // replaces probeQuiet and compareQuiet if set
	led      atomic.Pointer[leaders] // as Describe has last heard
}

// dialTimeout is that of the client library.
const dialTimeout = 10 * time.Second

// Secure is what a client proves itself with, and what it believes.
type Secure struct {
	// TLS returns the configuration of one connection, which is not changed. It must be set if the configuration has
	// TLS, and is asked for each connection.
	TLS func() *tls.Config
	// Password returns the password of the configuration's user, the secret of its OAuth client or, if the
	// configuration names the file of a token, that token. It must be set if the configuration has SASL, and is asked
	// each time that a connection proves itself.
	Password func() string
	// Kerberos must be set, instead of Password, if the configuration has it.
	Kerberos *Kerberos
	// TokenTLS returns the configuration of a connection to who gives tokens; nil: the system's roots.
	TokenTLS func() *tls.Config
}

// Open returns a client for the brokers and the topic of cfg. It connects to nothing yet. log takes the client
// library's messages; extra is added last to the options of every client.
func Open(cfg *config.Kafka, pipeline string, secure Secure, log *slog.Logger, extra []kgo.Opt) (*Client, error) {
	opts, err := options(cfg, pipeline, secure, log)
	if err != nil {
		return nil, err
	}
	opts = append(opts, extra...)
	requests := append([]kgo.Opt{kgo.RetryTimeoutFn(retryFor)}, opts...)
	admin, err := kgo.NewClient(append(requests, inflating(cfg.MaxBatchBytes)...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return &Client{opts: opts, admin: admin, topic: cfg.Topic, seeds: cfg.Brokers,
		maxBatch: cfg.MaxBatchBytes}, nil
}

// listRetries is how long the client repeats a question for offsets. It repeats it for all partitions of a broker if
// one of them has no leader for the moment. The others' offsets come once it gives that up, and must not be unknown for
// as long as the one has none.
const listRetries = 2 * time.Second

// retryFor is how long the client repeats a request that fails, by the request's key: half a minute is the library's.
func retryFor(key int16) time.Duration {
	if key == int16(kmsg.ListOffsets) {
		return listRetries
	}
	return 30 * time.Second
}

// Close closes the client for requests; sources have clients of their own.
func (c *Client) Close() { c.admin.Close() }

// Options are the options of every Kafka client of the node: brokers, TLS, SASL, log, and what Open was given.
func (c *Client) Options() []kgo.Opt { return slices.Clip(c.opts) }

// options are those that the configuration asks for.
func options(cfg *config.Kafka, pipeline string, secure Secure, log *slog.Logger) ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...),
		kgo.ClientID("deckle-" + pipeline),
		kgo.DisableClientMetrics(),
		kgo.WithLogger(logger{log.With("part", "kafka")}),
	}
	if cfg.TLS != nil {
		if secure.TLS == nil {
			return nil, errors.New("kafka: TLS is asked for, and there is no configuration of it")
		}
		opts = append(opts, kgo.Dialer(dialTLS(secure.TLS)))
	}
	if s := cfg.SASL; s != nil {
		if secure.Password == nil && secure.Kerberos == nil {
			return nil, errors.New("kafka: SASL is asked for, and there is no password")
		}
		inScram := func(context.Context) (scram.Auth, error) {
			return scram.Auth{User: s.User, Pass: secure.Password()}, nil
		}
		switch s.Mechanism {
		case "plain":
			opts = append(opts, kgo.SASL(plain.Plain(func(context.Context) (plain.Auth, error) {
				return plain.Auth{User: s.User, Pass: secure.Password()}, nil
			})))
		case "scram-sha-256":
			opts = append(opts, kgo.SASL(scram.Sha256(inScram)))
		case "scram-sha-512":
			opts = append(opts, kgo.SASL(scram.Sha512(inScram)))
		case "oauthbearer":
			opts = append(opts, kgo.SASL(oauth.Oauth(newTokens(s.OAuth, secure.Password, secure.TokenTLS).auth)))
		case "gssapi":
			opts = append(opts, kgo.SASL(secure.Kerberos.mechanism()))
		default:
			return nil, fmt.Errorf("kafka: unknown SASL mechanism %q", s.Mechanism)
		}
	}
	return opts, nil
}

// dialTLS connects as the client library does for a TLS configuration that never changes.
func dialTLS(present func() *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c := present().Clone()
		if c.ServerName == "" {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, fmt.Errorf("kafka: %w", err)
			}
			c.ServerName = host
		}
		return (&tls.Dialer{NetDialer: dialer, Config: c}).DialContext(ctx, network, addr)
	}
}

// reader returns a client that reads the topic from the given offsets: committed records only, transaction markers
// kept so that the position can pass them, no reset whatever happens, bounded memory. fetchBytes bounds one fetch per
// broker.
func (c *Client) reader(from map[int32]kgo.Offset, fetchBytes int64, extra ...kgo.Opt) (*kgo.Client, error) {
	return c.readerOf(c.topic, from, fetchBytes, extra...)
}

func (c *Client) readerOf(topic string, from map[int32]kgo.Offset, fetchBytes int64, extra ...kgo.Opt) (
	*kgo.Client, error) {
	bytes := min(max(fetchBytes, fewestFetchBytes), 1<<30)
	opts := append(c.Options(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(int32(bytes)),
		kgo.FetchMaxPartitionBytes(int32(min(bytes, mostPartitionBytes))),
		kgo.FetchMaxWait(fetchWait),
		kgo.MaxConcurrentFetches(maxFetches),
		// A broker sends the first batch of a fetch whole. One that is not compressed may have as much as one that is.
		kgo.BrokerMaxReadBytes(int32(min(max(2*bytes, c.maxBatch)+36<<20, math.MaxInt32))),
	)
	if c.maxBatch > 0 {
		opts = append(opts, kgo.MaxDecompressBatchBytes(int(c.maxBatch)))
	}
	cl, err := kgo.NewClient(append(opts, extra...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return cl, nil
}

// inflating are the options of a client that is to read batches of up to maxBatch bytes, if that is not 0.
func inflating(maxBatch int64) []kgo.Opt {
	if maxBatch <= 0 {
		return nil
	}
	return []kgo.Opt{kgo.MaxDecompressBatchBytes(int(maxBatch)),
		kgo.BrokerMaxReadBytes(int32(min(max(maxBatch+36<<20, 100<<20), math.MaxInt32)))}
}

// logger brings the client library's log to slog; its chatter is debug.
type logger struct{ log *slog.Logger }

// Level implements kgo.Logger.
func (l logger) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelWarn
}

// Log implements kgo.Logger.
func (l logger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	to := slog.LevelDebug
	switch {
	case strings.Contains(msg, "MaxDecompressBatchBytes"): // a condition says it once, in words of the configuration
	case level == kgo.LogLevelError:
		to = slog.LevelError
	case level == kgo.LogLevelWarn:
		to = slog.LevelWarn
	}
	l.log.Log(context.Background(), to, msg, keyvals...)
}
