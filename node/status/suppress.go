package status

import "time"

// MaxListIDs is how many ids a ListRequest may have: what becomes of them fits one message between two nodes.
const MaxListIDs = 800

// ListOp is what is asked of the list of suppressed readers.
type ListOp string

// The operations.
const (
	ListAdd    ListOp = "add"    // from now on no record of these readers is let in
	ListRemove ListOp = "remove" // from now on they are let in again
	ListCheck  ListOp = "check"  // since when, and where, are these readers on the list
	ListRepair ListOp = "repair" // give every shard the list of shard 0; no ids
)

// ListRequest is what an administrator asks of the list of suppressed readers. The ids are as records have them; at
// most MaxListIDs together. They go no further than the node that is asked: others are told hashes.
type ListRequest struct {
	Op       ListOp
	Users    []string // user_id; of a number its decimal digits
	Sessions []string // session_id
	Asker    Asker
}

// Len returns the number of ids.
func (r *ListRequest) Len() int { return len(r.Users) + len(r.Sessions) }

// ListOutcome is what has come of a ListRequest.
type ListOutcome struct {
	IDs  int    `json:"ids"`
	Hash string `json:"hash"` // by which the audit logs know the ids; "" if there is no list yet
	// Changed are the listings that were added to shard 0's list, or removed from it; Readers is how many it then has.
	Changed int   `json:"changed"`
	Readers int64 `json:"readers"`
	// Whole says that every shard has done what was asked. If it is false, ask again or repair.
	Whole  bool        `json:"whole"`
	At     time.Time   `json:"at"` // when it was done: it holds from then on
	Shards []ListShard `json:"shards"`
	// Found are the ids of a check, users first, in the order of the request.
	Found []ListFound `json:"found,omitempty"`
	// OpenSessions, of users who were added, are open, and stay so until they end; at most 100. SessionsWhole is false
	// if there may be more.
	OpenSessions  []string `json:"open_sessions,omitempty"`
	SessionsWhole bool     `json:"open_sessions_whole"`
	// NotStopped says what the list does not stop or take back.
	NotStopped []string `json:"not_stopped,omitempty"`
}

// ListShard is what has come of it in one shard.
type ListShard struct {
	Shard   uint32 `json:"shard"`
	Added   int    `json:"added"`
	Removed int    `json:"removed"`
	Error   string `json:"error,omitempty"` // "" if the shard has done what was asked
}

// ListFound says where an id is listed.
type ListFound struct {
	Kind   string     `json:"kind"` // user or session
	Hash   string     `json:"hash"`
	Listed bool       `json:"listed"` // in shard 0, or, if that is not known, in any
	Since  *time.Time `json:"since"`  // null if it is not listed
	// Shards have it, Without have not, of Unknown it is not known; ascending.
	Shards  []uint32 `json:"shards"`
	Without []uint32 `json:"shards_without"`
	Unknown []uint32 `json:"shards_unknown"`
}

// ListPage is a part of the list of suppressed readers, as one node has it.
type ListPage struct {
	Number  uint64 `json:"number"` // of the list; pages with different numbers may lack readers, or have some twice
	Readers int    `json:"readers"`
	From    int    `json:"from"`
	Next    *int   `json:"next"` // where the next page begins; null if this is the last one
	// Listings are in no order that says anything.
	Listings []ListedReader `json:"listings"`
}

// ListedReader is a reader on the list, by a hash.
type ListedReader struct {
	Kind  string    `json:"kind"` // user or session
	Hash  string    `json:"hash"` // HMAC-SHA256 of the id by the cluster's salt, in hexadecimal digits
	Since time.Time `json:"since"`
	By    string    `json:"by"`
}
