package status

import (
	"strings"

	"deckle/state"
)

// Node is what a node knows of itself and of the shards, as node.Node.Status and /api/status show it.
type Node struct {
	Node, ClusterID string
	// Ready says that the node is a member of the cluster, that every shard has a known leader, and that of the shards
	// led here all run and nothing waits for an operator. A sink that fails and is retried leaves the node ready.
	Ready bool
	// Reasons say why the node is not ready and, ready or not, what else goes wrong (a store that does not answer).
	Reasons []string
	Shards  []Shard
}

// Shard is where one shard stands. Only the shard's leader knows Lag, Paused, Ahead, Failing, Stopped and Visible.
type Shard struct {
	Shard       uint32
	Leader      string // the name of the node that leads it, "" if unknown
	IsLeader    bool   // this node leads it
	Term, Index uint64 // Raft term and last applied index
	State       state.View
	LagRecords  int64   // committed records in Kafka that are not applied yet
	LagSeconds  float64 // age of the last applied record while there is a lag, else 0
	// Paused says why intake rests, "" when it does not. It begins with one of PauseReasons and a colon.
	Paused string
	// Ahead are the partitions, ascending, that are not read for now because they run more than an hour of event time
	// ahead of the shard's clock: they wait until the others have followed.
	Ahead []int32
	// Failing maps "source" or a sink's name to the error for which it is being retried.
	Failing map[string]string
	// Stopped maps "shard", "partition <n>" or a sink's name to the reason for which it waits for an operator.
	Stopped map[string]string
	// Visible maps a sink's name to the latency from a record's Kafka timestamp to its visibility in the sink.
	Visible map[string]Latency
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
	PauseMemory = "memory" // sessions in memory are far over their budget
	PauseEpochs = "epochs" // a sink is too many epochs behind
)

// PauseReasons lists the reasons for which intake pauses.
func PauseReasons() []string { return []string{PauseDisk, PauseFree, PauseMemory, PauseEpochs} }

// PauseReason returns the reason with which Shard.Paused begins, "" for "".
func PauseReason(paused string) string {
	reason, _, _ := strings.Cut(paused, ":")
	return reason
}
