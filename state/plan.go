package state

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"

	"deckle/event"
	"deckle/schema/level"
)

// EncodePlan encodes the entry that gives a sink its next plan, (acked, last closed]. The plan of a bounded sink ends
// at maxB at most, and where the level or the rules change; other sinks ignore both. The plan of a sink that waits for
// another one ends at most where that one has acknowledged. If the sink has an outstanding plan, the entry returns
// that.
func EncodePlan(sink SinkID, maxB uint64) []byte {
	return binary.AppendUvarint([]byte{kindPlan, firstVersion, byte(sink)}, maxB)
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
		b = min(b, e.epoch, s.meta.boundary(p.Acked+1))
	}
	if b <= p.Acked {
		return &PlanResult{A: p.Acked}
	}
	p.PlanA, p.PlanB = p.Acked, b
	s.dirtyBytes++
	return &PlanResult{A: p.PlanA, B: p.PlanB}
}

// EncodeAck encodes the entry that ends a sink's outstanding plan (A, b]. If the outstanding plan ends elsewhere, the
// entry does nothing.
func EncodeAck(sink SinkID, b uint64) []byte {
	return binary.AppendUvarint([]byte{kindAck, firstVersion, byte(sink)}, b)
}

func (s *Store) applyAck(e entry) error {
	p := &s.meta.Sinks[e.sink]
	if p.PlanB == 0 || p.PlanB != e.epoch {
		return nil
	}
	a := p.PlanA
	*p = Progress{Acked: p.PlanB}
	if e.sink == SinkRevisions && s.meta.Unwritten.some() {
		s.meta.Unwritten.pass(a, p.Acked, func(key string) bool {
			return s.meta.Refused[refusedKey(e.sink, key)] >= p.Acked
		})
	}
	for k, epoch := range s.meta.Refused { // later plans do not reach back so far
		if k[0] == '0'+byte(e.sink) && epoch <= p.Acked {
			delete(s.meta.Refused, k)
		}
	}
	s.dirtyBytes++
	s.dropRules()
	if len(s.meta.PendingGaps) > 0 && e.sink == SinkEvents {
		s.meta.passGaps()
	}
	s.deleteUnneeded()
	if len(s.changed) == 0 { // the next Cut counts a session that has changed since the last one on its date
		s.dropDates()
	}
	return nil
}

// MaxRefusedRow is the most bytes of a refused row that a letter carries. With the letter's headers, that stays below
// Kafka's default of 1 MiB per batch.
const MaxRefusedRow = 896 << 10

// EncodeRefuse encodes the entry that leaves a row out of a sink's outstanding plan and makes it a dead letter. rowKey
// is SessionRow.Key, row the row as JSON, detail what the destination said. From level 2 on, the entry has the first
// MaxRefusedRow bytes of a longer row, and the length and the hash of all of it.
func EncodeRefuse(sink SinkID, rowKey string, row []byte, detail string, l level.Level) []byte {
	if l < level.Real || len(row) <= MaxRefusedRow {
		return appendRefuse(&entry{sink: sink, rowKey: rowKey, row: row, detail: detail, length: int64(len(row))})
	}
	return appendRefuse(&entry{sink: sink, rowKey: rowKey, row: row[:MaxRefusedRow], detail: detail,
		length: int64(len(row)), hash: sha256.Sum256(row)})
}

// appendRefuse encodes the entry. Its version is 2 only if the row is cut.
func appendRefuse(e *entry) []byte {
	cut := e.length > int64(len(e.row))
	version := byte(firstVersion)
	if cut {
		version = level.Entry.At(level.Real)
	}
	b := appendText([]byte{kindRefuse, version, byte(e.sink)}, e.rowKey)
	b = appendText(appendText(b, e.row), e.detail)
	if cut {
		b = append(binary.AppendUvarint(b, uint64(e.length)), e.hash[:]...)
	}
	return b
}

func (s *Store) applyRefuse(e entry) error {
	p := s.meta.Sinks[e.sink]
	k := refusedKey(e.sink, e.rowKey)
	if p.PlanB == 0 || s.meta.Refused[k] >= p.PlanB {
		return nil
	}
	if e.sink == SinkSessions && s.meta.level() >= level.Lake && s.enabled(SinkRevisions) {
		if err := s.leaveUnwritten(e.rowKey, p.PlanB); err != nil {
			return err
		}
	}
	s.meta.Refused[k] = p.PlanB
	s.addLetter(DeadLetter{
		Reject: event.Reject{
			Partition: -1, Offset: -1, Reason: event.SinkRejected, Detail: e.detail, Length: e.length, SHA256: e.hash,
		},
		Sink: e.sink, RowKey: e.rowKey, Row: e.row,
	})
	return nil
}

// leaveUnwritten notes that the plan of sessions that ends with epoch b leaves a row out.
func (s *Store) leaveUnwritten(rowKey string, b uint64) error {
	// Of a session that has been purged the open epoch may still get an image, the last one.
	r := unwrittenRow{Until: s.meta.OpenEpoch}
	id, _, _ := strings.Cut(rowKey, "\x00")
	ss, err := s.lookup(id)
	if err != nil {
		return err
	}
	if ss != nil && ss.rowKey() == rowKey {
		if r.Until = 0; ss.imageEpoch > ss.firstClosed {
			r.Image = ss.imageEpoch
		}
	}
	s.meta.Unwritten.refuse(rowKey, r, b)
	return nil
}

func refusedKey(sink SinkID, rowKey string) string { return string([]byte{'0' + byte(sink)}) + rowKey }

// LastFor returns the last epoch that a plan of the sink may end with: the last closed one, unless the sink for which
// it waits has not acknowledged that.
func (v *View) LastFor(sink SinkID) uint64 {
	return lastFor(sink, v.LastClosed, &v.Config, &v.Sinks)
}

func lastFor(sink SinkID, lastClosed uint64, c *Config, progress *[NumSinks]Progress) uint64 {
	if after := sinkTable[sink].After; after != NoSink && slices.Contains(c.Sinks, after) {
		return min(lastClosed, progress[after].Acked)
	}
	return lastClosed
}

// enabled says whether the shard has the sink.
func (s *Store) enabled(sink SinkID) bool { return slices.Contains(s.meta.Config.Sinks, sink) }

// minAcked is the epoch up to which every sink of the shard has acknowledged everything.
func (s *Store) minAcked() uint64 {
	acked := s.meta.LastClosed
	for i, sink := range s.meta.Config.Sinks {
		if a := s.meta.Sinks[sink].Acked; i == 0 || a < acked {
			acked = a
		}
	}
	return acked
}

// lettersAcked is the epoch up to which dead letters are not needed any more: every sink that reads them has
// acknowledged it, or, if no sink reads them, every sink.
func (s *Store) lettersAcked() uint64 {
	acked, read := s.meta.LastClosed, false
	for _, sink := range s.meta.Config.Sinks {
		if sink.reads(ReadsLetters) {
			acked, read = min(acked, s.meta.Sinks[sink].Acked), true
		}
	}
	if !read {
		return s.minAcked()
	}
	return acked
}
