package demo

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"deckle/event"
	"deckle/schema"
	"deckle/sim"
	"deckle/sim/verify"
	"deckle/state"
)

// replica is what is compared of one replica of one shard; *state.Store is one.
type replica interface {
	View() state.View
	Session(id string) (*schema.SessionRow, bool, error)
	Rollups(yield func(*schema.RollupRow) error) error
}

// checkReplicas compares every session, every rollup and the counters in the replicas of one node, one per shard, with
// the truth. Sessions that lie before the shard's horizon may be gone already.
func (f *findings) checkReplicas(name string, replicas []replica, truth sim.Source, sum *sim.Summary) error {
	where := "state of node " + name
	shardOf := map[int32]replica{}
	horizon := int64(1<<62 - 1)
	var applied, duplicates, live int64
	dead := map[string]int64{}
	for _, r := range replicas {
		v := r.View()
		for _, p := range v.Config.Partitions {
			shardOf[p] = r
		}
		horizon = min(horizon, v.Horizon)
		applied, duplicates, live = applied+v.Applied, duplicates+v.Duplicates, live+v.LiveSessions
		for reason, n := range v.DeadLetters {
			dead[reason.String()] += n
		}
	}
	f.check(where+": events", sum.Applied, applied, 0)
	f.check(where+": duplicates", sum.Duplicates, duplicates, 0)
	f.checkReasons(where, sum.DeadLetters, dead)

	want := rollups{}
	var sessions, found, differences, purged int64
	err := truth.Each(func(l sim.Line) error {
		s := l.Session
		if s == nil {
			return nil
		}
		sessions++
		if s.TotalEvents > 0 {
			want.add(s)
		}
		r := shardOf[partitionOf(s.Origins[0].Position)]
		if r == nil {
			differences++
			f.differ(verify.Difference{Table: where, Kind: verify.Lost, Key: "session " + s.SessionID,
				Want: "a shard for " + s.Origins[0].Position, Got: "none"})
			return nil
		}
		row, ok, err := r.Session(s.SessionID)
		switch {
		case err != nil:
			return fmt.Errorf("%s: session %s: %w", where, s.SessionID, err)
		case s.TotalEvents == 0 && (!ok || row.TotalEvents == 0):
			found++ // it has no row
		case !ok && s.End < r.View().Horizon:
			purged++
			found++
		case !ok:
			differences++
			f.differ(verify.Difference{Table: where, Kind: verify.Lost, Key: "session " + s.SessionID, Want: "1 row",
				Got: "no row"})
		default:
			found++
			if n := f.compareSession(where, s, row); n > 0 {
				differences++
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if live != sessions-purged {
		differences++
		f.differ(verify.Difference{Table: where, Kind: verify.Sum, Key: "sessions in the lookup",
			Want: count(sessions - purged), Got: count(live)})
	}
	f.check(where+": sessions", sessions, found, differences)
	return f.checkRollups(where, replicas, want, horizon)
}

func (f *findings) checkReasons(where string, want, got map[string]int64) {
	var wantAll, gotAll, differences int64
	for _, r := range event.Reasons() {
		w, g := want[r.String()], got[r.String()]
		wantAll, gotAll = wantAll+w, gotAll+g
		if w != g {
			differences++
			f.differ(verify.Difference{Table: where, Kind: verify.Sum, Key: "dead letters", Column: r.String(),
				Want: count(w), Got: count(g)})
		}
	}
	f.check(where+": dead letters", wantAll, gotAll, differences)
}

// compareSession compares column by column and returns how many differ.
func (f *findings) compareSession(where string, s *sim.Session, row *schema.SessionRow) int {
	want, got := s.Row(), sessionRow(row)
	n := 0
	for i, c := range sim.SessionColumns {
		if want[i] != got[i] {
			n++
			f.differ(verify.Difference{Table: where, Kind: verify.Changed, Key: "session " + s.SessionID, Column: c,
				Want: want[i], Got: got[i]})
		}
	}
	return n
}

func partitionOf(position string) int32 {
	p, _, _ := strings.Cut(position, "/")
	n, err := strconv.ParseInt(p, 10, 32)
	if err != nil {
		return -1
	}
	return int32(n)
}

// sessionRow is a row of the state in the columns of the truth, which the state finds by their names.
func sessionRow(r *schema.SessionRow) []string {
	row := make([]string, len(sim.SessionColumns))
	for i, name := range sim.SessionColumns {
		if c := schema.Named(schema.Sessions, name); c != nil {
			row[i] = sim.Canonical(name, c.String(r))
		} else {
			row[i] = "no such column"
		}
	}
	return row
}

// rollupKey is a table, a day and the texts of its dimensions.
type rollupKey struct {
	table schema.RollupTable
	date  int32
	dims  string // joined by NUL
}

// String is the key as a report shows it.
func (k rollupKey) String() string {
	return strings.TrimSuffix(fmt.Sprintf("%s %s", schema.DateText(k.date), strings.ReplaceAll(k.dims, "\x00", ", ")),
		" ")
}

// rollupSums are sessions, duration, events, article views, video plays, newsletter signups, ad clicks.
type rollupSums [7]int64

var rollupColumns = [7]string{"total_sessions", "duration_sec", "total_events", "total_article_views",
	"total_video_plays", "total_newsletter_signups", "total_ad_clicks"}

type rollups map[rollupKey]rollupSums

// add counts one session of the truth in every rollup that the product has. A date is the day of session_start.
func (r rollups) add(s *sim.Session) {
	for table := range schema.NumRollups {
		for _, of := range sim.Rollups {
			if of.Name != table.String() {
				continue
			}
			var dims []string
			for _, name := range of.Dims {
				dims = append(dims, s.Column(name))
			}
			r.plus(rollupKey{table, schema.Day(s.Start), strings.Join(dims, "\x00")},
				rollupSums{1, s.Duration, s.TotalEvents, s.ArticleViews, s.VideoPlays, s.NewsletterSignups, s.AdClicks})
		}
	}
}

func (r rollups) plus(k rollupKey, x rollupSums) {
	v := r[k]
	for i := range v {
		v[i] += x[i]
	}
	r[k] = v
}

// checkRollups compares the sums over the shards. Days wholly before the horizon may have left the state.
func (f *findings) checkRollups(where string, replicas []replica, want rollups, horizon int64) error {
	got := rollups{}
	for _, r := range replicas {
		err := r.Rollups(func(row *schema.RollupRow) error {
			got.plus(rollupKey{row.Table, row.Date, strings.Join(row.Dims, "\x00")},
				rollupSums{row.Sessions, row.Duration, row.Events, row.Views, row.Plays, row.Signups, row.AdClicks})
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s: rollups: %w", where, err)
		}
	}
	all := map[rollupKey]bool{}
	for k := range want {
		all[k] = true
	}
	for k := range got {
		all[k] = true
	}
	keys := slices.SortedFunc(maps.Keys(all), func(a, b rollupKey) int {
		return cmp.Or(cmp.Compare(a.table, b.table), cmp.Compare(a.date, b.date), cmp.Compare(a.dims, b.dims))
	})
	var wantKeys, gotKeys, differences int64
	for _, k := range keys {
		w, g := want[k], got[k]
		if (int64(k.date)+1)*86400 <= horizon && g == (rollupSums{}) {
			continue
		}
		if w != (rollupSums{}) {
			wantKeys++
		}
		if g != (rollupSums{}) {
			gotKeys++
		}
		if w == g {
			continue
		}
		differences++
		for i := range w {
			if w[i] != g[i] {
				f.differ(verify.Difference{Table: where, Kind: verify.Changed, Key: k.table.String() + " " + k.String(),
					Column: rollupColumns[i], Want: count(w[i]), Got: count(g[i])})
			}
		}
	}
	f.check(where+": rollups", wantKeys, gotKeys, differences)
	return nil
}
