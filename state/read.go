package state

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"deckle/schema/level"
)

// scan calls f for every key of [lower, upper) that r holds. The slices are valid only during the call.
func scan(r pebble.Reader, lower, upper []byte, f func(key, value []byte) error) error {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return fmt.Errorf("state: iterating: %w", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err == nil {
			err = f(it.Key(), v)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("state: iterating: %w", err)
	}
	return nil
}

// adopt gives a session of level 1 what level 2 knows of it.
func (m *meta) adopt(ss *session) {
	if ss.touched == untouched {
		ss.touched = m.touchedAtFirst(ss.last)
	}
	if !ss.real {
		ss.upgrade()
	}
}

// decodeStored decodes a session from a buffer that belongs to Pebble.
func (m *meta) decodeStored(key, value []byte) (*session, error) {
	ss, err := decodeSession(slices.Clone(value))
	if err != nil {
		return nil, fmt.Errorf("session under %x: %w", key, err)
	}
	if m.level() >= level.Real {
		m.adopt(ss)
	}
	if !ss.purged {
		ss.storedKind, ss.storedTimer = ss.timerKind(), ss.deadline
		ss.armedKind, ss.armed = ss.storedKind, ss.storedTimer
	}
	return ss, nil
}

// readLive reads the live session of an id from Pebble; nil if there is none.
func (m *meta) readLive(r pebble.Reader, sid string) (*session, error) {
	v, closer, err := r.Get(appendLiveKey(nil, sid))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state: looking up session %q: %w", sid, err)
	}
	_, origin, epoch, err := decodeLive(appendLiveKey(nil, sid), v)
	if err := errors.Join(err, closer.Close()); err != nil {
		return nil, err
	}
	return m.readImage(r, sid, origin, epoch)
}

// readImage reads the session that a live key points to.
func (m *meta) readImage(r pebble.Reader, sid string, origin Position, epoch uint64) (*session, error) {
	key := appendImageKey(nil, epoch, sid, origin)
	v, closer, err := r.Get(key)
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return nil, fmt.Errorf("%w: the live key of session %q points to no image at %x", ErrCorrupt, sid, key)
	case err != nil:
		return nil, fmt.Errorf("state: reading session %q under %x: %w", sid, key, err)
	}
	ss, err := m.decodeStored(key, v)
	return ss, errors.Join(err, closer.Close())
}
