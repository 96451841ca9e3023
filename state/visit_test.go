package state

import (
	"reflect"
	"testing"

	"deckle/event"
	"deckle/schema/level"
)

// TestFirstKnownUser: a session belongs to the first known user in the order of (timestamp, partition, offset), in
// whatever order the records arrive, and its image holds everything of it: replicas compare the bytes of images.
func TestFirstKnownUser(t *testing.T) {
	item := func(at int64, user uint64, key string) event.Item {
		return event.Item{Offset: at, Event: event.Event{ID: event.ID{byte(at)}, SessionID: "s", UserID: user,
			UserKey: key, Type: event.Other, TypeName: "podcast", Timestamp: 1_700_000_000 + at}}
	}
	text := event.UserHash("a@example.com")
	for _, c := range []struct {
		items   []event.Item
		user    uint64
		key     string
		several bool
	}{
		{[]event.Item{item(1, 0, ""), item(2, 0, ""), item(3, 0, "")}, 0, "", false},
		{[]event.Item{item(1, 0, ""), item(2, 7, ""), item(3, 7, "")}, 7, "", false},
		{[]event.Item{item(1, 0, ""), item(2, text, "a@example.com"), item(3, 7, "")}, text, "a@example.com", true},
		{[]event.Item{item(1, 7, ""), item(2, 8, ""), item(3, 0, "")}, 7, "", true},
	} {
		for _, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
			s := &session{id: "s", status: 1, visit: visit{real: true}}
			for _, i := range order {
				s.fold(&c.items[i], nil)
			}
			back, err := decodeSession(s.encode(nil, level.Real))
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []*session{s, back} {
				if s.userID != c.user || s.userKey != c.key || s.several != c.several {
					t.Errorf("order %v: user %d %q, several %t, want %d %q, %t", order, s.userID, s.userKey, s.several,
						c.user, c.key, c.several)
				}
			}
			if !reflect.DeepEqual(s.visit, back.visit) {
				t.Errorf("order %v: %+v, decoded %+v", order, s.visit, back.visit)
			}
		}
	}
}
