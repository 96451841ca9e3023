package front

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Why something was refused, the label of deckle_http_refused_total.
const (
	WhyHost               = "host"                // another name than those under which the server may be asked
	WhyConnections        = "connections"         // too many of everybody
	WhyAddressConnections = "address_connections" // too many of one client
	WhyRate               = "rate"                // too many requests
	WhyUnauthenticated    = "unauthenticated"     // it does not say who sends it, or what it says is wrong
	WhyRole               = "role"                // another role is needed
	WhyBrand              = "brand"               // a role that is held to brands
)

// Metrics are the figures of the HTTP side. A nil one counts nothing.
type Metrics struct {
	requests    *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	refused     *prometheus.CounterVec
	connections prometheus.GaugeFunc
	open        atomic.Pointer[Listener]
	turned      atomic.Int64 // connections that were refused
}

// NewMetrics registers the figures.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "deckle_http_requests_total",
			Help: "Answers by route, as the table of docs/operations.md has it, and status."},
			[]string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "deckle_http_request_seconds",
			Help:    "How long answers took, by route.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10, 30}}, []string{"route"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "deckle_http_refused_total",
			Help: "Connections and requests that were refused: host, connections, address_connections, rate, " +
				"unauthenticated, role, brand."},
			[]string{"why"}),
	}
	m.connections = prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "deckle_http_connections",
		Help: "Open connections of the HTTP side."}, func() float64 {
		if l := m.open.Load(); l != nil {
			return float64(l.Open())
		}
		return 0
	})
	for _, why := range []string{WhyHost, WhyConnections, WhyAddressConnections, WhyRate, WhyUnauthenticated, WhyRole,
		WhyBrand} {
		m.refused.WithLabelValues(why)
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.refused, m.connections} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Watch has the figures tell the connections of l.
func (m *Metrics) Watch(l *Listener) {
	if m != nil {
		m.open.Store(l)
	}
}

// Refused counts a refusal.
func (m *Metrics) Refused(why string) {
	if m == nil {
		return
	}
	m.refused.WithLabelValues(why).Inc()
	if why == WhyConnections || why == WhyAddressConnections {
		m.turned.Add(1)
	}
}

// Answered counts an answer. route is one of the server's own names, never a client's text.
func (m *Metrics) Answered(route string, code int, took time.Duration) {
	if m == nil {
		return
	}
	m.requests.WithLabelValues(route, strconv.Itoa(code)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// ConnectionsRefused returns how many connections have been refused so far.
func (m *Metrics) ConnectionsRefused() int64 {
	if m == nil {
		return 0
	}
	return m.turned.Load()
}
