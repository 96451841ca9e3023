package history

import (
	"strings"
	"testing"
)

const cluster = "c/deckle/"

// batch is a batch_id.
func batch(shard, epoch uint64) uint64 { return shard<<40 | epoch }

// found returns what a history has reported, "" if nothing.
func found(v *Violations) string {
	_, list := v.List()
	var out []string
	for _, x := range list {
		out = append(out, x.What)
	}
	return strings.Join(out, "\n")
}

// expect wants exactly one complaint, which contains the text; "" wants none.
func expect(t *testing.T, v *Violations, want string) {
	t.Helper()
	got := found(v)
	if want == "" && got != "" || want != "" && (!strings.Contains(got, want) || strings.Contains(got, "\n")) {
		t.Errorf("complaints:\n%s\nwant one with %q", got, want)
	}
}

// eventFile makes a file of events of shard 1, whose partition is 1.
func eventFile(path string, epoch uint64, offsets ...int64) AddedFile {
	f := AddedFile{Path: path}
	for _, o := range offsets {
		f.Rows = append(f.Rows, Row{Partition: 1, Offset: o, Batch: batch(1, epoch)})
	}
	return f
}

func eventsTxn(epoch int64) map[string]int64 { return map[string]int64{cluster + "1/events": epoch} }

func TestEventsHistory(t *testing.T) {
	good := []Commit{
		{Txns: eventsTxn(1), Adds: []AddedFile{eventFile("a", 1, 0, 1), eventFile("b", 1, 3)}},
		{Txns: map[string]int64{cluster + "2/events": 5}, Adds: []AddedFile{{"c", []Row{{Partition: 2, Offset: 7,
			Batch: batch(2, 5)}}}}},
		{Txns: eventsTxn(3), Adds: []AddedFile{eventFile("d", 2, 4), eventFile("e", 3, 5, 6)}},
	}
	for name, c := range map[string]struct {
		next Commit
		want string
	}{
		"the next epoch":          {Commit{Txns: eventsTxn(4), Adds: []AddedFile{eventFile("f", 4, 7)}}, ""},
		"an epoch without events": {Commit{Txns: eventsTxn(6), Adds: []AddedFile{eventFile("f", 6, 9)}}, ""},
		"a file is gone":          {Commit{Removes: []string{"a"}}, "file a is gone"},
		"compacted": {Commit{Rearranges: true, Removes: []string{"a", "b"},
			Adds: []AddedFile{eventFile("f", 1, 3, 1, 0)}}, ""},
		"compacted, but for a row": {Commit{Rearranges: true, Removes: []string{"a", "b"},
			Adds: []AddedFile{eventFile("f", 1, 0, 1)}}, "3 rows are rearranged, and are 2 others now"},
		"a row compacted twice": {Commit{Rearranges: true, Removes: []string{"a"},
			Adds: []AddedFile{eventFile("f", 1, 0, 1, 3)}}, "2 rows are rearranged, and are 3 others now"},
		"compacted into other rows": {Commit{Rearranges: true, Removes: []string{"a"},
			Adds: []AddedFile{eventFile("f", 1, 0, 2)}}, "2 rows are rearranged, and are 2 others now"},
		"compacted and written": {Commit{Rearranges: true, Changes: true, Txns: eventsTxn(4), Removes: []string{"b"},
			Adds: []AddedFile{eventFile("f", 1, 3)}}, "in a version that does more"},
		"a record twice": {Commit{Txns: eventsTxn(4), Adds: []AddedFile{eventFile("f", 4, 5)}},
			"record 1/5 stands twice"},
		"twice within a commit": {Commit{Txns: eventsTxn(4),
			Adds: []AddedFile{eventFile("f", 4, 7), eventFile("g", 4, 7)}}, "record 1/7 stands twice"},
		"the rest of an epoch": {Commit{Txns: eventsTxn(4), Adds: []AddedFile{eventFile("f", 3, 7)}},
			"epoch 3 of shard 1 grows after epoch 3 was visible"},
		"an older record": {Commit{Txns: eventsTxn(4), Adds: []AddedFile{eventFile("f", 4, 2)}},
			"record 1/2 appears after record 6"},
		"without txn": {Commit{Adds: []AddedFile{eventFile("f", 4, 7)}}, "come without their txn"},
		"another sink's txn": {Commit{Txns: map[string]int64{cluster + "1/sessions": 4},
			Adds: []AddedFile{eventFile("f", 4, 7)}}, "come without their txn"},
		"a txn behind its rows": {Commit{Txns: eventsTxn(4), Adds: []AddedFile{eventFile("f", 5, 7)}},
			"is at 4, and there are rows of epoch 5"},
		"a txn that goes back":   {Commit{Txns: eventsTxn(2)}, "goes from 3 to 2"},
		"a txn that is repeated": {Commit{Txns: eventsTxn(3)}, "goes from 3 to 3"},
		"another shard's epoch": {Commit{Txns: map[string]int64{cluster + "2/events": 6},
			Adds: []AddedFile{{"f", []Row{{Partition: 2, Offset: 8, Batch: batch(2, 6)}}}}}, ""},
		"far into a new partition": {Commit{Txns: eventsTxn(4),
			Adds: []AddedFile{{"f", []Row{{Partition: 7, Offset: 100_000, Batch: batch(1, 4)}}}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			v := NewViolations()
			h := NewEvents(v.Add)
			for i := range good {
				h.Commit(&good[i])
			}
			expect(t, v, "")
			h.Commit(&c.next)
			expect(t, v, c.want)
		})
	}
}

// closed makes a file of sessions of shard 1.
func closed(path string, rows ...Row) AddedFile {
	for i := range rows {
		rows[i].Origin = "1/0"
		rows[i].Batch = batch(1, rows[i].Batch)
	}
	return AddedFile{path, rows}
}

func sessionsTxn(epoch int64) map[string]int64 {
	return map[string]int64{cluster + "1/sessions": epoch}
}

func TestSessionsHistory(t *testing.T) {
	good := func() []Commit {
		return []Commit{
			{Txns: sessionsTxn(2), Adds: []AddedFile{closed("a", Row{Session: "s", Batch: 1, Total: 3},
				Row{Session: "u", Batch: 2, Total: 1})}},
			{Txns: sessionsTxn(5), Adds: []AddedFile{closed("b", Row{Session: "v", Batch: 4, Total: 2})}},
			{Txns: map[string]int64{cluster + "1/sessions.revisions": 5}, Removes: []string{"a"},
				Adds: []AddedFile{closed("c", Row{Session: "s", Batch: 3, Total: 4, Revision: 1},
					Row{Session: "u", Batch: 2, Total: 1})}},
		}
	}
	replace := func(rows ...Row) Commit {
		return Commit{Removes: []string{"c"}, Adds: []AddedFile{closed("d", rows...)}}
	}
	u := Row{Session: "u", Batch: 2, Total: 1}
	deleted := func(rows ...Row) Commit {
		c := replace(rows...)
		c.Deletes, c.Changes = true, true
		return c
	}
	for name, c := range map[string]struct {
		next Commit
		want string
	}{
		"the next plan": {Commit{Txns: sessionsTxn(7),
			Adds: []AddedFile{closed("d", Row{Session: "w", Batch: 6})}}, ""},
		"a revision":               {replace(Row{Session: "s", Batch: 6, Total: 4, Revision: 2}, u), ""},
		"a session that is gone":   {replace(u), "session s 1/0 is gone"},
		"a file that is gone":      {Commit{Removes: []string{"b"}}, "session v 1/0 is gone"},
		"compacted, but for a row": {Commit{Rearranges: true, Removes: []string{"b"}}, "session v 1/0 is gone"},
		"compacted": {Commit{Rearranges: true, Removes: []string{"b", "c"}, Adds: []AddedFile{closed("d", u,
			Row{Session: "s", Batch: 3, Total: 4, Revision: 1}, Row{Session: "v", Batch: 4, Total: 2})}}, ""},
		"compacted into another image": {Commit{Rearranges: true, Removes: []string{"b"},
			Adds: []AddedFile{closed("d", Row{Session: "v", Batch: 5, Total: 2})}}, "session v 1/0 is rearranged from"},
		"an unknown file": {Commit{Removes: []string{"x"}}, "file x is removed and was not there"},
		"another opening brand": {replace(Row{Session: "s", Batch: 6, Total: 4, Revision: 2, Opening: "b"}, u),
			`session s 1/0 has the opening brand "b", and had ""`},
		"an older epoch": {replace(Row{Session: "s", Batch: 1, Total: 4, Revision: 1}, u),
			"session s 1/0 goes back"},
		"an older revision": {replace(Row{Session: "s", Batch: 6, Total: 4}, u), "session s 1/0 goes back"},
		"fewer events": {replace(Row{Session: "s", Batch: 6, Total: 3, Revision: 2}, u),
			"session s 1/0 goes back"},
		"a session twice": {Commit{Txns: sessionsTxn(7),
			Adds: []AddedFile{closed("d", Row{Session: "v", Batch: 6, Total: 2})}}, "session v 1/0 stands twice"},
		"the rest of a plan": {Commit{Txns: sessionsTxn(7),
			Adds: []AddedFile{closed("d", Row{Session: "w", Batch: 5})}}, "inserted after epoch 5"},
		"a revision that inserts": {Commit{Txns: map[string]int64{cluster + "1/sessions.revisions": 7},
			Adds: []AddedFile{closed("d", Row{Session: "w", Batch: 6})}}, "come without their txn"},
		"deleted by another tool":      {deleted(u), ""},
		"all of a file deleted":        {Commit{Deletes: true, Changes: true, Removes: []string{"b"}}, ""},
		"deleted, and another changed": {deleted(Row{Session: "u", Batch: 3, Total: 1}), "session u 1/0 is rearranged"},
		"deleted, and another added":   {deleted(u, Row{Session: "w", Batch: 6}), "come without their txn"},
		"a txn behind its sessions": {Commit{Txns: sessionsTxn(6),
			Adds: []AddedFile{closed("d", Row{Session: "w", Batch: 7})}}, "there are rows of epoch 7"},
	} {
		t.Run(name, func(t *testing.T) {
			v := NewViolations()
			h := NewSessions(v.Add)
			for _, g := range good() {
				h.Commit(&g)
			}
			expect(t, v, "")
			h.Commit(&c.next)
			expect(t, v, c.want)
		})
	}
}

// A row that another tool has deleted never comes back, neither by an insert nor by a revision.
func TestDeletedForEver(t *testing.T) {
	v := NewViolations()
	h := NewSessions(v.Add)
	s, u := Row{Session: "s", Batch: 1, Total: 3}, Row{Session: "u", Batch: 2, Total: 1}
	h.Commit(&Commit{Txns: sessionsTxn(2), Adds: []AddedFile{closed("a", s, u)}})
	h.Commit(&Commit{Deletes: true, Changes: true, Removes: []string{"a"},
		Adds: []AddedFile{closed("b", Row{Session: "u", Batch: 2, Total: 1})}})
	expect(t, v, "")
	if !h.Deleted("s", "1/0") || h.Deleted("u", "1/0") || h.Has("s", "1/0") {
		t.Errorf("s deleted %v, u deleted %v, s there %v", h.Deleted("s", "1/0"), h.Deleted("u", "1/0"),
			h.Has("s", "1/0"))
	}
	h.Commit(&Commit{Txns: map[string]int64{cluster + "1/sessions.revisions": 4}, Changes: true,
		Adds: []AddedFile{closed("c", Row{Session: "s", Batch: 4, Total: 5, Revision: 1})}})
	expect(t, v, "session s 1/0 was deleted by another tool, and comes back")
}

func TestOffsets(t *testing.T) {
	var o offsets
	for _, x := range []int64{0, 63, 64, 1000, 100_000} {
		if o.has(x) || !o.add(x) || !o.has(x) || o.add(x) {
			t.Errorf("offset %d", x)
		}
	}
	if o.has(1) || o.has(1_000_000) || o.n != 5 {
		t.Errorf("%d offsets, 1 %v, 1000000 %v", o.n, o.has(1), o.has(1_000_000))
	}
}
