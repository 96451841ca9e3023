package verify

import (
	"slices"
	"testing"
)

func TestLetterRow(t *testing.T) {
	for key, want := range map[string][]string{
		"web/clicks/3/17": {"3", "17", "malformed"}, "other/3/17": {"other/3/17", "",
			"malformed"}, "web/clicks/x": {"web/clicks/x", "", "malformed"},
	} {
		if got := letterRow("web/clicks", key, "malformed"); !slices.Equal(got, want) {
			t.Errorf("%s: %q", key, got)
		}
	}
}
