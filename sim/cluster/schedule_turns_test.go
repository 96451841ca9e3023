package cluster

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"deckle/node/config"
	"deckle/sinks/delta/deltalog"
)

// All shards of a cluster are written in one commit of a table each interval, and those that a node leads in one file a
// date: in a quiet stretch there are at most 1.1 commits of a table a turn, and of raw events hardly fewer, whoever
// leads what.
func TestOneCommitATurn(t *testing.T) {
	const every, turns, nodes = 10 * time.Second, 12, 3
	tune := func(cfg *config.Config) {
		cfg.Flush.Interval, cfg.Delta.RevisionInterval, cfg.Delta.CommitWait = every, time.Minute, nil
	}
	schedule(t, Options{Shards: 6, Partitions: 6, Tune: tune}, func(s *stage) {
		stop := s.produce(300 * time.Millisecond)
		s.sleep(time.Minute) // until leaders are where they stay
		before := map[string]inserted{"events": s.inserted("events"), "sessions": s.inserted("sessions")}
		s.sleep(turns * every)
		for table, b := range before {
			n := s.inserted(table)
			commits, dates, files := n.commits-b.commits, n.dates-b.dates, n.files-b.files
			t.Logf("%s: %d turns, %d commits, %d files", table, turns, commits, files)
			s.check(commits <= turns+1 && commits >= 1, "%d commits of %s in %d turns", commits, table, turns)
			s.check(files <= nodes*dates, "%d files of %s for %d dates in commits", files, table, dates)
			s.check(table != "events" || commits >= turns-1, "%d commits of events in %d turns", commits, turns)
		}
		stop()
		s.settle()
	})
}

// inserted counts the commits of a table with rows that are new (compaction and passes of revisions have none), the
// dates in each of them, and their files.
type inserted struct{ commits, dates, files int }

func (s *stage) inserted(table string) (n inserted) {
	txn := regexp.MustCompile(`{"txn":{"appId":"[^"]*/` + table + `"`)
	for _, key := range s.objects.Keys(table + "/_delta_log/") {
		data, err := s.objects.Mem.Get(s.ctx, key)
		if err != nil || !strings.HasSuffix(key, ".json") || !txn.Match(data) {
			continue
		}
		n.commits++
		dates := map[string]bool{}
		for line := range bytes.Lines(data) {
			var a struct{ Add *deltalog.Add }
			s.must(json.Unmarshal(line, &a))
			if a.Add != nil {
				n.files++
				for _, date := range a.Add.PartitionValues {
					dates[date] = true
				}
			}
		}
		n.dates += len(dates)
	}
	return n
}
