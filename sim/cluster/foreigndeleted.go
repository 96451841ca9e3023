package cluster

import (
	"maps"
	"strings"
	"sync"

	"deckle/state"
)

// foreign is a tool of somebody else that deletes rows of table sessions. As delta-rs does it, a file is replaced by
// one without the rows, and without Deckle's tags; as Spark does it, rows of a file are hidden by a deletion vector. It
// reaches the store past all faults.
type foreign struct {
	mu      sync.Mutex
	files   int
	deleted map[string]uint64 // key of each row that it has deleted, and the epoch of the image
}

// file is the number of a new file.
func (f *foreign) file() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files++
	return f.files
}

func (f *foreign) note(gone map[string]uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.deleted == nil {
		f.deleted = map[string]uint64{}
	}
	maps.Copy(f.deleted, gone)
}

// sessions are the ids of the sessions whose rows are deleted.
func (f *foreign) sessions() map[string]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]bool{}
	for key := range f.deleted {
		id, _ := idOf(key)
		out[id] = true
	}
	return out
}

// counts are how many rows are deleted, and of how many of them a plan of revisions has a newer image.
func (f *foreign) counts(k *plans) (deleted, revised int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, epoch := range f.deleted {
		deleted++
		for at, rec := range k.by {
			if im, ok := rec.rows[key]; ok && at.sink == state.SinkRevisions && im.epoch > epoch {
				revised++
				break
			}
		}
	}
	return deleted, revised
}

// idOf takes the key of a row apart.
func idOf(key string) (session, origin string) {
	session, origin, _ = strings.Cut(key, "\x00")
	return session, origin
}
