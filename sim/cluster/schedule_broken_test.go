package cluster

import (
	"strings"
	"testing"
	"time"
)

// A batch of one partition cannot be read: what lies before it is applied, the other partition goes on at full speed,
// also under another leader, and the cluster stays ready, for nothing is to be done here. Once the broker is mended the
// partition goes on by itself, and every record counts once.
func TestPartitionThatCannotBeRead(t *testing.T) {
	for _, d := range damages {
		t.Run(strings.ReplaceAll(d.name, " ", "_"), func(t *testing.T) {
			schedule(t, Options{}, func(s *stage) {
				at := s.now()
				s.send(ev{sid: "held", at: at})
				s.flushed()
				release := s.hold()
				s.sleep(2 * time.Second) // the fetches under way are answered without records
				for i := range 5 {       // a batch each
					s.send(ev{sid: "held", at: at.Add(time.Duration(i+1) * time.Second)})
				}
				s.broken.Spoil(0, 3, d.do)
				release()
				s.await(2*time.Minute, "what lies before it", func() bool { return s.next(0) == 3 })
				failing := func() bool {
					why := s.status().Failing[partName(0)]
					return strings.Contains(why, "offset 3: ")
				}
				s.await(2*time.Minute, "the partition fails", failing)
				resyncs := s.logged("intake begins again")
				for i := range 20 {
					s.send(ev{part: 1, sid: "goes-on", at: at.Add(time.Duration(i) * time.Second)})
					s.await(2*time.Second, "the other partition", func() bool { return s.next(1) == int64(i)+1 })
				}
				s.check(s.logged("intake begins again") == resyncs, "the intake of the whole shard begins again")
				s.check(s.next(0) == 3 && s.allReady(), "partition 0 is at %d, ready %v", s.next(0), s.allReady())
				lead := s.leading(0)
				back := lead.kill(100)
				s.await(time.Minute, "another leader", func() bool {
					m, _ := s.leaderNow(0)
					return m != nil && m != lead
				})
				s.await(2*time.Minute, "the partition fails there, too", failing)
				s.send(ev{part: 1, sid: "goes-on", at: at.Add(20 * time.Second), typ: "session_end"})
				s.await(10*time.Second, "the other partition", func() bool { return s.next(1) == 21 })
				back()
				s.broken.Mend(0)
				s.await(2*time.Minute, "the partition goes on by itself", func() bool { return s.next(0) == 6 })
				s.send(ev{sid: "held", at: at.Add(6 * time.Second), typ: "session_end"})
				s.want("held", row{"0/0", "closed", 6, 0, at.Unix(), at.Unix() + 5, ""})
				s.want("goes-on", row{"1/0", "closed", 20, 0, at.Unix(), at.Unix() + 19, ""})
				sum := s.settle()
				st := s.status()
				s.check(s.view().Applied == sum.Produced && len(st.Failing)+len(st.Stopped) == 0,
					"%d of %d applied; failing %v", s.view().Applied, sum.Produced, st.Failing)
			})
		})
	}
}
