package state

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"deckle/schema"
)

// checkpoint writes everything that changed since the last checkpoint to Pebble, in one batch together with the applied
// index, and starts the flush that makes it durable; done is closed when it is. Sessions are written under their epoch:
// the one that was just closed, or the open one.
func (s *Store) checkpoint() (done <-chan struct{}, err error) {
	b := s.images
	if b == nil {
		b = s.db.NewBatchWithSize(s.batchBytes())
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	cut := s.open.Epoch == s.meta.LastClosed
	// gofail: var bugOffsetsApart struct{}
	// if ahead := s.db.NewBatch(); true {
	// 	err := errors.Join(s.writeMeta(ahead), ahead.Commit(pebble.NoSync), ahead.Close(), s.db.Flush())
	// 	if err != nil {
	// 		return nil, err
	// 	}
	// }
	for _, step := range []func(*pebble.Batch) error{
		s.writeDeletes, s.writeSessions, s.writeGone, s.writeRollups, s.writeEpoch, s.writeLetters, s.writeGarbage,
		s.readers.write, s.writeMeta,
	} {
		if err := step(b); err != nil {
			return nil, err
		}
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return nil, fmt.Errorf("committing: %w", err)
	}
	done, err = s.db.AsyncFlush()
	if err != nil {
		return nil, fmt.Errorf("flushing: %w", err)
	}
	s.durable.add(flush{s.meta.Index, done})
	s.images = nil
	s.forgetWritten(cut)
	return done, nil
}

// batchBytes estimates the size of a checkpoint's batch. A batch that has to grow is copied several times, and leaves
// twice its size to the garbage collector.
func (s *Store) batchBytes() int {
	const keysAndFixed = 500 // three keys, and the session's value without ids and events
	n := 4 << 10
	for _, ss := range s.changed {
		if ss.dirty {
			n += keysAndFixed + 3*len(ss.id) + 16*len(ss.ids) + len(ss.events) + ss.segments.unwritten()
		}
	}
	return n
}

// writeDeletes deletes what purge and Ack have let go. It comes before all that is set: a purged session may have had
// the very timer in Pebble that a new session with its id has now.
func (s *Store) writeDeletes(b *pebble.Batch) error {
	for k := range s.pendingDeletes {
		if err := b.Delete([]byte(k), nil); err != nil {
			return err
		}
	}
	for k := range s.pendingRanges {
		if err := b.DeleteRange([]byte(k), afterSegments([]byte(k)), nil); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) writeSessions(b *pebble.Batch) error {
	for _, ss := range s.changed {
		if !ss.dirty {
			continue
		}
		if len(ss.segments) > 0 {
			if err := ss.segments.write(b, appendSegments(nil, ss.id, ss.origin)); err != nil {
				return err
			}
		}
		if s.images == nil { // else closeEpoch has written it
			if _, err := s.writeImage(b, ss); err != nil {
				return err
			}
		}
		if ss.purged {
			continue
		}
		live := binary.BigEndian.AppendUint64(appendOrigin(nil, ss.origin), s.open.Epoch)
		if err := b.Set(appendLiveKey(s.keyBuf[:0], ss.id), live, nil); err != nil {
			return err
		}
		if err := s.writeTimer(b, ss); err != nil {
			return err
		}
	}
	return nil
}

// writeImage writes the image of a session in the open epoch, or in the one that is being closed. It returns the
// image's encoding, which is valid until b is written to again.
func (s *Store) writeImage(b *pebble.Batch, ss *session) ([]byte, error) {
	s.valBuf = ss.encodeHead(s.valBuf[:0], s.open.Level)
	s.keyBuf = appendImageKey(s.keyBuf[:0], s.open.Epoch, ss.id, ss.origin)
	// Ids and events are most of an image; they go straight to the batch.
	op := b.SetDeferred(len(s.keyBuf), len(s.valBuf)+ss.restBytes())
	copy(op.Key, s.keyBuf)
	ss.copyRest(op.Value[copy(op.Value, s.valBuf):])
	return op.Value, op.Finish()
}

func (s *Store) writeTimer(b *pebble.Batch, ss *session) error {
	// gofail: var bugForgetTimer struct{}
	// if ss.deadline%5 == 0 {
	// 	return nil
	// }
	kind := ss.timerKind()
	if ss.storedTimer == ss.deadline && ss.storedKind == kind {
		return nil
	}
	if ss.storedTimer != 0 {
		if err := b.Delete(appendTimerKey(s.keyBuf[:0], ss.storedKind, ss.storedTimer, ss.id), nil); err != nil {
			return err
		}
	}
	ss.storedTimer, ss.storedKind = ss.deadline, kind
	return b.Set(appendTimerKey(s.keyBuf[:0], kind, ss.deadline, ss.id), nil, nil)
}

func (s *Store) writeGone(b *pebble.Batch) error {
	for id := range s.purgedIDs {
		if _, again := s.sessions[id]; again {
			continue // a new session with that id has written the key
		}
		if err := b.Delete(appendLiveKey(s.keyBuf[:0], id), nil); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) writeRollups(b *pebble.Batch) error {
	for _, d := range s.droppedDates {
		from := binary.BigEndian.AppendUint32([]byte{prefixRollup}, uint32(d.from))
		to := binary.BigEndian.AppendUint32([]byte{prefixRollup}, uint32(d.to))
		if err := b.DeleteRange(from, to, nil); err != nil {
			return err
		}
	}
	for _, k := range s.moved {
		r, ok := s.rollups[k]
		if !ok {
			continue // its date was dropped by the same cut
		}
		s.valBuf = r.totals.encode(binary.AppendUvarint(s.valBuf[:0], r.imageEpoch))
		if err := b.Set(append(append(s.keyBuf[:0], prefixRollup), k...), s.valBuf, nil); err != nil {
			return err
		}
		s.valBuf = r.totals.encode(s.valBuf[:0])
		if err := b.Set(appendRollupImageKey(s.keyBuf[:0], r.imageEpoch, k), s.valBuf, nil); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) writeEpoch(b *pebble.Batch) error {
	if s.open.empty() && s.open.Checksum == 0 {
		return nil
	}
	s.valBuf = s.open.encode(s.valBuf[:0])
	return b.Set(epochPrefix(prefixEpoch, s.open.Epoch), s.valBuf, nil)
}

func (s *Store) writeLetters(b *pebble.Batch) error {
	for i := range s.letters {
		l := &s.letters[i]
		v, err := json.Marshal(l)
		if err != nil {
			return err
		}
		if err := b.Set(appendLetterKey(s.keyBuf[:0], l.Epoch, l.Seq), v, nil); err != nil {
			return err
		}
	}
	return nil
}

// writeGarbage writes new garbage, removes old garbage, and deletes the epochs that all readers have acknowledged.
func (s *Store) writeGarbage(b *pebble.Batch) error {
	for _, g := range s.newGarbage {
		if sup, ok := s.garbage[g]; ok {
			if err := b.Set(g.stored(), binary.BigEndian.AppendUint64(nil, sup), nil); err != nil {
				return err
			}
		}
	}
	for _, g := range s.oldGarbage {
		if err := b.Delete(g.stored(), nil); err != nil {
			return err
		}
	}
	acked := s.minAcked()
	for _, r := range []struct {
		prefix byte
		epoch  uint64
	}{{prefixEpoch, acked}, {prefixRollupImg, acked}, {prefixLetter, s.lettersAcked()}} {
		if r.epoch == 0 {
			continue
		}
		if err := b.DeleteRange([]byte{r.prefix}, afterEpoch(r.prefix, r.epoch), nil); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) writeMeta(b *pebble.Batch) error {
	v, err := json.Marshal(&s.meta)
	if err != nil {
		return err
	}
	return b.Set(metaKey, v, nil)
}

// forgetWritten forgets what the checkpoint has written. After a Cut the sessions that need not stay leave the memory:
// the closed ones, and open ones if memory is over its budget.
func (s *Store) forgetWritten(cut bool) {
	for _, ss := range s.changed {
		ss.dirty = false
		if ss.segments.letGo() {
			s.updateMemory(ss)
		}
		ss.armed, ss.armedKind = ss.storedTimer, ss.storedKind
	}
	if cut {
		for _, ss := range s.changed {
			ss.changed = false
			if ss.purged {
				s.memory -= ss.charged
			} else {
				s.evictCandidates = append(s.evictCandidates, ss)
			}
		}
		s.changed = s.changed[:0:0]
		s.open = s.newEpoch()
	}
	s.readers.forget()
	clear(s.purgedIDs)
	clear(s.pendingDeletes)
	clear(s.pendingRanges)
	if cap(s.valBuf) > maxKept {
		s.valBuf = nil
	}
	s.letters, s.newGarbage, s.oldGarbage, s.droppedDates = nil, nil, nil, nil
	for _, k := range s.moved {
		if r, ok := s.rollups[k]; ok {
			r.moved = false
		}
	}
	s.moved = nil
	if len(s.rollups) > maxRollupsInMemory {
		clear(s.rollups)
	}
	s.dirtyBytes = 0
	s.resetTimers()
	s.evict()
}

// evict removes from memory sessions that Pebble has. No result depends on which ones stay (S1).
func (s *Store) evict() {
	evictOne := func(ss *session) {
		if !ss.changed && s.sessions[ss.id] == ss {
			delete(s.sessions, ss.id)
			s.memory -= ss.charged
		}
	}
	for _, ss := range s.evictCandidates {
		if ss.status != schema.StatusOpen {
			evictOne(ss)
		}
	}
	s.evictCandidates = s.evictCandidates[:0]
	if s.memory <= s.opts.SessionMemoryBytes {
		return
	}
	for _, ss := range s.sessions {
		if evictOne(ss); s.memory <= s.opts.SessionMemoryBytes*3/4 {
			return
		}
	}
}

// Durable returns the index of the last checkpoint that is on disk.
func (s *Store) Durable() uint64 { return s.durable.get() }
