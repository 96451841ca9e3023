package shard

import (
	"crypto/sha256"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/state"
)

// maxEntryItems bounds the events of an entry, whatever their size.
const maxEntryItems = 8192

// batchBuf collects decoded records until they are proposed, and keeps them until the result of the entry is known:
// events point into the values of the records and into the decoder's memory. It is reused after the result.
type batchBuf struct {
	rules  *state.Rules // nil for those of level 1
	list   uint64       // the number of the list of suppressed readers that it judges by
	dec    event.Decoder
	parts  []*bufPart // ascending by partition
	free   []*bufPart
	nulls  int64
	times  int64 // records whose Kafka time says nothing
	raw    int   // bytes of values
	count  int   // records
	began  time.Time
	decode time.Duration
	batch  event.Batch
	stamps []int64
}

// bufPart is the share of one partition.
type bufPart struct {
	rng     event.Range
	seen    event.Seen
	items   []event.Item
	rejects []event.Reject
	left    []event.SuppressedRecord
	last    int64       // Kafka timestamp of the last record, Unix milliseconds
	record  *kgo.Record // the last one
}

func (b *batchBuf) empty() bool { return len(b.parts) == 0 }

// reset makes the buffer ready for the next batch and releases what it has read.
func (b *batchBuf) reset() {
	b.dec.Reset()
	for _, p := range b.parts {
		clear(p.items)
		p.record = nil
		p.items, p.rejects, p.left = p.items[:0], p.rejects[:0], p.left[:0]
	}
	b.free = append(b.free, b.parts...)
	b.parts, b.stamps = b.parts[:0], b.stamps[:0]
	b.nulls, b.times, b.raw, b.count, b.began, b.decode = 0, 0, 0, 0, time.Time{}, 0
	b.batch = event.Batch{Ranges: b.batch.Ranges[:0], Seen: b.batch.Seen[:0], Rejects: b.batch.Rejects[:0],
		Suppressed: b.batch.Suppressed[:0]}
}

func (b *batchBuf) part(partition int32, next int64) *bufPart {
	i, ok := slices.BinarySearchFunc(b.parts, partition, func(p *bufPart, n int32) int {
		return int(p.rng.Partition) - int(n)
	})
	if ok {
		return b.parts[i]
	}
	p := &bufPart{}
	if n := len(b.free); n > 0 {
		p, b.free = b.free[n-1], b.free[:n-1]
	}
	p.rng = event.Range{Partition: partition, From: next, To: next, LeaderEpoch: -1}
	p.seen = event.Seen{}
	b.parts = slices.Insert(b.parts, i, p)
	return p
}

// add takes one record; next is the next offset of its partition. With noKey set, a record without a key becomes a dead
// letter. It returns why the record became a dead letter, ReasonNone if it did not.
func (b *batchBuf) add(r *kgo.Record, next int64, noKey bool) event.Reason {
	p := b.part(r.Partition, next)
	p.rng.To, p.rng.LeaderEpoch = r.Offset+1, r.LeaderEpoch
	if r.Attrs.IsControl() {
		return event.ReasonNone
	}
	b.count++
	b.raw += len(r.Value)
	p.record = r
	stamp := r.Timestamp.UnixMilli()
	if b.rules != nil {
		if stamp = b.rules.Event.KafkaTime(r.Timestamp); stamp == event.NoKafkaTime {
			b.times++
		}
		p.seen.KafkaTime = max(p.seen.KafkaTime, stamp)
	}
	p.last = stamp
	if r.Value == nil {
		b.nulls++
		return event.ReasonNone
	}
	p.items = slices.Grow(p.items, 1)[:len(p.items)+1]
	it := &p.items[len(p.items)-1] // is empty: reset clears what a batch has used
	reason, detail := event.NoKey, "more than one shard needs records that are keyed by session_id"
	switch {
	case !noKey || len(r.Key) > 0:
		reason, detail = b.dec.Decode(r.Value, stamp, &it.Event)
	case b.dec.AsksReaders(): // whose record it is counts before what is wrong with it
		zeroed := b.dec.Counts.Zeroed
		if why, what := b.dec.Decode(r.Value, stamp, &it.Event); why == event.Excluded || why == event.Suppressed {
			reason, detail = why, what
		}
		b.dec.Counts.Zeroed = zeroed
	}
	if reason != event.ReasonNone {
		*it = event.Item{} // Decode may have left something of the record in it
		p.items = p.items[:len(p.items)-1]
		switch reason {
		case event.Excluded: // counted by the decoder
			return event.ReasonNone
		case event.Suppressed:
			by := event.SuppressUser
			if detail == event.SuppressSession.String() {
				by = event.SuppressSession
			}
			p.left = append(p.left, event.SuppressedRecord{Partition: r.Partition, Offset: r.Offset, By: by})
			return event.ReasonNone
		}
		reject := event.Reject{Partition: r.Partition, Offset: r.Offset, KafkaTimestamp: stamp, Reason: reason,
			Detail: detail, Withheld: b.dec.Withheld()}
		if !reject.Withheld {
			reject.Length, reject.SHA256 = int64(len(r.Value)), sha256.Sum256(r.Value)
		}
		p.rejects = append(p.rejects, reject)
		return reason
	}
	it.Partition, it.Offset, it.KafkaTimestamp = r.Partition, r.Offset, stamp
	if b.rules != nil {
		b.dec.SetKey(it, r.Key)
	}
	return event.ReasonNone
}

// judgeBy makes the buffer, which is empty, judge its records by rules; nil are those of level 1. key is the one that
// the rules hash with; without it, a leader reads no records (privacyWaits). list are the suppressed readers.
func (b *batchBuf) judgeBy(rules *state.Rules, key []byte, list *event.Suppression) {
	b.rules, b.dec.Rules, b.dec.Key = rules, nil, key
	b.list = list.Number
	b.dec.Suppress(list)
	if rules != nil {
		b.dec.Rules = &rules.Event
	}
}

// finish joins the partitions into one batch, which is valid until reset.
func (b *batchBuf) finish() *event.Batch {
	b.batch.Nulls = b.nulls
	if b.rules != nil {
		b.batch.Rules, b.batch.List = b.rules.Number, b.list
		b.batch.Counts = b.dec.Counts
		b.batch.Counts.KafkaTimes = b.times
	}
	for i, p := range b.parts {
		if b.rules != nil {
			if r := p.record; r != nil {
				p.seen.LastOffset, p.seen.LastHash = r.Offset, event.HashRecord(r.Offset, r.Key, r.Value)
			}
			b.batch.Seen = append(b.batch.Seen, p.seen)
		}
		b.batch.Ranges = append(b.batch.Ranges, p.rng)
		b.batch.Rejects = append(b.batch.Rejects, p.rejects...)
		b.batch.Suppressed = append(b.batch.Suppressed, p.left...)
		// The items of the first partition stay where they are, those of the others follow them: most batches have one
		// partition, and an item takes some hundred bytes.
		if i == 0 {
			b.batch.Items = p.items
		} else {
			b.batch.Items = append(b.batch.Items, p.items...)
		}
	}
	if len(b.parts) > 0 {
		b.parts[0].items = b.batch.Items
	}
	return &b.batch
}

// counted returns the Kafka timestamps of the items that are not among left (ascending).
func (b *batchBuf) counted(left []state.Position) []int64 {
	b.stamps = b.stamps[:0]
	for i := range b.batch.Items {
		it := &b.batch.Items[i]
		if len(left) > 0 && left[0].Partition == it.Partition && left[0].Offset == it.Offset {
			left = left[1:]
			continue
		}
		b.stamps = append(b.stamps, it.KafkaTimestamp)
	}
	return b.stamps
}
