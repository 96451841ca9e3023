package state

import (
	"testing"

	"deckle/event"
)

// TestIDsThatDifferLittle: every byte of an event's id counts. Ids that are counted up differ in their last bytes only,
// those of one millisecond may begin alike, and a record that is taken for a duplicate is lost.
func TestIDsThatDifferLittle(t *testing.T) {
	for _, first := range []int{0, linearIDs + 1} { // looked for one by one, and in a set
		s := &session{}
		for i := range first {
			s.remember(event.ID{0xff, byte(i)})
		}
		for i := range len(event.ID{}) {
			id := event.ID{}
			id[i] = 1
			if s.has(id) {
				t.Errorf("after %d others: an id that differs in byte %d is taken for a duplicate", first, i)
			}
			s.remember(id)
			if !s.has(id) {
				t.Errorf("after %d others: the id that differs in byte %d is not known again", first, i)
			}
		}
	}
}
