package deltalog

// A table has a change data feed while somebody has set its property delta.enableChangeDataFeed. A commit that only
// adds rows is read by its adds; one that replaces rows names files of changes (cdc actions), and then readers of the
// feed take those alone, whatever it adds and removes besides. So all rows of such a commit stand in its files of
// changes, and it has no change in it that only adds rows. Commits that change no data have none.

// ChangeFolder is where files of changes lie, below the table's folder.
const ChangeFolder = "_change_data"

// ChangeColumn is the column of those files that says what has happened to a row, with one of the texts below.
const ChangeColumn = "_change_type"

// What has happened to a row.
const (
	ChangeInsert = "insert"
	ChangeBefore = "update_preimage"
	ChangeAfter  = "update_postimage"
)

// Cdc is the cdc action: it names a file of changes.
type Cdc struct {
	Path            string `json:"path"`
	PartitionValues Values `json:"partitionValues"`
	Size            int64  `json:"size"` // bytes
	DataChange      bool   `json:"dataChange"`
}
