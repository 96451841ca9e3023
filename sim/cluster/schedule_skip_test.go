package cluster

import (
	"strings"
	"testing"
	"time"

	"deckle/node/status"
	"deckle/schema/level"
)

// A batch that is never mended is given up, through a node that does not lead: the partition goes on behind it. The
// leader loses power just afterwards, then all nodes do: gap and next offset stay together (I1 at every look), and the
// raw events, which have to be fetched again around the gap, have the rest.
func TestBadBatchIsGivenUp(t *testing.T) {
	schedule(t, Options{}, func(s *stage) {
		at := s.now()
		s.await(2*time.Minute, "level 2", func() bool { return s.view().Level >= level.Real })
		s.send(ev{sid: "held", at: at})
		s.flushed()
		release := s.hold()
		s.sleep(2 * time.Second) // the fetches under way are answered without records
		for i := range 2 {
			s.send(ev{sid: "held", at: at.Add(time.Duration(i+1) * time.Second)})
		}
		lost := s.record(&ev{sid: "lost", at: at}) // the truth does not know it
		s.must(s.cl.ProduceSync(s.ctx, lost).FirstErr())
		for i := range 3 {
			s.send(ev{sid: "held", at: at.Add(time.Duration(i+3) * time.Second)})
		}
		s.broken.Spoil(0, lost.Offset, damages[1].do)
		release()
		s.await(2*time.Minute, "the partition fails", func() bool {
			return strings.Contains(s.status().Failing[partName(0)], "offset 3: ")
		})
		lead := s.leading(0)
		cmd := status.Command{Partition: 0, From: 3, To: 4, Reason: "flipped bit"}
		for _, m := range s.members {
			if m != lead {
				_, err := m.current().node.Command(s.ctx, cmd)
				s.must(err)
				break
			}
		}
		back := lead.kill(0)
		s.await(time.Minute, "another leader", func() bool {
			m, _ := s.leaderNow(0)
			return m != nil && m != lead
		})
		s.await(2*time.Minute, "what lies behind it", func() bool { return s.next(0) == 7 })
		back()
		s.ready()
		s.cutPower(30)()
		s.ready()
		g := s.view().Gaps[0]
		s.check(g.Count == 1 && g.Offsets == 1 && g.Last[0].From == 3 && g.Last[0].Reason == "flipped bit",
			"gaps %+v", g)
		s.send(ev{sid: "held", at: at.Add(6 * time.Second), typ: "session_end"})
		s.want("held", row{"0/0", "closed", 6, 0, at.Unix(), at.Unix() + 5, ""})
		sum := s.settle()
		st := s.status()
		s.check(s.view().Applied == sum.Produced && len(st.Failing)+len(st.Stopped) == 0,
			"%d of %d applied; failing %v, stopped %v", s.view().Applied, sum.Produced, st.Failing, st.Stopped)
	})
}
