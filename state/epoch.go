package state

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"

	"deckle/event"
	"deckle/schema"
)

// applyCut closes the open epoch (closeEpoch), unless this replica has another last epoch than the leader.
func (s *Store) applyCut(e entry) (*CutResult, error) {
	if e.epoch != 0 && e.epoch == s.meta.LastClosed && e.checksum != s.meta.LastSum {
		return nil, fmt.Errorf("%w: epoch %d has checksum %016x here, %016x on the leader",
			ErrDiverged, e.epoch, s.meta.LastSum, e.checksum)
	}
	return s.closeEpoch(e.now)
}

// newEpoch is the open epoch before anything has been applied in it.
func (s *Store) newEpoch() EpochInfo {
	return EpochInfo{Epoch: s.meta.OpenEpoch, Level: s.meta.level(), Rules: s.meta.Rules.Number}
}

// closeEpoch closes the open epoch: the rollups move, every changed session gets its image, and the images that these
// supersede are deleted. The checkpoint that Apply makes afterwards writes all of it. nowMillis becomes the time of the
// images.
func (s *Store) closeEpoch(nowMillis int64) (*CutResult, error) {
	if s.open.empty() && len(s.changed) == 0 {
		return &CutResult{}, nil
	}
	epoch := s.meta.OpenEpoch
	s.meta.LastCut = max(s.meta.LastCut+1, nowMillis)
	slices.SortFunc(s.changed, func(a, b *session) int {
		return cmp.Or(cmp.Compare(a.id, b.id), comparePositions(a.origin, b.origin))
	})
	sum := xxhash.New()
	for _, ss := range s.changed {
		if err := s.moveRollups(ss); err != nil {
			return nil, err
		}
		if ss.imageEpoch != 0 {
			old := garbageKey{prefixImage, ss.imageEpoch, string(appendRowKey(nil, ss.id, ss.origin))}
			s.deleteWhenUnneeded(old, epoch)
		}
		ss.imageEpoch, ss.createdAt, ss.dirty = epoch, s.meta.LastCut, true
		if ss.total > 0 {
			s.open.Sessions++
			if ss.status != schema.StatusOpen && ss.firstClosed == 0 {
				ss.firstClosed = epoch
			}
		}
		s.valBuf = ss.encode(s.valBuf[:0], s.open.Level)
		_, _ = sum.Write(s.valBuf) // a hash never fails
		if ss.purged {
			s.endPurged(ss)
		}
	}
	if err := s.cutRollups(epoch, sum); err != nil {
		return nil, err
	}
	slices.SortFunc(s.open.Ranges, func(a, b event.Range) int { return cmp.Compare(a.Partition, b.Partition) })
	slices.SortFunc(s.open.LeftOut, comparePositions)
	s.open.Clock = s.meta.LastCut
	s.valBuf = s.open.encode(s.valBuf[:0])
	_, _ = sum.Write(s.valBuf)
	s.open.Checksum = sum.Sum64()
	s.meta.LastClosed, s.meta.LastSum, s.meta.OpenEpoch = epoch, s.open.Checksum, epoch+1
	s.dropDates()
	return &CutResult{Epoch: epoch, Sessions: s.open.Sessions, Events: s.open.Events, Checksum: s.open.Checksum}, nil
}

// cutRollups gives every rollup that the Cut has moved its image, which supersedes the one before.
func (s *Store) cutRollups(epoch uint64, sum *xxhash.Digest) error {
	slices.Sort(s.moved)
	for _, k := range s.moved {
		r := s.rollups[k]
		if r.imageEpoch > s.minAcked() { // the images of rollups up to that epoch are deleted already
			s.deleteWhenUnneeded(garbageKey{prefixRollupImg, r.imageEpoch, k}, epoch)
		}
		r.imageEpoch = epoch
		date, _, _, err := decodeRollupKey(k)
		if err != nil {
			return err
		}
		d := s.meta.Dates[date]
		d.LastEpoch = epoch
		s.meta.Dates[date] = d
		_, _ = sum.WriteString(k)
		s.valBuf = r.totals.encode(s.valBuf[:0])
		_, _ = sum.Write(s.valBuf)
	}
	return nil
}
