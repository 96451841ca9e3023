package cluster

import (
	"bytes"
	"testing"
	"time"

	"deckle/node/config"
)

// All shards of a cluster are written in one commit of a table each interval: in a quiet stretch there are at most 1.1
// commits of raw events a turn, and hardly fewer, whoever leads what.
func TestOneCommitATurn(t *testing.T) {
	const every, turns = 10 * time.Second, 12
	tune := func(cfg *config.Config) {
		cfg.Flush.Interval, cfg.Delta.RevisionInterval, cfg.Delta.CommitWait = every, time.Minute, 550*time.Millisecond
	}
	schedule(t, Options{Shards: 6, Partitions: 6, Tune: tune}, func(s *stage) {
		stop := s.produce(300 * time.Millisecond)
		commits := func() (n int) {
			for _, key := range s.objects.Keys("events/_delta_log/") {
				if data, err := s.objects.Mem.Get(s.ctx, key); err == nil && bytes.Contains(data, []byte(`{"txn":`)) {
					n++ // compaction has none
				}
			}
			return n
		}
		s.sleep(time.Minute) // until leaders are where they stay
		before := commits()
		s.sleep(turns * every)
		made := commits() - before
		s.check(made <= turns+1 && made >= turns-1, "%d commits in %d turns", made, turns)
		stop()
		s.settle()
	})
}
