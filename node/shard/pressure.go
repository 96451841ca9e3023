package shard

import (
	"fmt"
	"slices"
	"time"

	"deckle/node/status"
	"deckle/state"
)

const (
	// A shard makes a cut early when its sessions that have changed since the last cut, which stay in memory over the
	// budget, take this many times its share of the budget.
	memoryCut  = 1.5
	forceEvery = 10 * time.Second
)

// decidePause decides whether intake rests, and under disk pressure lets the state forget earlier.
func (in *intake) decidePause(view *state.View) {
	why := in.Paused()
	if status.PauseReason(why) == status.PauseDisk {
		in.forceHorizon(view)
	}
	if limit := in.present().Limits.UnflushedEpochs; why == "" && limit > 0 {
		for _, id := range view.Config.Sinks {
			if id.Spec().Trails {
				continue // behind by design
			}
			if behind := int64(view.LastClosed) - int64(view.Sinks[id].Acked); behind > int64(limit) {
				why = fmt.Sprintf("%s: sink %s is %d epochs behind, %d are allowed (limits.unflushed_epochs)",
					status.PauseEpochs, id, behind, limit)
				break
			}
		}
	}
	if why == "" && in.paused != "" {
		in.unpaused = in.Now()
	}
	in.paused = why
	in.cond.setPaused(why)
}

// holdsTooMuch says that the sessions that have changed since the last cut, which stay in memory until the next one,
// are too many for the budget: the cut is due then, whatever the flush interval, and no timer fires until it has let
// them go. After hours without a leader all timers come due at once, and each brings its session into memory.
func (in *intake) holdsTooMuch(view *state.View) bool {
	share := float64(in.Config.Limits.SessionMemoryBytes) / float64(max(in.Config.Cluster.Shards, 1))
	return view.OpenSessions > 0 && float64(view.MemoryBytes) > share*memoryCut
}

// forceHorizon makes the state forget closed sessions earlier, by an eighth of the retention at a time, where every
// sink has them: otherwise it would free nothing. Where there is nothing more to forget it repeats itself: each such
// entry makes a checkpoint, with the deletions that wait for one, and Pebble gives room back only after some of them,
// when it compacts. Nothing else would come while intake rests.
func (in *intake) forceHorizon(view *state.View) {
	now := in.Now()
	limit := view.Clock - int64((in.cfg.IdleTimeout+in.cfg.Grace)/time.Second)
	behind := slices.ContainsFunc(view.Config.Sinks, func(id state.SinkID) bool {
		return view.Sinks[id].Acked+1 < view.LastClosed
	})
	if view.Clock == 0 || behind || now.Sub(in.forced) < forceEvery || in.inFlight > in.entriesInFlight() {
		return
	}
	in.forced = now
	to := max(view.Horizon, min(limit, view.Horizon+max(int64(in.cfg.Retention/time.Second)/8, 1)))
	if to > view.Horizon {
		in.log.Warn("disk pressure: the horizon is forced up", "from", view.Horizon, "to", to)
		in.Metrics.horizonForced.WithLabelValues(in.label()).Inc()
	}
	in.dirty = true
	in.send(entryHorizon, nil, state.EncodeHorizon(to), now)
}
