package deltalog

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// versionChecksum is a version checksum file (protocol, "Version Checksum File"): what the table is as of a version,
// by which readers check what they have replayed, and with which Spark's next commit makes its own without a replay.
// The optional fields are there where they are exact and small: no histogram, no files.
type versionChecksum struct {
	TxnID           string    `json:"txnId,omitempty"`
	TableSizeBytes  int64     `json:"tableSizeBytes"`
	NumFiles        int64     `json:"numFiles"`
	InCommit        int64     `json:"inCommitTimestampOpt,omitempty"` // if and only if the table has them
	NumMetadata     int64     `json:"numMetadata"`
	NumProtocol     int64     `json:"numProtocol"`
	SetTransactions []Txn     `json:"setTransactions,omitempty"`
	Metadata        *Metadata `json:"metadata"`
	Protocol        *Protocol `json:"protocol"`
}

// maxChecksumTxns is the largest number of txn actions that a checksum lists; with more it lists none. Spark draws the
// line there, too.
const maxChecksumTxns = 100

// encodeChecksum renders the checksum of the snapshot's version, nil if the number of files is not certain.
func (s *Snapshot) encodeChecksum(txnID string) ([]byte, error) {
	n, exact := s.counted()
	if !exact {
		return nil, nil
	}
	v := versionChecksum{TxnID: txnID, TableSizeBytes: n.bytes, NumFiles: n.files, NumMetadata: 1, NumProtocol: 1,
		Metadata: s.Metadata, Protocol: s.Protocol}
	if InCommitTimestamps(s.Protocol, s.Metadata) {
		v.InCommit = s.inCommit
	}
	if len(s.Txns) <= maxChecksumTxns {
		byApp := func(a, b Txn) int { return cmp.Compare(a.AppID, b.AppID) }
		v.SetTransactions = slices.SortedFunc(maps.Values(s.Txns), byApp)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(&v); err != nil {
		return nil, fmt.Errorf("delta: checksum: %w", err)
	}
	return b.Bytes(), nil
}
