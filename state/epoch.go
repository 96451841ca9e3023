package state

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
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
		ss.dirty = true
	}
	s.images = s.db.NewBatchWithSize(s.batchBytes())
	for _, ss := range s.changed {
		if err := s.moveRollups(ss); err != nil {
			return nil, err
		}
		if ss.imageEpoch != 0 {
			old := garbageKey{prefixImage, ss.imageEpoch, string(appendRowKey(nil, ss.id, ss.origin))}
			s.deleteWhenUnneeded(old, epoch)
		}
		ss.imageEpoch, ss.createdAt = epoch, s.meta.LastCut
		if ss.total > 0 {
			s.open.Sessions++
			if ss.status != schema.StatusOpen && ss.firstClosed == 0 {
				ss.firstClosed = epoch
			}
		}
		if s.meta.Unwritten.some() && ss.firstClosed != 0 && ss.firstClosed != epoch {
			s.meta.Unwritten.change(ss.rowKey(), func(r *unwrittenRow) { r.Image = epoch })
		}
		image, err := s.writeImage(s.images, ss)
		if err != nil {
			return nil, err
		}
		_, _ = sum.Write(image) // a hash never fails
		if ss.purged {
			s.endPurged(ss)
		}
	}
	if err := s.cutRollups(epoch, sum); err != nil {
		return nil, err
	}
	slices.SortFunc(s.open.Ranges, compareRanges)
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

// EncodeLevel encodes the entry that raises the shard's level. Its form is that of level 1 for ever, so that every
// binary can read the entry that tells it that it cannot read on. nowMillis is the leader's wall clock, as in
// EncodeCut.
func EncodeLevel(nowMillis int64, to level.Level) []byte {
	b := binary.AppendVarint([]byte{kindLevel, firstVersion}, nowMillis)
	return binary.AppendUvarint(b, uint64(to))
}

// Level returns the level whose formats the shard writes, a level.Level, for packages that know levels as numbers. It
// does not wait for the entry that is being applied.
func (s *Store) Level() uint32 { return uint32(s.Peek().Level) }

// boundFirst bounds the deadlines of the sessions that lie too far ahead when the level rises from 1. They count as
// changed in the epoch that the rise closes, so their timers are stored anew. The others need nothing.
func (s *Store) boundFirst() error {
	for i := range s.meta.Partitions {
		s.meta.LevelClock = max(s.meta.LevelClock, s.meta.Partitions[i].Watermark)
	}
	if s.meta.LevelClock = max(s.meta.LevelClock, s.meta.clock()); s.meta.LevelClock == 0 {
		return nil
	}
	latest := s.meta.LevelClock + s.meta.maxStay()
	var ids []string
	for id, ss := range s.sessions {
		if ss.deadline > latest {
			ids = append(ids, id)
		}
	}
	for kind := range numTimerKinds {
		from, to := appendTimerKey(nil, kind, latest+1, ""), []byte{prefixTimer, byte(kind) + 1}
		if err := scan(s.db, from, to, func(k, _ []byte) error {
			_, id, err := decodeTimerKey(k)
			ids = append(ids, id)
			return err
		}); err != nil {
			return err
		}
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		ss, err := s.lookup(id)
		if err != nil {
			return err
		}
		if ss == nil || ss.deadline <= latest {
			continue
		}
		s.setTimer(ss, s.meta.touchedAtFirst(ss.last)+s.meta.maxStay())
		s.markChanged(ss)
	}
	return nil
}

// applyLevel raises the level. The open epoch is closed first, exactly as by a Cut, so that an epoch has one level.
// What is written from here on, also what the open epoch holds of a session in memory, has the formats of the new
// level.
func (s *Store) applyLevel(e entry) (*CutResult, error) {
	if e.level > level.Current {
		return nil, &level.TooNewError{What: fmt.Sprintf("level %d of the shard", e.level)}
	}
	if e.level <= s.meta.level() {
		return &CutResult{}, nil
	}
	from := s.meta.level()
	if from == level.First {
		if err := s.boundFirst(); err != nil {
			return nil, err
		}
	}
	res, err := s.closeEpoch(e.now)
	if err != nil {
		return nil, err
	}
	s.meta.Horizon = s.meta.horizon()
	s.meta.Level, s.meta.Version = e.level, int(level.Store.At(e.level))
	if from == level.First {
		s.meta.LevelEpoch = s.meta.LastClosed
	}
	for l := max(from, level.Real); l < e.level; l++ {
		s.meta.LevelEpochs = append(s.meta.LevelEpochs, s.meta.LastClosed)
	}
	if from < level.Lake && e.level >= level.Lake {
		s.meta.Unwritten.To = s.meta.LastClosed // what was refused before is not known
	}
	for _, ss := range s.sessions {
		s.meta.adopt(ss)
	}
	s.beginEpoch(res.Epoch > 0)
	s.dirtyBytes++
	return res, nil
}

// beginEpoch gives the epoch that is open from here on its level and its rules. After a Cut, the closed epoch stands in
// s.open until the checkpoint has written it, and the next one begins there.
func (s *Store) beginEpoch(closed bool) {
	if !closed {
		s.open.Level, s.open.Rules = s.meta.level(), s.meta.Rules.Number
	}
}

// EncodeRules encodes the entry that replaces the rules. It is ignored unless r.Number is one more than the number of
// the present ones, so that a repeated or a late proposal does nothing, and unless the shard has the level of the
// rules. Its version follows the rules, so that a binary that would pass over a part of them cannot read it. nowMillis
// is the leader's wall clock, as in EncodeCut.
func EncodeRules(nowMillis int64, r Rules) []byte {
	b, err := json.Marshal(r)
	if err != nil { // a struct of plain fields always encodes
		panic(err)
	}
	return append(binary.AppendVarint([]byte{kindRules, level.Entry.At(r.Event.Level())}, nowMillis), b...)
}

// applyRules replaces the rules. The open epoch is closed first, exactly as by a Cut, so that an epoch has one set of
// rules, and a re-fetch of its raw events decodes by them.
func (s *Store) applyRules(e entry) (*CutResult, error) {
	if s.meta.level() < e.rules.Event.Level() || e.rules.Number != s.meta.Rules.Number+1 {
		return &CutResult{}, nil
	}
	res, err := s.closeEpoch(e.now)
	if err != nil {
		return nil, err
	}
	if last := s.lastFormer(); s.meta.LastClosed > last { // else no epoch was closed under them
		s.meta.FormerRules = append(s.meta.FormerRules, FormerRules{s.meta.Rules, s.meta.LastClosed})
	}
	s.meta.Rules = e.rules
	s.beginEpoch(res.Epoch > 0)
	s.dirtyBytes++
	return res, nil
}

func (s *Store) lastFormer() uint64 {
	if n := len(s.meta.FormerRules); n > 0 {
		return s.meta.FormerRules[n-1].Until
	}
	return 0
}

// dropRules forgets the former rules that no sink needs any more.
func (s *Store) dropRules() {
	acked := s.minAcked()
	for len(s.meta.FormerRules) > 0 && s.meta.FormerRules[0].Until <= acked {
		s.meta.FormerRules = s.meta.FormerRules[1:]
	}
}

// addCounts adds what the rules have left out of a batch, and taken for none.
func (s *Store) addCounts(c *event.Counts) {
	m := &s.meta.RuleCounts
	for i, n := range c.Excluded {
		if n > 0 && i < len(s.meta.Rules.Event.Exclude) {
			if m.Excluded == nil {
				m.Excluded = map[string]int64{}
			}
			m.Excluded[s.meta.Rules.Event.Exclude[i].Name] += n
		}
	}
	m.Skipped += c.Skipped
	m.Unconsented += c.Unconsented
	m.KafkaTimes += c.KafkaTimes
	for i, n := range c.Zeroed {
		if n > 0 {
			if m.Zeroed == nil {
				m.Zeroed = map[string]int64{}
			}
			m.Zeroed[event.MetricNames()[i]] += n
		}
	}
}
