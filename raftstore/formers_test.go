package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"deckle/cipherfs/cipherfstest"
)

// The former incarnation of a node that was replaced is not heard by any replica that has seen it replaced, however
// that replica came to know: up to date, restarted alone, from its marker, by a snapshot. A replica that was away hears
// the present incarnation, of which it knows nothing.
func TestReplacedIncarnation(t *testing.T) {
	const shard = 2 // c is the preferred leader
	c := newCluster(t, 3, 3, nil)
	c.tune = func(_ int, o *Options) { o.LogBytes = 32 << 10 }
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(shard, 10)
	c.agree(shard, c.all()...)
	c.stop(1)
	away := c.nodes[1].fs.CrashClone(vfs.CrashCloneCfg{})
	c.start(1)
	c.put(shard, 10)
	c.agree(shard, c.all()...)
	former := c.nodes[2].store.self.serverID()
	c.stop(2)
	old := c.nodes[2].fs
	c.wipe(2)
	c.start(2)
	c.ready(2)
	present := c.nodes[2].store.self.serverID()
	c.put(shard, 10)
	c.agree(shard, c.all()...)
	at := func(i int) GroupStatus { return c.nodes[i].store.Status().Groups[shard] }
	knows := func(i int) bool { return c.nodes[i].store.groups[shard].snaps.formers.has(former) }
	speaks := func(where string, i int) {
		t.Helper()
		w := newWire(t, c.nodes[i].store.self.serverID(), c.peers[i].Addr)
		w.layer.group = shard
		var end raft.Log
		last, err := c.nodes[i].store.groups[shard].log.inner.LastIndex()
		if err == nil {
			err = c.nodes[i].store.groups[shard].log.inner.GetLog(last, &end)
		}
		if err != nil && !errors.Is(err, raft.ErrLogNotFound) { // behind a snapshot there is none
			t.Fatal(err)
		}
		before, counted := at(i).Term, c.refusals(i, "2", whyReplaced)
		for _, f := range forgeries {
			err := f.send(w, as(string(former), c.peers[2].Addr), before+jump, end)
			if err == nil || !strings.Contains(err.Error(), "("+whyReplaced+")") {
				t.Errorf("%s: %s of the former incarnation to %s: %v", where, f.name, c.peers[i].Name, err)
			}
		}
		if n := c.refusals(i, "2", whyReplaced) - counted; n != float64(len(forgeries)) {
			t.Errorf("%s: %v are counted", where, n)
		}
		if got := at(i).Term; got >= before+jump {
			t.Errorf("%s: term %d", where, got)
		}
	}
	// (a) Those that are up to date.
	for _, i := range []int{0, 1} {
		speaks("up to date", i)
	}
	// (c) Restarted alone, so that nobody tells what is committed: from the log.
	for _, i := range []int{0, 1, 2} {
		c.stop(i)
	}
	c.nodes[1].fs = c.nodes[1].fs.CrashClone(vfs.CrashCloneCfg{})
	c.start(1)
	c.eventually("the groups run", func() bool { return c.nodes[1].store.forming.started.Load() })
	speaks("restarted", 1)
	// And from the marker, when the log does not tell any more.
	c.start(0, 2)
	c.put(shard, 10)
	for range 100 {
		c.put(shard, 1000)
	}
	c.agree(shard, c.all()...) // two commit without the third, which may have all of it to catch up with
	replaced := at(0).CommitIndex - 90
	for i := range c.nodes {
		c.eventually("the log is truncated", func() bool {
			m := c.nodes[i].store.groups[shard].maintainer
			if trailing, _, err := m.plan(); err == nil {
				_ = m.truncate(trailing)
			}
			return at(i).FirstIndex > replaced
		})
	}
	c.agree(shard, c.all()...)
	for _, i := range []int{0, 1, 2} {
		c.kill(i)
	}
	c.start(1)
	c.eventually("the groups run", func() bool { return c.nodes[1].store.forming.started.Load() })
	speaks("from the marker", 1)
	// (b, d) A folder of before the replacement: it knows nothing of the present incarnation, which leads and sends it
	// a snapshot.
	c.start(0, 2)
	c.put(shard, 10)
	c.eventually("c leads", func() bool {
		g := c.nodes[c.leader(shard)].store.Group(shard)
		if !g.IsLeader() || g.Leader() == "c" {
			return g.Leader() == "c"
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		return g.TransferLeadership(ctx, "c") == nil
	})
	c.stop(1)
	c.nodes[1].fs = away
	c.start(1)
	c.agree(shard, c.all()...)
	c.eventually("it follows the present incarnation", func() bool { return at(1).Leader == "c" })
	// The library restores the state first, and takes the snapshot's configuration after it.
	c.eventually("it has the snapshot's configuration, and knows of the replacement", func() bool {
		config := c.config(1, shard)
		return slices.Contains(config, string(present)+" Voter") && c.installs(1, "2") > 0 && knows(1)
	})
	speaks("by snapshot", 1)
	c.put(shard, 10)

	// The former folder comes back: as it was, and as one that was replaced before it had received or noted anything
	// but that it joins. It is not let in again.
	c.stop(2)
	var id identity
	if err := readSealed(cipherfstest.Over(old), "data/identity", &id); err != nil {
		t.Fatal(err)
	}
	id.Phase = phaseJoining
	joiner := vfs.NewCrashableMem()
	if err := errors.Join(joiner.MkdirAll("data", 0o700),
		writeSealed(cipherfstest.Over(joiner), "data/identity", &id)); err != nil {
		t.Fatal(err)
	}
	for _, fs := range []*vfs.MemFS{old, joiner} {
		c.stop(2)
		c.nodes[2].fs = fs
		c.start(2)
		select {
		case err := <-c.nodes[2].fatal:
			if !errors.Is(err, ErrSuperseded) {
				t.Fatal(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("the former folder goes on: %+v", c.nodes[2].store.Status())
		}
	}
	if ids := strings.Join(c.config(0, shard), ","); strings.Contains(ids, string(former)) {
		t.Errorf("it is in the configuration %s", ids)
	}
	c.stop(2)
	c.start(2)
	c.ready(2)
	c.put(shard, 10)
	c.agree(shard, c.all()...)
}

// What formers keep: who has left, in the order of leaving, and of those the newest.
func TestFormers(t *testing.T) {
	of := func(ids ...raft.ServerID) (conf raft.Configuration) {
		for _, id := range ids {
			conf.Servers = append(conf.Servers, raft.Server{ID: id})
		}
		return conf
	}
	f := newFormers(marker{ConfigIndex: 1, Configuration: of("a", "b", "c")})
	f.committed(5, of("a", "b"))
	f.committed(3, of("b"))            // older than what is known
	f.committed(6, of("a", "b", "c2")) // another incarnation
	f.logged(7, of("a", "b"))          // committed, as the next one shows
	f.logged(9, of("a", "c3"))         // not known to be committed
	f.allLogged(8)
	if got := fmt.Sprint(f.list()); got != "[c c2]" || f.has("b") {
		t.Errorf("%s", got)
	}
	f.logged(9, of("a", "c3"))
	f.allLogged(9)
	if got := fmt.Sprint(f.list()); got != "[c c2 b]" {
		t.Errorf("%s", got)
	}
	first := newFormers(marker{})
	first.logged(1, of("a", "b")) // there is no other first entry
	first.allLogged(0)
	first.committed(50, of("a", "b2"))
	if got := fmt.Sprint(first.list()); got != "[b]" {
		t.Errorf("after the first entry: %s", got)
	}
	f.committed(10, of("a", "c"))
	if got := fmt.Sprint(f.list()); got != "[c2 b c3]" {
		t.Errorf("of a group that has taken one back: %s", got)
	}
	for i := range uint64(100) {
		f.committed(11+i, of(raft.ServerID(fmt.Sprint(i))))
	}
	if ids := f.list(); len(ids) != keptFormers || ids[0] != "35" || ids[keptFormers-1] != "98" {
		t.Errorf("%d: %v", len(ids), ids)
	}
	if ids := newFormers(marker{Replaced: make([]raft.ServerID, 100)}).list(); len(ids) != keptFormers {
		t.Errorf("%d of a marker", len(ids))
	}
}
