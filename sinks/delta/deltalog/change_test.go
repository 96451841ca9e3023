package deltalog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"deckle/sim/testworld/objects"
)

// onSnapshot is a snapshot with these txns and files.
func onSnapshot(version int64, txns map[string]int64, files map[string]int64) *Snapshot {
	s := newSnapshot(true, false, 0)
	for id, v := range txns {
		s.Txns[id] = Txn{AppID: id, Version: v}
	}
	for path, added := range files {
		a := add(path, Origin{true, 1, 0, 5})
		s.files.add(a.entry(), added)
	}
	s.Version = version
	return s
}

// TestCheck is the table of what becomes of a change, by the txn of each of its parts and by what was added and removed
// since it was made.
func TestCheck(t *testing.T) {
	part := func(id string, base, version int64) Part { return Part{AppID: id, Base: base, Version: version} }
	two := []Part{part("a", 3, 5), part("b", 0, 7)}
	guard := func(shard uint32, epochs ...uint64) []Place {
		return []Place{{Partition: "2024-01-02", Shard: shard, Epochs: epochs}}
	}
	for name, tc := range map[string]struct {
		change Change
		txns   map[string]int64
		files  map[string]int64 // path: version that added it
		want   string           // ready, done, rebuild, "split a", or an error's text
	}{
		"no parts":           {Change{}, nil, nil, "must have parts"},
		"rearranging a plan": {Change{Parts: two, Rearrange: true}, nil, nil, "must have parts"},
		"rearranging a file": {Change{Rearrange: true, Removes: []string{"f"}}, nil,
			map[string]int64{"f": 1}, "ready"},
		"rearranging one gone":     {Change{Rearrange: true, Removes: []string{"f"}}, nil, nil, "rebuild"},
		"new":                      {Change{Parts: two[1:]}, nil, nil, "ready"},
		"at its base":              {Change{Parts: two[:1]}, map[string]int64{"a": 3}, nil, "ready"},
		"below its base":           {Change{Parts: two[:1]}, map[string]int64{"a": 2}, nil, "rebuild"},
		"gone":                     {Change{Parts: two[:1]}, nil, nil, "rebuild"},
		"between":                  {Change{Parts: two[:1]}, map[string]int64{"a": 4}, nil, "rebuild"},
		"a first one came between": {Change{Parts: two[1:]}, map[string]int64{"b": 1}, nil, "rebuild"},
		"at its version":           {Change{Parts: two[:1]}, map[string]int64{"a": 5}, nil, "done"},
		"beyond its version":       {Change{Parts: two[:1]}, map[string]int64{"a": 6}, nil, "done"},
		"another's txn":            {Change{Parts: two[:1]}, map[string]int64{"a": 3, "c": 9}, nil, "ready"},
		"both at their base":       {Change{Parts: two}, map[string]int64{"a": 3}, nil, "ready"},
		"both done":                {Change{Parts: two}, map[string]int64{"a": 5, "b": 8}, nil, "done"},
		"the first is done":        {Change{Parts: two}, map[string]int64{"a": 5}, nil, "split a"},
		"the second is done":       {Change{Parts: two}, map[string]int64{"a": 3, "b": 7}, nil, "split b"},
		"two of three are done": {Change{Parts: append(two[:2:2], part("c", 0, 1))},
			map[string]int64{"a": 9, "b": 7}, nil, "split a b"},
		"one is done, one between": {Change{Parts: two}, map[string]int64{"a": 5, "b": 1}, nil, "rebuild"},
		"one between, one is done": {Change{Parts: two}, map[string]int64{"a": 4, "b": 7}, nil, "rebuild"},
		"one at its base, one not": {Change{Parts: two}, map[string]int64{"a": 3, "b": 1}, nil, "rebuild"},

		"its file is there": {Change{Parts: two[1:], Removes: []string{"f"}}, nil, map[string]int64{"f": 1}, "ready"},
		"a file is gone": {Change{Parts: two[1:], Removes: []string{"f", "g"}}, nil, map[string]int64{"f": 1},
			"rebuild"},
		"done, and its file is gone": {Change{Parts: two[1:], Removes: []string{"f"}}, map[string]int64{"b": 7}, nil,
			"done"},
		"split, and its file is gone": {Change{Parts: two, Removes: []string{"f"}}, map[string]int64{"a": 5}, nil,
			"split a"},

		"nothing is new": {Change{Parts: two[1:], Guard: guard(1, 3), ReadVersion: 9}, nil, map[string]int64{"f": 9},
			"ready"},
		"a file is new": {Change{Parts: two[1:], Guard: guard(1, 3), ReadVersion: 9}, nil, map[string]int64{"f": 10},
			"rebuild"},
		"a new one of another shard": {Change{Parts: two[1:], Guard: guard(2, 3), ReadVersion: 9}, nil,
			map[string]int64{"f": 10}, "ready"},
		"a new one of other epochs": {Change{Parts: two[1:], Guard: guard(1, 6, 7), ReadVersion: 9}, nil,
			map[string]int64{"f": 10}, "ready"},
		"one of several places": {Change{Parts: two[1:], Guard: append(guard(2, 3), guard(1, 6, 2)...), ReadVersion: 9},
			nil, map[string]int64{"f": 10}, "rebuild"},
		"nobody asked": {Change{Parts: two[1:], ReadVersion: 9}, nil, map[string]int64{"f": 10}, "ready"},

		"made on a newer version": {Change{Parts: two[1:], ReadVersion: 13}, nil, nil, "rebuild"},
	} {
		t.Run(name, func(t *testing.T) {
			done, err := tc.change.check("t", onSnapshot(12, tc.txns, tc.files))
			got := "ready"
			split, isSplit := errors.AsType[*SplitError](err)
			switch {
			case isSplit:
				got = "split " + strings.Join(split.Done, " ")
			case errors.Is(err, ErrRebuild):
				got = "rebuild"
			case err != nil:
				got = err.Error()
			case done:
				got = "done"
			}
			if got != tc.want && (err == nil || !strings.Contains(err.Error(), tc.want)) || done && err != nil {
				t.Errorf("%s, want %s (%v)", got, tc.want, err)
			}
		})
	}
}

// TestGuardAsData: places ask the same of a file as the function that they stand for, over files of all origins.
func TestGuardAsData(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	days := []string{"", "2024-01-01", "2024-01-02"}
	yes := 0
	for range 20_000 {
		shard := uint32(rng.IntN(3))
		places := map[string][]uint64{}
		var c Change
		for _, d := range days[:rng.IntN(4)] {
			for range 1 + rng.IntN(3) {
				places[d] = append(places[d], rng.Uint64N(12))
			}
			c.Guard = append(c.Guard, Place{Partition: d, Shard: shard, Epochs: places[d]})
		}
		before := func(f *File) bool {
			return slices.ContainsFunc(places[f.Partition], func(fc uint64) bool { return f.May(shard, fc) })
		}
		f := &File{Partition: days[rng.IntN(3)]}
		if rng.IntN(5) > 0 {
			from := rng.Uint64N(12)
			f.Origin = Origin{true, uint32(rng.IntN(3)), from, from + rng.Uint64N(4)}
			if rng.IntN(3) == 0 {
				f.Parts, f.Origin = []Origin{f.Origin, {true, 3, from + 1, from + 2}}, Origin{}
			}
		}
		if before(f) != c.guards(f) {
			t.Fatalf("%+v, %+v: %v", c.Guard, f, c.guards(f))
		}
		if before(f) {
			yes++
		}
	}
	if yes < 1000 || yes > 19_000 {
		t.Errorf("%d files of 20000 may hold a row", yes)
	}
}

// together submits changes so that the committer collects them at the same time, and returns the answer of each.
func together(t *testing.T, l *Log, changes ...*Change) []landing {
	t.Helper()
	var ps []*pending
	for _, c := range changes {
		ps = append(ps, newPending(c, t.Context().Done()))
	}
	if err := l.committer.submit(ps...); err != nil {
		t.Fatal(err)
	}
	var out []landing
	for _, p := range ps {
		out = append(out, <-p.done)
	}
	return out
}

// TestGroup: what several changes that are committed together become, if they have something in common.
func TestGroup(t *testing.T) {
	insert := func(id, path string, epoch uint64) *Change {
		return &Change{Parts: []Part{{AppID: id, Version: 1}}, Last: true, ReadVersion: 1,
			Adds:  []Add{add(path, Origin{true, 1, epoch - 1, epoch})},
			Guard: []Place{{Partition: "2024-01-02", Shard: 1, Epochs: []uint64{epoch}}}}
	}
	remove := func(id string, paths ...string) *Change {
		return &Change{Parts: []Part{{AppID: id, Version: 1}}, Last: true, ReadVersion: 1, Removes: paths}
	}
	other := insert("b", "other", 8)
	other.Guard[0].Partition = "2024-01-03"
	for name, tc := range map[string]struct {
		changes []*Change
		want    string // of each: c committed in the first version, C in the second, r rebuild, d done, s split
	}{
		"apart":                      {[]*Change{insert("a", "f", 8), insert("b", "g", 9), remove("c", "old")}, "ccc"},
		"the same file":              {[]*Change{remove("a", "old"), remove("b", "old2", "old")}, "cr"},
		"the same place":             {[]*Change{insert("a", "f", 8), insert("b", "g", 8)}, "cr"},
		"another partition":          {[]*Change{insert("a", "f", 8), other}, "cc"},
		"behind a refused one":       {[]*Change{insert("a", "f", 8), insert("b", "g", 8), insert("c", "h", 9)}, "crc"},
		"a refused one adds nothing": {[]*Change{remove("z", "nowhere"), insert("b", "g", 8)}, "rc"},
		"the same plan":              {[]*Change{insert("a", "f", 8), insert("a", "g", 8)}, "cd"},
		"a part in common": {[]*Change{insert("a", "f", 8),
			{Parts: []Part{{AppID: "a", Version: 1}, {AppID: "b", Version: 1}}, Last: true,
				Adds: []Add{add("g", Origin{})}}}, "cs"},
		"two that follow": {[]*Change{insert("a", "f", 8),
			{Parts: []Part{{AppID: "a", Base: 1, Version: 2}}, Last: true, Adds: []Add{add("g", Origin{})}}}, "cC"},
		"behind one that waits": {[]*Change{insert("a", "f", 8),
			{Parts: []Part{{AppID: "a", Version: 1}, {AppID: "b", Version: 1}}, Last: true,
				Adds: []Add{add("g", Origin{})}},
			{Parts: []Part{{AppID: "b", Version: 1}}, Last: true, Adds: []Add{add("h", Origin{})}}}, "csC"},
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t, writerOptions(objects.NewMem(nil)))
			submit(t, l, &Change{Parts: on(l, "x", 1), Last: true,
				Adds: []Add{add("old", Origin{true, 1, 0, 1}), add("old2", Origin{true, 1, 0, 1})}})
			got := ""
			for _, at := range together(t, l, tc.changes...) {
				_, split := errors.AsType[*SplitError](at.err)
				switch {
				case split:
					got += "s"
				case errors.Is(at.err, ErrRebuild):
					got += "r"
				case at.err != nil:
					t.Fatal(at.err)
				case at.version == 0:
					got += "d"
				case at.version == 2:
					got += "c"
				default:
					got += "C"
				}
			}
			if got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

// A change that was made on a newer version than its committer has read, as its maker has committed by itself, is
// judged by that version.
func TestMadeOnANewerVersion(t *testing.T) {
	mem := objects.NewMem(nil)
	ahead, behind := open(t, writerOptions(mem)), open(t, writerOptions(mem))
	submit(t, ahead, &Change{Parts: on(ahead, "x", 1), Last: true, Adds: []Add{add("f1", Origin{})}})
	c := &Change{Parts: on(ahead, "x", 2), Last: true, ReadVersion: 1, Adds: []Add{add("f2", Origin{})}}
	submit(t, behind, c)
	if s := snapshot(behind); s.Version != 2 || s.txn("x") != 2 || s.Len() != 2 {
		t.Errorf("%+v", s)
	}
}

// TestLostRaces: between any two requests of a shared change's commit another writer commits one of its parts, one of
// the files that it removes, or one that may hold what it inserts. Each row of the table holds then, too, and nothing
// is written twice.
func TestLostRaces(t *testing.T) {
	for _, between := range []string{"nothing", "the first part", "both parts", "an older plan", "its file",
		"its place"} {
		for at := 1; at < 5; at++ { // get 2, get 2 to read on, get 3, put 3
			mem := objects.NewMem(nil)
			l, other := open(t, writerOptions(mem)), open(t, writerOptions(mem))
			submit(t, other, &Change{Parts: on(other, "x", 1), Last: true,
				Adds: []Add{add("old", Origin{true, 1, 0, 1})}})
			if err := l.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			shared := &Change{Parts: []Part{{AppID: "a", Version: 3}, {AppID: "b", Version: 4}}, Last: true,
				ReadVersion: 1, Removes: []string{"old"},
				Adds:  []Add{add("f", Origin{true, 1, 0, 1}), add("ins", Origin{true, 1, 7, 8})},
				Guard: []Place{{Partition: "2024-01-02", Shard: 1, Epochs: []uint64{8}}}}
			g := func(from uint64) []Add { return []Add{add("g", Origin{true, 1, from, from + 1})} }
			race := map[string]*Change{
				"the first part": {Parts: []Part{{AppID: "a", Version: 3}}, Last: true, Adds: g(2)},
				"both parts":     {Parts: shared.Parts, Last: true, Adds: g(2)},
				"an older plan":  {Parts: []Part{{AppID: "b", Version: 2}}, Last: true, Adds: g(2)},
				"its file":       {Parts: on(other, "r", 1), Removes: []string{"old"}, Adds: g(0)},
				"its place":      {Parts: on(other, "r", 1), Adds: g(7)},
			}[between]
			var n atomic.Int64
			mem.SetHook(func(op, key string) error {
				if !strings.HasSuffix(key, ".json") || n.Load() > 100 {
					return nil
				}
				switch n.Add(1) - 1 {
				case 0: // the first race is lost to one that has nothing in common
					n.Add(1000)
					submit(t, other, &Change{Parts: on(other, "z", 1), Last: true,
						Adds: []Add{add("z", Origin{true, 2, 0, 1})}})
					n.Add(-1000)
				case int64(at):
					n.Add(1000)
					if race != nil {
						submit(t, other, race)
					}
				}
				return nil
			})
			err := l.Submit(t.Context(), shared)
			mem.SetHook(nil)
			if n.Load() < 100 {
				t.Fatalf("%s: only %d requests", between, n.Load())
			}
			s := snapshot(open(t, writerOptions(mem)))
			got := fmt.Sprintf("a%d b%d %v", s.txn("a"), s.txn("b"), names(&s))
			split, _ := errors.AsType[*SplitError](err)
			var want string
			switch {
			case between == "nothing" && err == nil:
				want = "a3 b4 [f ins z]"
			case between == "the first part" && split != nil && slices.Equal(split.Done, []string{"a"}):
				want = "a3 b0 [g old z]"
			case between == "both parts" && err == nil:
				want = "a3 b4 [g old z]"
			case between == "an older plan" && errors.Is(err, ErrRebuild):
				want = "a0 b2 [g old z]"
			case between == "its file" && errors.Is(err, ErrRebuild):
				want = "a0 b0 [g z]"
			case between == "its place" && errors.Is(err, ErrRebuild):
				want = "a0 b0 [g old z]"
			}
			if got != want {
				t.Errorf("%s at request %d: %s, want %s: %v", between, at, got, want, err)
			}
		}
	}
}
