package raftstore

import (
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// keptFormers bounds the ids of former incarnations that a group remembers.
const keptFormers = 64

// formers are the servers that this replica has seen leave the group: those that stood in a committed configuration and
// do not stand in a later one. Only former incarnations are ever removed, so such a server has been replaced. A server
// that is in no configuration known here is not one of them: a follower that was away knows a configuration in which
// the present leader, a new incarnation, is missing.
//
// They are kept in the marker. What the log behind the marker says of them is found again at each start.
type formers struct {
	mu      sync.Mutex
	ids     []raft.ServerID // the newest last
	at      uint64          // index of conf
	conf    raft.Configuration
	pending *configAt // of the log that is read at a start: not yet known to be committed
}

func newFormers(m marker) *formers {
	f := &formers{ids: slices.Clone(m.Replaced), at: m.ConfigIndex, conf: m.Configuration}
	f.shorten()
	// gofail: var bugForgetReplaced struct{}
	// f.ids = nil
	return f
}

// committed notes a committed configuration. One that was noted before changes nothing.
func (f *formers) committed(index uint64, conf raft.Configuration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note(index, conf)
}

func (f *formers) note(index uint64, conf raft.Configuration) {
	if index <= f.at {
		return
	}
	// The group's word counts: were an id ever to come back, its server would be a member.
	f.ids = slices.DeleteFunc(f.ids, func(id raft.ServerID) bool { return suffrageOf(conf, id) != standNone })
	for _, s := range f.conf.Servers {
		if suffrageOf(conf, s.ID) == standNone {
			f.ids = append(f.ids, s.ID)
		}
	}
	f.shorten()
	f.at, f.conf = index, conf
}

func (f *formers) shorten() { f.ids = f.ids[max(0, len(f.ids)-keptFormers):] }

// logged notes a configuration of the log that the library reads when an instance begins, one after the other. A leader
// proposes a configuration only when the one before it is committed, so all of them are but, perhaps, the last. The
// first entry of a group is written once: there is no other.
func (f *formers) logged(index uint64, conf raft.Configuration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if index == 1 {
		f.note(index, conf)
		return
	}
	if p := f.pending; p != nil && p.index < index {
		f.note(p.index, p.conf)
	}
	f.pending = &configAt{index: index, conf: conf}
}

// allLogged ends the reading. What the state has applied is committed.
func (f *formers) allLogged(applied uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.pending; p != nil && p.index <= applied {
		f.note(p.index, p.conf)
	}
	f.pending = nil
}

// list returns the ids, the newest last.
func (f *formers) list() []raft.ServerID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ids)
}

// has tells whether a server is known to be replaced.
func (f *formers) has(id raft.ServerID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.ids, id)
}

// suffrageOf returns a server's part in a configuration: standVoter, standNonvoter or standNone.
func suffrageOf(c raft.Configuration, id raft.ServerID) string {
	for _, s := range c.Servers {
		if s.ID == id {
			if s.Suffrage == raft.Voter {
				return standVoter
			}
			return standNonvoter
		}
	}
	return standNone
}
