package state

import (
	"encoding/json"
	"maps"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Checksum is the logical checksum of the whole state (I2): two replicas at the same applied index have the same
// checksum, whatever checkpoints they have made. It reads the whole state under the lock, so it is for tests and for
// verification on demand.
func (s *Store) Checksum() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return 0, ErrClosed
	}
	sum := xxhash.New()
	meta, err := json.Marshal(&s.meta)
	if err != nil {
		return 0, err
	}
	_, _ = sum.Write(meta)

	// The live sessions, and the images that later plans may read.
	live := map[string]string{}
	values := map[string]string{}
	err = scan(s.db, []byte{prefixImage}, epochPrefix(prefixImage, s.open.Epoch), func(k, v []byte) error {
		if _, gone := s.pendingDeletes[string(k)]; !gone {
			values[string(k)] = string(v)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, ss := range s.changed {
		values[string(appendImageKey(nil, s.open.Epoch, ss.id, ss.origin))] = string(ss.encode(nil, s.open.Level))
	}
	err = scan(s.db, []byte{prefixLive}, []byte{prefixLive + 1}, func(k, v []byte) error {
		id, origin, _, err := decodeLive(k, v)
		if err == nil && !contains(s.purgedIDs, id) {
			live[id] = string(appendOrigin(nil, origin))
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	for id, ss := range s.sessions {
		live[id] = string(appendOrigin(nil, ss.origin))
	}
	writeSorted(sum, values)
	writeSorted(sum, live)

	// The segments, those that no checkpoint has written included. Each stands here with its hash.
	segments := map[string]string{}
	err = scan(s.db, []byte{prefixSegment}, []byte{prefixSegment + 1}, func(k, v []byte) error {
		if len(k) < 4 || !contains(s.pendingRanges, string(k[:len(k)-4])) {
			segments[string(k)] = string(epochPrefix(0, xxhash.Sum64(v)))
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, ss := range s.changed {
		for i, g := range ss.segments {
			k := appendSegment(appendSegments(nil, ss.id, ss.origin), i)
			segments[string(k)] = string(epochPrefix(0, g.hash))
		}
	}
	writeSorted(sum, segments)

	// Rollups move at Cuts only, so that Pebble has them all, and dates that were dropped since the last checkpoint
	// besides.
	rollups := map[string]string{}
	err = scan(s.db, []byte{prefixRollup}, []byte{prefixRollup + 1}, func(k, v []byte) error {
		date, _, _, err := decodeRollupKey(string(k[1:]))
		if err == nil && !s.dropped(date) {
			rollups[string(k)] = string(v)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	writeSorted(sum, rollups)

	garbage := map[string]string{}
	for g, sup := range s.garbage {
		garbage[string(g.stored())] = string(epochPrefix(0, sup))
	}
	writeSorted(sum, garbage)

	letters := map[string]string{}
	err = scan(s.db, afterEpoch(prefixLetter, s.lettersAcked()), // as writeGarbage deletes them
		afterEpoch(prefixLetter, math.MaxUint64), func(k, v []byte) error {
			letters[string(k)] = string(v)
			return nil
		})
	if err != nil {
		return 0, err
	}
	for _, l := range s.letters {
		v, err := json.Marshal(&l)
		if err != nil {
			return 0, err
		}
		letters[string(appendLetterKey(nil, l.Epoch, l.Seq))] = string(v)
	}
	writeSorted(sum, letters)

	listings := map[string]string{}
	err = scan(s.db, []byte{prefixSuppressed}, []byte{prefixSuppressed + 1}, func(k, v []byte) error {
		listings[string(k)] = string(v)
		return nil
	})
	if err != nil {
		return 0, err
	}
	s.readers.overlay(listings)
	writeSorted(sum, listings)

	infos := map[string]string{}
	from, to := afterEpoch(prefixEpoch, s.minAcked()), epochPrefix(prefixEpoch, s.open.Epoch)
	err = scan(s.db, from, to, func(k, v []byte) error {
		infos[string(k)] = string(v)
		return nil
	})
	if err != nil {
		return 0, err
	}
	infos["open"] = string(s.open.encode(nil))
	writeSorted(sum, infos)
	return sum.Sum64(), nil
}

func contains(m map[string]struct{}, k string) bool {
	_, ok := m[k]
	return ok
}

func writeSorted(sum *xxhash.Digest, m map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		_, _ = sum.WriteString(k)
		_, _ = sum.WriteString(m[k])
	}
	_, _ = sum.Write([]byte{byte(len(m))})
}
