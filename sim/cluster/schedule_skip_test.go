package cluster

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"deckle/node/status"
	"deckle/schema/level"
	"deckle/state"
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

// Raw events that no buffer has cannot be fetched again: the log begins behind them, or a byte of their batch is
// flipped. The table events of the shard waits, and only that. The text of its condition names the command with the
// offsets; carried out as it is, through a node that does not lead, it lets the rest go on. The leader loses power just
// afterwards, then all nodes do: what was given up is not forgotten. The rest is there once (I7 at every look), and the
// table says which rows it lacks, so that the comparison with the truth knows them.
func TestLostRawEventsAreGivenUp(t *testing.T) {
	for name, lose := range map[string]func(s *stage){
		"trimmed":      func(s *stage) { s.must(s.broker.DeleteRecords(topic, 0, 3)) },
		"flipped byte": func(s *stage) { s.broken.Spoil(0, 2, damages[1].do) },
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			schedule(t, Options{}, func(s *stage) {
				at := s.now()
				s.await(2*time.Minute, "level 2", func() bool { return s.view().Level >= level.Real })
				s.send(ev{sid: "held", at: at})
				s.flushed()
				up := s.storeDown()
				for i := range 5 { // a batch each
					s.send(ev{sid: "held", at: at.Add(time.Duration(i+1) * time.Second)})
				}
				s.send(ev{part: 1, sid: "kept", at: at})
				s.flushed(state.SinkClickHouse)
				lead := s.leading(0)
				back := lead.kill(100) // its buffer is lost with it
				lose(s)
				s.await(time.Minute, "another leader", func() bool {
					m, _ := s.leaderNow(0)
					return m != nil && m != lead
				})
				up()
				cmd := s.advice()
				cmd.Reason = "test"
				s.check(cmd.Partition == 0 && cmd.To == 3 && (cmd.From == 1 || cmd.From == 2), "advice %+v", cmd)
				for what, no := range map[string]status.Command{
					"acknowledged":         {Sink: "events", From: 0, To: 3},
					"not read yet":         {Sink: "events", From: 1, To: 9},
					"nothing":              {Sink: "events", From: 2, To: 2},
					"an unknown partition": {Sink: "events", Partition: 7, From: 1, To: 3},
					"another sink":         {Sink: "sessions", From: 1, To: 3},
				} {
					_, err := s.leading(0).current().node.Command(s.ctx, no)
					s.check(errors.Is(err, status.ErrRefused), "%s: %v", what, err)
				}
				lead = s.leading(0)
				give := func(want int64) {
					for _, m := range s.members {
						if inc := m.current(); inc != nil && m != lead {
							out, err := inc.node.Command(s.ctx, cmd)
							s.must(err)
							s.check(out.Skipped == want && out.Next == 3, "outcome %+v, want %d", out, want)
							return
						}
					}
				}
				back()
				s.await(time.Minute, "all nodes run", func() bool { // none is ready while a sink has stopped
					return !slices.ContainsFunc(s.members, func(m *member) bool { return m.store(0) == nil })
				})
				s.sleep(10 * time.Second) // the leadership may go back
				s.advice()
				lead = s.leading(0)
				up = s.storeDown() // what is given up waits for it
				give(cmd.To - cmd.From)
				give(0)
				closed := s.view().LastClosed
				s.send(ev{part: 1, sid: "kept", at: at.Add(time.Second)})
				s.await(time.Minute, "a checkpoint", func() bool { return s.view().LastClosed > closed })
				again := lead.kill(0)
				s.await(2*time.Minute, "another leader", func() bool {
					m, _ := s.leaderNow(0)
					return m != nil && m != lead
				})
				again()
				s.cutPower(30)()
				s.leading(0)
				up()
				s.ready()
				s.flushed()
				rows := 8 - int(cmd.To-cmd.From)
				s.check(s.eventRows() == rows, "table events has %d rows, not %d", s.eventRows(), rows)
				lead = s.leading(0)
				give(0) // a repetition changes nothing, also after it has been passed
				g := s.view().EventGaps[0]
				s.check(g.Count == 1 && g.Offsets == cmd.To-cmd.From && g.Last[0].From == cmd.From &&
					g.Last[0].Reason == "test" && len(s.view().Gaps) == 0, "gaps %+v", g)
				s.send(ev{sid: "held", at: at.Add(6 * time.Second), typ: "session_end"},
					ev{part: 1, sid: "kept", at: at.Add(time.Second), typ: "session_end"})
				s.want("held", row{"0/0", "closed", 6, 0, at.Unix(), at.Unix() + 5, ""})
				s.want("kept", row{"1/0", "closed", 2, 0, at.Unix(), at.Unix() + 1, ""})
				sum := s.settle()
				st := s.status()
				s.check(s.view().Applied == sum.Produced && len(st.Failing)+len(st.Stopped) == 0,
					"%d of %d applied; failing %v, stopped %v", s.view().Applied, sum.Produced, st.Failing, st.Stopped)
			})
		})
	}
}

// advice waits until the condition of the raw events names the command that gives up what they wait for, and returns
// it.
func (s *stage) advice() (c status.Command) {
	s.await(5*time.Minute, "raw events wait for what Kafka cannot give", func() bool {
		st := s.status()
		all := advised(&st)
		if len(all) > 0 {
			c = all[0]
		}
		return len(all) > 0
	})
	return c
}
