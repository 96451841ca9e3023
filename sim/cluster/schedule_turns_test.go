package cluster

import (
	"regexp"
	"testing"
	"time"

	"deckle/node/config"
)

// All shards of a cluster are written in one commit of a table each interval: in a quiet stretch there are at most 1.1
// commits of it a turn, and of raw events hardly fewer, whoever leads what.
func TestOneCommitATurn(t *testing.T) {
	const every, turns = 10 * time.Second, 12
	tune := func(cfg *config.Config) {
		cfg.Flush.Interval, cfg.Delta.RevisionInterval, cfg.Delta.CommitWait = every, time.Minute, nil
	}
	schedule(t, Options{Shards: 6, Partitions: 6, Tune: tune}, func(s *stage) {
		stop := s.produce(300 * time.Millisecond)
		commits := func(table string) (n int) { // with rows that are new: compaction and passes of revisions have none
			txn := regexp.MustCompile(`{"txn":{"appId":"[^"]*/` + table + `"`)
			for _, key := range s.objects.Keys(table + "/_delta_log/") {
				if data, err := s.objects.Mem.Get(s.ctx, key); err == nil && txn.Match(data) {
					n++
				}
			}
			return n
		}
		s.sleep(time.Minute) // until leaders are where they stay
		events, sessions := commits("events"), commits("sessions")
		s.sleep(turns * every)
		events, sessions = commits("events")-events, commits("sessions")-sessions
		s.check(events <= turns+1 && events >= turns-1, "%d commits of events in %d turns", events, turns)
		s.check(sessions <= turns+1 && sessions >= 1, "%d commits of sessions in %d turns", sessions, turns)
		stop()
		s.settle()
	})
}
