package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/raftstore"
	"deckle/schema/level"
	"deckle/state"
)

// riseEvery is how often a leader whose shard is below the level of its binary looks whether it may rise.
const riseEvery = 10 * time.Second

// lowPatience is how long a level may stay below what this binary writes before somebody should know: in an upgrade the
// nodes are restarted one after the other.
const lowPatience = time.Minute

// errRise ends a run of the intake so that the level can rise before the next one, or what kept it from reading can be
// looked at again.
var errRise = errors.New("shard: the level may rise")

// rise raises the shard's level as far as the binaries of all members and the configuration allow, and replaces the
// rules if this node's file has newer ones. It is called between two runs of the intake, so no entry of the intake is
// in flight, and no record lies decoded by former rules.
func (l *leadership) rise(ctx context.Context) error {
	view := l.store.View()
	r := l.levelAllowed(ctx, &view)
	if r.to > view.Level {
		l.log.Info("the shard's level rises", "from", view.Level, "to", r.to)
		if _, err := l.group.Propose(state.EncodeLevel(l.Now().UnixMilli(), r.to)).Wait(ctx); err != nil {
			return err
		}
		view = l.store.View()
	}
	l.showLow(&r, l.Now())
	if wanted, ok := newRules(&l.Config.Rules, l.Keys.First(), &view.Rules, view.Level); ok {
		l.log.Info("the rules change", "number", wanted.Number, "revision", wanted.Revision)
		if _, err := l.group.Propose(state.EncodeRules(l.Now().UnixMilli(), wanted)).Wait(ctx); err != nil {
			return err
		}
		view = l.store.View()
	}
	l.waits = l.privacyWaits(&view, &r)
	return nil
}

// risen is what a leader has found out about the level of its shard.
type risen struct {
	to  level.Level // to which the shard may rise now; its present one if it may not
	why string      // it cannot have the level that this node's binary and configuration allow, "" if it can
	// asked says that nothing but another node's configuration holds it down.
	asked bool
}

// levelAllowed returns the level to which the shard may rise now: its present one unless every member of the group has
// told a higher one.
func (l *leadership) levelAllowed(ctx context.Context, view *state.View) risen {
	to := level.Current
	if most := l.Config.Cluster.MaxLevel; most > 0 {
		to = min(to, level.Level(most))
	}
	if to <= view.Level {
		return risen{to: view.Level}
	}
	finalized := level.Level(l.finalized.Load())
	if l.founded {
		finalized = to
	}
	return askLevel(ctx, l.group, view.Level, to, finalized)
}

// askLevel asks the members of a group of level now how far it may rise towards the level to. Up to the level finalized
// an operator has said so.
func askLevel(ctx context.Context, group *raftstore.Group, now, to, finalized level.Level) risen {
	ctx, cancel := context.WithTimeout(ctx, riseEvery)
	defer cancel()
	members, err := group.Levels(ctx)
	if err != nil {
		return risen{to: now, why: fmt.Sprintf("the shard's level is %d and could be %d: its members cannot be "+
			"asked: %v", now, to, err)}
	}
	return judgeLevel(members, now, to, finalized)
}

// judgeLevel returns how far a shard of level now may rise towards the level to. What is above the level finalized
// waits for an operator where a member wants it so.
func judgeLevel(members []raftstore.MemberLevel, now, to, finalized level.Level) risen {
	r := risen{to: max(min(to, level.Level(raftstore.RiseTo(members))), now), asked: true}
	var holds []string
	for _, m := range members {
		switch {
		case m.Err != nil:
			holds, r.asked = append(holds, fmt.Sprintf("node %s does not answer: %v", m.Node, m.Err)), false
		case m.Level < uint32(to):
			holds, r.asked = append(holds, fmt.Sprintf("the version of node %s has level %d", m.Node, m.Level)), false
		case m.Allows < uint32(to):
			holds = append(holds, fmt.Sprintf("cluster.max_level of node %s is %d", m.Node, m.Allows))
		}
		if m.Manual && to > finalized {
			holds = append(holds, fmt.Sprintf("cluster.finalize of node %s is manual (deckle upgrade finalize)",
				m.Node))
			r.to = max(min(r.to, finalized), now)
		}
	}
	if len(holds) > 0 {
		r.why = fmt.Sprintf("the shard's level is %d and could be %d: %s", now, to, strings.Join(holds, "; "))
	}
	return r
}

// showLow shows what holds the level down, once that has lasted.
func (l *leadership) showLow(r *risen, now time.Time) {
	switch {
	case r.why == "":
		l.lowSince = time.Time{}
	case l.lowSince.IsZero():
		l.lowSince = now
	}
	if r.why == "" || now.Sub(l.lowSince) < lowPatience {
		l.cond.keep(condition.LevelLow, l.cond.subject(), "")
		return
	}
	severity := condition.Degraded
	if r.asked {
		severity = condition.Notice
	}
	l.cond.now().Set(condition.LevelLow, l.cond.subject(), severity, r.why, "")
}

// askRise asks now and then, beside the intake, whether the level may rise, and ends the run if it may.
func (in *intake) askRise(view *state.View, now time.Time) error {
	select {
	case r := <-in.mayRise:
		in.showLow(&r, now)
		if r.to > in.level {
			return errRise
		}
	default:
	}
	every := riseEvery
	if level.Level(in.finalized.Load()) > in.level { // an operator waits for it
		every = time.Second
	}
	if in.level == level.Current || now.Sub(in.askedRise) < every {
		return nil
	}
	in.askedRise = now
	v := *view
	in.startWork(func(ctx context.Context) { // which ends with this run: a member that is silent holds nothing up
		select {
		case in.mayRise <- in.levelAllowed(ctx, &v):
		default: // there is an answer already
		}
	})
	return nil
}

// privacyWaits shows, and returns, why the shard must not be read for now; "" if it may be read: its level or its rules
// are not what this node's configuration asks for, or this node lacks a key.
func (l *leadership) privacyWaits(view *state.View, low *risen) string {
	why := waitsFor(&l.Config.Rules, &view.Rules, view.Level)
	if why != "" && view.Level < level.Guarded {
		switch most := level.Level(l.Config.Cluster.MaxLevel); {
		case low.why != "":
			why += "; " + low.why
		case most > 0 && most < level.Guarded:
			why += fmt.Sprintf(": cluster.max_level of this node is %d", most)
		}
	}
	l.cond.keep(condition.PrivacyWaits, l.cond.subject(), why)
	lacks := l.Keys.lacks(view.KeyIDs)
	l.keyless = len(lacks) > 0
	missing := ""
	if l.keyless {
		missing = "no file of privacy.keys has the key " + strings.Join(lacks, ", nor the key ")
	}
	l.cond.keep(condition.PrivacyKeyMissing, l.cond.subject(), missing)
	if why == "" {
		why = missing
	}
	return why
}

// handOnEvery is how often a leader without a key offers its shard to another node, which may have it.
const handOnEvery = time.Minute

// handOn offers the shard to the other nodes in turn while this one lacks a key. All may lack it: so not more often. It
// ends the run once the key is not needed any more.
func (in *intake) handOn(view *state.View, now time.Time) error {
	if !in.keyless {
		return nil
	}
	if len(in.Keys.lacks(view.KeyIDs)) == 0 {
		return errRise
	}
	nodes := in.Config.Cluster.Nodes
	if len(nodes) < 2 || now.Sub(in.handed) < handOnEvery {
		return nil
	}
	in.handed = now
	self := slices.IndexFunc(nodes, func(n config.Node) bool { return n.Name == in.Config.Node })
	in.startWork(func(ctx context.Context) { // which ends with this run, and so with the leadership
		ctx, cancel := context.WithTimeout(ctx, handOnEvery)
		defer cancel()
		for i := 1; i < len(nodes) && ctx.Err() == nil; i++ {
			name := nodes[(self+i)%len(nodes)].Name
			in.log.Warn("a key is missing here: the shard is offered to another node", "node", name)
			if err := in.group.TransferLeadership(ctx, name); err == nil {
				return
			}
		}
	})
	return nil
}
