package cluster

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/node/condition"
	"deckle/node/config"
)

// One device that is two hours slow, alone in its partition, beside live readers (report F33): no live session waits
// for it, no partition is paused for it, and its own session is exact. So it is where nine tenths of the disk's budget
// are used: near a budget only those wait that run ahead with a backlog.
func TestSlowDeviceHoldsNobody(t *testing.T) {
	for _, near := range []bool{false, true} {
		t.Run(map[bool]string{false: "room", true: "near the budget"}[near], func(t *testing.T) {
			slowDeviceHoldsNobody(t, near)
		})
	}
}

func slowDeviceHoldsNobody(t *testing.T, near bool) {
	const budget = 64 << 20
	schedule(t, Options{DiskBytes: budget, Tune: func(c *config.Config) {
		c.Session.Retention = 6 * time.Hour
		c.Rules.Clock.Slack = 5 * time.Second
	}}, func(s *stage) {
		if near {
			s.ballast(budget * 9 / 10)
		}
		began := s.now()
		slow := began.Add(-2 * time.Hour)
		for i := range 90 {
			now := s.now()
			sid := fmt.Sprint("live-", i)
			s.send(ev{part: 1, sid: sid, at: now}, ev{part: 1, sid: sid, at: now, typ: "session_end"},
				ev{part: 0, sid: "slow", at: slow.Add(time.Duration(i) * time.Second), kafka: now})
			s.sleep(time.Second)
			st := s.status()
			s.check(len(st.Ahead) == 0 && st.Paused == "", "partitions %v wait for others, or all: %s", st.Ahead,
				st.Paused)
		}
		v := s.view()
		s.check(v.Clock >= s.now().Unix()-15, "the clock is %d s behind", s.now().Unix()-v.Clock)
		closed := 0
		for i := range 60 { // those of the last 30 s may still be on their way
			click, _ := s.rows(fmt.Sprint("live-", i))
			if len(click) == 1 && click[0].status == "closed" && click[0].events == 1 {
				closed++
			}
		}
		s.check(closed == 60, "%d of 60 live sessions are closed in ClickHouse", closed)
		s.send(ev{part: 0, sid: "slow", at: slow.Add(90 * time.Second), kafka: s.now(), typ: "session_end"})
		s.applied()
		click, _ := s.rows("slow")
		s.check(v.DeadLetters[tooLate] == 0, "too late: %v", v.DeadLetters)
		s.await(3*time.Minute, "the slow device's session", func() bool {
			click, _ = s.rows("slow")
			return len(click) == 1 && click[0].status == "closed" && click[0].events == 90
		})
		s.check(click[0].start == slow.Unix() && click[0].end == slow.Unix()+89, "the slow session: %+v", click)
		s.settle()
	})
}

// ballast fills the data folders up to so many bytes, and waits until the nodes have seen it.
func (s *stage) ballast(bytes int) {
	for _, m := range s.members {
		f, err := m.disk.mem.Create("data/ballast", vfs.WriteCategoryUnspecified)
		s.must(err)
		_, err = f.Write(make([]byte, bytes))
		s.must(errors.Join(err, f.Close()))
	}
	s.await(time.Minute, "the nodes see that the disk is nearly full", func() bool {
		for _, m := range s.members {
			list := m.current().node.Status().Conditions
			if !slices.ContainsFunc(list, func(c condition.Condition) bool { return c.ID == condition.DiskHigh }) {
				return false
			}
		}
		return true
	})
}

// A backlog of two partitions, of which one has six times as many bytes for each minute, so that the other runs ahead
// of the shard's clock; what it takes in ahead is more than the disk's budget. Near the budget it waits, and the
// partition that holds the clock goes on, so that sessions are closed and let go. Without that the budget would be full
// of sessions that cannot be closed, and the pause of all would hold the clock for ever.
func TestUnevenBacklogNearABudget(t *testing.T) {
	o := smallDisk
	o.Looks = time.Minute
	o.Tune = func(c *config.Config) {
		smallDisk.Tune(c)
		c.Rules.Clock.Slack = 5 * time.Second
		// The budgets are looked at every 2 s: little must be read meanwhile.
		c.Kafka.FetchMaxBytes, c.Kafka.MaxBatchBytes, c.Limits.FetchMemoryBytes = 1<<20, 1<<20, 1<<20
	}
	schedule(t, o, func(s *stage) {
		const steps, size = 300, 8000
		// Each has a broker of its own. In a session of fetches the fake broker answers first for the partition for
		// which it has answered before, so that of two on one broker the other would get nothing for as long as the
		// first has more, and would rightly be left out. Kafka takes turns.
		for p := range int32(2) {
			s.must(s.broker.MoveTopicPartition(topic, p, p))
		}
		release := s.hold()
		old := s.now().Add(-2 * time.Hour)
		for i := range steps { // less than an hour
			at := old.Add(time.Duration(i) * 8 * time.Second)
			long := ev{part: 0, sid: fmt.Sprint("long-", i), at: at, id: 1_000_000 + i, size: size}
			same := long
			same.again = true
			s.send(long, same, same, same, same, same, ev{part: 1, sid: fmt.Sprint("short-", i), at: at, size: size})
		}
		for i := range s.members {
			s.net.Delay("broker", nodeName(i), time.Second, 0)
		}
		release()
		waited, apart := 0, int64(0)
		s.await(2*time.Hour, "the backlog is read", func() bool {
			st := s.status()
			s.check(!slices.Contains(st.Ahead, 0), "the partition that holds the clock waits")
			if len(st.Ahead) > 0 {
				waited++
			}
			for _, p := range st.State.Partitions {
				if st.State.Clock > 0 {
					apart = max(apart, p.Watermark-st.State.Clock)
				}
				s.check(!p.Out, "the clock goes on without partition %d, which only waits", p.Partition)
			}
			return s.next(0) == s.ends[0] && s.next(1) == s.ends[1]
		})
		s.check(waited > 0 && apart > 60, "the partitions were read alike, at most %d s apart: nothing is shown", apart)
		s.check(s.view().DeadLetters[tooLate] == 0, "too late: %v", s.view().DeadLetters)
		s.history.add("script", "at most %d s apart", apart)
		s.moveOn(s.now())
		s.settle()
	})
}

// History that is written anew has new Kafka times: it is no slow device. While one partition has come to the present,
// the other's five hours are read, and nothing of them is too late.
func TestCopiedHistoryIsNoSlowDevice(t *testing.T) {
	schedule(t, Options{Tune: func(c *config.Config) {
		c.Session.Retention = 10 * time.Minute
		c.Rules.Clock.Slack = 5 * time.Second
		c.Rules.Clock.LeaveOut = 24 * time.Hour
	}}, func(s *stage) {
		release := s.hold()
		now := s.now()
		old := now.Add(-5 * time.Hour)
		for i := range 300 {
			at := old.Add(time.Duration(i) * time.Minute)
			s.send(ev{part: 0, sid: fmt.Sprint("old-", i), at: at, kafka: now, size: 2000},
				ev{part: 1, sid: fmt.Sprint("here-", i), at: at, kafka: now})
		}
		s.send(ev{part: 1, sid: "present", at: now, kafka: now})
		release()
		s.applied()
		s.check(s.view().DeadLetters[tooLate] == 0, "too late: %v", s.view().DeadLetters)
		s.moveOn(s.now())
		s.settle()
	})
}

// A partition that cannot be read while another is live: after rules.clock.leave_out the sessions of the other close in
// time, and what the partition holds is not too late when it comes back, longer after than the retention is.
func TestAbsentPartitionHoldsNobody(t *testing.T) {
	const out = 20 * time.Second
	schedule(t, Options{Tune: func(c *config.Config) {
		c.Session.Retention = 6 * time.Minute
		c.Rules.Clock.LeaveOut, c.Rules.Clock.Slack = out, 5*time.Second
	}}, func(s *stage) {
		for i := range s.members { // a client that gets an error at once asks again at once
			s.net.Delay("broker", nodeName(i), 50*time.Millisecond, 0)
		}
		at := s.now()
		s.send(ev{part: 0, sid: "away", at: at}, ev{part: 1, sid: "first", at: at})
		s.applied()
		fault := s.broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets}, Topic: topic,
			Partitions: []int32{0}, Err: kerr.KafkaStorageError, Count: -1})
		s.sleep(100 * time.Millisecond)
		for i := range 42 { // seven minutes
			now := s.now()
			sid := fmt.Sprint("live-", i)
			s.send(ev{part: 0, sid: fmt.Sprint("away-", i), at: now}, ev{part: 1, sid: sid, at: now},
				ev{part: 1, sid: sid, at: now, typ: "session_end"})
			s.sleep(10 * time.Second)
			if i == 20 {
				s.leading(0).restart() // a new leader does not begin to wait anew
			}
		}
		v := s.view()
		s.check(v.Clock >= s.now().Unix()-60, "the clock is %d s behind", s.now().Unix()-v.Clock)
		s.check(v.Horizon <= at.Unix()-6*60+2, "the horizon is %d s past what the partition can still deliver",
			v.Horizon-at.Unix()+6*60)
		click, _ := s.rows("live-20")
		s.check(len(click) == 1 && click[0].status == "closed", "a live session: %+v", click)
		fault.Remove()
		s.applied()
		s.check(s.view().DeadLetters[tooLate] == 0, "too late: %v", s.view().DeadLetters)
		for _, i := range []int{0, 20, 41} {
			sid := fmt.Sprint("away-", i)
			s.await(3*time.Minute, sid, func() bool {
				click, dlt := s.rows(sid)
				return len(click) == 1 && len(dlt) == 1 && click[0].events == 1 && click[0].status == "expired"
			})
		}
		s.await(3*time.Minute, "the partition takes part again", func() bool {
			v := s.view()
			return !v.Partitions[0].Out && !v.Partitions[1].Out
		})
		s.settle()
	})
}
