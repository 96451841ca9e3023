package shard

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/kafka"
	"deckle/state"
)

// placeMost is how many records are looked at between two maintenances: three hashes of a key cost as much as a tenth
// of its record's decoding.
const placeMost = 200

// placed counts where the keys of records are, and where the usual partitioners would put them.
type placed struct {
	looked int64                        // records with a key
	by     [kafka.NumPartitioners]int64 // those that are where this partitioner puts them
	some   int64                        // those that are where any of them puts them
	stray  state.Position               // one that is where none of them puts it, if some is less than looked
}

// look takes a record of a topic that has, or has had, as many partitions as counts say.
func (p *placed) look(r *kgo.Record, counts []int32) {
	if len(r.Key) == 0 || r.Attrs.IsControl() {
		return
	}
	p.looked++
	some := false
	for by := range kafka.NumPartitioners {
		for _, n := range counts {
			if by.Partition(r.Key, n) == r.Partition {
				p.by[by]++
				some = true
				break
			}
		}
	}
	if some {
		p.some++
	} else {
		p.stray = state.Position{Partition: r.Partition, Offset: r.Offset}
	}
}

// best is the partitioner that explains most of what came after first, and how many records that are.
func (p *placed) best(first *placed) (by kafka.Partitioner, n int64) {
	for b := range kafka.NumPartitioners {
		if m := p.by[b] - first.by[b]; m > n {
			by, n = b, m
		}
	}
	return by, n
}

// topicSizes are the numbers of partitions by which keys may be placed: what the topic has now, and what it had before:
// when the shard last took partitions that were added, and when the cluster was created (0 if that is not known yet).
// There is none if the topic has one partition, or the cluster one shard: nothing depends on where a key is then.
func topicSizes(shards uint32, now int, before ...int) []int32 {
	if shards < 2 || now < 2 {
		return nil
	}
	sizes := []int32{int32(now)}
	for _, n := range before {
		if n > 0 && n < now && !slices.Contains(sizes, int32(n)) {
			sizes = append(sizes, int32(n))
		}
	}
	return sizes
}
