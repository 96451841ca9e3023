package shard

import (
	"strings"
	"testing"

	"deckle/node/config"
	"deckle/node/status"
	"deckle/state"
)

// A limit is that of the moment: another one counts from the next look on, and the configuration of the start no more.
func TestLimitsOfTheMoment(t *testing.T) {
	in := &intake{leadership: newTestLeadership(t)}
	in.cur = in.newBuf()
	in.cur.raw, in.ratio = 1000, 1
	in.Config.Limits.EntryBytes, in.Config.Limits.UnflushedEpochs = 64<<10, 9
	now := *in.Config
	in.Live = func() *config.Config { return &now }
	view := &state.View{LastClosed: 10}
	view.Config.Sinks = []state.SinkID{state.SinkClickHouse}
	view.Sinks[state.SinkClickHouse].Acked = 5
	if in.decidePause(view); in.paused != "" || in.full() {
		t.Errorf("%q, full %v, with room for both", in.paused, in.full())
	}
	now.Limits.EntryBytes, now.Limits.UnflushedEpochs = 1000, 4
	if in.decidePause(view); status.PauseReason(in.paused) != status.PauseEpochs || !in.full() {
		t.Errorf("%q, full %v, with room for neither", in.paused, in.full())
	}
}

// Every sink counts but revisions, which is behind by a pass by design.
func TestUnflushedEpochs(t *testing.T) {
	all := []state.SinkID{state.SinkEvents, state.SinkSessions, state.SinkRevisions, state.SinkClickHouse,
		state.SinkDeadLetter}
	for _, enabled := range [][]state.SinkID{all, {state.SinkClickHouse, state.SinkDeadLetter}} {
		for _, slow := range all {
			for _, behind := range []uint64{3, 4} {
				in := &intake{leadership: newTestLeadership(t)}
				in.Config.Limits.UnflushedEpochs = 3
				view := &state.View{LastClosed: 10}
				view.Config.Sinks = enabled
				for _, id := range all {
					view.Sinks[id].Acked = 10
				}
				view.Sinks[slow].Acked = 10 - behind
				in.decidePause(view)
				on := false
				for _, id := range enabled {
					on = on || id == slow
				}
				want := on && slow != state.SinkRevisions && behind > 3
				if got := status.PauseReason(in.paused) == status.PauseEpochs; got != want {
					t.Errorf("sinks %v, %v is %d behind: paused %v (%s)", enabled, slow, behind, got, in.paused)
				}
				if want && !strings.Contains(in.paused, slow.String()) {
					t.Errorf("%q does not name %v", in.paused, slow)
				}
			}
		}
	}
}
