package state

import (
	"encoding/binary"
	"fmt"
	"math"
)

// forever is used as the epoch that supersedes the last image of a purged session.
const forever = math.MaxUint64

// garbageKey names an image that the state itself has no use for any more, or the segments of a session that has been
// purged.
type garbageKey struct {
	kind  byte   // prefixImage, prefixRollupImg or prefixSegment
	epoch uint64 // of the image; for segments, of the session's last image
	key   string // row key or rollup key
}

func (g garbageKey) image() []byte {
	return append(binary.BigEndian.AppendUint64([]byte{g.kind}, g.epoch), g.key...)
}

// segments is the beginning of the keys of the segments that g names.
func (g garbageKey) segments() []byte { return append([]byte{prefixSegment}, g.key...) }

func (g garbageKey) stored() []byte {
	return append(binary.BigEndian.AppendUint64([]byte{prefixGarbage, g.kind}, g.epoch), g.key...)
}

// deleteWhenUnneeded deletes an image that is superseded by the image of epoch sup, or purged (forever). If a plan or a
// sink still needs the image, it becomes garbage, and is deleted when that has ended.
func (s *Store) deleteWhenUnneeded(g garbageKey, sup uint64) {
	if !s.needed(g.epoch, sup) {
		s.deleteGarbage(g)
		return
	}
	s.garbage[g] = sup
	s.newGarbage = append(s.newGarbage, g)
}

// needed says whether a sink must still read an image of an epoch that is superseded at sup (S4).
func (s *Store) needed(epoch, sup uint64) bool {
	// gofail: var bugPurgeEarly struct{}
	// if sup == forever {
	// 	return false
	// }

	// gofail: var bugSupersedeEarly struct{}
	// if sup != forever {
	// 	return false
	// }
	for _, sink := range s.meta.Config.Sinks {
		p := s.meta.Sinks[sink]
		if p.PlanB != 0 && p.PlanA < epoch && epoch <= p.PlanB && p.PlanB < sup {
			return true
		}
		if sup == forever && sink.reads(readsImages) && p.Acked < epoch {
			return true
		}
	}
	return false
}

// deleteUnneeded deletes the garbage that nothing needs any more.
func (s *Store) deleteUnneeded() {
	for g, sup := range s.garbage {
		if !s.needed(g.epoch, sup) {
			delete(s.garbage, g)
			s.oldGarbage = append(s.oldGarbage, g)
			s.deleteGarbage(g)
		}
	}
}

// deleteGarbage has the next checkpoint delete what g names.
func (s *Store) deleteGarbage(g garbageKey) {
	if g.kind == prefixSegment {
		s.pendingRanges[string(g.segments())] = struct{}{}
		return
	}
	s.pendingDeletes[string(g.image())] = struct{}{}
}

func (s *Store) loadGarbage() error {
	return scan(s.db, []byte{prefixGarbage}, []byte{prefixGarbage + 1}, func(k, v []byte) error {
		if len(k) < 10 || len(v) != 8 {
			return fmt.Errorf("%w: garbage key %x", ErrCorrupt, k)
		}
		g := garbageKey{k[1], binary.BigEndian.Uint64(k[2:10]), string(k[10:])}
		s.garbage[g] = binary.BigEndian.Uint64(v)
		return nil
	})
}
