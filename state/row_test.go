package state

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
)

// What a row counts of a session's texts, on either side of the number up to which they are compared one by one, is
// what a map counts; and a row that needs no pages counts the articles as one that has them.
func TestRowCounts(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 1))
	var builders [2]rowBuilder
	builders[1].noPages = true
	for round := range 200 {
		s, articles, categories := &session{id: "s", status: schema.StatusOpen}, map[string]bool{}, map[string]bool{}
		visited := uint32(0)
		kinds := 1 + rng.IntN(3*maxLinear)
		for i := range 1 + rng.IntN(300) {
			it := &event.Item{Offset: int64(i), Event: event.Event{ID: event.ID{byte(i), byte(i >> 8)}, SessionID: "s",
				UserID: 1, Type: event.ArticleView, Timestamp: 1_700_000_000 + rng.Int64N(50)}}
			if rng.IntN(5) > 0 {
				it.ArticleID = fmt.Sprint("a", rng.IntN(kinds))
				articles[it.ArticleID] = true
				visited++
			}
			if rng.IntN(5) > 0 {
				it.Category = fmt.Sprint("c\"", rng.IntN(kinds))
				categories[it.Category] = true
			}
			s.fold(it, nil)
		}
		view := new(session)
		must(t, view.view(s.encode(nil, level.First)))
		for i := range builders {
			row, err := builders[i].build(view, 1, nil)
			must(t, err)
			if int(row.UniquePages) != len(articles) || int(row.UniqueCategories) != len(categories) ||
				row.PagesVisited != visited {
				t.Fatalf("round %d, builder %d: %d articles in %d events, %d categories, want %d in %d, %d", round, i,
					row.UniquePages, row.PagesVisited, row.UniqueCategories, len(articles), visited, len(categories))
			}
			if i == 1 {
				continue
			}
			var told []string
			must(t, json.Unmarshal([]byte(row.Categories), &told))
			slices.Sort(told)
			if told = slices.Compact(told); len(told) != len(categories) {
				t.Fatalf("round %d: the list has %d categories, want %d", round, len(told), len(categories))
			}
		}
	}
}

// ClickHouse has a table of pages, Delta has none: only the rows of the plans that read all images have them.
func TestWhoGetsPages(t *testing.T) {
	s := openPlanStore(t, vfs.NewMem(), "shard")
	defer func() { must(t, s.Close()) }()
	pages := func(id SinkID) (rows, pages, articles int) {
		p, err := s.OpenPlan(id)
		must(t, err)
		must(t, p.Sessions(func(r *schema.SessionRow) error {
			rows, pages, articles = rows+1, pages+len(r.Pages), articles+int(r.UniquePages)
			return nil
		}))
		must(t, p.Close())
		return rows, pages, articles
	}
	if rows, n, articles := pages(SinkClickHouse); rows == 0 || articles == 0 || n < articles {
		t.Errorf("ClickHouse: %d rows with %d pages of %d articles", rows, n, articles)
	}
	// All sessions expire, so that Delta gets them.
	index, now := uint64(4), int64(t0+100_000)*1000
	for _, entry := range [][]byte{
		AppendBatch(nil, &BatchEntry{Now: now, Elapsed: 100_000e9, Idle: []int32{0, 1, 2}}),
		AppendBatch(nil, &BatchEntry{Now: now + 1, Elapsed: 100_000e9, Idle: []int32{0, 1, 2}}),
		EncodeCut(now+2, 0, 0), EncodePlan(SinkSessions, 0),
	} {
		index++
		_, err := s.Apply(index, 1, entry)
		must(t, err)
	}
	if rows, n, articles := pages(SinkSessions); rows == 0 || articles == 0 || n != 0 {
		t.Errorf("Delta: %d rows with %d pages of %d articles", rows, n, articles)
	}
}

// Every byte that must be escaped, wherever it stands, and bytes beside it that look like it to arithmetic on words.
func TestJSONText(t *testing.T) {
	check := func(s []byte) {
		t.Helper()
		var got string
		text := appendJSONText(nil, s)
		if err := json.Unmarshal(text, &got); err != nil || got != string(s) {
			t.Fatalf("%q is %s: read back as %q, %v", s, text, got, err)
		}
		n := 0
		for n < len(s) && s[n] >= 0x20 && s[n] != '"' && s[n] != '\\' {
			n++
		}
		if got := plain(s); got != n {
			t.Fatalf("%q: %d bytes are plain, want %d", s, got, n)
		}
	}
	near := []byte{0, 1, 0x1f, 0x20, 0x21, '"', '#', '[', '\\', ']', 0x7e, 0x7f}
	for size := range 20 {
		s := make([]byte, size)
		for at := range s {
			for _, rest := range near {
				for i := range s {
					s[i] = rest
				}
				for c := range byte(0x80) {
					s[at] = c
					check(s)
				}
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	alphabet := []rune("\x00\x1f !\"#[\\]a\u007f\u0080\u00ff\u2028\U0001f600")
	for range 20_000 {
		var s []byte
		for range rng.IntN(30) {
			s = append(s, string(alphabet[rng.IntN(len(alphabet))])...)
		}
		check(s)
	}
}
