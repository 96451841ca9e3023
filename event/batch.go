package event

import (
	"fmt"
	"math"

	"deckle/schema/level"
)

// Limits of a batch. They bound what a hostile encoding can make DecodeBatch allocate, and the leader keeps its batches
// far below them.
const (
	// MaxBatchRecords is the greatest number of items and rejects together in a batch.
	MaxBatchRecords = 1 << 16
	// MaxBatchRanges is the greatest number of partitions that a batch may touch.
	MaxBatchRanges = 1 << 12
	// MaxBatchBytes is the greatest total size in bytes of the texts of a batch's items and the details of its rejects.
	MaxBatchBytes = 16 << 20
	// maxColumns bounds the decompressed columns: the texts, and at most twice as much again for numbers and lengths.
	maxColumns = 3 * MaxBatchBytes
)

// CorruptError says that bytes are not an encoding of a batch, and at which place this was found.
type CorruptError struct {
	// Offset is in bytes from the start of the encoding; when InColumns is set, from the start of its decompressed
	// columns.
	Offset    int
	InColumns bool
	What      string
}

func (e *CorruptError) Error() string {
	where := "byte"
	if e.InColumns {
		where = "byte of the columns"
	}
	return fmt.Sprintf("event: corrupt batch: %s (%s %d)", e.What, where, e.Offset)
}

// Check returns an error if b breaks the rules that Batch states or the limits above, or has an item that a batch of
// level l cannot carry. AppendBatch takes only batches that pass, and DecodeBatch returns only batches that pass.
func (b *Batch) Check(l level.Level) error { return b.check(level.Batch.At(l)) }

func (b *Batch) check(version byte) error {
	if n := len(b.Items) + len(b.Rejects) + len(b.Suppressed); n > MaxBatchRecords {
		return fmt.Errorf("event: batch of %d records, at most %d", n, MaxBatchRecords)
	}
	if len(b.Ranges) > MaxBatchRanges {
		return fmt.Errorf("event: batch of %d ranges, at most %d", len(b.Ranges), MaxBatchRanges)
	}
	if b.Nulls < 0 {
		return fmt.Errorf("event: batch with %d null records", b.Nulls)
	}
	if n := len(b.Seen); n > 0 && n != len(b.Ranges) {
		return fmt.Errorf("event: batch of %d ranges, seen %d of them", len(b.Ranges), n)
	}
	if err := b.Counts.check(version); err != nil {
		return err
	}
	if err := b.checkSuppressed(version); err != nil {
		return err
	}
	last := int32(-1)
	items, rejects, bytes := b.Items, b.Rejects, 0
	for i := range b.Ranges {
		r := &b.Ranges[i]
		if r.Partition <= last || r.From < 0 || r.To <= r.From || r.LeaderEpoch < -1 {
			return fmt.Errorf("event: range %d of a batch: partition %d after %d, [%d, %d), leader epoch %d", i,
				r.Partition, last, r.From, r.To, r.LeaderEpoch)
		}
		if len(b.Seen) > 0 && !b.Seen[i].within(r) {
			return fmt.Errorf("event: last record %d of partition %d is outside [%d, %d)", b.Seen[i].LastOffset,
				r.Partition, r.From, r.To)
		}
		last = r.Partition
		next := r.From
		for len(items) > 0 && items[0].Partition == r.Partition {
			it := &items[0]
			if it.Offset < next || it.Offset >= r.To {
				return fmt.Errorf("event: item %d/%d out of order or outside [%d, %d)", it.Partition, it.Offset,
					r.From, r.To)
			}
			if !it.valid(version) {
				return fmt.Errorf("event: item %d/%d is not a valid event", it.Partition, it.Offset)
			}
			next = it.Offset + 1
			bytes += it.batchBytes()
			items = items[1:]
		}
		next = r.From
		for len(rejects) > 0 && rejects[0].Partition == r.Partition {
			rj := &rejects[0]
			if rj.Offset < next || rj.Offset >= r.To {
				return fmt.Errorf("event: reject %d/%d out of order or outside [%d, %d)", rj.Partition, rj.Offset,
					r.From, r.To)
			}
			if !rj.Reason.Valid() || len(rj.Detail) > MaxDetail || rj.Length < 0 {
				return fmt.Errorf("event: reject %d/%d: reason %d, detail of %d bytes, length %d", rj.Partition,
					rj.Offset, rj.Reason, len(rj.Detail), rj.Length)
			}
			next = rj.Offset + 1
			bytes += len(rj.Detail)
			rejects = rejects[1:]
		}
	}
	switch {
	case len(items) > 0:
		return fmt.Errorf("event: item %d/%d in no range or out of order", items[0].Partition, items[0].Offset)
	case len(rejects) > 0:
		return fmt.Errorf("event: reject %d/%d in no range or out of order", rejects[0].Partition, rejects[0].Offset)
	case bytes > MaxBatchBytes:
		return fmt.Errorf("event: batch of %d bytes of text, at most %d", bytes, MaxBatchBytes)
	}
	return nil
}

// valid says whether a batch of the version can carry the item.
func (it *Item) valid(version byte) bool {
	if !it.Type.Valid() || it.SessionID == "" || len(it.SessionID) > MaxSessionID || it.Scroll > maxScroll {
		return false
	}
	if version < batchReal {
		return len(it.SessionID) <= FirstMaxSessionID && it.UserID <= math.MaxInt64 && it.UserKey == "" &&
			it.Type != Other
	}
	return it.Progress <= maxScroll && it.Key.Valid() && (it.KeyHash == 0 || it.Key == KeyOther) &&
		(it.Type == Other) == (it.TypeName != "") && len(it.TypeName) <= MaxTypeName &&
		(it.UserID > math.MaxInt64) == (it.UserKey != "") && len(it.UserKey) <= MaxUserKey &&
		(it.UserKey == "" || it.UserID == UserHash(it.UserKey))
}

// within says whether the last record, if there is one, lies within the range.
func (s *Seen) within(r *Range) bool {
	if s.LastHash == 0 {
		return s.LastOffset == 0
	}
	return s.LastOffset >= r.From && s.LastOffset < r.To
}

func (c *Counts) check(version byte) error {
	bad := len(c.Excluded) > MaxExclude || c.Skipped < 0 || c.KafkaTimes < 0 || c.Unconsented < 0 ||
		version < batchGuarded && c.Unconsented > 0
	for _, n := range c.Excluded {
		bad = bad || n < 0
	}
	for _, n := range c.Zeroed {
		bad = bad || n < 0
	}
	if bad {
		return fmt.Errorf("event: counts of a batch: %+v", *c)
	}
	return nil
}

// batchBytes is the number of bytes by which the texts that a batch carries count towards MaxBatchBytes.
func (e *Event) batchBytes() int {
	n := len(e.SessionID) + len(e.EngagementMetrics) + len(e.UserKey) + len(e.TypeName)
	if e.MetricsOmitted {
		n -= len(e.EngagementMetrics)
	}
	for _, f := range textColumns {
		n += len(*e.text(f))
	}
	return n
}
