package letters

import (
	"fmt"
	"testing"

	"deckle/event"
	"deckle/node/kafka"
)

// The key of a lost record is found by the number of partitions that the topic had when the record was written.
func TestKeyAfterGrowth(t *testing.T) {
	for _, size := range []int32{6, 12} {
		for i := range 500 {
			ev := &event.Event{SessionID: fmt.Sprint("session-", i), UserID: uint64(i) + 1}
			partition := kafka.Murmur2.Partition([]byte(ev.SessionID), size)
			if got := keyOf(ev, partition, []int32{12, 6}); string(got) != ev.SessionID {
				t.Fatalf("session %d by %d partitions: %q", i, size, got)
			}
		}
	}
	// A user's key is found where no session's could be meant.
	found := 0
	for i := range 500 {
		ev := &event.Event{SessionID: fmt.Sprint("session-", i), UserID: uint64(i) + 1}
		user := fmt.Sprint(ev.UserID)
		if string(keyOf(ev, kafka.Murmur2.Partition([]byte(user), 12), []int32{12})) == user {
			found++
		}
	}
	if found < 300 {
		t.Errorf("%d of 500 keys of users", found)
	}
}
