package deltalog

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"deckle/sinks/delta/store"
)

const checksumExt = ".crc"

func (l *Log) checksumKey(v int64) string {
	return fmt.Sprintf("%s%s%020d%s", l.root, logDir, v, checksumExt)
}

// versionChecksum is a version checksum file (protocol, "Version Checksum File"): what the table is as of a version,
// by which readers check what they have replayed, and with which Spark's next commit makes its own without a replay.
// The optional fields are there where they are exact and small: no histogram, no files.
type versionChecksum struct {
	TxnID           string    `json:"txnId,omitempty"`
	TableSizeBytes  int64     `json:"tableSizeBytes"`
	NumFiles        int64     `json:"numFiles"`
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

// checksums writes checksums one after the other, concurrently with the commits.
type checksums struct {
	mu    sync.Mutex
	queue []pendingChecksum
	busy  bool
}

type pendingChecksum struct {
	version int64
	body    []byte
}

// maxChecksums bounds the checksums that wait for a slow store; the oldest are then left out, which readers must take.
const maxChecksums = 16

// checksum begins to write the checksum of the snapshot's version, which the commit txnID of this process has just
// made. A version never changes, and the object is put only if it is absent: however late a put takes effect, what it
// says is true. The caller holds snapLock.
func (l *Log) checksum(txnID string) {
	body, err := l.snap.encodeChecksum(txnID)
	if err != nil {
		l.opts.Logger.Warn("delta: no version checksum", "table", l.name(), "error", err)
	}
	if body == nil {
		return
	}
	c := &l.checksums
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == maxChecksums {
		c.queue = slices.Delete(c.queue, 0, 1)
	}
	c.queue = append(c.queue, pendingChecksum{l.snap.Version, body})
	if !c.busy {
		c.busy = true
		l.keeper.wait.Go(func() { l.putChecksums(l.committer.ctx) })
	}
}

func (l *Log) putChecksums(ctx context.Context) {
	c := &l.checksums
	for {
		c.mu.Lock()
		if len(c.queue) == 0 {
			c.busy = false
			c.mu.Unlock()
			return
		}
		next := c.queue[0]
		c.queue = c.queue[1:]
		c.mu.Unlock()
		err := l.opts.Store.PutIfAbsent(ctx, l.checksumKey(next.version), next.body)
		if err != nil && !errors.Is(err, store.ErrExists) {
			l.metrics.keepErrors.WithLabelValues(l.name()).Inc()
			l.opts.Logger.Debug("delta: no version checksum", "table", l.name(), "version", next.version, "error", err)
		}
	}
}
