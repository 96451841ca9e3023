package shard

import (
	"cmp"
	"slices"
	"time"

	"deckle/node/kafka"
	"deckle/node/status"
	"deckle/state"
)

// lagOf measures how far a shard is behind the ends that the brokers have told, for every partition that is its share
// of the topic, whatever the intake does with it. l is nil if they have told nothing lately: then all is unknown.
func lagOf(view *state.View, l *kafka.Listing, intake map[int32]seen, now time.Time) status.Lag {
	if !view.Configured || l == nil || !kafka.SameTopic(view.Config.TopicID, l.Info.ID) {
		lag := status.Lag{Unknown: len(view.Partitions)}
		for _, p := range view.Partitions {
			lag.Partitions = append(lag.Partitions, status.PartitionLag{Partition: p.Partition})
		}
		sortLag(&lag)
		return lag
	}
	lag := status.Lag{Records: new(int64), OpenTransaction: new(int64)}
	var oldest time.Duration
	behind, dated := false, false
	add := func(p status.PartitionLag) {
		lag.Partitions = append(lag.Partitions, p)
		if p.Records == nil {
			lag.Unknown++
		}
		lag.Records, lag.OpenTransaction = sum(lag.Records, p.Records), sum(lag.OpenTransaction, p.OpenTransaction)
	}
	for _, s := range view.Partitions {
		p := status.PartitionLag{Partition: s.Partition, OpenTransaction: found(l.Held, s.Partition)}
		if end := found(l.Ends, s.Partition); end != nil {
			// What fetches have shown may be newer than the listing, and so may be what is applied.
			p.Records = new(max(*end, intake[s.Partition].end) - s.Next)
			*p.Records = max(*p.Records, 0)
			behind = behind || *p.Records > 0
		}
		if last := intake[s.Partition].last; last > 0 && p.Records != nil && *p.Records > 0 {
			dated, oldest = true, max(oldest, now.Sub(time.UnixMilli(last)))
		}
		add(p)
	}
	for _, id := range unread(view, l) {
		p := status.PartitionLag{Partition: id, OpenTransaction: found(l.Held, id), Unread: true}
		if start, end := found(l.Starts, id), found(l.Ends, id); start != nil && end != nil {
			p.Records = new(max(*end-*start, 0))
		}
		add(p)
	}
	if dated || !behind && lag.Records != nil && *lag.Records == 0 {
		lag.Seconds = new(oldest.Seconds())
	}
	sortLag(&lag)
	return lag
}

func sortLag(lag *status.Lag) {
	slices.SortFunc(lag.Partitions, func(a, b status.PartitionLag) int { return cmp.Compare(a.Partition, b.Partition) })
}

// unread are the partitions of the topic that would be the shard's, ascending, if they had been there when the cluster
// was created, and that nobody has added since.
func unread(view *state.View, l *kafka.Listing) (ids []int32) {
	for p := int64(view.Config.Shard); p < int64(l.Info.Partitions); p += int64(max(view.Config.Shards, 1)) {
		if !slices.ContainsFunc(view.Partitions, func(s state.PartitionStatus) bool {
			return int64(s.Partition) == p
		}) {
			ids = append(ids, int32(p))
		}
	}
	return ids
}

// found returns the partition's offset, nil if it is not there.
func found(offsets map[int32]int64, partition int32) *int64 {
	if o, ok := offsets[partition]; ok {
		return &o
	}
	return nil
}

// sum adds what may be unknown.
func sum(a, b *int64) *int64 {
	if a == nil || b == nil {
		return nil
	}
	return new(*a + *b)
}
