package node

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/shard"
)

// pebbleCollector turns the figures of the Pebble store of each local replica into metrics.
type pebbleCollector struct{ shards func() []*shard.Shard }

func pebbleDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("deckle_pebble_"+name, help, shardDims, nil)
}

var (
	pebbleDisk        = pebbleDesc("disk_bytes", "Bytes on disk.")
	pebbleReadAmp     = pebbleDesc("read_amplification", "Sorted runs that a read may have to look into.")
	pebbleL0Files     = pebbleDesc("l0_files", "Files of level 0.")
	pebbleMemtable    = pebbleDesc("memtable_bytes", "Bytes of memtables, those being flushed included.")
	pebbleFlushes     = pebbleDesc("flushes_total", "Flushes of memtables.")
	pebbleCompactions = pebbleDesc("compactions_total", "Compactions.")
	pebbleDebt        = pebbleDesc("compaction_debt_bytes", "Estimate of the bytes that wait for compaction.")
	pebbleCacheHits   = pebbleDesc("cache_hits_total", "Hits of the block cache that the shards of a node share.")
	pebbleCacheMisses = pebbleDesc("cache_misses_total", "Misses of the block cache that the shards of a node share.")
	pebbleDescs       = []*prometheus.Desc{
		pebbleDisk, pebbleReadAmp, pebbleL0Files, pebbleMemtable, pebbleFlushes, pebbleCompactions, pebbleDebt,
		pebbleCacheHits,
		pebbleCacheMisses,
	}
)

// Describe implements prometheus.Collector.
func (c pebbleCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range pebbleDescs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c pebbleCollector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.shards() {
		m := s.Store().Metrics()
		if m == nil {
			continue
		}
		shard := strconv.Itoa(int(s.ID()))
		give := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(d, kind, v, shard)
		}
		give(pebbleDisk, prometheus.GaugeValue, float64(m.DiskSpaceUsage()))
		give(pebbleReadAmp, prometheus.GaugeValue, float64(m.ReadAmp()))
		give(pebbleL0Files, prometheus.GaugeValue, float64(m.Levels[0].TablesCount))
		give(pebbleMemtable, prometheus.GaugeValue, float64(m.MemTable.Size))
		give(pebbleFlushes, prometheus.CounterValue, float64(m.Flush.Count))
		give(pebbleCompactions, prometheus.CounterValue, float64(m.Compact.Count))
		give(pebbleDebt, prometheus.GaugeValue, float64(m.Compact.EstimatedDebt))
		give(pebbleCacheHits, prometheus.CounterValue, float64(m.BlockCache.Hits))
		give(pebbleCacheMisses, prometheus.CounterValue, float64(m.BlockCache.Misses))
	}
}
