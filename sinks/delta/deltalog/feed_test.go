package deltalog

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"deckle/sim/testworld/objects"
)

// TestChangeFeed: a change that replaces rows of a table with a change data feed has files of changes, or is made
// again; so is one that has them when the feed is off. It is never in one commit with a change that only adds rows,
// because readers of the feed would not see those; nothing is held up by that. What only rearranges rows needs none.
func TestChangeFeed(t *testing.T) {
	mem := objects.NewMem(nil)
	l := open(t, writerOptions(mem))
	for i := range 4 {
		submit(t, l, &Change{Parts: on(l, fmt.Sprint("s", i), 1), Last: true,
			Adds: []Add{add(fmt.Sprint("f", i), Origin{})}})
	}
	feed := func(on bool) {
		t.Helper()
		meta := *snapshot(l).Metadata
		meta.Configuration = maps.Clone(meta.Configuration)
		meta.Configuration[configChangeData] = fmt.Sprint(on)
		body, err := encodeCommit(&CommitInfo{}, &Protocol{1, 4, nil, nil}, &meta, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		mem.Overwrite(l.commitKey(snapshot(l).Version+1), body)
		if err := l.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if l.ChangeFeed() != on {
			t.Fatalf("the feed is %t", l.ChangeFeed())
		}
	}
	replace := func(i int, changes ...Cdc) *Change {
		return &Change{Parts: on(l, fmt.Sprint("r", i), 1), Last: true, Removes: []string{fmt.Sprint("f", i)},
			Adds: []Add{add(fmt.Sprint("g", i), Origin{})}, Changes: changes}
	}
	named := func(i int) Cdc {
		return Cdc{Path: fmt.Sprintf("_change_data/c%d", i), PartitionValues: map[string]string{}, Size: 1}
	}
	if err := l.Submit(t.Context(), replace(0, named(0))); !errors.Is(err, ErrRebuild) {
		t.Errorf("files of changes without a feed: %v", err)
	}
	feed(true)
	if err := l.Submit(t.Context(), replace(0)); !errors.Is(err, ErrRebuild) {
		t.Errorf("no files of changes: %v", err)
	}
	submit(t, l, &Change{Rearrange: true, Removes: []string{"f3"}, Adds: []Add{add("g3", Origin{})}})
	if err := l.CheckRemoves(); err != nil {
		t.Error(err)
	}
	// Of those that wait together some only add, some replace.
	before := snapshot(l).Version
	var group []Submission
	for _, c := range []*Change{replace(0, named(0)),
		{Parts: on(l, "s8", 1), Last: true, Adds: []Add{add("f8", Origin{})}}, replace(1, named(1)),
		{Parts: on(l, "s9", 1), Last: true, Adds: []Add{add("f9", Origin{})}}} {
		group = append(group, Submission{Change: c})
	}
	for i, a := range l.SubmitAll(t.Context(), group) {
		if a.Outcome != OutcomeCommitted {
			t.Errorf("change %d: %+v", i, a)
		}
	}
	if v := snapshot(l).Version; v != before+2 {
		t.Errorf("%d commits, want 2", v-before)
	}
	for v := before + 1; v <= snapshot(l).Version; v++ {
		data, err := mem.Get(t.Context(), l.commitKey(v))
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		if changes := strings.Count(text, `{"cdc":{"path":"_change_data/c`); changes != 0 && changes != 2 ||
			(changes == 2) == strings.Contains(text, `"path":"f8"`) {
			t.Errorf("version %d:\n%s", v, text)
		}
	}
	feed(false)
	submit(t, l, replace(2))
}
