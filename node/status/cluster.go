package status

// ClusterOp is what is asked of the nodes of a cluster.
type ClusterOp string

// The operations.
const (
	ClusterTransfer ClusterOp = "transfer" // hand shards to a node
	ClusterDrain    ClusterOp = "drain"    // let a node lead no shard that another one can lead
	ClusterUndrain  ClusterOp = "undrain"  // end that
)

// TransferRequest asks the leaders of shards to hand them to a node, which keeps them until it loses them.
type TransferRequest struct {
	Shard *uint32 // nil: all
	To    string  // a node
	Asker Asker
}

// TransferOutcome is what has come of a TransferRequest.
type TransferOutcome struct {
	To     string       `json:"to"`
	Whole  bool         `json:"whole"` // every shard that was asked for is led by that node
	Shards []ShardMoved `json:"shards"`
}

// ShardMoved is what has come of a transfer in one shard.
type ShardMoved struct {
	Shard uint32 `json:"shard"`
	From  string `json:"from"`            // the node that led it, "" if none was known
	Error string `json:"error,omitempty"` // "" if it is led by the node that was asked for
}

// FinalizeOutcome is what has come of an upgrade that was finalized.
type FinalizeOutcome struct {
	Whole  bool         `json:"whole"` // every shard has the highest level that all nodes have and allow
	Shards []ShardRisen `json:"shards"`
}

// ShardRisen is what has come of it in one shard.
type ShardRisen struct {
	Shard uint32 `json:"shard"`
	From  uint32 `json:"from"` // the level that it had; 0: not known
	To    uint32 `json:"to"`
	Error string `json:"error,omitempty"` // "" if it has risen, or had that level
}

// DrainRequest asks a node to lead no shard that another one can lead, or, with Off, to lead again.
type DrainRequest struct {
	Node  string
	Off   bool
	Asker Asker
}

// DrainOutcome is what has come of a DrainRequest.
type DrainOutcome struct {
	Node    string `json:"node"`
	Drained bool   `json:"drained"`
	// Leads are the shards that it leads at the moment. They go to other nodes one after the other.
	Leads []uint32 `json:"shards_led"`
	// Warnings say what to know before the node is stopped.
	Warnings []string `json:"warnings"`
}
