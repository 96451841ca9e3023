package shard

import (
	"strings"
	"testing"

	"deckle/node/status"
	"deckle/state"
)

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
