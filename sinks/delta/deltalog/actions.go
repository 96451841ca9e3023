package deltalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"deckle/sinks/delta/deletionvector"
)

// EngineInfo names this package in commits.
const EngineInfo = "deckle"

const engineInfo = EngineInfo

// Protocol is the protocol action.
type Protocol struct {
	MinReaderVersion int      `json:"minReaderVersion"`
	MinWriterVersion int      `json:"minWriterVersion"`
	ReaderFeatures   []string `json:"readerFeatures,omitempty"`
	WriterFeatures   []string `json:"writerFeatures,omitempty"`
}

// MarshalJSON writes the lists of features exactly if the versions want them, as the protocol says: an empty list and
// none are different things to other readers.
func (p *Protocol) MarshalJSON() ([]byte, error) {
	v := struct {
		MinReaderVersion int       `json:"minReaderVersion"`
		MinWriterVersion int       `json:"minWriterVersion"`
		ReaderFeatures   *[]string `json:"readerFeatures,omitempty"`
		WriterFeatures   *[]string `json:"writerFeatures,omitempty"`
	}{MinReaderVersion: p.MinReaderVersion, MinWriterVersion: p.MinWriterVersion}
	list := func(features []string) *[]string { l := append([]string{}, features...); return &l }
	if p.MinReaderVersion >= 3 {
		v.ReaderFeatures = list(p.ReaderFeatures)
	}
	if p.MinWriterVersion >= 7 {
		v.WriterFeatures = list(p.WriterFeatures)
	}
	return json.Marshal(v)
}

// Format is the file format of a table.
type Format struct {
	Provider string            `json:"provider"`
	Options  map[string]string `json:"options"`
}

// Metadata is the metaData action.
type Metadata struct {
	ID               string            `json:"id"`
	Name             *string           `json:"name,omitempty"`
	Description      *string           `json:"description,omitempty"`
	Format           Format            `json:"format"`
	SchemaString     string            `json:"schemaString"`
	PartitionColumns []string          `json:"partitionColumns"`
	Configuration    map[string]string `json:"configuration"`
	CreatedTime      *int64            `json:"createdTime,omitempty"` // Unix milliseconds
}

// MarshalJSON writes an empty list or map where another tool has left one out: readers take null for damage.
func (m *Metadata) MarshalJSON() ([]byte, error) {
	type plain Metadata // without this method
	v := plain(*m)
	if v.Format.Options == nil {
		v.Format.Options = map[string]string{}
	}
	if v.PartitionColumns == nil {
		v.PartitionColumns = []string{}
	}
	if v.Configuration == nil {
		v.Configuration = map[string]string{}
	}
	return json.Marshal(v)
}

// Add is the add action.
type Add struct {
	Path             string            `json:"path"`
	PartitionValues  Values            `json:"partitionValues"`
	Size             int64             `json:"size"`             // bytes
	ModificationTime int64             `json:"modificationTime"` // Unix milliseconds
	DataChange       bool              `json:"dataChange"`
	Stats            string            `json:"stats,omitempty"` // JSON text
	Tags             map[string]string `json:"tags,omitempty"`
	// Vector hides rows of the file.
	Vector *deletionvector.Descriptor `json:"deletionVector,omitempty"`
}

// id is the name of the logical file.
func (a *Add) id() string { return deletionvector.FileID(a.Path, a.Vector) }

// Remove is the remove action.
type Remove struct {
	Path                 string `json:"path"`
	DeletionTimestamp    *int64 `json:"deletionTimestamp,omitempty"` // Unix milliseconds
	DataChange           bool   `json:"dataChange"`
	ExtendedFileMetadata bool   `json:"extendedFileMetadata"`
	PartitionValues      Values `json:"partitionValues,omitempty"`
	Size                 *int64 `json:"size,omitempty"`
	// Vector is the one that the file had: with another one it is another logical file.
	Vector *deletionvector.Descriptor `json:"deletionVector,omitempty"`
}

// id is the name of the logical file.
func (r *Remove) id() string { return deletionvector.FileID(r.Path, r.Vector) }

// Txn is the txn action.
type Txn struct {
	AppID       string `json:"appId"`
	Version     int64  `json:"version"`
	LastUpdated *int64 `json:"lastUpdated,omitempty"` // Unix milliseconds
}

// CommitInfo is what this package writes about a commit; fields of other writers are not read.
type CommitInfo struct {
	// InCommitTimestamp is when the version was made, in Unix milliseconds, greater than that of the version before; 0:
	// the table has none. See Log.stamp.
	InCommitTimestamp   int64             `json:"inCommitTimestamp,omitempty"`
	Timestamp           int64             `json:"timestamp"` // Unix milliseconds, by the writer's clock
	Operation           string            `json:"operation"`
	OperationParameters map[string]string `json:"operationParameters"`
	OperationMetrics    map[string]string `json:"operationMetrics,omitempty"`
	ReadVersion         *int64            `json:"readVersion,omitempty"`
	IsBlindAppend       bool              `json:"isBlindAppend"`
	EngineInfo          string            `json:"engineInfo"`
	TxnID               string            `json:"txnId"` // unique to the commit
	Node                string            `json:"deckleNode,omitempty"`
}

// action is one line of a commit: one of its fields is set, or none if this package does not know the action.
type action struct {
	CommitInfo json.RawMessage `json:"commitInfo,omitempty"`
	Protocol   *Protocol       `json:"protocol,omitempty"`
	MetaData   *Metadata       `json:"metaData,omitempty"`
	Txn        *Txn            `json:"txn,omitempty"`
	Remove     *Remove         `json:"remove,omitempty"`
	Cdc        *Cdc            `json:"cdc,omitempty"`
	Add        *Add            `json:"add,omitempty"`
}

// several reports whether a line has more than one of the actions that are read.
func (a *action) several() bool {
	n := 0
	for _, there := range []bool{a.Add != nil, a.Remove != nil, a.Txn != nil, a.MetaData != nil, a.Protocol != nil,
		a.CommitInfo != nil} {
		if there {
			n++
		}
	}
	return n > 1
}

// commit is one parsed commit file.
type commit struct {
	txnID    string // from commitInfo, "" if there is none
	own      bool   // commitInfo names this package as the writer, which adds new names and removes live ones only
	protocol *Protocol
	metaData *Metadata
	txns     []Txn
	removes  []Remove
	adds     []Add
	inCommit int64 // in-commit timestamp in Unix milliseconds, 0 if there is none
	// takesAway says that it is another tool's RESTORE, which removes files of Deckle's, or hides more rows of them.
	takesAway bool
	swaps     []swap // of a RESTORE that does not remove any; see folder.compare
}

// CorruptionError says which object of a table cannot be understood, and where.
type CorruptionError struct {
	Key  string // object
	Line int    // 1-based line of a commit, row of a checkpoint; 0 for the whole object
	Err  error
}

func (e *CorruptionError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("delta: %s is damaged: %v", e.Key, e.Err)
	}
	return fmt.Sprintf("delta: %s is damaged at line %d: %v", e.Key, e.Line, e.Err)
}
func (e *CorruptionError) Unwrap() error { return e.Err }

var (
	errNoPath    = errors.New("action without path")
	errDuplicate = errors.New("action given twice")
	errSeveral   = errors.New("more than one action in a line")
	errEmpty     = errors.New("a commit without an action: the store has given less than was put")
)

// parseCommit reads the actions of one commit file. Actions and fields that are not known are ignored.
//
// A store that gives the first lines of a commit alone is found out if nothing is left, and if Deckle has written it:
// its commits say first how many files they add and remove, and the adds are the last.
func parseCommit(key string, data []byte) (*commit, error) {
	c := &commit{}
	adds, removes, txns := map[string]bool{}, map[string]bool{}, map[string]bool{}
	first := func(m map[string]bool, k string) error {
		if k == "" {
			return errNoPath
		}
		if m[k] {
			return fmt.Errorf("%w: %s", errDuplicate, k)
		}
		m[k] = true
		return nil
	}
	lines := 0
	var metrics json.RawMessage
	var operation string
	for n, line := range bytes.Split(data, []byte{'\n'}) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		lines++
		var a action
		err := json.Unmarshal(line, &a)
		switch {
		case err != nil:
		case a.several():
			err = errSeveral
		case a.Add != nil:
			if err = first(adds, a.Add.Path); err == nil {
				c.adds, err = append(c.adds, *a.Add), a.Add.Vector.Check()
			}
		case a.Remove != nil:
			id := a.Remove.id()
			if a.Remove.Path == "" {
				id = ""
			}
			if err = first(removes, id); err == nil {
				c.removes, err = append(c.removes, *a.Remove), a.Remove.Vector.Check()
			}
		case a.Txn != nil:
			if err = first(txns, a.Txn.AppID); err == nil {
				c.txns = append(c.txns, *a.Txn)
			}
		case a.MetaData != nil:
			if c.metaData != nil {
				err = errDuplicate
			}
			c.metaData = a.MetaData
		case a.Protocol != nil:
			if c.protocol != nil {
				err = errDuplicate
			}
			c.protocol = a.Protocol
		case a.CommitInfo != nil:
			// Other writers put values of any type into commitInfo; only the id of this package matters, if there is
			// one.
			var info struct {
				TxnID     any             `json:"txnId"`
				Engine    any             `json:"engineInfo"`
				Operation any             `json:"operation"`
				Metrics   json.RawMessage `json:"operationMetrics"`
				InCommit  json.RawMessage `json:"inCommitTimestamp"`
			}
			if json.Unmarshal(a.CommitInfo, &info) == nil {
				c.txnID, _ = info.TxnID.(string)
				operation, _ = info.Operation.(string)
				c.own, metrics = info.Engine == engineInfo, info.Metrics
				if json.Unmarshal(info.InCommit, &c.inCommit) != nil {
					c.inCommit = 0
				}
			}
		}
		if err != nil {
			return nil, &CorruptionError{Key: key, Line: n + 1, Err: err}
		}
	}
	if lines == 0 {
		return nil, &CorruptionError{Key: key, Err: errEmpty}
	}
	if !c.own && strings.EqualFold(operation, "RESTORE") {
		c.takesAway, c.swaps = takesAway(c.removes, c.adds)
	}
	if c.own {
		if err := c.counted(metrics); err != nil {
			return nil, &CorruptionError{Key: key, Err: err}
		}
	}
	return c, nil
}

// counted compares the files in a commit of this package with what its commitInfo says of them.
func (c *commit) counted(metrics json.RawMessage) error {
	var said struct {
		Adds    string `json:"numFiles"`
		Removes string `json:"numRemovedFiles"`
	}
	if len(metrics) == 0 || json.Unmarshal(metrics, &said) != nil || said.Adds == "" {
		return nil // it changes no data
	}
	if said.Adds != strconv.Itoa(len(c.adds)) || said.Removes != strconv.Itoa(len(c.removes)) {
		return fmt.Errorf("it adds %d files and removes %d, and says %s and %s: it is not whole", len(c.adds),
			len(c.removes), said.Adds, said.Removes)
	}
	return nil
}

// encodeCommit renders a commit file.
func encodeCommit(
	info *CommitInfo, protocol *Protocol, meta *Metadata, txns []Txn, removes []Remove, adds []Add, changes ...Cdc,
) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	raw, err := json.Marshal(info)
	if err != nil {
		return nil, fmt.Errorf("delta: encode commitInfo: %w", err)
	}
	lines := []action{{CommitInfo: raw}}
	if protocol != nil {
		lines = append(lines, action{Protocol: protocol})
	}
	if meta != nil {
		lines = append(lines, action{MetaData: meta})
	}
	for i := range txns {
		lines = append(lines, action{Txn: &txns[i]})
	}
	for i := range removes {
		lines = append(lines, action{Remove: &removes[i]})
	}
	for i := range changes {
		lines = append(lines, action{Cdc: &changes[i]})
	}
	for i := range adds {
		lines = append(lines, action{Add: &adds[i]})
	}
	for i := range lines {
		if err := enc.Encode(&lines[i]); err != nil {
			return nil, fmt.Errorf("delta: encode commit: %w", err)
		}
	}
	return buf.Bytes(), nil
}
