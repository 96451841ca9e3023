package cluster

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/node/config"
	"deckle/schema"
)

// A late event for a closed session inside the horizon is a revision of the same row; one with the id of a purged
// session opens a new row; one before the horizon is a dead letter.
func TestLateEvent(t *testing.T) {
	schedule(t, Options{Tune: func(c *config.Config) { c.Session.Retention = 5 * time.Minute }}, func(s *stage) {
		at := s.now()
		first := s.send(ev{sid: "late", at: at}, ev{sid: "late", at: at.Add(time.Second)},
			ev{sid: "late", at: at.Add(2 * time.Second), typ: "session_end"})
		s.want("late", row{"0/0", "closed", 2, 0, at.Unix(), at.Unix() + 1, ""})

		s.send(ev{sid: "late", at: at.Add(-time.Minute), kafka: s.now(), brand: "early"})
		want := row{"0/0", "closed", 3, 1, at.Unix() - 60, at.Unix() + 1, "early"}
		s.want("late", want)
		s.check(len(s.letters()) == 0, "dead letters: %v", s.letters())

		s.await(10*time.Minute, "the session is purged", func() bool { return s.view().LiveSessions == 0 })
		again := s.now()
		s.send(ev{part: 0, sid: "late", at: again}, ev{part: 0, sid: "late", at: again, typ: "session_end"})
		s.want("late", want, row{"0/4", "closed", 1, 0, again.Unix(), again.Unix(), ""})

		pos := s.send(ev{sid: "late", at: at.Add(-time.Hour), kafka: s.now()})[0]
		s.flushed()
		s.await(time.Minute, "the dead letter", func() bool { return len(s.letters()) > 0 })
		s.check(len(s.letters()) == 1 && s.letters()[pos] == "too_late", "dead letters: %v, want too_late at %v",
			s.letters(), pos)
		s.want("late", want, row{"0/4", "closed", 1, 0, again.Unix(), again.Unix(), ""})
		s.check(len(first) == 3 && s.eventRows() == 6, "table events has %d rows, want 6", s.eventRows())
	})
}

// Sessions are purged while a sink is down for longer than the retention: it receives their last images nevertheless.
func TestPurgedWhileSinkIsDown(t *testing.T) {
	for _, c := range []struct {
		name string
		down func(s *stage) func()
	}{
		{"delta", (*stage).storeDown},
		{"clickhouse", (*stage).clickDown},
	} {
		t.Run(c.name, func(t *testing.T) {
			schedule(t, Options{Tune: func(c *config.Config) { c.Session.Retention = time.Minute }}, func(s *stage) {
				at := s.now()
				s.send(ev{sid: "before", at: at}, ev{sid: "before", at: at, typ: "session_end"})
				s.want("before", row{"0/0", "closed", 1, 0, at.Unix(), at.Unix(), ""})
				up := c.down(s)
				now := s.now()
				s.send(ev{sid: "before", at: now.Add(-time.Second)}, ev{sid: "within", at: now},
					ev{part: 1, sid: "expires", at: now},
					ev{sid: "within", at: now, typ: "session_end"})
				s.await(10*time.Minute, "all are purged", func() bool { return s.view().LiveSessions == 0 })
				s.sleep(2 * time.Minute)
				click, dlt := s.rows("within")
				s.check(len(click)+len(dlt) == 1, "the sink that is down shows the session: %v, %v", click, dlt)
				up()
				s.want("before", row{"0/0", "closed", 2, 1, at.Unix(), now.Unix() - 1, ""})
				s.want("within", row{"0/3", "closed", 1, 0, now.Unix(), now.Unix(), ""})
				s.want("expires", row{"1/0", "expired", 1, 0, now.Unix(), now.Unix(), ""})
				s.settle()
			})
		})
	}
}

// The dead letter queue takes nothing for longer than the retention: the other sinks go on, and every letter reaches
// it afterwards.
func TestPurgedWhileDeadLetterQueueIsDown(t *testing.T) {
	schedule(t, Options{Tune: func(c *config.Config) { c.Session.Retention = time.Minute }}, func(s *stage) {
		at := s.now()
		s.send(ev{sid: "a", at: at})
		s.await(time.Minute, "there is a clock", func() bool { return s.view().Clock > 0 })
		s.send(ev{sid: "a", at: at.Add(-time.Hour), kafka: at, dead: "too_late"})
		s.flushed()
		before := len(s.letters())
		fault := s.broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic + ".dlq",
			Err: kerr.TopicAuthorizationFailed, Count: -1})
		late := s.send(ev{sid: "a", at: at.Add(-2 * time.Hour), kafka: at, dead: "too_late"},
			ev{part: 1, sid: "b", at: at.Add(2 * time.Hour), kafka: at, dead: "bad_timestamp"})
		s.send(ev{sid: "a", at: s.now(), typ: "session_end"})
		s.await(10*time.Minute, "all are purged", func() bool { return s.view().LiveSessions == 0 })
		s.sleep(time.Minute)
		s.want("a", row{"0/0", "closed", 1, 0, at.Unix(), at.Unix(), ""})
		s.check(len(s.letters()) == before && s.status().Failing["deadletter"] != "", "letters %v, failing %v",
			s.letters(), s.status().Failing)
		fault.Remove()
		s.flushed()
		s.await(time.Minute, "the letters", func() bool { return len(s.letters()) == before+2 })
		got := s.letters()
		s.check(got[late[0]] == "too_late" && got[late[1]] == "bad_timestamp", "letters: %v", got)
	})
}

// A late first event changes a session's dimensions and its date: totals move exactly, and those that are zero are
// hidden.
func TestRollupsMove(t *testing.T) {
	schedule(t, Options{Tune: func(c *config.Config) { c.Session.Retention = 30 * time.Minute }}, func(s *stage) {
		midnight := s.now().Truncate(24 * time.Hour)
		yesterday, today := midnight.Add(-time.Hour).Format(time.DateOnly), midnight.Format(time.DateOnly)
		at := midnight.Add(30 * time.Second)
		s.send(ev{sid: "moves", at: at, brand: "B"}, ev{sid: "stays", at: at, brand: "B"},
			ev{sid: "moves", at: at, typ: "session_end"})
		s.flushed()
		sum := s.total(schema.RollupSummary)
		s.check(len(sum) == 1 && sum[today].Sessions == 2 && sum[today].Views == 2 && sum[today].AvgEvents == 1,
			"session_summary: %+v", sum)

		s.send(ev{sid: "moves", at: midnight.Add(-10 * time.Second), kafka: at, brand: "A"})
		s.flushed()
		sum, brands := s.total(schema.RollupSummary), s.total(schema.RollupBrand)
		s.check(len(sum) == 2 && sum[today].Sessions == 1 && sum[today].Views == 1 && sum[yesterday].Sessions == 1 &&
			sum[yesterday].Views == 2 &&
			sum[yesterday].AvgDuration == 40, "session_summary: %+v", sum)
		s.check(len(brands) == 2 && brands[today+"/B"].Sessions == 1 && brands[yesterday+"/A"].Sessions == 1,
			"brand_analytics: %+v", brands)

		// The other one follows: nothing is left on today, whose total is a zero that no view shows.
		s.send(ev{sid: "stays", at: midnight.Add(-20 * time.Second), kafka: at, brand: "A"})
		s.flushed()
		sum, brands = s.total(schema.RollupSummary), s.total(schema.RollupBrand)
		s.check(len(sum) == 1 && sum[yesterday].Sessions == 2 && sum[yesterday].Views == 4, "session_summary: %+v", sum)
		s.check(len(brands) == 1 && brands[yesterday+"/A"].Sessions == 2, "brand_analytics: %+v", brands)
		zero := 0
		for _, r := range s.click.totals() {
			if r.Int("sessions") == 0 && r.Date("date").Format(time.DateOnly) == today {
				zero++
			}
		}
		s.check(zero > 0, "no zero is stored for %s: the view had nothing to hide", today)

		// A late event on the date that has fallen to zero counts from there.
		s.send(ev{sid: "third", at: midnight.Add(5 * time.Second), kafka: at, brand: "B"})
		s.flushed()
		sum = s.total(schema.RollupSummary)
		s.check(sum[today].Sessions == 1 && sum[yesterday].Sessions == 2, "session_summary: %+v", sum)
		s.settle()
		s.dateLeaves(midnight, sum)
	})
}

// dateLeaves follows the dates out of the state: not before they lie wholly before the horizon.
func (s *stage) dateLeaves(midnight time.Time, shown map[string]rollupRow) {
	yesterday, today := int32(midnight.Unix()/86400)-1, int32(midnight.Unix()/86400)
	dates := s.dates()
	s.check(dates[yesterday] > 0 && dates[today] > 0, "the state holds the dates %v", dates)
	// Every session is purged, and yesterday is over, when the clock has passed midnight by the retention.
	s.await(2*time.Hour, "all are purged", func() bool { return s.view().LiveSessions == 0 })
	// an epoch is closed, and so a checkpoint is made
	s.send(ev{sid: "mover", at: time.Unix(s.view().Clock, 0), kafka: time.Unix(s.view().Clock, 0)})
	s.flushed()
	s.await(10*time.Minute, "yesterday leaves", func() bool {
		s.send(ev{sid: "mover", at: time.Unix(s.view().Clock, 0), kafka: time.Unix(s.view().Clock, 0)})
		s.flushed()
		return s.dates()[yesterday] == 0
	})
	v := s.view()
	s.check(v.Horizon >= midnight.Unix(), "yesterday left the state at the horizon %v, before it was over",
		time.Unix(v.Horizon, 0).UTC())
	s.check(s.dates()[today] > 0, "today has left the state, and is not over")
	sum := s.total(schema.RollupSummary)
	y := midnight.Add(-time.Hour).Format(time.DateOnly)
	s.check(sum[y].Sessions == shown[y].Sessions && sum[y].Views == shown[y].Views,
		"what has left the state has changed in the table: %+v", sum)
}

// dates returns the rollup keys that a replica's state holds, by date, read from its disk.
func (s *stage) dates() map[int32]int {
	m := s.leading(0)
	db, err := pebble.Open("data/shard-0", &pebble.Options{FS: m.disk.image(), ReadOnly: true, Logger: discard{}})
	s.must(err)
	out := map[int32]int{}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{'r'}, UpperBound: []byte{'s'}})
	s.must(err)
	for ok := it.First(); ok; ok = it.Next() {
		out[int32(binary.BigEndian.Uint32(it.Key()[1:5]))]++
	}
	s.must(errors.Join(it.Close(), db.Close()))
	return out
}

// discard is the log of a store that is only looked at.
type discard struct{}

func (discard) Infof(string, ...any)  {}
func (discard) Errorf(string, ...any) {}
func (discard) Fatalf(string, ...any) {}
