package state

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"deckle/event"
	"deckle/schema/level"
)

// applied is the number of records of the open epoch, whatever the verdict on them.
func (e *EpochInfo) applied() int64 { return e.Events + e.Duplicates + e.Letters + e.Suppressed }

// empty says that the epoch is not to be stored. One that has a gap is: the gap would be lost with the next checkpoint.
func (e *EpochInfo) empty() bool { return len(e.Ranges) == 0 && e.Letters == 0 && len(e.Gaps) == 0 }

// encode appends the stored form of what is known of an epoch.
func (e *EpochInfo) encode(dst []byte) []byte {
	l := max(e.Level, level.First)
	dst = append(dst, level.Epoch.At(l))
	if l >= level.Real {
		dst = binary.AppendUvarint(dst, uint64(l))
		dst = binary.AppendUvarint(dst, uint64(e.Rules))
	}
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
	if l >= level.Real {
		dst = binary.AppendUvarint(dst, uint64(len(e.Gaps)))
		for i := range e.Gaps {
			dst = appendGap(dst, &e.Gaps[i])
		}
	}
	if l >= level.Guarded {
		dst = binary.AppendUvarint(dst, uint64(e.Suppressed))
	}
	return dst
}

func decodeEpochInfo(b []byte) (EpochInfo, error) {
	d := decoder{b: b}
	e := EpochInfo{Level: level.First}
	if v := d.version(level.Epoch); v >= int(level.Epoch.At(level.Real)) {
		l, rules := d.uvarint(), d.uvarint()
		if l < uint64(level.Real) || l > uint64(level.Current) || rules > math.MaxUint32 ||
			level.Epoch.At(level.Level(l)) != byte(v) {
			d.fail("level or rules")
		}
		e.Level, e.Rules = level.Level(l), uint32(rules)
	}
	e.Epoch, e.Clock = d.uvarint(), d.varint()
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
	if e.Level >= level.Real {
		for range d.length(6) {
			e.Gaps = append(e.Gaps, d.gap())
		}
	}
	if e.Level >= level.Guarded {
		n := d.uvarint()
		if n > math.MaxInt64 {
			d.fail("number of suppressed records")
		}
		e.Suppressed = int64(n)
	}
	return e, d.end()
}

func compareRanges(a, b event.Range) int {
	return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.From, b.From))
}

// joinRanges joins the ranges of consecutive epochs for each partition, as far as no gap lies between them.
func joinRanges(epochs []EpochInfo) []event.Range {
	last := map[int32]int{} // the index of a partition's last range in out
	out := []event.Range{}
	for _, e := range epochs {
		for _, r := range e.Ranges {
			if i, ok := last[r.Partition]; ok && out[i].To == r.From {
				out[i].To, out[i].LeaderEpoch = r.To, r.LeaderEpoch
				continue
			}
			last[r.Partition] = len(out)
			out = append(out, r)
		}
	}
	slices.SortFunc(out, compareRanges)
	return out
}

// joinLeftOut joins the offsets that consecutive epochs leave out.
func joinLeftOut(epochs []EpochInfo) []Position {
	var out []Position
	for _, e := range epochs {
		out = append(out, e.LeftOut...)
	}
	slices.SortFunc(out, comparePositions)
	return out
}

// readEpochInfo reads what is known of an epoch; pebble.ErrNotFound if there is nothing.
func readEpochInfo(r pebble.Reader, epoch uint64) (EpochInfo, error) {
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
