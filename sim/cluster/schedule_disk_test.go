package cluster

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"deckle/node/config"
	"deckle/node/status"
	"deckle/state"
)

// closedSession sends a session of a few KiB that ends at once.
func (s *stage) closedSession(sid string, p int32) {
	at := s.now()
	s.send(ev{part: p, sid: sid, at: at, size: 3000}, ev{part: p, sid: sid, at: at, size: 3000, typ: "navigation"},
		ev{part: p, sid: sid, at: at, typ: "session_end"})
}

// smallDisk is a budget of a few MiB, far below what the retention would hold.
var smallDisk = Options{
	Tune:      func(c *config.Config) { c.Session.Retention = 6 * time.Hour },
	DiskBytes: 2 << 20, LogBytes: 64 << 10, CheckpointBytes: 64 << 10,
}

// A sink is down, and closed sessions that it does not have yet fill the disk: intake pauses; the horizon stays,
// because moving it would free nothing; nothing is dropped. When the sink is back, what every sink has is freed
// (superseded images are, and if that is not enough, the horizon is forced up: TestHorizonIsForced), and intake
// resumes.
func TestDiskFullOfClosedSessions(t *testing.T) {
	for _, c := range []struct {
		name string
		down func(s *stage) func()
	}{
		{"delta", (*stage).storeDown},
		{"clickhouse", (*stage).clickDown},
	} {
		t.Run(c.name, func(t *testing.T) {
			schedule(t, smallDisk, func(s *stage) {
				s.closedSession("first", 0)
				s.closedSession("first-1", 1)
				s.flushed()
				up := c.down(s)
				n := 0
				var st, then status.Shard
				for n < 2000 {
					s.closedSession(fmt.Sprint("s-", n), int32(n)%2)
					s.sleep(100 * time.Millisecond)
					if n++; s.status().Paused == "" {
						continue
					}
					s.sleep(3 * time.Second) // until nothing is in flight
					st = s.status()
					s.sleep(30 * time.Second)
					if then = s.status(); st.Paused != "" && then.Paused != "" &&
						then.State.Applied == st.State.Applied && s.next(0) < s.ends[0] {
						break // no compaction makes room any more
					}
				}
				v := then.State
				s.check(strings.HasPrefix(st.Paused, "disk: the data folder holds") && n < 2000,
					"paused for %q after %d sessions", st.Paused, n)
				s.check(s.logged("the horizon is forced up") == 0 && v.LiveSessions*3 >= v.Applied,
					"the horizon was forced, or sessions were dropped: %d live, %d sent", v.LiveSessions, n)
				up()
				s.await(10*time.Minute, "intake resumes", func() bool { return s.status().Paused == "" })
				s.applied()
				s.settle()
				s.check(s.view().DeadLetters[tooLate] == 0, "too late: %v", s.view().DeadLetters)
				s.history.add("script", "%d sessions; the fullest folder: %s", n, st.Paused)
			})
		})
	}
}

// All sinks are up, and the retention would hold more than the disk: the horizon is forced up, never past the clock
// less timeout and grace, so that open sessions live on. Records before it become dead letters, too_late.
func TestHorizonIsForced(t *testing.T) {
	schedule(t, smallDisk, func(s *stage) {
		at := s.now()
		s.send(ev{sid: "old", at: at}, ev{part: 1, sid: "open", at: at}, ev{sid: "old", at: at, typ: "session_end"})
		n := 0
		for ; s.view().Horizon <= at.Unix() && n < 8000; n++ { // the first steps free only what was superseded
			s.closedSession(fmt.Sprint("s-", n), int32(n)%2)
			if n%20 == 0 {
				s.send(ev{part: 1, sid: "open", at: s.now()})
			}
			s.sleep(100 * time.Millisecond)
		}
		var worst int64
		for range 150 {
			s.closedSession(fmt.Sprint("s-", n), int32(n)%2)
			if n++; n%20 == 0 {
				s.send(ev{part: 1, sid: "open", at: s.now()})
			}
			s.sleep(100 * time.Millisecond)
			if v := s.view(); v.Clock > 0 {
				worst = max(worst, v.Horizon-(v.Clock-22))
			}
		}
		s.check(worst <= 0, "the horizon was %d s past the clock less timeout and grace", worst)
		s.await(10*time.Minute, "intake runs", func() bool { return s.status().Paused == "" })
		v := s.view()
		s.check(v.Horizon > v.Clock-int64(6*time.Hour/time.Second), "the horizon was not forced: %d, clock %d",
			v.Horizon, v.Clock)
		s.check(v.DeadLetters[tooLate] == 0, "too late: %v", v.DeadLetters)
		if v.Horizon > at.Unix() {
			pos := s.send(ev{sid: "old", at: at, kafka: s.now(), dead: "too_late"})[0]
			s.flushed()
			s.await(time.Minute, "the dead letter", func() bool { return s.letters()[pos] == "too_late" })
		} else {
			s.check(false, "the horizon %d has not passed the first session, of %d", v.Horizon, at.Unix())
		}
		click, _ := s.rows("open")
		s.check(len(click) == 1 && click[0].origin == "1/0" && click[0].events > 10, "the open session: %+v", click)
	})
}

// All nodes lose power at once, for the first time after the cluster was formed, and nothing survives that was not
// synced: it is the same cluster afterwards, and nothing that was acknowledged is lost.
func TestFirstPowerCut(t *testing.T) {
	schedule(t, Options{}, func(s *stage) {
		id := s.clusterID()
		for i := range 3 {
			release := s.cutPower(0)
			s.sleep(time.Second)
			release()
			s.ready()
			s.check(s.clusterID() == id, "after loss %d of power it is cluster %s, it was %s", i, s.clusterID(), id)
			s.closedSession(fmt.Sprint("s-", i), int32(i)%2)
			s.applied()
		}
		s.settle()
	})
}

// clusterID returns the id that all nodes agree on.
func (s *stage) clusterID() string {
	ids := map[string]bool{}
	for _, m := range s.members {
		ids[m.current().node.Status().ClusterID] = true
	}
	s.check(len(ids) == 1 && !ids[""], "the nodes are of the clusters %v", ids)
	for id := range ids {
		return id
	}
	return ""
}

// All nodes lose power while the cluster is being formed, at the n-th write of one of them: it is formed afterwards,
// as one cluster, and stays the same from then on.
func TestPowerCutWhileForming(t *testing.T) {
	for i, n := range []int{1, 2, 3, 5, 8, 10, 12, 15, 18, 22, 26, 32, 40, 55} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var hit atomic.Bool
			var waiting sync.WaitGroup
			forming := func(w *World) {
				w.members[i%3].disk.crashAfter(n, func() {
					hit.Store(true)
					w.history.fault("power", "at write %d of %s", n, nodeName(i%3))
					var all []func()
					for _, m := range w.members {
						all = append(all, m.kill(0))
					}
					waiting.Go(func() {
						time.Sleep(time.Second)
						for _, release := range all {
							release()
						}
					})
				})
			}
			schedule(t, Options{Forming: forming, Seed: uint64(n)}, func(s *stage) {
				waiting.Wait()
				s.ready()
				id := s.clusterID()
				s.closedSession("a", 0)
				s.closedSession("b", 1)
				s.applied()
				release := s.cutPower(0)
				s.sleep(time.Second)
				release()
				s.ready()
				s.check(s.clusterID() == id, "it is cluster %s, it was %s", s.clusterID(), id)
				s.settle()
				s.check(hit.Load(), "nobody made %d writes", n)
			})
		})
	}
}

// All nodes are down for two hours with many open sessions. When they return, the first events move the clock by two
// hours, and all timers are due at once: a bounded number of them fires per entry, under one leader, in bounded
// memory, and every session is right in the end.
func TestTwoHoursDownManyTimers(t *testing.T) {
	const sessions, memory, checkpoint = 20_000, 4 << 20, 2 << 20
	schedule(t, Options{
		Tune: func(c *config.Config) {
			halfHour(c)
			c.Limits.SessionMemoryBytes = memory
			c.Flush.Interval = 10 * time.Second
		},
		LogBytes: 8 << 20, CheckpointBytes: checkpoint, Looks: 20 * time.Minute,
	}, func(s *stage) {
		at := s.now()
		for i := 0; i < sessions; i += 1000 {
			var evs []ev
			for j := range 1000 {
				evs = append(evs, ev{part: int32(j % 2), sid: fmt.Sprint("t-", i+j), at: at})
			}
			s.send(evs...)
		}
		s.flushed(state.SinkClickHouse, state.SinkEvents)
		s.check(s.view().OpenStatus == sessions, "%d sessions are open", s.view().OpenStatus)
		release := s.cutPower(0)
		s.sleep(2 * time.Hour)
		release()
		s.ready()
		s.sleep(15 * time.Second) // the preferred node leads again
		_, st := s.leaderNow(0)
		s.moveOn(s.now())
		var worst float64
		var most int64
		last := s.view()
		s.await(5*time.Minute, "all have expired", func() bool {
			v := s.view()
			if v.Index > last.Index {
				worst = max(worst, float64(last.OpenStatus-v.OpenStatus)/float64(v.Index-last.Index))
			}
			most, last = max(most, v.MemoryBytes), v
			return v.OpenStatus <= 2
		})
		s.check(worst > 0 && worst <= 5000, "%.0f timers fired an entry, 5000 are allowed", worst)
		// A Cut entry is proposed at one and a half times the budget; meanwhile one more entry may fire its timers.
		s.check(most > memory/2 && most <= memory*3/2+5000*1000, "sessions took %d bytes of memory", most)
		sum := s.settle()
		_, now := s.leaderNow(0)
		s.check(now.Term == st.Term, "leadership went from term %d to %d", st.Term, now.Term)
		s.check(sum.Sessions == sessions+2, "%d sessions", sum.Sessions)
	})
}
