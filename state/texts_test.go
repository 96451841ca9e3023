package state

import (
	"strings"
	"testing"

	"deckle/event"
)

func TestTexts(t *testing.T) {
	long := strings.Repeat("ä", 200) // 400 bytes
	it := &event.Item{Event: event.Event{Brand: "bild", Country: "", City: long, DeviceType: "d", DeviceOS: "o",
		Browser: strings.Repeat("b", 256), SubscriptionTier: "free", UserSegment: "s", Referrer: long, Timezone: "z"}}
	all := textsOf(it, nil)
	var dims [10]string
	all.split(dims[:])
	if want := [10]string{"bild", "", long, "d", "o", it.Browser, "free", "s", long, "z"}; dims != want {
		t.Fatalf("split: %q", dims)
	}
	var rolled [8]string
	all.rolled().split(rolled[:])
	if want := [8]string{"bild", "", long[:256], "d", "o", it.Browser, "free", "s"}; rolled != want {
		t.Fatalf("rolled: %q", rolled)
	}
	it.City = "c"
	if all = textsOf(it, nil); !strings.HasPrefix(string(all), string(all.rolled())) {
		t.Fatal("texts of no great length are not their own beginning")
	}
	noTexts.split(dims[:])
	if dims != [10]string{} {
		t.Fatalf("none: %q", dims)
	}
	// What is broken off is empty, and ends.
	for n := range all {
		all[:n].split(dims[:])
		all[:n].rolled()
	}
	texts(strings.Repeat("\xff", 20)).split(dims[:])
}
