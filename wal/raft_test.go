package wal

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// counter is a state machine that counts its entries.
type counter struct{ n uint64 }

func (c *counter) Apply(*raft.Log) any                 { c.n++; return c.n }
func (c *counter) Snapshot() (raft.FSMSnapshot, error) { return counterSnapshot(c.n), nil }
func (c *counter) Restore(r io.ReadCloser) error {
	_, err := fmt.Fscan(r, &c.n)
	return err
}

type counterSnapshot uint64

func (s counterSnapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := fmt.Fprint(sink, uint64(s)); err != nil {
		return err
	}
	return sink.Close()
}
func (s counterSnapshot) Release() {}

// TestLibrary runs hashicorp/raft on a group: first start, entries, snapshot with truncation, and restarts after a
// power cut.
func TestLibrary(t *testing.T) {
	fs := vfs.NewCrashableMem()
	snaps := raft.NewInmemSnapshotStore()
	var term uint64
	for start := range uint64(3) {
		l := mustOpen(t, fs)
		addr, trans := raft.NewInmemTransport("")
		conf := raft.DefaultConfig()
		conf.LocalID, conf.LogOutput = "n1", io.Discard
		const timeout = 20 * time.Millisecond
		conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = timeout, timeout, timeout
		conf.TrailingLogs, conf.SnapshotThreshold = 5, 1<<62
		g := l.Group(3)
		has, err := raft.HasExistingState(g, g, snaps)
		check(t, err)
		if has != (start > 0) {
			t.Fatalf("start %d: existing state: %v", start, has)
		}
		fsm := &counter{}
		r, err := raft.NewRaft(conf, fsm, g, g, snaps, trans)
		check(t, err)
		if start == 0 {
			check(t, r.BootstrapCluster(raft.Configuration{Servers: []raft.Server{{ID: "n1", Address: addr}}}).Error())
		}
		for !<-r.LeaderCh() {
		}
		check(t, r.Barrier(10*time.Second).Error())
		for i := range uint64(50) {
			f := r.Apply([]byte("x"), 10*time.Second)
			check(t, f.Error())
			if got, want := f.Response(), start*50+i+1; got != want {
				t.Fatalf("start %d: entry %d is counted %v", start, want, got)
			}
		}
		if start < 2 {
			check(t, r.Snapshot().Error())
			first, err := g.FirstIndex()
			check(t, err)
			if last, _ := g.LastIndex(); last-first > 6 {
				t.Errorf("start %d: %d..%d is left", start, first, last)
			}
		}
		now, err := g.GetUint64([]byte(keyTerm))
		check(t, err)
		if now <= term {
			t.Errorf("start %d: term %d after %d", start, now, term)
		}
		term = now
		after := fs.CrashClone(vfs.CrashCloneCfg{})
		check(t, r.Shutdown().Error())
		check(t, trans.Close())
		check(t, l.Close())
		fs = after
	}
}
