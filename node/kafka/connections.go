package kafka

import (
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// connections counts the connections that a client makes, and knows by which of them a partition's records came at the
// latest. A broker whose log is replaced by another one ends, and so do its connections: what comes by a connection
// that was there before belongs to the same log as what came before.
type connections struct {
	mu     sync.Mutex
	all    uint64
	latest map[int32]uint64 // by broker: its newest connection
	by     map[int32]uint64 // by partition: the newest connection of the broker that sent its last batch
}

func newConnections() *connections {
	return &connections{latest: map[int32]uint64{}, by: map[int32]uint64{}}
}

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (c *connections) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all++
	c.latest[meta.NodeID] = c.all
}

// OnFetchBatchRead implements kgo.HookFetchBatchRead.
func (c *connections) OnFetchBatchRead(meta kgo.BrokerMetadata, _ string, partition int32, _ kgo.FetchBatchMetrics) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by[partition] = c.latest[meta.NodeID]
}

func (c *connections) number() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all
}

// came is the number of the connection by which the last batch of a partition came, or of a newer one to the same
// broker.
func (c *connections) came(partition int32) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[partition]
}
