package trust

import "github.com/prometheus/client_golang/prometheus"

var (
	descExpiry = prometheus.NewDesc("deckle_certificate_expiry_timestamp_seconds",
		"When the certificate in use of the file that key names expires, in seconds since 1970: the first of a "+
			"certificate and its chain; of a bundle of CAs the first one that has not expired.", []string{"key"}, nil)
	descReloads = prometheus.NewDesc("deckle_file_reloads_total",
		"Contents of the file that key names that came after the one of the start, by whether they could be used.",
		[]string{"key", "result"}, nil)
)

// Describe implements prometheus.Collector.
func (f *Files) Describe(ch chan<- *prometheus.Desc) {
	ch <- descExpiry
	ch <- descReloads
}

// Collect implements prometheus.Collector.
func (f *Files) Collect(ch chan<- prometheus.Metric) {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.list {
		if end := w.expiry.at(now); !end.IsZero() {
			ch <- prometheus.MustNewConstMetric(descExpiry, prometheus.GaugeValue, float64(end.Unix()), w.key)
		}
		for result, n := range map[string]int{"used": w.used, "refused": w.refused} {
			ch <- prometheus.MustNewConstMetric(descReloads, prometheus.CounterValue, float64(n), w.key, result)
		}
	}
}
