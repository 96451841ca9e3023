package status

import (
	"strings"

	"deckle/node/condition"
	"deckle/state"
)

// Node is what a node knows of itself and of the shards, as node.Node.Status and /api/v1/status show it.
type Node struct {
	Node, ClusterID string
	// Ready says that the node is a member of the cluster, that every shard has a known leader, and that the shards
	// that are led here run: none of their parts is stopped, and something flows. It follows from Conditions, as the
	// table of package condition says.
	Ready bool
	// Reasons are those of Conditions for which the node is not ready and, ready or not, those that are degraded or
	// worse, in one line each.
	Reasons []string
	// Conditions are what this node has found, the gravest first; Others are what the other nodes say that they have
	// found, as of a few seconds ago. A node that does not answer is a condition of this one.
	Conditions, Others []condition.Condition
	// Members are the nodes of the cluster, this one included, in the order of the configuration.
	Members []Member
	// CanLoseOne says whether every shard goes on without any one of the members that are up to date. Nil while that is
	// not known.
	CanLoseOne *bool
	// Because says why one more may be lost, or may not, or why that is not known; "" before the first look.
	Because string
	Shards  []Shard
}

// Shard is where one shard stands. Only the shard's leader knows the lag, Paused, Ahead, Failing, Stopped and Visible.
type Shard struct {
	Shard       uint32
	Leader      string // the name of the node that leads it, "" if unknown
	IsLeader    bool   // this node leads it
	Term, Index uint64 // Raft term and last applied index
	State       state.View
	// Lag is measured by the leader. Told is what another node that leads the shard has told of it, a few seconds ago;
	// nil if this node leads it, and while the leader has told nothing.
	Lag  Lag
	Told *Lag
	// Paused says why intake rests, "" when it does not. It begins with one of PauseReasons and a colon.
	Paused string
	// Ahead are the partitions, ascending, that are not read for now because they run more than an hour of event time
	// ahead of the shard's clock: they wait until the others have followed.
	Ahead []int32
	// Failing maps "source", "partition <n>" or a sink's name to the error for which it is being retried.
	Failing map[string]string
	// Stopped maps "shard", "partition <n>" or a sink's name to the reason for which it waits for an operator.
	Stopped map[string]string
	// Visible maps a sink's name to the latency from a record's Kafka timestamp to its visibility in the sink.
	Visible map[string]Latency
}

// Lag is how far a shard is behind the end offsets of its share of the topic's partitions, whatever their condition.
// What is nil is not known.
type Lag struct {
	Records *int64 // committed records that are not applied yet; nil if that of any partition is unknown
	// Seconds is the greatest age of the last applied record of a partition with lag, 0 without lag. A partition whose
	// last record has no known age is passed over.
	Seconds *float64
	// OpenTransaction are the records that lie behind an open transaction of another producer, beside Records.
	OpenTransaction *int64
	// Partitions are all of the shard's share of the topic, ascending, also those that nobody reads.
	Partitions []PartitionLag
	Unknown    int // how many of Partitions have no known lag
}

// PartitionLag is the lag of one partition.
type PartitionLag struct {
	Partition                int32
	Records, OpenTransaction *int64 // as in Lag
	Unread                   bool   // it was added after the cluster was created, and nobody reads it
}

// Latency is a distribution of milliseconds since the start of the node, over the records that this node took in and
// flushed as leader. Percentiles are exact to one part in 64, Max is exact.
type Latency struct {
	P50, P99, Max float64
	Count         int64
}

// Reasons for which intake pauses.
const (
	PauseDisk   = "disk"   // the data folder is over its budget
	PauseFree   = "free"   // the file system is nearly full
	PauseFull   = "full"   // the file system is full: the reserve is given up
	PauseMemory = "memory" // sessions in memory are far over their budget
	PauseEpochs = "epochs" // a sink is too many epochs behind
)

// PauseReasons lists the reasons for which intake pauses.
func PauseReasons() []string {
	return []string{PauseDisk, PauseFree, PauseFull, PauseMemory, PauseEpochs}
}

// PauseReason returns the reason with which Shard.Paused begins, "" for "".
func PauseReason(paused string) string {
	reason, _, _ := strings.Cut(paused, ":")
	return reason
}
