package cluster

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/state"
)

// A topic that is deleted and created again: every partition stops, nothing of the new topic is read, and what was
// read of the old one stays.
func TestTopicRecreated(t *testing.T) {
	schedule(t, Options{}, func(s *stage) {
		at := s.now()
		s.send(ev{sid: "old", at: at}, ev{sid: "old", at: at, typ: "session_end"}, ev{part: 1, sid: "old-1", at: at},
			ev{part: 1, sid: "old-1", at: at, typ: "session_end"})
		s.want("old", row{"0/0", "closed", 1, 0, at.Unix(), at.Unix(), ""})
		s.want("old-1", row{"1/0", "closed", 1, 0, at.Unix(), at.Unix(), ""})
		s.must(s.broker.DeleteTopic(topic))
		s.sleep(10 * time.Second)
		s.must(s.broker.CreateTopic(topic, 2, nil))
		s.connect()
		for i := range 6 {
			s.send(ev{part: int32(i % 2), sid: "new", at: s.now()}, ev{part: int32(i % 2), sid: "old", at: s.now()})
		}
		for p := range int32(2) {
			why := s.stopped(partName(p))
			s.check(strings.Contains(why, "deleted and created again"), "%s stopped: %s", partName(p), why)
		}
		s.sleep(time.Minute)
		s.check(s.next(0) == 2 && s.next(1) == 2, "the partitions are at %d and %d", s.next(0), s.next(1))
		// The next leader reports the same.
		lead := s.leading(0)
		release := lead.kill(100)
		s.await(time.Minute, "another leader", func() bool { m, _ := s.leaderNow(0); return m != nil && m != lead })
		s.stopped(partName(0))
		release()
		s.sleep(time.Minute)
		click, dlt := s.rows("new")
		s.check(len(click)+len(dlt) == 0, "the new topic was read: %v, %v", click, dlt)
		s.want("old", row{"0/0", "closed", 1, 0, at.Unix(), at.Unix(), ""})
		s.check(s.eventRows() == 4, "table events has %d rows", s.eventRows())
	})
}

func partName(p int32) string { return fmt.Sprint("partition ", p) }

// Retention passes the next offset of a partition while the cluster is cut off from the broker: that partition stops
// with a clear error and skips nothing; the other one and all sinks go on.
func TestRetentionPassesNextOffset(t *testing.T) {
	late := func(c *config.Config) { c.Rules.Clock.LeaveOut = 24 * time.Hour } // until then it holds the clock
	schedule(t, Options{Tune: late}, func(s *stage) {
		at := s.now()
		s.send(ev{sid: "lost", at: at}, ev{part: 1, sid: "goes-on", at: at})
		s.flushed()
		release := s.hold()
		s.sleep(2 * time.Second) // the fetches under way are answered without records
		s.send(ev{sid: "lost", at: at.Add(time.Second)}, ev{sid: "lost", at: at.Add(2 * time.Second)},
			ev{sid: "lost", at: at.Add(3 * time.Second)},
			ev{part: 1, sid: "goes-on", at: at.Add(time.Second)})
		s.must(s.broker.DeleteRecords(topic, 0, 3))
		release()
		why := s.stopped(partName(0))
		s.check(strings.Contains(why, "nothing has been skipped") &&
			(strings.Contains(why, "offset 1 ") || strings.Contains(why, "to read is 1:")),
			"partition 0 stopped: %s", why)
		s.await(2*time.Minute, "the other partition", func() bool { return s.next(1) == 2 })
		s.send(ev{part: 1, sid: "goes-on", at: at.Add(2 * time.Second)},
			ev{part: 1, sid: "goes-on", at: at.Add(2 * time.Second), typ: "session_end"})
		s.await(2*time.Minute, "the other partition", func() bool { return s.next(1) == 4 })
		s.await(2*time.Minute, "ClickHouse goes on", func() bool {
			click,
				_ := s.rows("goes-on")
			return len(click) == 1 && click[0].events == 3
		})
		s.await(2*time.Minute, "Delta goes on", func() bool { return s.eventRows() == 5 })
		s.check(s.next(0) == 1, "partition 0 is at %d, it was at 1", s.next(0))
		st := s.status()
		s.check(len(st.Stopped) == 1 && !s.allReady(), "stopped: %v, ready %v", st.Stopped, s.allReady())
		s.check(strings.Contains(strings.Join(s.leading(0).current().node.Status().Reasons, "; "),
			"partition 0 stopped"), "the status does not say it: %v",
			s.leading(0).current().node.Status().Reasons)
		// It stays so with the next leader, and the stopped partition holds the clock: no session is closed early.
		lead := s.leading(0)
		defer lead.kill(100)()
		s.await(time.Minute, "another leader", func() bool { m, _ := s.leaderNow(0); return m != nil && m != lead })
		s.stopped(partName(0))
		s.sleep(time.Minute)
		click, _ := s.rows("lost")
		s.check(s.next(0) == 1 && len(click) == 1 && click[0].events == 1 && click[0].status == "open",
			"partition 0 is at %d: %+v", s.next(0), click)
	})
}

// Raw events of a plan that no buffer has are lost from Kafka before they are fetched again: only events stops, with a
// clear error; sessions, revisions and ClickHouse go on, and are whole.
func TestLostRangeStopsOnlyEvents(t *testing.T) {
	schedule(t, Options{}, func(s *stage) {
		at := s.now()
		s.send(ev{sid: "flushed", at: at})
		s.flushed()
		up := s.storeDown()
		s.send(ev{sid: "lost", at: at}, ev{sid: "lost", at: at.Add(time.Second)}, ev{part: 1, sid: "kept", at: at})
		s.flushed(state.SinkClickHouse)
		lead := s.leading(0)
		release := lead.kill(100) // its buffer is lost with it
		s.must(s.broker.DeleteRecords(topic, 0, 3))
		s.await(time.Minute, "another leader", func() bool { m, _ := s.leaderNow(0); return m != nil && m != lead })
		up()
		why := s.stopped("events")
		s.check(strings.Contains(why, "Kafka does not have records any more that were read before") &&
			strings.Contains(why, "sessions and rollups are not affected"),
			"events stopped: %s", why)
		release()
		s.send(ev{sid: "lost", at: at.Add(2 * time.Second)}, ev{sid: "lost", at: at.Add(2 * time.Second),
			typ: "session_end"}, ev{part: 1, sid: "kept", at: at, typ: "session_end"},
			ev{sid: "flushed", at: at, typ: "session_end"})
		s.want("lost", row{"0/1", "closed", 3, 0, at.Unix(), at.Unix() + 2, ""})
		s.want("kept", row{"1/0", "closed", 1, 0, at.Unix(), at.Unix(), ""})
		s.want("flushed", row{"0/0", "closed", 1, 0, at.Unix(), at.Unix(), ""})
		s.sleep(time.Minute)
		s.check(s.eventRows() == 1, "table events has %d rows, 1 was flushed", s.eventRows())
		s.check(len(s.status().Stopped) == 1, "stopped: %v", s.status().Stopped)
	})
}

// New partitions are reported, and nobody reads them.
func TestNewPartitions(t *testing.T) {
	schedule(t, Options{}, func(s *stage) {
		at := s.now()
		s.send(ev{sid: "old", at: at}, ev{part: 1, sid: "old-1", at: at})
		s.flushed()
		_, err := kadm.NewClient(s.cl).CreatePartitions(s.ctx, 1, topic)
		s.must(err)
		s.cl.ForceMetadataRefresh()
		s.await(time.Minute, "the new partition is reported",
			func() bool { return s.logged("condition begins") > 0 && s.logged("partition-unread") > 0 })
		rec := s.record(&ev{part: 2, sid: "new", at: at})
		s.await(time.Minute, "the new partition takes records",
			func() bool { return s.cl.ProduceSync(s.ctx, rec).FirstErr() == nil })
		s.send(ev{sid: "old", at: at, typ: "session_end"})
		s.send(ev{part: 1, sid: "old-1", at: at, typ: "session_end"})
		s.settle()
		click, dlt := s.rows("new")
		s.check(len(click)+len(dlt) == 0, "the new partition was read: %v, %v", click, dlt)
		s.check(len(s.view().Partitions) == 2 && len(s.status().Stopped) == 0 && s.allReady(),
			"partitions %v, stopped %v", s.view().Partitions, s.status().Stopped)
	})
}

// The leader of a partition, then those of all, are away for some seconds, again and again: nobody is told, although it
// is known at once what cannot be read. What lasts is told, and ends.
func TestMovedLeaderIsNoCondition(t *testing.T) {
	schedule(t, Options{}, func(s *stage) {
		s.send(ev{part: 0, sid: "a", at: s.now()}, ev{part: 1, sid: "a-1", at: s.now()})
		s.applied()
		told := func() (what string) {
			for _, m := range s.members {
				for _, c := range m.current().node.Status().Conditions {
					if c.ID == condition.PartitionFailing || c.ID == condition.SourceFailing {
						what = c.String()
					}
				}
			}
			return what
		}
		for _, partitions := range [][]int32{{0}, {0, 1}} {
			away := func() (back func()) {
				return s.broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets}, Topic: topic,
					Partitions: partitions, Err: kerr.NotLeaderForPartition, Count: -1}).Remove
			}
			known := false
			for range 3 {
				back := away()
				for range 10 {
					s.sleep(time.Second)
					s.check(told() == "", "%v are away for some seconds, and it is told: %s", partitions, told())
					known = known || len(s.status().Failing) > 0
				}
				back()
				s.await(time.Minute, "they are read", func() bool { return len(s.status().Failing) == 0 })
			}
			s.check(known, "%v fail, and the status of the shard does not know", partitions)
			back := away()
			s.await(time.Minute, "it is told", func() bool { return told() != "" })
			s.check(strings.HasPrefix(told(), "partition 0 ") == (len(partitions) == 1), "%v are away: %s", partitions,
				told())
			back()
			s.await(time.Minute, "it is over", func() bool { return told() == "" })
		}
		s.check(s.logged("partition-failing") > 0 && s.logged("source-failing") > 0, "the log does not tell of both")
		s.send(ev{part: 0, sid: "a", at: s.now(), typ: "session_end"},
			ev{part: 1, sid: "a-1", at: s.now(), typ: "session_end"})
		s.settle()
	})
}

// The log of a partition loses all that has been read, and then its leader moves: nothing is lost to the cluster, and
// what comes after is read.
func TestMovedLeaderOfAnEmptyLog(t *testing.T) {
	schedule(t, Options{}, func(s *stage) {
		at := s.now()
		s.send(ev{sid: "a", at: at}, ev{sid: "a", at: at.Add(time.Second)}, ev{part: 1, sid: "a-1", at: at})
		s.flushed()
		s.must(s.broker.DeleteRecords(topic, 0, 2))
		for range 4 {
			s.broker.ShufflePartitionLeaders()
			s.sleep(15 * time.Second)
			s.check(len(s.status().Stopped) == 0, "stopped: %v", s.status().Stopped)
		}
		s.send(ev{sid: "a", at: s.now(), typ: "session_end"}, ev{part: 1, sid: "a-1", at: s.now(), typ: "session_end"})
		s.settle()
	})
}

// A broker begins to send earlier records than it was asked for: what comes again is not applied again.
func TestBrokerRewinds(t *testing.T) {
	schedule(t, Options{}, func(s *stage) {
		rewound := s.rewind(25)
		stop := s.produce(100 * time.Millisecond)
		s.sleep(5 * time.Second)
		for range 3 {
			lead := s.leading(0)
			release := lead.kill(s.survivors())
			s.sleep(3 * time.Second)
			release()
			s.sleep(3 * time.Second)
		}
		n := stop()
		s.check(rewound() > 10, "the broker rewound %d fetches", rewound())
		sum := s.settle()
		v := s.view()
		s.check(v.Applied == sum.Produced && v.Duplicates == 0 && sum.Sessions == int64(n),
			"%d records of %d sessions: %d applied, %d duplicates",
			sum.Produced, n, v.Applied, v.Duplicates)
	})
}

// rewind makes every second fetch begin up to the given number of records before the offset that was asked for, and
// returns how many fetches have done so. Not every fetch: at the end of the log it would answer at once with records
// that the client drops, again and again, without any virtual time. For the same reason no fetch session is made, for
// it would remember the earlier offset.
func (s *stage) rewind(most int64) (rewound func() int64) {
	var n, fetches atomic.Int64
	s.broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f := req.(*kmsg.FetchRequest)
		f.SessionID, f.SessionEpoch = 0, -1
		if fetches.Add(1)%2 == 0 {
			return nil, nil, false
		}
		for i := range f.Topics {
			for j := range f.Topics[i].Partitions {
				if p := &f.Topics[i].Partitions[j]; p.FetchOffset > 0 {
					p.FetchOffset = max(0, p.FetchOffset-most)
					n.Add(1)
				}
			}
		}
		return nil, nil, false
	})
	return n.Load
}
