package cluster

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"deckle/node/config"
)

// All shards of a cluster are written in one commit of a table each interval: in a quiet stretch there are at most 1.1
// commits of it a turn, and of raw events hardly fewer, whoever leads what.
func TestOneCommitATurn(t *testing.T) {
	const every, turns = 10 * time.Second, 12
	tune := func(cfg *config.Config) {
		cfg.Flush.Interval, cfg.Delta.RevisionInterval, cfg.Delta.CommitWait = every, time.Minute, 550*time.Millisecond
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
		// ClickHouse is written after cuts of its own, and waits no longer than Delta. Raw events of both cuts are in
		// one file.
		for shard := range uint32(6) {
			_, st := s.leaderNow(shard)
			for _, sink := range []string{"events", "clickhouse"} {
				l, ok := st.Visible[sink]
				s.check(ok && l.P99 < 12_000, "shard %d, %s: visible %+v", shard, sink, l)
			}
		}
		added := s.adds("events")
		s.sleep(turns * every)
		added = s.adds("events") - added
		s.check(added <= 6*(turns+1), "%d files of events in %d turns of 6 shards", added, turns)
		stop()
		s.settle()
	})
}

// adds counts the files that commits with rows that are new have added to a table.
func (s *stage) adds(table string) (n int) {
	for _, key := range s.objects.Keys(table + "/_delta_log/") {
		data, err := s.objects.Mem.Get(s.ctx, key)
		if err == nil && strings.HasSuffix(key, ".json") && strings.Contains(string(data), `{"txn":`) {
			n += strings.Count(string(data), `{"add":`)
		}
	}
	return n
}
