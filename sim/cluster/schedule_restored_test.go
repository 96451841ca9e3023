package cluster

import (
	"strings"
	"testing"
	"time"

	"deckle/node/status"
	"deckle/schema/level"
)

// A broker is restored from a backup: offsets that were read come again, with other records. That partition stops
// before any of them counts, and it alone, whether the nodes run meanwhile or start afterwards. The next leader
// finds the same. If the log is put back, the partition goes on by itself, and every record counts once.
func TestBrokerRestored(t *testing.T) {
	for _, down := range []bool{false, true} {
		t.Run(map[bool]string{false: "while nodes run", true: "while all are down"}[down], func(t *testing.T) {
			schedule(t, Options{BrokerDir: t.TempDir()}, func(s *stage) {
				at := s.restored(down)
				why := s.stopped(partName(0))
				s.check(strings.Contains(why, "another record stands at offset 4") &&
					strings.Contains(why, "skip --partition 0 --to 5"), "partition 0 stopped: %s", why)
				lead := s.leading(0)
				back := lead.kill(100)
				s.await(time.Minute, "another leader", func() bool {
					m, _ := s.leaderNow(0)
					return m != nil && m != lead
				})
				s.stopped(partName(0))
				back()
				s.sleep(time.Minute)
				s.check(s.next(0) == 5 && len(s.status().Stopped) == 1, "partition 0 is at %d, stopped %v", s.next(0),
					s.status().Stopped)
				s.must(s.putBack())
				s.connect()
				s.goesOn(0)
				s.send(ev{sid: "old", at: at.Add(5 * time.Second)},
					ev{sid: "old", at: at.Add(5 * time.Second), typ: "session_end"})
				s.send(ev{part: 1, sid: "other", at: at, typ: "session_end"})
				// It had expired meanwhile: the partition held nobody up.
				s.want("old", row{"0/0", "closed", 6, 1, at.Unix(), at.Unix() + 5, ""})
				sum := s.settle()
				st := s.status()
				s.check(s.view().Applied == sum.Produced && len(st.Failing)+len(st.Stopped) == 0,
					"%d of %d applied; failing %v, stopped %v", s.view().Applied, sum.Produced, st.Failing, st.Stopped)
			})
		})
	}
}

// An operator takes the restored log as it is. The partition goes on behind what was read, and is not stopped again,
// neither by this leader nor by the next one.
func TestRestoredLogIsAccepted(t *testing.T) {
	schedule(t, Options{BrokerDir: t.TempDir()}, func(s *stage) {
		s.restored(false)
		s.must(s.writeOthers(s.ctx, 1, 1, 3))
		s.stopped(partName(0))
		s.await(2*time.Minute, "the other partition", func() bool { return s.next(1) == 3 })
		// To try again finds the same.
		s.command(status.Command{Partition: 0, Resume: true})
		s.sleep(5 * time.Second)
		s.stopped(partName(0))
		s.command(status.Command{Partition: 0, From: 5, To: 5, Reason: "restored"})
		s.await(2*time.Minute, "what follows is read", func() bool { return s.next(0) == 8 })
		lead := s.leading(0)
		defer lead.kill(100)()
		s.await(time.Minute, "another leader", func() bool {
			m, _ := s.leaderNow(0)
			return m != nil && m != lead
		})
		s.must(s.writeOthers(s.ctx, 0, 8, 10))
		s.await(2*time.Minute, "the next leader goes on", func() bool { return s.next(0) == 10 })
		s.check(len(s.status().Stopped) == 0, "stopped: %v", s.status().Stopped)
	})
}

// A restored log that ends before what was read stops the partition, and is never read from its end or its beginning
// instead. Once it has grown past that offset, to try again finds that it is another log.
func TestRestoredLogIsShort(t *testing.T) {
	schedule(t, Options{BrokerDir: t.TempDir()}, func(s *stage) {
		at := s.now()
		s.await(2*time.Minute, "level 2", func() bool { return s.view().Level >= level.Real })
		s.send(ev{sid: "old", at: at}, ev{part: 1, sid: "other", at: at})
		s.flushed()
		s.must(s.backup())
		s.connect()
		s.send(ev{sid: "old", at: at.Add(time.Second)}, ev{sid: "old", at: at.Add(2 * time.Second)})
		s.flushed()
		s.must(s.restore())
		why := s.stopped(partName(0))
		s.check(strings.Contains(why, "skip --partition 0"), "stopped: %s", why)
		s.sleep(30 * time.Second)
		s.check(s.next(0) == 3, "partition 0 is at %d", s.next(0))
		s.must(s.writeOthers(s.ctx, 0, 1, 5))
		// By itself it never goes on: the next offset can be read now, but the last record is another one.
		s.sleep(20 * time.Minute)
		s.check(s.next(0) == 3 && s.stopped(partName(0)) != "", "partition 0 is at %d", s.next(0))
		s.command(status.Command{Partition: 0, Resume: true})
		s.sleep(5 * time.Second)
		why = s.stopped(partName(0))
		s.check(strings.Contains(why, "another record") && s.next(0) == 3, "partition 0 is at %d, stopped: %s",
			s.next(0), why)
	})
}

// restored sends five records to partition 0, of which the backup has three, and restores that, with others from then
// on up to offset 8. Partition 1 has one record, before the backup.
func (s *stage) restored(down bool) (at time.Time) {
	at = s.now()
	s.await(2*time.Minute, "level 2", func() bool { return s.view().Level >= level.Real })
	for i := range 3 {
		s.send(ev{sid: "old", at: at.Add(time.Duration(i) * time.Second)})
	}
	s.send(ev{part: 1, sid: "other", at: at})
	s.flushed()
	s.must(s.backup())
	s.connect()
	s.send(ev{sid: "old", at: at.Add(3 * time.Second)}, ev{sid: "old", at: at.Add(4 * time.Second)})
	s.flushed()
	var release func()
	if down {
		release = s.cutPower(100)
	} else {
		release = s.cutFrom([]string{nodeName(0), nodeName(1), nodeName(2)}, "broker")
	}
	s.must(s.restore())
	s.must(s.writeOthers(s.ctx, 0, 3, 8))
	release()
	return at
}

// goesOn waits until a partition that has stopped is read again. Nobody commands it.
func (s *stage) goesOn(partition int32) {
	s.await(10*time.Minute, partName(partition)+" goes on", func() bool {
		st := s.status()
		return st.IsLeader && st.Stopped[partName(partition)] == ""
	})
}

// command gives a command to the leader of the shard.
func (s *stage) command(c status.Command) {
	_, err := s.leading(0).current().node.Command(s.ctx, c)
	s.must(err)
}
