package state

import (
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// samePeek fails unless Peek shows what View does. No entry may be under way.
func samePeek(t *testing.T, s *Store) {
	t.Helper()
	peek, view := s.Peek(), s.View()
	if view.DurableIndex = peek.DurableIndex; !reflect.DeepEqual(peek, view) { // DurableIndex moves by itself
		t.Errorf("Peek %+v\nView %+v", peek, view)
	}
}

// Peek and Metrics answer while an entry is being applied, however long that takes, with the figures from before it.
func TestPeekDoesNotWait(t *testing.T) {
	s := openPlanStore(t, vfs.NewMem(), "shard")
	want := s.View()
	s.mu.Lock() // as Apply does
	peek, m := s.Peek(), s.Metrics()
	s.mu.Unlock()
	if peek.Index != want.Index || peek.LastClosed != want.LastClosed || peek.Applied != want.Applied || m == nil {
		t.Errorf("Peek %+v, Metrics %v; View %+v", peek, m, want)
	}
	if want.Applied == 0 || want.LastClosed == 0 {
		t.Errorf("the store has nothing to show: %+v", want)
	}
	_, _, err := s.Snapshot("copy")
	must(t, err)
	samePeek(t, s)
	must(t, s.Restore("copy"))
	samePeek(t, s)
	must(t, s.Close())
	if s.Peek().Index != want.Index || s.Metrics() != nil {
		t.Errorf("after Close: Peek %+v, Metrics %v", s.Peek(), s.Metrics())
	}
}
