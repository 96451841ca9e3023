package state

import "testing"

// TestSinkTable: names and numbers are part of encodings, metrics and dead letters, and each row keeps the rules of
// SinkSpec.
func TestSinkTable(t *testing.T) {
	names := []string{"events", "sessions", "revisions", "clickhouse", "deadletter"}
	if len(names) != int(NumSinks) {
		t.Fatalf("%d sinks, want %d: a new sink is appended, and named here", NumSinks, len(names))
	}
	for id := range NumSinks {
		spec := id.Spec()
		if spec.ID != id || spec.Name != names[id] || id.String() != names[id] {
			t.Errorf("sink %d is %d, %q, want the name %q", id, spec.ID, spec.Name, names[id])
		}
		if spec.Reads == 0 {
			t.Errorf("%s reads nothing", id)
		}
		if spec.Bounded && spec.Reads != ReadsEvents {
			t.Errorf("%s is bounded, but does not read events alone", id)
		}
		if spec.After != NoSink && (spec.After >= NumSinks || spec.After == id || spec.After.Spec().After != NoSink) {
			t.Errorf("%s waits for %s", id, spec.After)
		}
	}
	if s := NoSink.Spec(); s.Name != "invalid" || NoSink.String() != "invalid" || s.After != NoSink {
		t.Errorf("no sink is %+v", s)
	}
}

// TestLastFor: a sink waits for another one only if the shard has that one.
func TestLastFor(t *testing.T) {
	v := View{LastClosed: 9, Config: Config{Sinks: []SinkID{SinkSessions, SinkRevisions}}}
	v.Sinks[SinkSessions].Acked = 4
	if got := v.LastFor(SinkRevisions); got != 4 {
		t.Errorf("revisions may end at %d, want 4", got)
	}
	if got := v.LastFor(SinkSessions); got != 9 {
		t.Errorf("sessions may end at %d, want 9", got)
	}
	v.Config.Sinks = []SinkID{SinkRevisions}
	if got := v.LastFor(SinkRevisions); got != 9 {
		t.Errorf("revisions without sessions may end at %d, want 9", got)
	}
}
