package clickhouse_test

import (
	"testing"
	"time"

	"deckle/sinks/clickhouse"
	"deckle/sinks/clickhouse/clicktest"
)

func modelOptions(s *clicktest.Server) clickhouse.Options {
	return clickhouse.Options{
		Address: "model:9000", ClusterID: "cluster-1", Pipeline: "deckle", NodeName: "n1", ReadTimeout: 30 * time.Second,
		Compression: "none", Dial: s.Dial,
	}
}

// TestViewsAreExactOnTheModel: the property that holds on the engine holds on the model of it.
func TestViewsAreExactOnTheModel(t *testing.T) {
	srv := clicktest.New(clicktest.Options{})
	t.Cleanup(srv.Close)
	opts := modelOptions(srv)
	for _, c := range []string{"none", "lz4"} {
		t.Run(c, func(t *testing.T) {
			opts.Compression, opts.Database = c, "d_"+c
			clickhouse.ViewsAreExact(t, opts)
		})
	}
}
