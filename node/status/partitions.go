package status

// AddPartitions asks that partitions which were added to the topic are read, from their beginning.
type AddPartitions struct {
	// To is how many partitions of the topic are to be read, the first ones. 0 is as many as the topic has.
	To int32 `json:"to"`
	// From is how many partitions were read when it was shown to whoever asks, so that nobody adds others than that;
	// nil: as many as are read.
	From   *int   `json:"from,omitempty"`
	DryRun bool   `json:"dry_run,omitempty"`
	By     string `json:"by,omitempty"` // the node that was asked
	Asker  Asker  `json:"asker,omitzero"`
}

// PartitionsAdded is what has come of AddPartitions, or what would.
type PartitionsAdded struct {
	DryRun bool  `json:"dry_run"`
	From   int   `json:"from"`  // how many partitions were read
	To     int32 `json:"to"`    // how many are read now
	Whole  bool  `json:"whole"` // every shard has done it; otherwise ask again
	// Shards are all shards, ascending.
	Shards []ShardPartitions `json:"shards"`
	Split  SessionsSplit     `json:"split"`
}

// ShardPartitions is what one shard has done, or would do.
type ShardPartitions struct {
	Shard uint32           `json:"shard"`
	Have  int              `json:"have"` // how many partitions it read
	Added []AddedPartition `json:"added,omitempty"`
	Error string           `json:"error,omitempty"` // why it has not done it
}

// AddedPartition is a partition that is read from now on, and where it begins and ends in Kafka.
type AddedPartition struct {
	Partition int32 `json:"partition"`
	From      int64 `json:"from_offset"`
	End       int64 `json:"end_offset"`
}

// SessionsSplit are the open sessions whose key goes to another shard since the topic has grown: the records that
// follow open a second row there, and the first one ends by its idle timeout. The counts are of this node's replicas.
type SessionsSplit struct {
	// None says that no session can split: the number of shards divides both numbers of partitions.
	None bool `json:"none"`
	// Partitioner is the usual one that explains where records are, or is assumed.
	Partitioner string   `json:"partitioner,omitempty"`
	Assumed     bool     `json:"assumed,omitempty"`
	Sessions    int64    `json:"sessions"`
	Named       []string `json:"named,omitempty"` // up to 20 of their ids
	Unknown     int64    `json:"unknown"`         // open sessions whose key is not known
	Whole       bool     `json:"whole"`           // all open sessions were looked at
}
