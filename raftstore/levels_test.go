package raftstore

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"deckle/schema/level"
)

// Each member of a group is asked for its level, as the server that it is now. A node that tells none is v0.1.0, which
// does not know the field; one that does not answer, or is another server by now, is unknown, and so the group does not
// rise.
func TestLevelsOfTheMembers(t *testing.T) {
	const first, newest = uint32(level.First), uint32(level.Current)
	c := newCluster(t, 3, 1, func(i int, o *Options) {
		if i == 1 {
			o.MaxLevel = first // the configuration of this node allows no more
		}
	})
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.put(0, 10)
	c.agree(0, c.all()...)
	ask := func() map[string]MemberLevel {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		members, err := c.nodes[0].store.Group(0).Levels(ctx)
		if err != nil || len(members) != 3 {
			t.Fatalf("members %+v, %v", members, err)
		}
		by := map[string]MemberLevel{}
		for _, m := range members {
			if !strings.HasPrefix(m.Server, m.Node+"-") || !m.Voter || (m.Level == 0) != (m.Err != nil) {
				t.Fatalf("member %+v", m)
			}
			by[m.Node] = m
		}
		if want := min(by["a"].Allows, by["b"].Allows, by["c"].Allows); RiseTo(members) != want {
			t.Fatalf("it may rise to %d, want %d", RiseTo(members), want)
		}
		return by
	}
	got := ask()
	if got["a"].Level != newest || got["a"].Allows != newest || got["b"].Level != newest ||
		got["b"].Allows != first || got["c"].Level != newest || got["c"].Allows != newest {
		t.Fatalf("members %+v", got)
	}

	id := string(c.nodes[2].store.self.serverID())
	c.stop(2)
	if got := ask(); got["c"].Level != 0 || got["c"].Allows != 0 {
		t.Fatalf("a node that does not answer: %+v", got["c"])
	}
	end := c.answerHello(2, map[string]any{"ServerID": id, "Phase": "member"})
	if got := ask(); got["c"].Level != first || got["c"].Allows != first {
		t.Fatalf("a node that tells no level: %+v", got["c"])
	}
	end()
	end = c.answerHello(2, map[string]any{"ServerID": "c-0123456789abcdef", "Level": 9, "Later": "a field of later"})
	if got := ask(); got["c"].Level != 0 || got["c"].Server != id {
		t.Fatalf("another server of the node: %+v", got["c"])
	}
	end()
	if _, err := (&levels{fsm: &fsm{}, run: &current{}}).ask(context.Background()); !errors.Is(err, errNotReady) {
		t.Fatalf("without a configuration: %v", err)
	}
}

// answerHello answers every control request at a node's address, in its place, until the returned function is called.
func (c *cluster) answerHello(i int, answer map[string]any) (end func()) {
	c.t.Helper()
	ln, err := net.Listen("tcp", c.peers[i].Addr)
	if err != nil {
		c.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			var req request
			if h, err := readHeader(conn); err == nil && h.kind == kindControl {
				_, _ = conn.Write([]byte{answerOK})
				if readFrame(conn, &req) == nil {
					_ = writeFrame(conn, answer)
				}
			}
			_ = conn.Close()
		}
	}()
	return func() { _ = ln.Close(); <-done }
}

// A node whose folder is empty and whose binary is below the level of the group is not let in, and shows why. Its
// former server stays a member: nothing is removed for a server that could not follow.
func TestJoinerBelowTheLevelIsRefused(t *testing.T) {
	const joiner = 2
	old := false
	c := newCluster(t, 3, 1, func(i int, o *Options) {
		if i == joiner && old {
			o.Level = uint32(level.First)
		}
	})
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.raise(0)
	c.agree(0, c.all()...)
	former := c.nodes[joiner].store.self.serverID()
	before := c.config(0, 0)

	c.wipe(joiner)
	old = true
	c.start(joiner)
	old = false
	said := func() bool {
		st := c.nodes[joiner].store.Status()
		return strings.Contains(strings.Join(st.Reasons, " "), "its binary has level 1, the group has level 2") &&
			len(st.Groups) == 1 && st.Groups[0].Refused != "" && !st.Ready
	}
	c.eventually("it says why it is not let in", said)
	time.Sleep(10 * testTimings.Heartbeat)
	if !said() || strings.Join(c.config(0, 0), " ") != strings.Join(before, " ") {
		t.Fatalf("members %v, were %v", c.config(0, 0), before)
	}
	c.put(0, 10)
	c.alive(c.all()...)

	c.stop(joiner)
	c.start(joiner)
	c.ready(joiner)
	c.put(0, 10)
	c.agree(0, c.all()...)
	s := c.nodes[joiner].store
	if s.self.serverID() == former || s.Status().Groups[0].Refused != "" {
		t.Fatalf("it is %s, was %s: %+v", s.self.serverID(), former, s.Status())
	}
}

// The leader asks the joiner itself, too: what a request says of the level is not enough.
func TestJoinerIsAskedForItsLevel(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	c.start(0, 1, 2)
	c.ready(c.all()...)
	c.raise(0)
	c.agree(0, c.all()...)
	led := c.leader(0)
	away := c.others(led)[0]
	c.stop(away)
	id := c.peers[away].Name + "-00000000000000ff"
	end := c.answerHello(away, map[string]any{"ServerID": id, "Level": level.First})
	defer end()
	m, before := c.nodes[led].store.groups[0].members, c.config(led, 0)
	p, _ := m.opts.peer(c.peers[away].Name)
	if err := m.changeTo(m.run.Load(), p, "x"); err == nil {
		t.Fatal("a server that is not there was let in")
	}
	err := m.tooOld(uint32(level.First))
	if err == nil || !strings.Contains(err.Error(), "level 2") || m.tooOld(uint32(level.Real)) != nil {
		t.Fatalf("too old: %v", err)
	}
	_, err = m.join(&request{From: id, Level: uint32(level.Current)})
	if err != nil {
		t.Fatal(err)
	}
	c.eventually("the change under way has ended", func() bool {
		ended := m.changing.TryLock()
		if ended {
			m.changing.Unlock()
		}
		return ended
	})
	if got := c.config(led, 0); strings.Join(got, " ") != strings.Join(before, " ") {
		t.Fatalf("members %v, were %v", got, before)
	}
}
