package cluster

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// another waits until a member other than m leads in a later term.
func (s *stage) another(m *member, term uint64) {
	s.await(time.Minute, "another leader", func() bool {
		lead, st := s.leaderNow(0)
		return lead != nil && lead != m && st.Term > term
	})
}

// allApplied settles, and checks that every record that was sent counts once.
func (s *stage) allApplied(sessions int) {
	sum := s.settle()
	v := s.view()
	s.check(v.Applied == sum.Produced && v.Duplicates == 0 && len(v.DeadLetters) == 0 &&
		sum.Produced == int64(3*sessions) && s.eventRows() == 3*sessions,
		"%d sessions, %d records sent: %d applied, %d duplicates, dead letters %v, %d rows of events", sessions,
		sum.Produced, v.Applied, v.Duplicates,
		v.DeadLetters, s.eventRows())
}

// A leader is paused past its lease with entries in flight; the new leader goes on, and the old one resumes and sends
// what it still had to send: nothing is doubled and nothing is skipped.
func TestDeposedLeadersLeftovers(t *testing.T) {
	schedule(t, Options{}, func(s *stage) {
		stop := s.produce(60 * time.Millisecond)
		for range 3 {
			s.sleep(3 * time.Second)
			lead, st := s.leaderNow(0)
			resume := lead.pause()
			s.another(lead, st.Term)
			before := s.view().Applied
			s.sleep(5 * time.Second)
			s.check(s.view().Applied > before+60, "the new leader does not go on: %d records, then %d", before,
				s.view().Applied)
			resume()
			s.await(30*time.Second, "the old leader follows", func() bool {
				v := lead.store(0).View()
				return v.Term > st.Term && v.Applied > before
			})
		}
		s.check(s.logged("clearing log suffix") > 0, "no leader had anything in flight that another replaced")
		s.allApplied(stop())
	})
}

// A leader whose disk takes longer than the deadline steps down, although what it was writing may still become
// durable, and may be committed: the next offsets are read from the applied state.
func TestApplyThatTimedOutMayBeCommitted(t *testing.T) {
	schedule(t, Options{}, func(s *stage) {
		stop := s.produce(60 * time.Millisecond)
		for range 2 {
			s.sleep(3 * time.Second)
			lead, st := s.leaderNow(0)
			lead.disk.set(func(d *disk) { d.syncs = 3 * time.Second })
			s.another(lead, st.Term)
			before := s.view().Applied
			s.sleep(5 * time.Second)
			s.check(s.view().Applied > before+60, "the new leader does not go on: %d records, then %d", before,
				s.view().Applied)
			lead.disk.set(func(d *disk) { d.syncs = 0 })
			s.ready()
		}
		s.check(s.logged("the disk took longer than the store deadline") > 0, "no leader has met the deadline")
		s.allApplied(stop())
	})
}

// A leader that is cut off from the others goes on reading and proposing until its lease ends. What it has proposed is
// replaced by what the next leader proposes, and the offsets are taken once.
func TestIsolatedLeadersEntriesAreReplaced(t *testing.T) {
	schedule(t, Options{}, func(s *stage) {
		stop := s.produce(60 * time.Millisecond)
		for i := range 3 {
			s.sleep(3 * time.Second)
			lead, st := s.leaderNow(0)
			heal := s.cutAll(lead.index, true, i%2 == 0) // both ways, and outgoing alone
			s.another(lead, st.Term)
			s.sleep(5 * time.Second)
			heal()
			s.await(30*time.Second, "the old leader follows",
				func() bool { return lead.store(0).View().Term > st.Term })
		}
		s.check(s.logged("clearing log suffix") > 0, "no leader had proposed anything that another replaced")
		s.allApplied(stop())
	})
}

// A leader's node is lost and comes back with an empty disk, while its former process lives on elsewhere, with
// everything that it knew: it is no longer a member. The others refuse it, and what it had begun to write changes
// nothing.
func TestFormerIncarnationIsRefused(t *testing.T) {
	schedule(t, Options{}, func(s *stage) {
		stop := s.produce(100 * time.Millisecond)
		s.sleep(3 * time.Second)
		lead, st := s.leaderNow(0)
		was := lead.current()
		// Its next commits reach the store half a minute later, long after others have made the same commits.
		s.objects.script(func(g *gate, key string) fate {
			if g == was.gate && strings.Contains(key, "_delta_log") {
				return fate{late: 30 * time.Second}
			}
			return fate{}
		})
		s.sleep(2 * time.Second)
		s.oneDisk.Lock() // what it acknowledged is on its former disk
		former := lead.leave()
		s.check(former == was, "another process was led away")
		s.another(lead, st.Term)
		s.ready()
		s.oneDisk.Unlock()
		s.sleep(10 * time.Second)
		_, now := s.leaderNow(0)
		indexBefore := former.node.Store(0).View().Index
		for _, m := range s.members {
			s.net.Heal(former.host+"-former", m.name)
		}
		s.sleep(40 * time.Second)
		_, then := s.leaderNow(0)
		s.check(then.Term == now.Term && then.IsLeader, "the former process has brought the term from %d to %d",
			now.Term, then.Term)
		fst := former.node.Status()
		s.check(!fst.Ready && !slices.ContainsFunc(fst.Shards, isLeader), "the former process is ready: %v, leads %+v",
			fst.Ready, fst.Shards)
		s.check(former.node.Store(0).View().Index == indexBefore, "the former process follows from %d to %d",
			indexBefore, former.node.Store(0).View().Index)
		former.gate.kill()
		s.bury(former)
		s.objects.script(nil)
		s.allApplied(stop())
		s.noFileDeleted()
	})
}
