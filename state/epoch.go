package state

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"

	"deckle/event"
)

// forever is the epoch that supersedes the last image of a purged session.
const forever = math.MaxUint64

// garbageKey names an image that is of no use for the state itself any more.
type garbageKey struct {
	kind  byte // prefixImage or prefixRollupImg
	epoch uint64
	key   string // row key or rollup key
}

func (g garbageKey) image() []byte {
	return append(binary.BigEndian.AppendUint64([]byte{g.kind}, g.epoch), g.key...)
}

func (g garbageKey) stored() []byte {
	return append(binary.BigEndian.AppendUint64([]byte{prefixGarbage, g.kind}, g.epoch), g.key...)
}

// applied is the number of records of the open epoch, of any verdict.
func (e *EpochInfo) applied() int64 { return e.Events + e.Duplicates + e.Letters }

func (e *EpochInfo) empty() bool { return len(e.Ranges) == 0 && e.Letters == 0 }

// applyCut closes the open epoch: rollups move, every changed session gets its image, the images they supersede go. The
// checkpoint that Apply makes after it writes all of it.
func (s *Store) applyCut(e entry) (*CutResult, error) {
	if e.epoch != 0 && e.epoch == s.meta.LastClosed && e.checksum != s.meta.LastSum {
		return nil, fmt.Errorf("%w: epoch %d has checksum %016x here, %016x there", ErrDiverged, e.epoch, s.meta.LastSum, e.checksum)
	}
	if s.open.empty() && len(s.changed) == 0 {
		return &CutResult{}, nil
	}
	epoch := s.meta.OpenEpoch
	s.meta.LastCut = max(s.meta.LastCut+1, e.now)
	slices.SortFunc(s.changed, func(a, b *session) int {
		return cmp.Or(cmp.Compare(a.id, b.id), comparePositions(a.origin, b.origin))
	})
	sum := xxhash.New()
	for _, ss := range s.changed {
		if err := s.roll(ss); err != nil {
			return nil, err
		}
		if ss.imageEpoch != 0 {
			s.discard(garbageKey{prefixImage, ss.imageEpoch, string(appendRowKey(nil, ss.id, ss.origin))}, epoch)
		}
		ss.imageEpoch, ss.createdAt, ss.dirty = epoch, s.meta.LastCut, true
		if ss.total > 0 {
			s.open.Sessions++
			if ss.status != StatusOpen && ss.firstClosed == 0 {
				ss.firstClosed = epoch
			}
		}
		s.valBuf = ss.encode(s.valBuf[:0])
		_, _ = sum.Write(s.valBuf) // a hash never fails
		if ss.purged {
			s.leave(ss)
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

// cutRollups supersedes the images of the rollups that the cut has moved.
func (s *Store) cutRollups(epoch uint64, sum *xxhash.Digest) error {
	slices.Sort(s.moved)
	for _, k := range s.moved {
		r := s.rollups[k]
		if r.imageEpoch > s.minAcked() { // below it all images of rollups are gone
			s.discard(garbageKey{prefixRollupImg, r.imageEpoch, k}, epoch)
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

// discard deletes an image that is superseded by the one of epoch sup, or purged (forever): now if nothing needs it,
// else when that has ended.
func (s *Store) discard(g garbageKey, sup uint64) {
	if !s.needed(g.epoch, sup) {
		s.pendingDel[string(g.image())] = struct{}{}
		return
	}
	s.garbage[g] = sup
	s.newGarbage = append(s.newGarbage, g)
}

// needed says whether an image of an epoch, superseded at sup, is still to be read by a sink (S4).
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

// sweep deletes the garbage that nothing needs any more.
func (s *Store) sweep() {
	for g, sup := range s.garbage {
		if !s.needed(g.epoch, sup) {
			delete(s.garbage, g)
			s.oldGarbage = append(s.oldGarbage, g)
			s.pendingDel[string(g.image())] = struct{}{}
		}
	}
}

func (s *Store) applyPlan(e entry) *PlanResult {
	if !s.enabled(e.sink) {
		return &PlanResult{}
	}
	p := &s.meta.Sinks[e.sink]
	if p.PlanB != 0 {
		return &PlanResult{A: p.PlanA, B: p.PlanB}
	}
	b := lastFor(e.sink, s.meta.LastClosed, &s.meta.Config, &s.meta.Sinks)
	if sinkTable[e.sink].Bounded {
		b = min(b, e.epoch)
	}
	if b <= p.Acked {
		return &PlanResult{A: p.Acked}
	}
	p.PlanA, p.PlanB = p.Acked, b
	s.dirtyBytes++
	return &PlanResult{A: p.PlanA, B: p.PlanB}
}

func (s *Store) applyAck(e entry) error {
	p := &s.meta.Sinks[e.sink]
	if p.PlanB == 0 || p.PlanB != e.epoch {
		return nil
	}
	*p = Progress{Acked: p.PlanB}
	for k, epoch := range s.meta.Refused { // later plans do not read so far back
		if k[0] == '0'+byte(e.sink) && epoch <= p.Acked {
			delete(s.meta.Refused, k)
		}
	}
	s.dirtyBytes++
	s.sweep()
	if len(s.changed) == 0 { // a session that changed since the last cut is counted on its date by the next one
		s.dropDates()
	}
	return nil
}

// appendOrigin appends the origin as the tables show it.
func (s *session) appendOrigin(dst []byte) []byte {
	dst = append(strconv.AppendInt(dst, int64(s.origin.Partition), 10), '/')
	return strconv.AppendInt(dst, s.origin.Offset, 10)
}

func refusedKey(sink SinkID, rowKey string) string { return string([]byte{'0' + byte(sink)}) + rowKey }

func (s *Store) applyRefuse(e entry) {
	p := s.meta.Sinks[e.sink]
	k := refusedKey(e.sink, e.rowKey)
	if p.PlanB == 0 || s.meta.Refused[k] >= p.PlanB {
		return
	}
	s.meta.Refused[k] = p.PlanB
	s.addLetter(DeadLetter{
		Reject: event.Reject{Partition: -1, Offset: -1, Reason: event.SinkRejected, Detail: e.detail, Length: int64(len(e.row))},
		Sink:   e.sink, RowKey: e.rowKey, Row: e.row,
	})
}

// encode appends the stored form of an epoch's info.
func (e *EpochInfo) encode(dst []byte) []byte {
	dst = append(dst, 1)
	dst = binary.AppendUvarint(dst, e.Epoch)
	dst = binary.AppendVarint(dst, e.Clock)
	for _, v := range [...]int64{e.Events, e.Duplicates, e.Letters, e.Sessions} {
		dst = binary.AppendVarint(dst, v)
	}
	dst = binary.LittleEndian.AppendUint64(dst, e.Checksum)
	dst = binary.AppendUvarint(dst, uint64(len(e.Ranges)))
	for _, r := range e.Ranges {
		dst = binary.AppendUvarint(dst, uint64(r.Partition))
		dst = binary.AppendVarint(dst, r.From)
		dst = binary.AppendVarint(dst, r.To-r.From)
		dst = binary.AppendVarint(dst, int64(r.LeaderEpoch))
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.LeftOut)))
	var prev Position
	for _, p := range e.LeftOut {
		dst = binary.AppendVarint(dst, int64(p.Partition)-int64(prev.Partition))
		dst = binary.AppendVarint(dst, p.Offset-prev.Offset)
		prev = p
	}
	return dst
}

func decodeEpochInfo(b []byte) (EpochInfo, error) {
	d := decoder{b: b}
	if v := d.byte(); d.err == nil && v != 1 {
		d.fail("epoch version")
	}
	e := EpochInfo{Epoch: d.uvarint(), Clock: d.varint()}
	e.Events, e.Duplicates, e.Letters, e.Sessions = d.varint(), d.varint(), d.varint(), d.varint()
	if c := d.bytes(8); c != nil {
		e.Checksum = binary.LittleEndian.Uint64(c)
	}
	for range d.length(4) {
		r := event.Range{Partition: int32(d.uvarint()), From: d.varint()}
		r.To = r.From + d.varint()
		r.LeaderEpoch = int32(d.varint())
		e.Ranges = append(e.Ranges, r)
	}
	n := d.length(2)
	if n > 0 {
		e.LeftOut = make([]Position, n)
	}
	var prev Position
	for i := range e.LeftOut {
		prev = Position{int32(int64(prev.Partition) + d.varint()), prev.Offset + d.varint()}
		e.LeftOut[i] = prev
	}
	return e, d.end()
}

// EpochEvents returns how many rows of the events table a closed epoch has; some sink must not have acknowledged it yet. Any
// goroutine may call it.
func (s *Store) EpochEvents(epoch uint64) (int64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return 0, ErrClosed
	}
	info, err := s.epochInfo(s.db, epoch)
	if err != nil {
		return 0, fmt.Errorf("state: %w", err)
	}
	return info.Events, nil
}

// epochInfo reads an epoch's info; pebble.ErrNotFound if there is none.
func (s *Store) epochInfo(r pebble.Reader, epoch uint64) (EpochInfo, error) {
	v, closer, err := r.Get(epochPrefix(prefixEpoch, epoch))
	if err != nil {
		return EpochInfo{}, fmt.Errorf("epoch %d: %w", epoch, err)
	}
	e, err := decodeEpochInfo(v)
	if err := errors.Join(err, closer.Close()); err != nil {
		return EpochInfo{}, fmt.Errorf("epoch %d: %w", epoch, err)
	}
	return e, nil
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
