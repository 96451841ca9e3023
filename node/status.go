package node

import "deckle/state"

// Status is what a node knows of itself and of the shards, as Node.Status and /api/status show it.
type Status struct {
	Node, ClusterID string
	// Ready says that the node is a member, every shard has a known leader, and of the shards led here all run and nothing
	// has stopped for a person. A sink that fails and is retried leaves it ready.
	Ready bool
	// Reasons say why the node is not ready, and, ready or not, what else goes wrong (a store that does not answer).
	Reasons []string
	Shards  []ShardStatus
}

// ShardStatus is where one shard stands. Lag, Paused, Ahead, Failing, Stopped and Visible are known to the shard's leader
// only.
type ShardStatus struct {
	Shard       uint32
	Leader      string // node name, "" if unknown
	IsLeader    bool   // this node leads it
	Term, Index uint64 // Raft term and last applied index
	State       state.View
	LagRecords  int64   // committed records in Kafka that are not applied yet
	LagSeconds  float64 // age of the last applied record while there is lag, else 0
	// Paused says why intake rests, "" when it does not.
	Paused string
	// Ahead are the partitions, ascending, that are not read for now because they run more than an hour of event time
	// ahead of the shard's clock: they wait until the others have followed.
	Ahead []int32
	// Failing maps "source" or a sink to the error for which it is being retried.
	Failing map[string]string
	// Stopped maps "shard", "partition <n>" or a sink to the reason for which it waits for a person.
	Stopped map[string]string
	// Visible maps a sink's name to its latency from Kafka timestamp to visible in the sink.
	Visible map[string]Latency
}

// Latency is a distribution of milliseconds since the start of the node, over the records that this node took in and
// flushed as leader. Percentiles are exact to one part in 64, Max is exact.
type Latency struct {
	P50, P99, Max float64
	Count         int64
}
