package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node"
	"deckle/node/config"
	"deckle/node/status"
	"deckle/schema"
	model "deckle/sim/testworld/clickhouse"
	"deckle/state"
)

func isLeader(s status.Shard) bool { return s.IsLeader }

// noFileDeleted: every data file that was ever written is still there, whether a commit has taken it or not.
func (s *stage) noFileDeleted() {
	s.objects.mu.Lock()
	defer s.objects.mu.Unlock()
	n := 0
	for key, times := range s.objects.put {
		if !strings.HasSuffix(key, ".parquet") || strings.Contains(key, "_delta_log") {
			continue
		}
		n++
		if _, err := s.objects.Mem.Get(s.ctx, key); err != nil {
			s.check(false, "the data file %s is gone: %v", key, err)
		}
		s.check(times == 1, "the data file %s was written %d times", key, times)
	}
	s.check(n > 0, "no data file was written")
}

// commits returns how many commits of a table have each (appId, version).
func (s *stage) commits(table string) map[string]int {
	out := map[string]int{}
	for _, key := range s.objects.Keys(table + "/_delta_log/") {
		if !strings.HasSuffix(key, ".json") {
			continue
		}
		data, err := s.objects.Mem.Get(s.ctx, key)
		s.must(err)
		for line := range bytes.SplitSeq(data, []byte("\n")) {
			var a struct {
				Txn *struct {
					AppID   string `json:"appId"`
					Version int64  `json:"version"`
				} `json:"txn"`
			}
			if len(line) > 0 {
				s.must(json.Unmarshal(line, &a))
			}
			if a.Txn != nil {
				out[fmt.Sprint(a.Txn.AppID, " ", a.Txn.Version)]++
			}
		}
	}
	return out
}

// A leader is killed between the moment in which its commit takes effect and the answer: the next one finds that it is
// done.
func TestKilledBetweenCommitAndAnswer(t *testing.T) {
	for _, table := range []string{"events", "sessions"} {
		t.Run(table, func(t *testing.T) {
			schedule(t, Options{}, func(s *stage) {
				stop := s.produce(150 * time.Millisecond)
				for range 2 {
					s.sleep(5 * time.Second)
					lead, st := s.leaderNow(0)
					var release func()
					var which string
					killed := make(chan struct{})
					var once atomic.Bool
					s.objects.script(func(g *gate, key string) fate {
						if inc := lead.current(); inc == nil || inc.gate != g ||
							!strings.HasPrefix(key, table+"/_delta_log/") || !strings.HasSuffix(key, ".json") ||
							!once.CompareAndSwap(false, true) {
							return fate{}
						}
						return fate{then: func() { which, release = key, lead.kill(0); close(killed) }}
					})
					select {
					case <-killed:
					case <-time.After(time.Minute):
						s.check(false, "the leader has committed nothing to %s", table)
						return
					}
					data, err := s.objects.Mem.Get(s.ctx, which)
					s.must(err)
					s.another(lead, st.Term)
					s.sleep(5 * time.Second)
					again, err := s.objects.Mem.Get(s.ctx, which)
					s.must(err)
					s.check(bytes.Equal(data, again), "the commit %s has changed", which)
					release()
					s.ready()
				}
				s.objects.script(nil)
				s.allApplied(stop())
				for txn, n := range s.commits(table) {
					s.check(n == 1, "%s was committed %d times", txn, n)
				}
				s.noFileDeleted()
			})
		})
	}
}

// Commits and data files of a leader reach the store three minutes after it got the answer that they had not, when it
// is deposed and newer epochs are there: a commit is refused, because its version is taken, and a file that no commit
// names is harmless.
func TestAmbiguousPutLandsMinutesLater(t *testing.T) {
	for _, kind := range []string{"commit", "data"} {
		t.Run(kind, func(t *testing.T) {
			schedule(t, Options{}, func(s *stage) {
				stop := s.produce(200 * time.Millisecond)
				s.sleep(5 * time.Second)
				lead, st := s.leaderNow(0)
				was := lead.current()
				var late atomic.Int64
				s.objects.script(func(g *gate, key string) fate {
					if g == was.gate && strings.Contains(key, "_delta_log") == (kind == "commit") {
						late.Add(1)
						return fate{late: 3 * time.Minute}
					}
					return fate{}
				})
				s.await(time.Minute, "puts that land late", func() bool { return late.Load() >= 3 })
				resume := lead.pause()
				s.another(lead, st.Term)
				s.sleep(5 * time.Second)
				resume()
				s.objects.script(nil) // what it puts from now on arrives at once
				n := stop()
				s.flushed()
				at := s.view().LastClosed
				s.sleep(4 * time.Minute)
				s.check(at > 5, "only %d epochs", at)
				s.allApplied(n)
				for _, table := range []string{"events", "sessions"} {
					for txn, n := range s.commits(table) {
						s.check(n == 1, "%s was committed %d times", txn, n)
					}
				}
				s.noFileDeleted()
			})
		})
	}
}

// An insert of epoch n takes effect after n+1 was written, and after its plan was repeated by another leader: no row
// and no total goes back, and what is inserted twice is not dropped as a duplicate of something else.
func TestLateInsert(t *testing.T) {
	schedule(t, Options{}, func(s *stage) {
		at := s.now()
		s.send(ev{sid: "late", at: at, brand: "A"})
		s.flushed()
		lead, st := s.leaderNow(0)
		var held atomic.Int64
		s.click.SetHook(func(q model.Query) model.Fault {
			if q.Kind == model.Insert && s.leads(lead) {
				held.Add(1)
				return model.CloseLate(2 * time.Minute)
			}
			return s.click.draw(q)
		})
		s.send(ev{sid: "late", at: at.Add(-time.Second), kafka: at, brand: "B"}, ev{part: 1, sid: "late-2", at: at})
		s.await(time.Minute, "an insert whose client gets an error", func() bool { return held.Load() >= 2 })
		release := lead.kill(100)
		s.another(lead, st.Term)
		s.flushed(state.SinkClickHouse) // the plan is repeated
		s.send(ev{sid: "late", at: at.Add(-2 * time.Second), kafka: at, brand: "C"},
			ev{sid: "late", at: at.Add(time.Second)})
		s.flushed(state.SinkClickHouse) // and followed by another one
		release()
		before := s.click.Inserted(clickDatabase, clickSessions, 0)
		rows, _ := s.rows("late")
		want := []row{{"0/0", "open", 4, 0, at.Unix() - 2, at.Unix() + 1, "C"}}
		s.check(slices.Equal(rows, want), "ClickHouse shows %+v, want %+v", rows, want)
		brands := s.total(schema.RollupBrand)
		s.sleep(15 * time.Second)
		s.click.Settle()
		after := s.click.Inserted(clickDatabase, clickSessions, 0)
		s.check(len(after) >= len(before)+1 && s.click.Late() == 0, "the late insert is not there: %d images, then %d",
			len(before), len(after))
		images := map[string]int{}
		for _, r := range after {
			if r.Text("session_id") == "late" {
				images[r.Text("brand")+r.Text("total_events")]++
			}
		}
		s.check(images["A1"] >= 1 && images["B2"] >= 2 && images["C4"] >= 1,
			"images of the session: %v; the second one must be there twice", images)
		rows, _ = s.rows("late")
		s.check(slices.Equal(rows, want), "after the late insert, ClickHouse shows %+v, want %+v", rows, want)
		s.check(fmt.Sprint(s.total(schema.RollupBrand)) == fmt.Sprint(brands) && len(brands) == 2,
			"totals were %+v, and are %+v", brands, s.total(schema.RollupBrand))
		s.click.SetHook(s.click.draw)
		s.settle()
	})
}

// leads says whether the member's process is the one that leads.
func (s *stage) leads(m *member) bool {
	lead, _ := s.leaderNow(0)
	return lead == m
}

// A second cluster that is given the same bucket and database is refused by every sink, and writes nothing.
func TestTableOfAnotherCluster(t *testing.T) {
	schedule(t, Options{}, func(s *stage) {
		at := s.now()
		s.send(ev{sid: "ours", at: at}, ev{sid: "ours", at: at, typ: "session_end"})
		s.want("ours", row{"0/0", "closed", 1, 0, at.Unix(), at.Unix(), ""})
		keys, images := s.tables(), fmt.Sprint(s.click.ledger())
		other := s.other()
		var st status.Shard
		err := s.until(s.ctx, 2*time.Minute, "the other cluster is refused", func() bool {
			if shards := other.Status().Shards; len(shards) == 1 {
				st = shards[0]
			}
			return st.Stopped["events"] != "" && st.Stopped["sessions"] != "" && st.Stopped["revisions"] != "" &&
				st.Stopped["clickhouse"] != ""
		})
		s.check(err == nil, "the other cluster: %v, stopped %v, failing %v", err, st.Stopped, st.Failing)
		for part, why := range st.Stopped {
			s.check(strings.Contains(why, "cluster"), "%s stopped: %s", part, why)
			s.history.add("other", "%s stopped: %s", part, why)
		}
		s.check(!other.Status().Ready, "the other cluster is ready")
		s.sleep(10 * time.Second)
		s.check(slices.Equal(keys, s.tables()), "the other cluster has written to the bucket")
		s.check(images == fmt.Sprint(s.click.ledger()), "the other cluster has written to the ledger")
		s.must(other.Close(s.ctx))
		s.settle()
	})
}

// other is a cluster of one node with the same topic and the same tables.
func (s *stage) other() *node.Node {
	cfg := s.config(s.members[0], rulesFile{keys: []int{0}})
	cfg.Node, cfg.DataDir = "other", "data"
	cfg.Cluster.Nodes = []config.Node{{Name: "other", Address: "127.0.0.1:7100"}}
	ln, err := s.net.Listen("other", "127.0.0.1:7100")
	s.must(err)
	dial := func(ctx context.Context, _, addr string) (net.Conn, error) { return s.net.Dial(ctx, "other", addr) }
	n, err := node.Open(s.ctx, cfg, node.Deps{
		FS: vfs.NewMem(), ReadFile: s.members[0].readFile, Logger: s.history.logger("other", slog.LevelWarn,
			func(string) {}), Registerer: prometheus.NewRegistry(), RaftListener: ln,
		RaftDial: func(ctx context.Context, addr string) (net.Conn,
			error) {
			return dial(ctx, "", addr)
		}, ClickHouseDial: dial,
		KafkaOpts: []kgo.Opt{kgo.Dialer(dial)}, DeltaStore: &client{o: s.objects, gate: newGate()},
	})
	s.must(err)
	return n
}

// All three data folders are replaced by an older copy: the tables are ahead of the state. The shard stops with a
// clear error and writes nothing.
func TestOldCopyOfAllFolders(t *testing.T) {
	schedule(t, Options{}, func(s *stage) {
		at := s.now()
		s.send(ev{sid: "first", at: at}, ev{sid: "first", at: at, typ: "session_end"})
		s.want("first", row{"0/0", "closed", 1, 0, at.Unix(), at.Unix(), ""})
		release := s.cutPower(100)
		var copies []*vfs.MemFS
		for _, m := range s.members {
			copies = append(copies, m.disk.clone())
		}
		release()
		s.ready()
		for i := range 3 {
			sid := fmt.Sprint("later-", i)
			s.send(ev{sid: sid, at: s.now()}, ev{part: 1, sid: sid + "b", at: s.now(), typ: "video_play"},
				ev{sid: sid, at: s.now(), typ: "session_end"})
			s.flushed()
			s.sleep(3 * time.Second)
		}
		s.await(time.Minute, "all are closed", func() bool { return s.view().OpenStatus == 0 })
		s.flushed()
		events, ledger, objects := s.eventRows(), fmt.Sprint(s.click.ledger()), s.tables()
		release = s.cutPower(100)
		for i, m := range s.members {
			m.disk.set(func(d *disk) { d.mem = copies[i] })
		}
		s.oracle.forget()
		release()
		why := s.stopped("shard")
		s.check(strings.Contains(why, "the data folder is older than the table") &&
			strings.Contains(why, "already has epoch"), "the shard stopped: %s", why)
		s.sleep(30 * time.Second)
		// The next leader stops, too.
		lead := s.leading(0)
		release = lead.kill(100)
		s.another(lead, 0)
		s.stopped("shard")
		release()
		s.sleep(30 * time.Second)
		s.check(!s.allReady(), "the cluster is ready")
		s.check(s.eventRows() == events && fmt.Sprint(s.click.ledger()) == ledger && slices.Equal(s.tables(), objects),
			"something was written: %d rows of events, then %d; objects %v, then %v", events, s.eventRows(), objects,
			s.tables())
	})
}

// tables are the keys of everything below the two tables.
func (s *stage) tables() []string {
	return append(s.objects.Keys("events/"), s.objects.Keys("sessions/")...)
}

// forget is for a script that has put the replicas back in time, which nothing else may.
func (o *oracle) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.sums)
	clear(o.entries)
	clear(o.promised)
}
