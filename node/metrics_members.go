package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/config"
)

// memberCollector turns what is known of the other nodes, and the limits of this one, into metrics.
type memberCollector struct {
	seen   func() look
	self   string
	limits map[string]int64 // bytes by key of limits; without those that are not set, and disk_bytes
	disk   func() int64     // disk_bytes as of the moment
}

// newMemberCollector takes the limits of a configuration; disk tells the budget of the data folder, 0 for none.
func newMemberCollector(seen func() look, cfg *config.Config, disk func() int64) *memberCollector {
	c := &memberCollector{seen: seen, self: cfg.Node, limits: map[string]int64{}, disk: disk}
	for key, bytes := range map[string]int64{"session_memory_bytes": cfg.Limits.SessionMemoryBytes,
		"buffer_memory_bytes": cfg.Limits.BufferMemoryBytes, "fetch_memory_bytes": cfg.Limits.FetchMemoryBytes,
		"cache_bytes": cfg.Limits.CacheBytes} {
		if bytes > 0 {
			c.limits[key] = bytes
		}
	}
	return c
}

var (
	peerDims   = []string{"peer"}
	descPeerUp = prometheus.NewDesc("deckle_peer_up", "1 for another node that has answered the last question.",
		peerDims, nil)
	descPeerUpToDate = prometheus.NewDesc("deckle_peer_up_to_date",
		"1 for another node that votes in every shard and has caught up, as far as this node knows.", peerDims, nil)
	descPeerClock = prometheus.NewDesc("deckle_peer_clock_offset_seconds",
		"Wall clock of another node minus that of this one (absent while not known).", peerDims, nil)
	descCanLoseOne = prometheus.NewDesc("deckle_cluster_can_lose_one",
		"1 if every shard goes on without any one more node, 0 if not (absent while not known).", nil, nil)
	descLimit = prometheus.NewDesc("deckle_limit_bytes",
		"Limits in bytes, by key of the configuration's block limits; disk_bytes as it is in force. Fills: "+
			"deckle_node_disk_bytes, the sum of deckle_state_memory_bytes.", []string{"limit"}, nil)
)

// Describe implements prometheus.Collector.
func (c *memberCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descPeerUp, descPeerUpToDate, descPeerClock, descCanLoseOne, descLimit} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *memberCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	l := c.seen()
	for i := range l.members {
		m := &l.members[i]
		if m.Node == c.self {
			continue
		}
		gauge(descPeerUp, flag(m.Answers), m.Node)
		gauge(descPeerUpToDate, flag(m.UpToDate), m.Node)
		if m.Clock != nil {
			gauge(descPeerClock, m.Clock.Seconds(), m.Node)
		}
	}
	if l.canLoseOne != nil {
		gauge(descCanLoseOne, flag(*l.canLoseOne))
	}
	if bytes := c.disk(); bytes > 0 {
		gauge(descLimit, float64(bytes), "disk_bytes")
	}
	for key, bytes := range c.limits {
		gauge(descLimit, float64(bytes), key)
	}
}
