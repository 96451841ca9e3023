package state

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
)

// brandEvent is a record of the session at an offset of partition 0, so many seconds behind t0.
func brandEvent(session string, offset, seconds int64, typ event.Type, brand string) event.Item {
	return event.Item{Offset: offset, KafkaTimestamp: t0 * 1000, Event: event.Event{ID: event.ID{byte(offset), 1},
		SessionID: session, Type: typ, Timestamp: t0 + seconds, Brand: brand}}
}

// TestOpeningBrandImage: an image holds the brand of the record that opened the row, whatever the first event by time
// has, and a row of a level before holds none.
func TestOpeningBrandImage(t *testing.T) {
	const view = event.ArticleView
	long := strings.Repeat("x", maxOpeningBrand+1)
	for name, c := range map[string]struct {
		at     level.Level
		items  []event.Item
		want   opening
		brand  string // of the first event
		longer int    // bytes of the image, beside that of one whose first event opened the row
	}{
		"the first event": {level.Lake, []event.Item{brandEvent("s", 1, 5, view, "a")}, opening{true, "a"}, "a", 0},
		"a later one by time": {level.Lake, []event.Item{brandEvent("s", 1, 5, view, "a"),
			brandEvent("s", 2, 3, view, "bb")}, opening{true, "a"}, "bb", 2},
		"without a brand": {level.Lake, []event.Item{brandEvent("s", 1, 5, view, ""),
			brandEvent("s", 2, 3, view, "b")}, opening{true, ""}, "b", 1},
		"too long a brand": {level.Lake, []event.Item{brandEvent("s", 1, 5, view, long)}, opening{true, ""}, long, 1},
		"before the level": {level.Guarded, []event.Item{brandEvent("s", 1, 5, view, "a")}, opening{}, "a", 0},
	} {
		s := &session{id: "s", status: schema.StatusOpen, visit: visit{real: true},
			opening: openingOf(&c.items[0], c.at)}
		for i := range c.items {
			s.fold(&c.items[i], nil)
		}
		for l := c.at; l <= level.Current; l++ {
			image := s.encode(nil, l)
			back, err := decodeSession(image)
			must(t, err)
			var seen session
			must(t, seen.view(image))
			for _, got := range []*session{back, &seen} {
				if got.opening != c.want || got.texts.brand() != c.brand {
					t.Errorf("%s: opened by %+v, brand %q, want %+v, %q", name, got.opening, got.texts.brand(), c.want,
						c.brand)
				}
			}
			if again := back.encode(nil, l); !slices.Equal(again, image) {
				t.Errorf("%s: encoded again: %x, was %x", name, again, image)
			}
			same := *s
			same.opening.brand = c.brand
			if n := len(image) - len(same.encode(nil, l)); n != c.longer {
				t.Errorf("%s: the brand takes %d bytes of the image, want %d", name, n, c.longer)
			}
		}
		row, err := new(rowBuilder).build(s, 0, nil)
		must(t, err)
		if row.OpeningBrand != c.want.brand || row.Brand != c.brand {
			t.Errorf("%s: row has %q and %q, want %q and %q", name, row.OpeningBrand, row.Brand, c.want.brand, c.brand)
		}
	}
}

// TestOpeningBrandOfDamagedImage: an image says a brand in one way only, as replicas compare the bytes of images.
func TestOpeningBrandOfDamagedImage(t *testing.T) {
	it := brandEvent("s", 1, 5, event.Search, "a")
	s := &session{id: "s", status: schema.StatusOpen, visit: visit{real: true}, opening: opening{true, "q"}}
	s.fold(&it, nil)
	image := s.encode(nil, level.Lake)
	const flagsAt = 2
	if image[flagsAt]&(flagOpening|flagOpeningOther) != flagOpening|flagOpeningOther {
		t.Fatalf("flags %x", image[flagsAt])
	}
	unknown, same := slices.Clone(image), slices.Clone(image)
	unknown[flagsAt] &^= flagOpening
	same[slices.Index(same, 'q')] = 'a'
	for name, damaged := range map[string][]byte{"a brand that is not known": unknown, "the first event's": same} {
		if _, err := decodeSession(damaged); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOpeningBrandStays: neither earlier nor later events, nor a rise of the level, change the brand of the record that
// opened the row; a session_end that opens it gives its own, and a row of the level before has none for ever. A replica
// that reads each session from its disk comes to the same as one that has it in memory.
func TestOpeningBrandStays(t *testing.T) {
	for _, restart := range []bool{false, true} {
		s := &keyScript{t: t, fs: vfs.NewMem(), next: map[int32]int64{}}
		s.open()
		l := level.Guarded
		send := func(it event.Item) {
			t.Helper()
			at := s.next[0]
			s.next[0]++
			it.Offset, it.ID = at, event.ID{byte(at), 1}
			s.apply(AppendBatch(nil, &BatchEntry{Now: t0 * 1000, Level: l, Batch: event.Batch{
				Ranges: []event.Range{{From: at, To: at + 1}}, Items: []event.Item{it}}}))
			if restart {
				s.apply(EncodeCut(t0*1000, 0, 0))
				s.reopen()
			}
		}
		want := func(session, brand, opening string) {
			t.Helper()
			row, ok, err := s.Session(session)
			must(t, err)
			if !ok || row.Brand != brand || row.OpeningBrand != opening {
				t.Errorf("restart %t: session %s: %t, brand %q, opened with %q, want %q and %q", restart, session, ok,
					row.Brand, row.OpeningBrand, brand, opening)
			}
		}
		s.apply(EncodeConfig(testConfig()))
		s.apply(EncodeLevel(t0*1000, l))
		send(brandEvent("old", 0, 20, event.Search, "a"))
		want("old", "a", "")
		l = level.Lake
		s.apply(EncodeLevel(t0*1000, l))
		send(brandEvent("old", 0, 30, event.Search, "b"))
		want("old", "a", "")
		send(brandEvent("old", 0, 10, event.Search, "c"))
		want("old", "c", "")

		send(brandEvent("new", 0, 20, event.Search, "a"))
		want("new", "a", "a")
		send(brandEvent("new", 0, 10, event.Search, "b"))
		want("new", "b", "a")
		send(brandEvent("new", 0, 5, event.Search, "a"))
		send(brandEvent("new", 0, 30, event.SessionEnd, "d"))
		want("new", "a", "a")

		send(brandEvent("end", 0, 20, event.SessionEnd, "e"))
		send(brandEvent("end", 0, 10, event.Search, "f"))
		want("end", "f", "e")
		send(brandEvent("none", 0, 20, event.Search, ""))
		send(brandEvent("none", 0, 10, event.Search, "a"))
		want("none", "a", "")
		must(t, s.Close())
	}
}
