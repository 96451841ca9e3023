package verify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/node/config"
	"deckle/sinks/clickhouse"
	"deckle/sinks/delta/store"
)

// Open opens the tables that a node's configuration names, for reading, and sets Delta, NoEvents and ClickHouse. The
// caller calls the returned function when it is done; it is never nil.
func (o *Options) Open(ctx context.Context, cfg *config.Config) (closeAll func() error, err error) {
	var closers []func() error
	closeAll = func() error {
		var errs []error
		for _, c := range closers {
			errs = append(errs, c())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll())
			closeAll = func() error { return nil }
		}
	}()
	if d := cfg.Delta; d != nil {
		st, err := OpenStore(d)
		if err != nil {
			return closeAll, fmt.Errorf("verify: delta: %w", err)
		}
		if c, ok := st.(interface{ Close() error }); ok {
			closers = append(closers, c.Close)
		}
		if o.Delta, err = OpenDelta(ctx, st); err != nil {
			return closeAll, err
		}
		o.NoEvents = d.Events != nil && !*d.Events
	}
	if h := cfg.ClickHouse; h != nil {
		t, err := h.TLS.Client(os.ReadFile)
		if err != nil {
			return closeAll, fmt.Errorf("verify: clickhouse: %w", err)
		}
		r, err := clickhouse.OpenReader(ctx, clickhouse.Options{
			Address: h.Address, Database: h.Database, User: h.User, Password: h.Password.Value, TLS: always(t),
			Compression: h.Compression, ReadTimeout: h.ReadTimeout,
		})
		if err != nil {
			return closeAll, fmt.Errorf("verify: clickhouse: %w", err)
		}
		closers = append(closers, r.Close)
		o.ClickHouse = ClickHouse(r)
	}
	return closeAll, nil
}

// OpenStore opens the store of a configuration, once and for a short time: keys and certificates are not read again. A
// store that is an io.Closer is closed by the caller.
func OpenStore(d *config.Delta) (store.Store, error) {
	if d.S3 == nil {
		return store.NewLocal(vfs.Default, d.Path, "reader-"+strconv.Itoa(os.Getpid())), nil
	}
	t, err := d.S3.TLS.Client(os.ReadFile)
	if err != nil {
		return nil, err
	}
	s := d.S3
	opts := store.S3Options{Endpoint: s.Endpoint, Bucket: s.Bucket, Prefix: s.Prefix, Region: s.Region, TLS: always(t)}
	keys := &store.Keys{From: s.Credentials, File: s.File, Profile: s.Profile, STSEndpoint: s.STSEndpoint,
		RoleARN: s.RoleARN, ExternalID: s.ExternalID, TokenFile: s.TokenFile, Endpoint: s.Endpoint, Region: s.Region}
	if s.AccessKey.IsSet() {
		keys.AccessKey, keys.SecretKey, keys.SessionToken = s.AccessKey.Value, s.SecretKey.Value, s.SessionToken.Value
	}
	if opts.Credentials, err = keys.Credentials(); err != nil {
		return nil, err
	}
	if s.SSE != nil {
		var key []byte
		if s.SSE.Kind == "c" {
			if key, err = s.SSE.CustomerKey(); err != nil {
				return nil, fmt.Errorf("delta.s3.sse.key: %w", err)
			}
		}
		if opts.SSE, err = store.NewSSE(s.SSE.Kind, s.SSE.KMSKey, key); err != nil {
			return nil, err
		}
	}
	return store.NewS3(opts)
}

// always is a TLS configuration that stays as it is, nil for none: a comparison is short.
func always(c *tls.Config) func() *tls.Config {
	if c == nil {
		return nil
	}
	return func() *tls.Config { return c }
}
