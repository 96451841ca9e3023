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
			TopicID: v.Config.TopicID}, nil
	}
	return letters.New(letters.Options{Kafka: k.Options(), Source: cfg.Kafka.Topic, Letters: cfg.Kafka.DLQ,
		Judge: judge, Now: deps.Now, Random: deps.Random, Logger: deps.Logger.With("part", "letters")})
}
