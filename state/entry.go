package state

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"deckle/event"
	"deckle/schema/level"
)

// The kinds of entries: the first byte of an entry. The second byte is a version of level.Entry.
const (
	kindConfig byte = iota + 1
	kindBatch
	kindCut
	kindPlan
	kindAck
	kindRefuse
	kindHorizon
	kindLevel
	kindRules
	kindSkip
	kindSkipEvents
	kindSuppress
	kindPartitions
)

// EncodeConfig encodes the entry that creates a shard. A second such entry is ignored.
func EncodeConfig(c Config) []byte {
	b, err := json.Marshal(c)
	if err != nil { // a struct of plain fields always encodes
		panic(err)
	}
	return append([]byte{kindConfig, firstVersion}, b...)
}

// AppendBatch appends the encoding of a Batch entry to dst, in the form of e.Level.
func AppendBatch(dst []byte, e *BatchEntry) []byte {
	l := max(e.Level, level.First)
	dst = append(dst, kindBatch, level.Entry.At(l))
	dst = binary.AppendVarint(dst, e.Now)
	dst = binary.AppendUvarint(dst, uint64(max(e.Elapsed/time.Millisecond, 0)))
	dst = appendPartitions(dst, e.Idle)
	if l >= level.Real {
		dst = appendPartitions(dst, e.Out)
	}
	if len(e.Batch.Ranges) == 0 {
		return dst
	}
	return event.AppendBatch(dst, &e.Batch, l)
}

func appendPartitions(dst []byte, ps []int32) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ps)))
	for _, p := range ps {
		dst = binary.AppendUvarint(dst, uint64(p))
	}
	return dst
}

// EncodeCut encodes the entry that closes the open epoch. nowMillis is the leader's wall clock, which becomes
// created_at of the epoch's images. prevEpoch and prevChecksum are the leader's last closed epoch; every replica
// compares them with its own (0, 0 compares nothing).
func EncodeCut(nowMillis int64, prevEpoch, prevChecksum uint64) []byte {
	b := binary.AppendVarint([]byte{kindCut, firstVersion}, nowMillis)
	b = binary.AppendUvarint(b, prevEpoch)
	return binary.LittleEndian.AppendUint64(b, prevChecksum)
}

// EncodeHorizon encodes the entry that forces the horizon up, at most to the given Unix seconds. Apply does not raise
// it above clock - timeout - grace.
func EncodeHorizon(seconds int64) []byte {
	return binary.AppendVarint([]byte{kindHorizon, firstVersion}, seconds)
}

// MaxTopicPartitions is the greatest number of partitions of a topic that a Partitions entry may name.
const MaxTopicPartitions = 1 << 20

// PartitionsEntry has the shard read partitions that were added to the topic (level 5): its share of the topic's first
// Count partitions, as far as it does not read them yet. It begins with each at an offset of its own. From and Have are
// what whoever asks has been shown, so that two who ask at once cannot both be taken.
type PartitionsEntry struct {
	From  int32 // View.TopicPartitions of the shard
	Have  int32 // how many partitions the shard reads
	Count int32 // how many the topic has; at most MaxTopicPartitions
	// Starts are the first offsets to apply, for each partition of the share that the shard does not read yet,
	// ascending by partition.
	Starts []int64
}

// EncodePartitions encodes the entry.
func EncodePartitions(e *PartitionsEntry) []byte {
	b := binary.AppendUvarint([]byte{kindPartitions, level.Entry.At(level.Operate)}, uint64(e.From))
	b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(e.Have)), uint64(e.Count))
	b = binary.AppendUvarint(b, uint64(len(e.Starts)))
	for _, o := range e.Starts {
		b = binary.AppendUvarint(b, uint64(o))
	}
	return b
}

// entry is a decoded entry other than Batch.
type entry struct {
	kind     byte
	config   Config
	now      int64 // milliseconds
	epoch    uint64
	checksum uint64
	sink     SinkID
	rowKey   string
	row      []byte
	length   int64             // of the whole row, of which row may be the beginning
	hash     [sha256.Size]byte // of the whole row, if row is only its beginning
	detail   string
	horizon  int64
	level    level.Level
	rules    Rules
	gap      Gap
	suppress SuppressEntry
	added    PartitionsEntry
}

func decodeEntry(b []byte) (entry, error) {
	if len(b) < 2 {
		return entry{}, fmt.Errorf("%w: entry of %d bytes", ErrCorrupt, len(b))
	}
	e := entry{kind: b[0]}
	if err := checkVersion(level.Entry, int(b[1])); err != nil {
		return e, fmt.Errorf("entry of kind %d: %w", b[0], err)
	}
	d := decoder{b: b, pos: 2}
	sink := func() {
		if e.sink = SinkID(d.byte()); e.sink >= NumSinks {
			d.fail("sink")
		}
	}
	switch e.kind {
	case kindConfig:
		if err := json.Unmarshal(b[2:], &e.config); err != nil {
			return e, fmt.Errorf("%w: config entry: %w", ErrCorrupt, err)
		}
		return e, nil
	case kindBatch:
		return e, nil // decodeBatchEntry reads it
	case kindCut:
		e.now, e.epoch = d.varint(), d.uvarint()
		if c := d.bytes(8); c != nil {
			e.checksum = binary.LittleEndian.Uint64(c)
		}
	case kindPlan, kindAck:
		sink()
		e.epoch = d.uvarint()
	case kindRefuse:
		sink()
		e.rowKey, e.row, e.detail = d.string(), []byte(d.string()), d.string()
		if e.length = int64(len(e.row)); b[1] >= level.Entry.At(level.Real) {
			n := d.uvarint()
			if n <= uint64(len(e.row)) || n > math.MaxInt64 {
				d.fail("length of a row")
			}
			e.length = int64(n)
			copy(e.hash[:], d.bytes(len(e.hash)))
		}
	case kindHorizon:
		e.horizon = d.varint()
	case kindLevel:
		e.now = d.varint()
		l := d.uvarint()
		if l == 0 || l > math.MaxUint32 {
			d.fail("level")
		}
		e.level = level.Level(l)
	case kindRules:
		e.now = d.varint()
		if d.err != nil {
			return e, d.err
		}
		if err := json.Unmarshal(b[d.pos:], &e.rules); err != nil {
			return e, fmt.Errorf("%w: rules entry: %w", ErrCorrupt, err)
		}
		return e, nil
	case kindSkip, kindSkipEvents:
		e.gap = d.gap()
	case kindSuppress:
		e.suppress = d.suppress()
	case kindPartitions:
		e.added = d.addedPartitions()
	case 0:
		return e, fmt.Errorf("%w: entry of kind 0", ErrCorrupt)
	default: // only a newer binary has written it: the log has its own checksums
		return e, &level.TooNewError{What: fmt.Sprintf("entry of kind %d", e.kind)}
	}
	return e, d.end()
}

func (d *decoder) partitions(dst []int32) []int32 {
	for range d.length(1) {
		dst = append(dst, int32(d.uvarint()))
	}
	return dst
}

// decodeBatchEntry decodes into e and reuses its memory. Texts share the memory of scratch or of b.
func decodeBatchEntry(b []byte, e *BatchEntry, scratch *event.BatchScratch) error {
	d := decoder{b: b, pos: 2}
	e.Level = level.Entry.Since(b[1])
	e.Now = d.varint()
	elapsed := d.uvarint()
	if elapsed > math.MaxInt32 {
		d.fail("elapsed")
	}
	e.Elapsed = time.Duration(elapsed) * time.Millisecond
	e.Idle, e.Out = d.partitions(e.Idle[:0]), e.Out[:0]
	if e.Level >= level.Real {
		e.Out = d.partitions(e.Out)
	}
	e.Batch.Reset()
	if d.err != nil || d.pos == len(b) {
		return d.err
	}
	if err := event.DecodeBatch(b[d.pos:], &e.Batch, scratch); err != nil {
		if _, newer := errors.AsType[*level.TooNewError](err); newer {
			return fmt.Errorf("batch at byte %d: %w", d.pos, err)
		}
		return fmt.Errorf("%w: batch at byte %d: %w", ErrCorrupt, d.pos, err)
	}
	return nil
}

func (d *decoder) addedPartitions() (e PartitionsEntry) {
	from, have, count := d.uvarint(), d.uvarint(), d.uvarint()
	if d.err == nil && max(from, have, count) > MaxTopicPartitions {
		d.fail("number of partitions")
	}
	n := d.length(1)
	if d.err == nil && n > MaxTopicPartitions {
		d.fail("number of first offsets")
	}
	if d.err != nil {
		return e
	}
	e = PartitionsEntry{From: int32(from), Have: int32(have), Count: int32(count)}
	for range n {
		o := int64(d.uvarint())
		if o < 0 {
			d.fail("first offset of a partition")
		}
		e.Starts = append(e.Starts, o)
	}
	return e
}
