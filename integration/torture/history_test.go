package main

import (
	"strings"
	"testing"
)

const cluster = "c/deckle/"

// batch is a batch_id.
func batch(shard, epoch uint64) uint64 { return shard<<40 | epoch }

// found says what a history has complained about, "" if nothing.
func found(v *violations) string {
	_, list := v.list()
	var out []string
	for _, x := range list {
		out = append(out, x.What)
	}
	return strings.Join(out, "\n")
}

// expect wants exactly one complaint, which contains the text; "" wants none.
func expect(t *testing.T, v *violations, want string) {
	t.Helper()
	got := found(v)
	if want == "" && got != "" || want != "" && (!strings.Contains(got, want) || strings.Contains(got, "\n")) {
		t.Errorf("complaints:\n%s\nwant one with %q", got, want)
	}
}

// event makes a file of events of shard 1, whose partition is 1.
func event(path string, epoch uint64, offsets ...int64) addedFile {
	f := addedFile{path: path}
	for _, o := range offsets {
		f.rows = append(f.rows, deltaRow{partition: 1, offset: o, batch: batch(1, epoch)})
	}
	return f
}

func eventsTxn(epoch int64) map[string]int64 { return map[string]int64{cluster + "1/events": epoch} }

func TestEventsHistory(t *testing.T) {
	good := []commit{
		{txns: eventsTxn(1), adds: []addedFile{event("a", 1, 0, 1), event("b", 1, 3)}},
		{txns: map[string]int64{cluster + "2/events": 5}, adds: []addedFile{{"c", []deltaRow{{partition: 2, offset: 7, batch: batch(2, 5)}}}}},
		{txns: eventsTxn(3), adds: []addedFile{event("d", 2, 4), event("e", 3, 5, 6)}},
	}
	for name, c := range map[string]struct {
		next commit
		want string
	}{
		"the next epoch":           {commit{txns: eventsTxn(4), adds: []addedFile{event("f", 4, 7)}}, ""},
		"an epoch without events":  {commit{txns: eventsTxn(6), adds: []addedFile{event("f", 6, 9)}}, ""},
		"a file is gone":           {commit{removes: []string{"a"}}, "file a is gone"},
		"a record twice":           {commit{txns: eventsTxn(4), adds: []addedFile{event("f", 4, 5)}}, "record 1/5 stands twice"},
		"twice within a commit":    {commit{txns: eventsTxn(4), adds: []addedFile{event("f", 4, 7), event("g", 4, 7)}}, "record 1/7 stands twice"},
		"the rest of an epoch":     {commit{txns: eventsTxn(4), adds: []addedFile{event("f", 3, 7)}}, "epoch 3 of shard 1 grows after epoch 3 was visible"},
		"an older record":          {commit{txns: eventsTxn(4), adds: []addedFile{event("f", 4, 2)}}, "record 1/2 appears after record 6"},
		"without txn":              {commit{adds: []addedFile{event("f", 4, 7)}}, "come without their txn"},
		"another sink's txn":       {commit{txns: map[string]int64{cluster + "1/sessions": 4}, adds: []addedFile{event("f", 4, 7)}}, "come without their txn"},
		"a txn behind its rows":    {commit{txns: eventsTxn(4), adds: []addedFile{event("f", 5, 7)}}, "is at 4, and there are rows of epoch 5"},
		"a txn that goes back":     {commit{txns: eventsTxn(2)}, "goes from 3 to 2"},
		"a txn that is repeated":   {commit{txns: eventsTxn(3)}, "goes from 3 to 3"},
		"another shard's epoch":    {commit{txns: map[string]int64{cluster + "2/events": 6}, adds: []addedFile{{"f", []deltaRow{{partition: 2, offset: 8, batch: batch(2, 6)}}}}}, ""},
		"far into a new partition": {commit{txns: eventsTxn(4), adds: []addedFile{{"f", []deltaRow{{partition: 7, offset: 100_000, batch: batch(1, 4)}}}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newEventsHistory(newViolations())
			for i := range good {
				h.commit(&good[i])
			}
			expect(t, h.v, "")
			h.commit(&c.next)
			expect(t, h.v, c.want)
		})
	}
}

// closed makes a file of sessions of shard 1.
func closed(path string, rows ...deltaRow) addedFile {
	for i := range rows {
		rows[i].origin = "1/0"
		rows[i].batch = batch(1, rows[i].batch)
	}
	return addedFile{path, rows}
}

func sessionsTxn(epoch int64) map[string]int64 {
	return map[string]int64{cluster + "1/sessions": epoch}
}

func TestSessionsHistory(t *testing.T) {
	good := func() []commit {
		return []commit{
			{txns: sessionsTxn(2), adds: []addedFile{closed("a", deltaRow{session: "s", batch: 1, total: 3}, deltaRow{session: "u", batch: 2, total: 1})}},
			{txns: sessionsTxn(5), adds: []addedFile{closed("b", deltaRow{session: "v", batch: 4, total: 2})}},
			{txns: map[string]int64{cluster + "1/sessions.revisions": 5}, removes: []string{"a"},
				adds: []addedFile{closed("c", deltaRow{session: "s", batch: 3, total: 4, revision: 1}, deltaRow{session: "u", batch: 2, total: 1})}},
		}
	}
	replace := func(rows ...deltaRow) commit {
		return commit{removes: []string{"c"}, adds: []addedFile{closed("d", rows...)}}
	}
	u := deltaRow{session: "u", batch: 2, total: 1}
	for name, c := range map[string]struct {
		next commit
		want string
	}{
		"the next plan":             {commit{txns: sessionsTxn(7), adds: []addedFile{closed("d", deltaRow{session: "w", batch: 6})}}, ""},
		"a revision":                {replace(deltaRow{session: "s", batch: 6, total: 4, revision: 2}, u), ""},
		"a session that is gone":    {replace(u), "session s 1/0 is gone"},
		"a file that is gone":       {commit{removes: []string{"b"}}, "session v 1/0 is gone"},
		"an unknown file":           {commit{removes: []string{"x"}}, "file x is removed and was not there"},
		"an older epoch":            {replace(deltaRow{session: "s", batch: 1, total: 4, revision: 1}, u), "session s 1/0 goes back"},
		"an older revision":         {replace(deltaRow{session: "s", batch: 6, total: 4}, u), "session s 1/0 goes back"},
		"fewer events":              {replace(deltaRow{session: "s", batch: 6, total: 3, revision: 2}, u), "session s 1/0 goes back"},
		"a session twice":           {commit{txns: sessionsTxn(7), adds: []addedFile{closed("d", deltaRow{session: "v", batch: 6, total: 2})}}, "session v 1/0 stands twice"},
		"the rest of a plan":        {commit{txns: sessionsTxn(7), adds: []addedFile{closed("d", deltaRow{session: "w", batch: 5})}}, "inserted after epoch 5"},
		"a revision that inserts":   {commit{txns: map[string]int64{cluster + "1/sessions.revisions": 7}, adds: []addedFile{closed("d", deltaRow{session: "w", batch: 6})}}, "come without their txn"},
		"a txn behind its sessions": {commit{txns: sessionsTxn(6), adds: []addedFile{closed("d", deltaRow{session: "w", batch: 7})}}, "there are rows of epoch 7"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newSessionsHistory(newViolations())
			for _, g := range good() {
				h.commit(&g)
			}
			expect(t, h.v, "")
			h.commit(&c.next)
			expect(t, h.v, c.want)
		})
	}
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
