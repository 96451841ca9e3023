package deltalog

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"deckle/sim/testworld/objects"
	"deckle/sinks"
	"deckle/sinks/delta/deletionvector"
)

var testRules = &OfferRules{ClusterID: "c1", Pipeline: "p", PartitionColumns: []string{"d"}, Shards: 6,
	Leads: func(shard uint32) bool { return shard != 5 }}

func offered(path string, o Origin) Add {
	a := add("d=2024-01-02/part-"+path+".parquet", o)
	a.ModificationTime = 7
	return a
}

// hiding is a deletion vector of somebody.
var hiding = &deletionvector.Descriptor{StorageType: "i", Path: "00000", Size: 4, Cardinality: 1}

// offers returns an offer of each lane, as nodes make them.
func offers() map[string]*Offer {
	return map[string]*Offer{
		LaneEvents: {Format: 1, Table: "events", Lane: LaneEvents, Turn: 9, Change: Change{
			Parts: []Part{{AppID: "c1/p/0/events", Version: 5},
				{AppID: "c1/p/3/events", Base: 2, Version: 4, Notes: []string{"c1/p/3/events/given/7/100-120"}}},
			Last: true, Adds: []Add{offered("00000-5-ab", Origin{true, 0, 0, 5}),
				offered("00003-4-cd", Origin{true, 3, 2, 4})},
			ReadVersion: 8, Rows: 12}},
		LaneSessions: {Format: 1, Table: "sessions", Lane: LaneSessions, Turn: 9, Change: Change{
			Parts: []Part{{AppID: "c1/p/4/sessions", Base: 3, Version: 5}}, Last: true, Rules: "r",
			Adds: []Add{offered("00004-5-ab", Origin{true, 4, 3, 5})}, ReadVersion: 8, Rows: 12}},
		"empty": {Format: 1, Table: "events", Lane: LaneEvents, Turn: 9},
	}
}

func TestOffer(t *testing.T) {
	for name, o := range offers() {
		if err := o.Check(testRules); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		b, err := EncodeOffer(o)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := DecodeOffer(b); err != nil || !reflect.DeepEqual(again, o) {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", name, again, err, o)
		}
		for what, bad := range map[string]string{
			"an unknown field":      strings.Replace(string(b), `{"Format":1`, `{"If":1,"Format":1`, 1),
			"a field twice":         strings.Replace(string(b), `{"Format":1`, `{"Turn":8,"Format":1`, 1),
			"in other letters":      strings.Replace(string(b), `"Table"`, `"table"`, 1),
			"another format":        strings.Replace(string(b), `"Format":1`, `"Format":2`, 1),
			"no format":             strings.Replace(string(b), `"Format":1,`, "", 1),
			"something behind":      string(b) + "{}",
			"a half":                string(b[:len(b)/2]),
			"nothing":               "",
			"a number that is text": strings.Replace(string(b), `"Turn":9`, `"Turn":"9"`, 1),
		} {
			if _, err := DecodeOffer([]byte(bad)); err == nil {
				t.Errorf("%s: taken with %s", name, what)
			}
		}
	}
	large := offers()[LaneEvents]
	large.Adds[0].Stats = strings.Repeat("x", MaxOffer)
	if _, err := EncodeOffer(large); err == nil {
		t.Error("an offer that fits into no frame")
	}
}

// TestOfferCheck: what a node does not make, or may not, is refused.
func TestOfferCheck(t *testing.T) {
	for _, tc := range []struct {
		lane, what string
		spoil      func(o *Offer)
	}{
		{LaneEvents, "format", func(o *Offer) { o.Format = 2 }},
		{LaneEvents, "lane", func(o *Offer) { o.Lane = "given" }},
		{LaneEvents, "another table", func(o *Offer) { o.Table = "sessions" }},
		{LaneEvents, "another lane", func(o *Offer) { o.Lane, o.Table = LaneSessions, "sessions" }},
		{LaneEvents, "not last", func(o *Offer) { o.Last = false }},
		{LaneEvents, "no adds", func(o *Offer) { o.Adds = nil }},
		{LaneEvents, "a remove", func(o *Offer) { o.Removes = []string{"d=2024-01-02/part-1"} }},
		{LaneEvents, "a guard", func(o *Offer) { o.Guard = []Place{{Partition: "2024-01-02"}} }},
		{LaneEvents, "rearranged", func(o *Offer) { o.Rearrange = true }},
		{LaneEvents, "a negative version", func(o *Offer) { o.ReadVersion = -1 }},
		{LaneEvents, "negative rows", func(o *Offer) { o.Rows = -1 }},
		{LaneEvents, "operation", func(o *Offer) { o.Operation = "MERGE" }},
		{LaneEvents, "another cluster", func(o *Offer) { o.Parts[0].AppID = "c2/p/0/events" }},
		{LaneEvents, "another pipeline", func(o *Offer) { o.Parts[0].AppID = "c1/q/0/events" }},
		{LaneEvents, "another kind", func(o *Offer) { o.Parts[0].AppID = "c1/p/0/sessions" }},
		{LaneEvents, "more behind it", func(o *Offer) { o.Parts[0].AppID += "/given" }},
		{LaneEvents, "another spelling", func(o *Offer) { o.Parts[0].AppID = "c1/p/00/events" }},
		{LaneEvents, "a shard too many", func(o *Offer) { o.Parts[0].AppID = "c1/p/6/events" }},
		{LaneEvents, "another's shard", func(o *Offer) { o.Parts[0].AppID = "c1/p/5/events" }},
		{LaneEvents, "a shard twice", func(o *Offer) { o.Parts[1].AppID, o.Parts[1].Notes = o.Parts[0].AppID, nil }},
		{LaneEvents, "backwards", func(o *Offer) { o.Parts[1].Base = 4 }},
		{LaneEvents, "a negative base", func(o *Offer) { o.Parts[0].Base = -1 }},
		{LaneEvents, "another's note", func(o *Offer) { o.Parts[1].Notes[0] = "c1/p/0/events/given/7/100-120" }},
		{LaneEvents, "a note twice", func(o *Offer) {
			o.Parts[1].Notes = append(o.Parts[1].Notes, o.Parts[1].Notes[0])
		}},
		{LaneEvents, "an empty range", func(o *Offer) { o.Parts[1].Notes[0] = "c1/p/3/events/given/7/100-100" }},
		{LaneEvents, "a plan as a note", func(o *Offer) { o.Parts[1].Notes[0] = "c1/p/3/sessions" }},
		{LaneSessions, "notes", func(o *Offer) { o.Parts[0].Notes = []string{"c1/p/4/sessions/given/7/1-2"} }},
		{LaneSessions, "a path twice", func(o *Offer) { o.Adds = append(o.Adds, o.Adds[0]) }},
		{LaneSessions, "another folder", func(o *Offer) { o.Adds[0].Path = "e=2024-01-02/part-1" }},
		{LaneSessions, "another date", func(o *Offer) { o.Adds[0].Path = "d=2024-01-03/part-1" }},
		{LaneSessions, "no date", func(o *Offer) {
			o.Adds[0].Path, o.Adds[0].PartitionValues = "d=../part-1", map[string]string{"d": ".."}
		}},
		{LaneSessions, "no folder", func(o *Offer) { o.Adds[0].Path = "part-1" }},
		{LaneSessions, "a folder in it", func(o *Offer) { o.Adds[0].Path = "d=2024-01-02/part-1/x" }},
		{LaneSessions, "another name", func(o *Offer) { o.Adds[0].Path = "d=2024-01-02/_1" }},
		{LaneSessions, "an escape", func(o *Offer) { o.Adds[0].Path = "d=2024-01-02/part-%2e" }},
		{LaneSessions, "no name", func(o *Offer) { o.Adds[0].Path = "d=2024-01-02/part-" }},
		{LaneSessions, "no partition value", func(o *Offer) { o.Adds[0].PartitionValues = nil }},
		{LaneSessions, "two partition values", func(o *Offer) { o.Adds[0].PartitionValues["e"] = "x" }},
		{LaneSessions, "no change of data", func(o *Offer) { o.Adds[0].DataChange = false }},
		{LaneSessions, "an empty file", func(o *Offer) { o.Adds[0].Size = 0 }},
		{LaneSessions, "another's rows", func(o *Offer) { o.Adds[0].Tags = Origin{true, 3, 3, 5}.Tags() }},
		{LaneSessions, "nobody's rows", func(o *Offer) { o.Adds[0].Tags = nil }},
		{LaneSessions, "tags", func(o *Offer) { o.Adds[0].Tags = map[string]string{"deckle.shard": "4"} }},
		{LaneSessions, "revisions", func(o *Offer) { o.Parts[0].AppID += ".revisions" }},
		{LaneSessions, "a file of changes", func(o *Offer) { o.Changes = []Cdc{{Path: ChangeFolder + "/c"}} }},
		{LaneSessions, "a vector of nothing", func(o *Offer) {
			o.Vectors = map[string]string{"d=2024-01-02/part-9": hiding.ID()}
		}},
		{LaneSessions, "a hidden row", func(o *Offer) { o.Adds[0].Vector = hiding }},
		{"empty", "more", func(o *Offer) { o.More = true }},
		{"empty", "last", func(o *Offer) { o.Last = true }},
		{"empty", "adds", func(o *Offer) { o.Adds = offers()[LaneEvents].Adds }},
		{"empty", "removes", func(o *Offer) { o.Removes = []string{"x"} }},
		{"empty", "vectors", func(o *Offer) { o.Vectors = map[string]string{"x": "u1"} }},
		{"empty", "changes", func(o *Offer) { o.Changes = []Cdc{{Path: "x"}} }},
		{"empty", "rows", func(o *Offer) { o.Rows = 1 }},
	} {
		o := offers()[tc.lane]
		tc.spoil(o)
		if err := o.Check(testRules); err == nil {
			t.Errorf("%s: taken with %s", tc.lane, tc.what)
		}
	}
}

// FuzzOffer: what is taken is what EncodeOffer writes, and a check says yes or no of it.
func FuzzOffer(f *testing.F) {
	for _, o := range offers() {
		b, err := EncodeOffer(o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := DecodeOffer(data)
		if err != nil {
			return
		}
		if again, err := EncodeOffer(o); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%q becomes %q, %v", data, again, err)
		}
		if o.Check(testRules) == nil && len(o.Parts) == 0 && len(o.Adds)+len(o.Removes) > 0 {
			t.Fatalf("%q: an empty offer with a change", data)
		}
	})
}

// TestLanded: a commit has a change whole, or not at all, or somebody is at fault.
func TestLanded(t *testing.T) {
	change := Change{Parts: []Part{{AppID: "c1/p/4/sessions.revisions", Base: 3, Version: 5}}, Last: true,
		Adds:        []Add{offered("shared-ab", Origin{true, 1, 3, 5})},
		Removes:     []string{"d=2024-01-02/part-00000-aa.c000.snappy.parquet"},
		ReadVersion: 8, Rows: 12, Operation: "MERGE"}
	change.Parts = append(change.Parts, Part{AppID: "c1/p/2/sessions.revisions", Version: 1, Notes: []string{"note"}})
	for name, tc := range map[string]struct {
		spoil func(c *commit)
		want  string // yes, no, stop
	}{
		"whole": {func(*commit) {}, "yes"},
		"with another's": {func(c *commit) {
			c.txns = append(c.txns, Txn{AppID: "other", Version: 3})
			c.adds = append(c.adds, offered("other", Origin{true, 0, 0, 1}))
		}, "yes"},
		"another commit":           {func(c *commit) { *c = commit{txns: []Txn{{AppID: "other"}}} }, "no"},
		"the last txn lost":        {func(c *commit) { c.txns = c.txns[:2] }, "stop"},
		"the first txn lost":       {func(c *commit) { c.txns = c.txns[1:] }, "stop"},
		"another version of a txn": {func(c *commit) { c.txns[0].Version-- }, "stop"},
		"txns lost":                {func(c *commit) { c.txns = nil }, "stop"},
		"the add lost":             {func(c *commit) { c.adds = nil }, "stop"},
		"another size":             {func(c *commit) { c.adds[0].Size++ }, "stop"},
		"other statistics":         {func(c *commit) { c.adds[0].Stats = "" }, "stop"},
		"other tags":               {func(c *commit) { c.adds[0].Tags = nil }, "stop"},
		"the remove lost":          {func(c *commit) { c.removes = nil }, "stop"},
		"another vector":           {func(c *commit) { c.removes[0].Vector = hiding }, "stop"},
		"hidden rows":              {func(c *commit) { c.adds[0].Vector = hiding }, "stop"},
		"txns alone":               {func(c *commit) { c.adds, c.removes = nil, nil }, "stop"},
	} {
		mem := objects.NewMem(nil)
		l := open(t, writerOptions(mem))
		c := &commit{txns: []Txn{{AppID: change.Parts[0].AppID, Version: 5}, {AppID: "note", Version: 1},
			{AppID: change.Parts[1].AppID, Version: 1}}, removes: []Remove{{Path: change.Removes[0], DataChange: true}},
			adds: []Add{change.Adds[0]}}
		tc.spoil(c)
		protocol := snapshot(l).Protocol.WithVectors()
		body, err := encodeCommit(&CommitInfo{EngineInfo: engineInfo}, protocol, nil, c.txns, c.removes, c.adds)
		if err != nil {
			t.Fatal(err)
		}
		mem.Overwrite(l.commitKey(1), body)
		ok, err := l.Landed(t.Context(), 1, &change)
		stop, stopped := errors.AsType[*sinks.StopError](err)
		got := map[bool]string{true: "yes", false: "no"}[ok]
		if stopped && !ok && stop.Hint != "" {
			got = "stop"
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s (%v)", name, got, tc.want, err)
		}
		for _, v := range []int64{-1, 0, 2, 1 << 40} { // an answer may name anything
			if ok, err := l.Landed(t.Context(), v, &change); ok || err != nil {
				t.Errorf("%s: version %d: %v, %v", name, v, ok, err)
			}
		}
	}
}

// TestSubmitAll: a group becomes one commit, each change gets its answer, and one that nobody waits for falls out.
func TestSubmitAll(t *testing.T) {
	mem := objects.NewMem(nil)
	l := open(t, writerOptions(mem))
	submit(t, l, &Change{Parts: on(l, "done", 1), Last: true, Adds: []Add{add("old", Origin{true, 1, 0, 1})}})
	change := func(path string, parts ...Part) *Change {
		return &Change{Parts: parts, Last: true, Adds: []Add{add(path, Origin{})}}
	}
	gone := make(chan struct{})
	close(gone)
	rebuild := change("f4", Part{AppID: "e", Version: 1})
	rebuild.Removes = []string{"nowhere"}
	got := l.SubmitAll(t.Context(), []Submission{
		{Change: change("f1", Part{AppID: "a", Version: 1})},
		{Change: change("f2", Part{AppID: "done", Version: 1})},
		{Change: change("f3", Part{AppID: "b", Version: 1}, Part{AppID: "done", Version: 1})},
		{Change: rebuild},
		{Change: change("f5", Part{AppID: "c", Version: 1}), Withdrawn: gone},
		{Change: &Change{}},
		{Change: change("f6", Part{AppID: "d", Version: 1}, Part{AppID: "f", Version: 2}),
			Withdrawn: make(chan struct{})},
	})
	want := []Answer{{Outcome: OutcomeCommitted, Version: 2}, {Outcome: OutcomeDone}, {Outcome: OutcomeSplit},
		{Outcome: OutcomeRebuild}, {Outcome: OutcomeNo}, {Outcome: OutcomeNo}, {Outcome: OutcomeCommitted, Version: 2}}
	for i := range got {
		if got[i].Error != "" != (i >= 2 && i <= 5) {
			t.Errorf("%d: %+v", i, got[i])
		}
		got[i].Error = ""
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
	if s := snapshot(l); s.Version != 2 || s.txn("f") != 2 || s.txn("c") != 0 || s.File("f5") != nil || s.Len() != 3 {
		t.Errorf("%+v", s)
	}
	// The store does not answer, and the caller gives up: nothing of the group is committed afterwards.
	ctx, cancel := context.WithCancel(t.Context())
	entered, release := make(chan struct{}), make(chan struct{})
	mem.SetHook(func(op, key string) error {
		if op == "put-if-absent" && strings.HasSuffix(key, "3.json") {
			close(entered)
			<-release
			return objects.ErrFault
		}
		return nil
	})
	answers := make(chan []Answer)
	go func() {
		answers <- l.SubmitAll(ctx, []Submission{{Change: change("g1", Part{AppID: "g", Version: 1})}})
	}()
	<-entered
	go func() {
		answers <- l.SubmitAll(ctx, []Submission{{Change: change("g2", Part{AppID: "h", Version: 1})}})
	}()
	cancel()
	for range 2 {
		if a := <-answers; a[0].Outcome != OutcomeNo || a[0].Error == "" {
			t.Errorf("%+v", a)
		}
	}
	mem.SetHook(nil)
	close(release)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	a := l.SubmitAll(t.Context(), []Submission{{Change: change("g3", Part{AppID: "i", Version: 1})}})
	if a[0].Outcome != OutcomeNo {
		t.Errorf("after Close: %+v", a)
	}
	if s := snapshot(open(t, writerOptions(mem))); s.txn("h") != 0 {
		t.Errorf("a change was committed that had been withdrawn: %+v", s)
	}
}

// TestOfferOfSeveralColumns: the folder of a file is that of all its partition values.
func TestOfferOfSeveralColumns(t *testing.T) {
	rules := *testRules
	rules.PartitionColumns = []string{"brand", "d"}
	for _, brand := range []string{"", "sport_bild", "le monde/fr", "ü.-2F"} {
		folder := Folder(rules.PartitionColumns, Partition(brand, "2024-01-02"))
		for what, spoil := range map[string]func(a *Add){
			"":                func(*Add) {},
			"another brand":   func(a *Add) { a.PartitionValues["brand"] = "welt" },
			"another date":    func(a *Add) { a.PartitionValues["d"] = "2024-01-03" },
			"no brand":        func(a *Add) { delete(a.PartitionValues, "brand") },
			"one more":        func(a *Add) { a.PartitionValues["e"] = "" },
			"the date alone":  func(a *Add) { a.Path = "d=2024-01-02/part-1" },
			"the other order": func(a *Add) { a.Path = "d=2024-01-02/brand=sport_bild/part-1" },
			"a folder more":   func(a *Add) { a.Path = folder + "/x/part-1" },
			"no date":         func(a *Add) { a.Path = "brand=bild/d=welt/part-1" },
			"an escape":       func(a *Add) { a.Path = "brand=%2e/d=2024-01-02/part-1" },
			"no value":        func(a *Add) { a.Path = "brand=/d=2024-01-02/part-1" },
		} {
			o := offers()[LaneSessions]
			a := &o.Adds[0]
			a.Path, a.PartitionValues = folder+"/part-00004-5-ab.parquet", map[string]string{"brand": brand,
				"d": "2024-01-02"}
			spoil(a)
			if err := o.Check(&rules); (err == nil) != (what == "") {
				t.Errorf("brand %q, %s: %v", brand, what, err)
			}
		}
	}
}
