package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"deckle/schema"
	"deckle/schema/level"
)

// rollup is one key's present totals. They move only at a Cut, by the difference that each changed session makes.
type rollup struct {
	totals     totals
	imageEpoch uint64 // of its last closed image
	moved      bool   // by the Cut under way
}

// maxRollupsInMemory bounds the cache of rollup keys between cuts.
const maxRollupsInMemory = 100_000

func (s *Store) rollup(key []byte) (*rollup, error) {
	if r, ok := s.rollups[string(key)]; ok {
		return r, nil
	}
	r := &rollup{}
	v, closer, err := s.db.Get(append([]byte{prefixRollup}, key...))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
	case err != nil:
		return nil, fmt.Errorf("state: reading rollup %x: %w", key, err)
	default:
		d := decoder{b: v}
		r.imageEpoch = d.uvarint()
		r.totals = decodeTotals(&d)
		err := d.end()
		if err := errors.Join(err, closer.Close()); err != nil {
			return nil, fmt.Errorf("state: rollup %x: %w", key, err)
		}
	}
	s.rollups[string(key)] = r
	return r, nil
}

// eachRollupKey calls f with the key of every rollup in which a contribution is counted.
func (c *contribution) eachRollupKey(buf []byte, f func(key []byte) error) error {
	var room, dims [maxTexts]string
	all := room[:numRolled]
	c.texts.split(all)
	for t := range schema.NumRollups {
		n := 0
		for _, at := range rollupDims[t] {
			dims[n] = all[at]
			n++
		}
		key := appendRollupKey(buf[:0], c.date, t, dims[:n]...)
		if err := f(key); err != nil {
			return err
		}
	}
	return nil
}

// moveRollups moves the rollups by what the session contributes now, minus what it contributed at its last Cut.
func (s *Store) moveRollups(ss *session) error {
	now := ss.contribution()
	old := ss.rolled
	if now == old {
		return nil
	}
	move := func(c *contribution, sign int64) error {
		if !c.counted {
			return nil
		}
		return c.eachRollupKey(s.keyBuf[:0], func(key []byte) error {
			r, err := s.rollup(key)
			if err != nil {
				return err
			}
			r.totals.add(&c.totals, sign)
			if !r.moved {
				r.moved = true
				s.moved = append(s.moved, string(key))
			}
			return nil
		})
	}
	if err := move(&old, -1); err != nil {
		return err
	}
	if err := move(&now, 1); err != nil {
		return err
	}
	if old.counted {
		s.countLive(old.date, -1)
	}
	if now.counted {
		s.countLive(now.date, 1)
	}
	ss.rolled = now
	return nil
}

// countLive keeps the number of sessions in the state that are counted on a date. A date whose number is above zero
// cannot leave the state.
func (s *Store) countLive(date int32, by int64) {
	d := s.meta.Dates[date]
	d.Live += by
	s.meta.Dates[date] = d
}

// dates are those from one up to, and without, another.
type dates struct{ from, to int32 }

func (s *Store) dropped(date int32) bool {
	return slices.ContainsFunc(s.droppedDates, func(d dates) bool { return d.from <= date && date < d.to })
}

// dropDates removes the rollups of a date if the date lies wholly before the horizon, no session in the state is
// counted on it, and every sink has its last values.
//
// From level 2 on, a date that lies ahead of the clock leaves meta and memory as soon as no session is counted on it.
// Its totals stay in Pebble, because totals are absolute: a session of that date, when the date really comes, must go
// on from them. They go when the horizon has passed the date.
func (s *Store) dropDates() {
	acked, real := s.minAcked(), s.meta.level() >= level.Real
	for date, d := range s.meta.Dates {
		if d.Live > 0 || d.LastEpoch > acked {
			continue
		}
		switch {
		case (int64(date)+1)*86400 <= s.meta.horizon():
			delete(s.meta.Dates, date)
			s.dropRange(dates{date, date + 1})
		case real && int64(date)*86400 > s.meta.clock():
			delete(s.meta.Dates, date)
		}
	}
	if to := int32(max(s.meta.horizon(), 0) / 86400); real && to > s.meta.DatesTo {
		from := s.meta.DatesTo
		for _, date := range slices.Sorted(maps.Keys(s.meta.Dates)) {
			if date >= from && date < to {
				s.dropRange(dates{from, date})
				from = date + 1
			}
		}
		s.dropRange(dates{from, to})
		s.meta.DatesTo = to
	}
}

// dropRange removes the rollups of dates.
func (s *Store) dropRange(d dates) {
	if d.from >= d.to {
		return
	}
	s.droppedDates = append(s.droppedDates, d)
	for k := range s.rollups {
		if date := int32(binary.BigEndian.Uint32([]byte(k[:4]))); d.from <= date && date < d.to {
			delete(s.rollups, k)
		}
	}
}
