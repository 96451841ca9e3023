package access

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count who was let in. A nil one counts nothing.
type Metrics struct {
	auth  *prometheus.CounterVec
	lines *prometheus.CounterVec
}

// NewMetrics registers the figures.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		auth: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "deckle_auth_total",
			Help: "Requests over HTTP by how they say who they are (certificate, token, oidc, cookie, login, none) " +
				"and whether they are taken (good, wrong, none)."}, []string{"method", "result"}),
		lines: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "deckle_audit_lines_total",
			Help: "Lines of the audit log: written, failed, and left out because there are too many refusals."},
			[]string{"result"}),
	}
	for _, c := range []prometheus.Collector{m.auth, m.lines} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) identified(method string, err error) {
	if m == nil {
		return
	}
	result := "good"
	switch {
	case errors.Is(err, ErrNone):
		result = "none"
	case err != nil:
		result = "wrong"
	}
	m.auth.WithLabelValues(method, result).Inc()
}

func (m *Metrics) line(result string) {
	if m != nil {
		m.lines.WithLabelValues(result).Inc()
	}
}
