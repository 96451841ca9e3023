package state

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/schema"
	"deckle/schema/level"
)

// TestStandingRowsWereWritten follows the plans of sessions and of revisions of a random log as their table would, rows
// that both refuse included. Whatever a revision is told of a row, it never takes one for standing that nobody has
// written: such a row would be lost. The replica crashes now and then, and reads what it has stored.
func TestStandingRowsWereWritten(t *testing.T) {
	standing, late, first, again := 0, 0, 0, 0
	all := seeds(t, 12)
	for _, seed := range all {
		g, r := newGenerator(seed), rand.New(rand.NewPCG(seed, 3))
		fs := vfs.NewCrashableMem()
		opts := Options{FS: fs, Dir: "shard"}
		s, err := Open(context.Background(), opts)
		must(t, err)
		log := [][]byte{EncodeConfig(testConfig())}
		apply := func(b []byte) {
			t.Helper()
			res, err := s.Apply(uint64(len(log)), 1, b)
			must(t, err)
			g.learn(b, res, s)
		}
		apply(log[0])
		next := func(b []byte) {
			t.Helper()
			log = append(log, b)
			apply(b)
		}
		rows := func(sink SinkID) (out []schema.SessionRow) {
			t.Helper()
			p, err := s.OpenPlan(sink)
			if err == ErrNoPlan {
				return nil
			}
			must(t, err)
			must(t, p.Sessions(func(r *schema.SessionRow) error {
				c := *r
				c.SessionID, c.Origin = string([]byte(r.SessionID)), string([]byte(r.Origin))
				out = append(out, c)
				return nil
			}))
			must(t, p.Close())
			return out
		}
		written := map[string]bool{}
		finish := func(sink SinkID) {
			t.Helper()
			for _, row := range rows(sink) {
				k := row.Key()
				switch {
				case sink == SinkSessions:
					written[k] = true
				case row.Stands && !written[k]:
					t.Fatalf("seed %d, entry %d: row %q of epoch %d was never written and is said to stand", seed,
						len(log), k, row.FirstClosed)
				case row.Stands:
					standing++
				case !written[k]:
					written[k] = true
					late++
				case row.FirstClosed <= s.meta.Unwritten.To || g.level < level.Lake:
					first++
				default:
					again++
				}
			}
			next(EncodeAck(sink, g.plans[sink]))
		}
		for range 500 {
			switch n := r.IntN(12); {
			case n == 0 && g.level < level.Lake && r.IntN(4) == 0:
				next(EncodeLevel(g.now*1000, level.Lake))
			case n < 2:
				sink := SinkSessions + SinkID(r.IntN(2))
				if of := rows(sink); len(of) > 0 {
					row := of[r.IntN(len(of))]
					next(EncodeRefuse(sink, row.Key(), []byte("{}"), "test", level.First))
				}
			case n < 3:
				next(EncodePlan(SinkSessions, 0))
			case n < 4:
				next(EncodePlan(SinkRevisions, 0))
			case n < 5:
				finish(SinkSessions)
			case n < 6:
				finish(SinkRevisions)
			case n == 6 && r.IntN(8) == 0:
				crash := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: r})
				must(t, s.Close())
				fs, opts.FS = crash, crash
				s, err = Open(context.Background(), opts)
				must(t, err)
				for at, _ := s.Applied(); at < uint64(len(log)); at++ {
					_, err := s.Apply(at+1, 1, log[at])
					must(t, err)
				}
			default:
				if e := g.entry(); e[0] != kindAck { // finish acknowledges, as far as sessions go
					next(e)
				} else if sink := SinkID(e[2]); sink != SinkSessions && sink != SinkRevisions {
					next(e)
				}
			}
		}
		must(t, s.Close())
	}
	t.Logf("revisions of rows: %d stand; of %d not written, %d from before the level, %d said not to stand and do",
		standing, late, first, again)
	if n := len(all); n > 5 && (standing < 20*n || late < 1 || again > standing/5) {
		t.Error("the log does not cover its cases")
	}
}

// TestUnwrittenIsBounded: more rows than are remembered one by one make all of them not certain, up to their epoch, and
// nothing above it.
func TestUnwrittenIsBounded(t *testing.T) {
	var u unwritten
	for i := range maxUnwritten {
		u.refuse(fmt.Sprint(i), unwrittenRow{}, 7)
	}
	if u.stands("5", 7) || !u.stands("other", 7) || u.To != 0 {
		t.Errorf("to %d with %d rows", u.To, len(u.Rows))
	}
	u.refuse("more", unwrittenRow{}, 9)
	for key, want := range map[string]uint64{"5": 7, "more": 9, "other": 9} {
		if u.stands(key, want) || !u.stands(key, 10) {
			t.Errorf("%s", key)
		}
	}
	if u.refuse("late", unwrittenRow{}, 9); u.some() || u.Rows != nil {
		t.Errorf("%d rows that the epoch says already", len(u.Rows))
	}
	u.refuse("a", unwrittenRow{Image: 12}, 10)
	u.refuse("b", unwrittenRow{Image: 12}, 10)
	u.refuse("c", unwrittenRow{Image: 14, Until: 13}, 10)
	u.refuse("d", unwrittenRow{}, 10)
	u.pass(11, 13, func(key string) bool { return key == "b" })
	if len(u.Rows) != 2 || u.stands("b", 10) || u.stands("d", 10) || !u.stands("a", 10) || !u.stands("c", 10) {
		t.Errorf("%+v", u.Rows)
	}
}
