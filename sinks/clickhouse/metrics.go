package clickhouse

import (
	"context"
	"errors"

	"github.com/ClickHouse/ch-go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	rows, blocks, bytes *prometheus.CounterVec
	errors              *prometheus.CounterVec
	seconds             *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Namespace: "deckle", Subsystem: "clickhouse", Name: name,
			Help: help}, labels)
	}
	return &metrics{
		rows:   counter("rows_total", "Rows inserted, repeats included.", "table"),
		blocks: counter("blocks_total", "Blocks inserted, repeats included.", "table"),
		bytes:  counter("bytes_total", "Bytes inserted before compression, estimated.", "table"),
		errors: counter("errors_total", "Failed queries, by the server's code, or network, timeout, cancelled.",
			"code"),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "deckle", Subsystem: "clickhouse", Name: "insert_seconds",
			Help:    "Time of one insert until it is acknowledged.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 15),
		}, []string{"table"}),
	}
}

func (m *metrics) failure(err error) {
	code := "network"
	switch e, ok := ch.AsException(err); {
	case ok && e.Code.IsAError():
		code = e.Code.String()
	case ok:
		code = "other"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code = "cancelled"
	case errors.Is(err, errReadTimeout):
		code = "timeout"
	}
	m.errors.WithLabelValues(code).Inc()
}
