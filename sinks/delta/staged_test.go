package delta

import (
	"errors"
	"testing"
	"time"

	"deckle/schema"
	"deckle/sim/testworld/objects"
	"deckle/sinks/delta/vacuum"
	"deckle/state"
	"deckle/state/statetest"
)

// A node that stood still between staging and committing makes its change again, with new files: vacuum may have taken
// the first ones.
func TestStagedTooLongAgo(t *testing.T) {
	if 2*StagedLife > vacuum.Floor {
		t.Fatalf("vacuum takes files that are %v old, a sink commits those that are %v old", vacuum.Floor, StagedLife)
	}
	m := newModel(5, 1)
	clock := objects.NewClock(time.Unix(1_700_000_000, 0))
	mem := objects.NewMem(clock.Now)
	opts := testOptions(mem, m.rng)
	opts.Now = clock.Now
	stands := true
	opts.step = func(name string) error {
		if name == "uploaded" && stands {
			clock.Pass(StagedLife + time.Second)
		}
		return nil
	}
	d := mustOpen(t, opts)
	defer d.Close()
	row := m.sessionRow(0, 1, 1)
	m.closed[row.Key()] = row
	plan := func() *state.Plan {
		return statetest.NewPlan(state.Config{}, state.SinkSessions, 0, 1, nil,
			statetest.Content{Rows: []schema.SessionRow{row}})
	}
	if err := d.Sessions().Write(t.Context(), plan()); !errors.Is(err, errStaged) {
		t.Fatalf("committed what it had staged a day ago: %v", err)
	}
	stands = false
	first := mem.Keys("sessions/session_date")
	for _, key := range first {
		if err := mem.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Sessions().Write(t.Context(), plan()); err != nil || len(first) != 1 {
		t.Fatalf("staged again: %v, first %q", err, first)
	}
	checkSessions(t, mem, m)
}
