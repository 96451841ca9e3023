package state

import (
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
)

// liveIDs counts the ids of live sessions by their hash. An id whose hash is not there belongs to no session, neither
// in memory nor in Pebble, and need not be looked up. Every new session asks this question, and Pebble takes 20 µs to
// say no. The map takes about 20 bytes per session. No result depends on it.
type liveIDs map[uint64]int32

func (l liveIDs) add(id string) { l[xxhash.Sum64String(id)]++ }

func (l liveIDs) remove(id string) {
	h := xxhash.Sum64String(id)
	if l[h]--; l[h] <= 0 {
		delete(l, h)
	}
}

func (l liveIDs) mayHave(id string) bool { return l[xxhash.Sum64String(id)] > 0 }

// loadLive reads the ids of the live sessions, about n of them.
func loadLive(db *pebble.DB, n int64) (liveIDs, error) {
	l := make(liveIDs, min(max(n, 0), 1<<20))
	err := scan(db, []byte{prefixLive}, []byte{prefixLive + 1}, func(k, v []byte) error {
		id, _, _, err := decodeLive(k, v)
		l.add(id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading live sessions: %w", err)
	}
	return l, nil
}
