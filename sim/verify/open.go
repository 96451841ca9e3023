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
		st, err := openStore(d)
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

func openStore(d *config.Delta) (store.Store, error) {
	if d.S3 == nil {
		return store.NewLocal(vfs.Default, d.Path, "verify-"+strconv.Itoa(os.Getpid())), nil
	}
	t, err := d.S3.TLS.Client(os.ReadFile)
	if err != nil {
		return nil, err
	}
	return store.NewS3(store.S3Options{
		Endpoint: d.S3.Endpoint, Bucket: d.S3.Bucket, Prefix: d.S3.Prefix, Region: d.S3.Region, TLS: always(t),
		Credentials: store.StaticCredentials(d.S3.AccessKey.Value(), d.S3.SecretKey.Value()),
	})
}

// always is a TLS configuration that stays as it is, nil for none: a comparison is short.
func always(c *tls.Config) func() *tls.Config {
	if c == nil {
		return nil
	}
	return func() *tls.Config { return c }
}
