package share

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/sinks/delta/deltalog"
)

// Metrics are those of the committer's rounds, and of the offers that this node makes.
type Metrics struct {
	seconds *prometheus.HistogramVec
	nodes   *prometheus.HistogramVec
	left    *prometheus.GaugeVec
	lates   *prometheus.CounterVec
	offers  *prometheus.CounterVec
}

// NewMetrics makes the metrics and registers them, unless reg is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	table := []string{"table"}
	m := &Metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "deckle_delta_round_seconds",
			Help:    "From the first offer of a round to its end, on the committer. What the store takes comes on top.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 12)}, table),
		nodes: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "deckle_delta_round_nodes",
			Help:    "Nodes whose changes were handed to the log together, on the committer.",
			Buckets: []float64{1, 2, 3}}, table),
		left: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "deckle_delta_round_tokens",
			Help: "Commits that late offers may have. The fewer there are, the longer rounds wait for nodes that are " +
				"at work; without one, late offers wait for the next turn."}, table),
		lates: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "deckle_delta_rounds_late_total",
			Help: "Rounds that did not wait any more for a node, on the committer."}, []string{"table", "peer"}),
		offers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "deckle_delta_offers_total",
			Help: "What became of the changes that this node has offered: committed, done, split, rebuild, no; and " +
				"alone: commits that it has made by itself."}, []string{"table", "outcome"}),
	}
	if reg != nil {
		reg.MustRegister(m.seconds, m.nodes, m.left, m.lates, m.offers)
	}
	return m
}

func (m *Metrics) round(table string, nodes int, took time.Duration) {
	m.seconds.WithLabelValues(table).Observe(took.Seconds())
	m.nodes.WithLabelValues(table).Observe(float64(nodes))
}

func (m *Metrics) late(table, node string) { m.lates.WithLabelValues(table, node).Inc() }

// Offered counts what became of an offer of this node.
func (m *Metrics) Offered(table string, o deltalog.Outcome) {
	m.offers.WithLabelValues(table, string(o)).Inc()
}

func (m *Metrics) tokens(table string, left float64) { m.left.WithLabelValues(table).Set(left) }
