package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/node/config"
	"deckle/state"
)

// halfHour are the rules of the publisher: sessions end after half an hour, and are forgotten after six.
func halfHour(c *config.Config) {
	c.Session = config.Session{IdleTimeout: 30 * time.Minute, Grace: 30 * time.Second, Retention: 6 * time.Hour}
}

// hold cuts every node from the broker until the returned function is called: what is sent meanwhile is a backlog.
func (s *stage) hold() func() {
	return s.cutFrom([]string{nodeName(0), nodeName(1), nodeName(2)}, "broker")
}

// A client whose clock is three days fast, in a backlog that is ten days old, so that the wall clock does not hold the
// shard's clock back: its events are refused if they are more than an hour ahead of their own Kafka timestamp, and
// otherwise move the clock to that timestamp plus five minutes at most. No other session is closed early, nothing is
// too late, and no date is over before its time.
func TestFastClientInOldBacklog(t *testing.T) {
	schedule(t, Options{Tune: halfHour}, func(s *stage) {
		release := s.hold()
		old := s.now().Add(-10 * 24 * time.Hour).Truncate(time.Hour)
		refused := 0
		for i := range 40 { // six and a half hours, an event of each reader every ten minutes
			at := old.Add(time.Duration(i) * 10 * time.Minute)
			for p := range int32(2) {
				s.send(ev{part: p, sid: fmt.Sprint("slow-", p), at: at},
					ev{part: p, sid: fmt.Sprint("days-", i, "-", p), at: at.Add(3 * 24 * time.Hour), kafka: at,
						dead: "bad_timestamp"},
					ev{part: p, sid: fmt.Sprint("fast-", p), at: at.Add(55 * time.Minute), kafka: at},
					ev{part: p, sid: fmt.Sprint("slow-", p), at: at.Add(time.Minute)})
				refused++
			}
		}
		for p := range int32(2) {
			s.send(ev{part: p, sid: fmt.Sprint("slow-", p), at: old.Add(391 * time.Minute), typ: "session_end"})
		}
		release()
		s.applied()
		v := s.view()
		s.check(v.DeadLetters[badTimestamp] == int64(refused) && v.DeadLetters[tooLate] == 0,
			"dead letters %v, want %d bad_timestamp", v.DeadLetters, refused)
		s.check(v.Clock <= old.Add(396*time.Minute).Unix(), "the clock has run ahead to %v",
			time.Unix(v.Clock, 0).UTC())
		for p := range int32(2) {
			s.want(fmt.Sprint("slow-", p), row{fmt.Sprint(p, "/0"), "closed", 80, 0, old.Unix(),
				old.Add(391 * time.Minute).Unix(), ""})
		}
		s.moveOn(old.Add(9 * time.Hour))
		s.settle()
	})
}

// moveOn brings every partition to a time, with a session that ends at once.
func (s *stage) moveOn(to time.Time) {
	for p := range s.opts.Partitions {
		sid := fmt.Sprint("on-", to.Unix(), "-", p)
		s.send(ev{part: p, sid: sid, at: to}, ev{part: p, sid: sid, at: to, typ: "session_end"})
	}
}

// The same for a producer whose Kafka timestamps are three days fast, too. While the stream is followed, the wall
// clock holds it.
func TestFastProducer(t *testing.T) {
	schedule(t, Options{Tune: halfHour}, func(s *stage) {
		began := s.now()
		for range 30 {
			now := s.now()
			for p := range int32(2) {
				s.send(ev{part: p, sid: fmt.Sprint("slow-", p), at: now},
					ev{part: p, sid: fmt.Sprint("fast-", p), at: now.Add(3 * 24 * time.Hour)})
			}
			s.sleep(10 * time.Second)
		}
		s.flushed(state.SinkClickHouse)
		v := s.view()
		s.check(v.Clock <= time.Now().Add(5*time.Minute).Unix() && v.DeadLetters[tooLate] == 0,
			"the clock stands at %v, dead letters %v",
			time.Unix(v.Clock, 0).UTC(), v.DeadLetters)
		for p := range int32(2) {
			click, _ := s.rows(fmt.Sprint("slow-", p))
			want := row{fmt.Sprint(p, "/0"), "open", 30, 0, began.Unix(), began.Unix() + 290, ""}
			s.check(slices.Equal(click, []row{want}), "ClickHouse shows %+v, want %+v", click, want)
		}
	})
}

// A producer whose Kafka timestamps are three days fast, in a backlog: nothing distinguishes it from the others, and
// the shard's clock follows it. Records that are three days behind it are too late: each becomes a dead letter, none
// is lost silently, and what was counted stays. docs/design.md §3, Clock, says how to rule this out.
func TestFastProducerInOldBacklog(t *testing.T) {
	schedule(t, Options{Tune: halfHour}, func(s *stage) {
		release := s.hold()
		old := s.now().Add(-10 * 24 * time.Hour).Truncate(time.Hour)
		late := map[state.Position]bool{}
		for i := range 20 {
			at := old.Add(time.Duration(i) * 10 * time.Minute)
			for p := range int32(2) {
				pos := s.send(ev{part: p, sid: fmt.Sprint("slow-", p), at: at})[0]
				if i >= 10 {
					late[pos] = true
				}
				if i == 9 {
					s.send(ev{part: p, sid: fmt.Sprint("fast-", p), at: at.Add(3 * 24 * time.Hour)})
				}
			}
			if i == 9 {
				release()
				s.applied()
				s.check(s.view().Clock == at.Add(3*24*time.Hour).Unix(), "the clock stands at %v",
					time.Unix(s.view().Clock, 0).UTC())
				release = s.hold()
			}
		}
		release()
		s.flushed()
		s.await(time.Minute, "the dead letters", func() bool { return len(s.letters()) == len(late) })
		for pos, why := range s.letters() {
			s.check(late[pos] && why == "too_late", "the dead letter %v, %s", pos, why)
		}
		for p := range int32(2) {
			s.want(fmt.Sprint("slow-", p), row{fmt.Sprint(p, "/0"), "expired", 10, 0, old.Unix(),
				old.Add(90 * time.Minute).Unix(), ""})
		}
	})
}

// A partition that cannot be fetched while the others are idle: the shard's clock does not run past it, and its
// records are not too late when it is back.
func TestPartitionFailsWhileOthersAreIdle(t *testing.T) {
	for _, c := range []struct {
		name string
		keys []kmsg.Key
		err  *kerr.Error
	}{
		{"fetch", []kmsg.Key{kmsg.Fetch}, kerr.UnknownServerError},
		{"fetch and listing", []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets}, kerr.UnknownServerError},
		// which the client keeps to itself
		{"silently", []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets}, kerr.KafkaStorageError},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			schedule(t, Options{Tune: func(c *config.Config) {
				c.Session.Retention = 2 * time.Minute
				c.Rules.Clock.LeaveOut = 24 * time.Hour // until then it holds the clock
			}},
				func(s *stage) {
					at := s.now()
					s.send(ev{part: 0, sid: "failing", at: at}, ev{part: 1, sid: "idle", at: at})
					s.applied()
					fault := s.broker.Fault(kfake.Fault{Keys: c.keys, Topic: topic, Partitions: []int32{0}, Err: c.err,
						Count: -1})
					s.sleep(100 * time.Millisecond)
					s.send(ev{part: 0, sid: "failing", at: at.Add(10 * time.Second), kafka: at.Add(10 * time.Second)})
					s.sleep(10 * time.Minute)
					v := s.view()
					s.check(v.Clock <= at.Unix()+20, "the clock ran %d s past the partition that fails",
						v.Clock-at.Unix())
					s.check(s.next(0) == 1 && v.OpenStatus == 2, "partition 0 is at %d, %d sessions are open",
						s.next(0),
						v.OpenStatus)
					s.check(len(s.status().Failing) > 0, "the failure is not shown: %+v", s.status())
					fault.Remove()
					s.applied()
					s.want("failing", row{"0/0", "expired", 2, 0, at.Unix(), at.Unix() + 10, ""})
					s.check(s.view().DeadLetters[tooLate] == 0, "too late: %v", s.view().DeadLetters)
					s.settle()
				})
		})
	}
}

// The broker is away while every partition was idle: what it receives meanwhile is not too late when it is back,
// because nobody can know that it has received nothing.
func TestBrokerAwayHoldsTheClock(t *testing.T) {
	schedule(t, Options{Tune: func(c *config.Config) { c.Session.Retention = 2 * time.Minute }}, func(s *stage) {
		at := s.now()
		s.send(ev{part: 0, sid: "a", at: at}, ev{part: 1, sid: "b", at: at})
		s.applied()
		s.await(time.Minute, "all are idle", func() bool {
			v := s.view()
			return v.Partitions[0].Idle && v.Partitions[1].Idle && v.Clock > at.Unix()+2
		})
		release := s.hold()
		s.send(ev{part: 0, sid: "a", at: s.now()})
		then := s.now().Unix()
		s.sleep(10 * time.Minute)
		s.check(s.view().Clock <= then+20, "the clock ran %d s on", s.view().Clock-then)
		release()
		s.applied()
		s.want("a", row{"0/0", "expired", 2, 0, at.Unix(), then, ""})
		s.check(s.view().DeadLetters[tooLate] == 0, "too late: %v", s.view().DeadLetters)
		s.settle()
	})
}

// A bot's session that lives for days: it is capped at 2,000 counted events, further ones are dead letters, move
// neither its end nor its timer and take no room, and its session_end closes it all the same.
func TestBotSession(t *testing.T) {
	schedule(t, Options{Tune: halfHour}, func(s *stage) {
		release := s.hold()
		old := s.now().Add(-10 * 24 * time.Hour).Truncate(time.Hour)
		const n, every = 2300, 90 * time.Second // two days and a half
		var evs []ev
		at := old
		for range n {
			evs = append(evs, ev{sid: "bot", at: at, size: 200},
				ev{part: 1, sid: "bystander", at: at, typ: "navigation"})
			at = at.Add(every)
		}
		s.send(evs[:2*1990]...)
		release()
		s.flushed()
		full := s.view()
		s.send(evs[2*1990:]...)
		s.send(ev{sid: "bot", at: at, typ: "session_end"}, ev{part: 1, sid: "bystander", at: at, typ: "session_end"})
		s.flushed()
		v := s.view()
		s.check(v.DeadLetters[sessionFull] == 600, "dead letters: %v, want 600 session_full", v.DeadLetters)
		s.check(v.MemoryBytes < full.MemoryBytes+64<<10, "memory went from %d to %d bytes", full.MemoryBytes,
			v.MemoryBytes)
		last := old.Add(1999 * every).Unix()
		s.moveOn(at.Add(time.Hour))
		s.settle()
		click, dlt := s.rows("bot")
		s.check(len(click) == 1 && click[0].events == 2000 && click[0].start == old.Unix() && click[0].end == last &&
			click[0].status == "closed",
			"the bot's session: %+v", click)
		s.check(slices.Equal(click, dlt), "ClickHouse shows %+v, Delta %+v", click, dlt)
	})
}
