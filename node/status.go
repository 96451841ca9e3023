package node

import "deckle/state"

// Status is what a node knows of itself and of the shards, as Node.Status and /api/status show it.
type Status struct {
	Node, ClusterID string
	Ready           bool
	// Reasons say why the node is not ready; empty when it is.
	Reasons []string
	Shards  []ShardStatus
}

// ShardStatus is where one shard stands. Lag, Paused, Stopped and Visible are known to the shard's leader only.
type ShardStatus struct {
	Shard       uint32
	Leader      string // node name, "" if unknown
	IsLeader    bool   // this node leads it
	Term, Index uint64 // Raft term and last applied index
	State       state.View
	LagRecords  int64
	LagSeconds  float64
	// Paused says why intake rests, "" when it does not.
	Paused string
	// Stopped maps a sink or a partition to the reason for which it waits for a person.
	Stopped map[string]string
	// Visible maps a sink's name to its latency from Kafka timestamp to visible in the sink.
	Visible map[string]Latency
}

// Latency is a distribution of milliseconds since the start of the node.
type Latency struct {
	P50, P99, Max float64
	Count         int64
}
