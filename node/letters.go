package node

import (
	"fmt"

	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/letters"
	"deckle/node/shard"
)

// openLetters returns what reads the dead letters. It connects to nothing yet.
func openLetters(cfg *config.Config, deps *Deps, k *kafka.Client, keys shard.Keys, c *commands) *letters.Letters {
	// What a shard judges records by is what this node's replica of it knows.
	judge := func(partition int32) (j letters.Judge, err error) {
		s := c.shardOf(partition)
		if s == nil {
			return j, fmt.Errorf("this node knows no shard that reads partition %d", partition)
		}
		v := s.Store().Peek()
		return letters.Judge{Rules: &v.Rules.Event, Key: keys.Key(v.Rules.Event.PrivacyKey),
			Readers: s.Store().Suppression(), Horizon: v.Horizon, Keyed: v.Config.Shards > 1,
			TopicID: v.Config.TopicID, Sizes: sizesOf(c.shards())}, nil
	}
	return letters.New(letters.Options{Kafka: k.Options(), Source: cfg.Kafka.Topic, Letters: cfg.Kafka.DLQ,
		Judge: judge, Now: deps.Now, Random: deps.Random, Logger: deps.Logger.With("part", "letters")})
}

// sizesOf returns the numbers of partitions that the topic has had, as far as the shards know them: when the cluster
// was created, and when partitions were added last.
func sizesOf(shards []*shard.Shard) (sizes []int32) {
	founded, added := int32(0), int32(0)
	for _, s := range shards {
		v := s.Store().Peek()
		founded, added = founded+int32(v.Founded), max(added, v.TopicPartitions)
	}
	for _, n := range []int32{added, founded} {
		if n > 0 {
			sizes = append(sizes, n)
		}
	}
	return sizes
}
