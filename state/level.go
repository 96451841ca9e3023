package state

import (
	"encoding/binary"
	"fmt"

	"deckle/schema/level"
)

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

// level is stored from level 2 on only: a store of level 1 has the bytes that v0.1.0 writes.
func (m *meta) level() level.Level { return max(m.Level, level.First) }

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
	res, err := s.closeEpoch(e.now)
	if err != nil {
		return nil, err
	}
	s.meta.Horizon = s.horizon()
	s.meta.Level, s.meta.Version = e.level, int(level.Store.At(e.level))
	s.meta.LevelEpoch, s.meta.LevelClock = s.meta.LastClosed, s.clock()
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

// levelOf returns the level of a closed epoch.
func (m *meta) levelOf(epoch uint64) level.Level {
	if epoch <= m.LevelEpoch {
		return level.First
	}
	return m.level()
}
