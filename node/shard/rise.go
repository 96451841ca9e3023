package shard

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"deckle/event"
	"deckle/node/config"
	"deckle/raftstore"
	"deckle/schema/level"
	"deckle/state"
)

// riseEvery is how often a leader whose shard is below the level of its binary looks whether it may rise.
const riseEvery = 10 * time.Second

// errRise ends a run of the intake so that the level can rise before the next one.
var errRise = errors.New("shard: the level may rise")

// rise raises the shard's level as far as the binaries of all members and the configuration allow, and replaces the
// rules if this node's file has newer ones. It is called between two runs of the intake, so no entry of the intake is
// in flight, and no record lies decoded by former rules.
func (l *leadership) rise(ctx context.Context) error {
	view := l.store.View()
	if to := l.levelAllowed(ctx, &view); to > view.Level {
		l.log.Info("the shard's level rises", "from", view.Level, "to", to)
		if _, err := l.group.Propose(state.EncodeLevel(l.Now().UnixMilli(), to)).Wait(ctx); err != nil {
			return err
		}
		view = l.store.View()
	}
	if view.Level < level.Real {
		return nil
	}
	wanted := wantedRules(&l.Config.Rules)
	if view.Rules.Number > 0 && wanted.Revision <= view.Rules.Revision {
		if rulesDiffer(&wanted, &view.Rules) {
			l.log.Warn("the rules of this node's file are not those of the shard; raise rules.revision in the files "+
				"of all nodes", "revision", wanted.Revision, "present", view.Rules.Revision)
		}
		return nil
	}
	wanted.Number = view.Rules.Number + 1
	l.log.Info("the rules change", "number", wanted.Number, "revision", wanted.Revision)
	_, err := l.group.Propose(state.EncodeRules(l.Now().UnixMilli(), wanted)).Wait(ctx)
	return err
}

// levelAllowed returns the level to which the shard may rise now: its present one unless every member of the group has
// told a higher one.
func (l *leadership) levelAllowed(ctx context.Context, view *state.View) level.Level {
	to := level.Current
	if most := l.Config.Cluster.MaxLevel; most > 0 {
		to = min(to, level.Level(most))
	}
	if to <= view.Level {
		return view.Level
	}
	ctx, cancel := context.WithTimeout(ctx, riseEvery)
	defer cancel()
	members, err := l.group.Levels(ctx)
	if err != nil {
		l.log.Info("the shard's level stays: its members cannot be asked", "level", view.Level, "error", err)
		return view.Level
	}
	return max(min(to, level.Level(raftstore.RiseTo(members))), view.Level)
}

// askRise asks now and then, beside the intake, whether the level may rise, and ends the run if it may.
func (in *intake) askRise(view *state.View, now time.Time) error {
	select {
	case may := <-in.mayRise:
		if may {
			return errRise
		}
	default:
	}
	if in.level == level.Current || now.Sub(in.askedRise) < riseEvery {
		return nil
	}
	in.askedRise = now
	v := *view
	in.Background(func() {
		select {
		case in.mayRise <- in.levelAllowed(context.Background(), &v) > v.Level:
		default: // the run has ended, or has an answer already
		}
	})
	return nil
}

// CheckRules returns what is wrong with the rules of a configuration, beyond what the configuration itself can tell.
func CheckRules(c *config.Rules) error {
	r := wantedRules(c)
	if err := r.Event.Check(); err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	return nil
}

// wantedRules are the rules of the configuration.
func wantedRules(c *config.Rules) state.Rules {
	r := state.DefaultRules()
	r.Revision = uint64(c.Revision)
	r.ClockSlack, r.LeaveOut = c.Clock.Slack, c.Clock.LeaveOut
	r.MaxSessionBytes, r.Event.MaxMetricsBytes = c.Session.MaxBytes, uint32(c.Session.MaxMetricsBytes)
	r.Event.UnknownTypes = event.UnknownTypes(c.EventTypes.Unknown)
	for _, x := range c.Exclude {
		r.Event.Exclude = append(r.Event.Exclude, event.Exclude(x))
	}
	return r
}

// rulesDiffer says whether rules are other ones than the present ones, whatever their numbers.
func rulesDiffer(wanted, present *state.Rules) bool {
	w, p := *wanted, *present
	w.Number, p.Number = 0, 0
	same := w.Event.Equals(&p.Event)
	w.Event, p.Event = event.Rules{}, event.Rules{}
	return !same || !reflect.DeepEqual(w, p)
}
