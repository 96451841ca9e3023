package status

import "time"

// TableOp is what is asked of a Delta table.
type TableOp string

// The operations.
const (
	TableRestore TableOp = "restore"     // restore it to a former version
	TableForget  TableOp = "forget-gaps" // accept as gone the rows that RESTOREs of others took away
)

// TableRequest is what an operator asks of a Delta table. Any node can carry it out.
type TableRequest struct {
	Op    TableOp
	Table string // events or sessions
	// Of a restore: the version, or, if At is set, the newest one at that time; what becomes of the rows that Deckle
	// has written since (again, gone); whether only to say what it would change.
	Version int64
	At      time.Time
	Rows    string
	DryRun  bool
}

// TableOutcome is what has come of a TableRequest.
type TableOutcome struct {
	Table string `json:"table"`
	// Committed is the version that it has made; null if there was nothing to do, and for a dry run.
	Committed *int64 `json:"committed_version"`
	// Of a restore: the version on which it was worked out, and the one to which the table is restored.
	Version int64 `json:"version,omitempty"`
	To      int64 `json:"restored_version,omitempty"`
	// Files that come back and files that are taken away, and the rows in them by their statistics; null if a file has
	// none.
	Restored     int    `json:"files_restored"`
	Removed      int    `json:"files_removed"`
	RestoredRows *int64 `json:"rows_restored"`
	RemovedRows  *int64 `json:"rows_removed"`
	// Undone are the versions since whose changes are undone although the rows that Deckle has written stay: those of
	// others, and RESTOREs.
	Undone []int64 `json:"versions_undone,omitempty"`
}
