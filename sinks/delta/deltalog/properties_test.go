package deltalog

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"deckle/sim/testworld/objects"
)

func TestIntervals(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"interval 30 days": 30 * day, "INTERVAL 1 Week": 7 * day, "1 week 2 days 3 hours": 9*day + 3*time.Hour,
		"interval '2' day": 2 * day, "interval 0 seconds": 0, "interval 5 minutes 1 second": 301 * time.Second,
		"interval 1 millisecond 2 microseconds 3 nanoseconds": 1_002_003,
		"interval 99999999999 weeks":                          ForEver, "interval 15250 weeks 9000 weeks": ForEver,
		"interval 9223372036854775807 nanoseconds 1 week": ForEver,
	} {
		if got, err := ParseInterval(text); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "interval", "interval days", "interval 1 month", "interval 1 year", "30",
		"interval -1 days", "interval 1.5 days", "P30D", "interval 1 day 2", "interval 99999999999999999999 days"} {
		if got, err := ParseInterval(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

// FuzzInterval: an interval is refused, or is not negative and is the sum of its parts.
func FuzzInterval(f *testing.F) {
	for _, s := range []string{"interval 30 days", "1 week 2 hours", "interval 99999999999 weeks", "-1 day", "s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseInterval(text)
		if err != nil {
			return
		}
		words := strings.Fields(strings.ToLower(text))
		if words[0] == "interval" {
			words = words[1:]
		}
		twice, err := ParseInterval(strings.Join(append(words, words...), " "))
		if d < 0 || err != nil || d <= ForEver/2 && twice != 2*d {
			t.Fatalf("%q is %v, twice %v", text, d, twice)
		}
	})
}

// A property that cannot be read deletes nothing.
func TestUnreadProperties(t *testing.T) {
	p := propertiesOf(map[string]string{configLogRetention: "interval 1 month", configTombstoneRetention: "soon",
		configCleanup: "no", configCheckpointInterval: "-3", configCheckpointRetention: "", configAppendOnly: "yes"},
		defaultLogRetention)
	if p.logRetention != ForEver || p.tombstoneRetention != ForEver || p.checkpointRetention != ForEver || p.cleanup ||
		p.checkpointInterval != 0 || !p.appendOnly || len(p.unread) != 6 {
		t.Errorf("%+v", p)
	}
	p = propertiesOf(map[string]string{configCleanup: "FALSE", configCheckpointInterval: "7"}, defaultLogRetention)
	if p.cleanup || p.checkpointInterval != 7 || p.logRetention != 30*day || p.tombstoneRetention != 7*day ||
		len(p.unread) != 0 {
		t.Errorf("%+v", p)
	}
}

// setProperties writes a commit, as another tool does, that sets properties of the table.
func setProperties(t *testing.T, mem *objects.Mem, l *Log, set map[string]string) {
	t.Helper()
	if err := l.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := snapshot(l)
	meta := *s.Metadata
	meta.Configuration = maps.Clone(s.Metadata.Configuration)
	maps.Copy(meta.Configuration, set)
	info := &CommitInfo{Operation: "SET TBLPROPERTIES", EngineInfo: "another"}
	b, err := encodeCommit(info, nil, &meta, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := mem.PutIfAbsent(t.Context(), l.commitKey(s.Version+1), b); err != nil {
		t.Fatal(err)
	}
}

// History is kept for as long as the table says, by every property, set while the writer runs.
func TestRetentionOfTheTable(t *testing.T) {
	for name, tc := range map[string]struct {
		set   map[string]string
		first int64 // the oldest commit after 60 days with one commit a day
	}{
		"nothing set":          {nil, 20},
		"ten days":             {map[string]string{configLogRetention: "interval 10 days"}, 40},
		"a year":               {map[string]string{configLogRetention: "interval 365 days"}, 0},
		"no time is a day":     {map[string]string{configLogRetention: "interval 0 seconds"}, 50},
		"cannot be read":       {map[string]string{configLogRetention: "interval 1 month"}, 0},
		"no cleanup":           {map[string]string{configCleanup: "false"}, 0},
		"cleanup, not clearly": {map[string]string{configCleanup: "perhaps"}, 0},
		"cleanup":              {map[string]string{configCleanup: "true"}, 20},
	} {
		t.Run(name, func(t *testing.T) {
			clock, mem, opts := overTime(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
			l := open(t, opts)
			setProperties(t, mem, l, tc.set)
			for v := int64(2); v <= 60; v++ {
				clock.Pass(day)
				submit(t, l, &Change{Parts: on(l, "x", v), Last: true,
					Adds: []Add{add(fmt.Sprint("f", v), Origin{})}})
				l.keeper.wait.Wait()
			}
			first := int64(-1)
			for v := int64(60); v >= 0; v-- {
				if len(mem.Keys(l.commitKey(v))) == 1 {
					first = v
				} else if len(mem.Keys(fmt.Sprintf("t/%s%020d", logDir, v))) > 0 {
					t.Errorf("of version %d something is left: %q", v, mem.Keys(fmt.Sprintf("t/%s%020d", logDir, v)))
				}
			}
			if first != tc.first {
				t.Errorf("the log begins at %d, want %d", first, tc.first)
			}
			if s := snapshot(open(t, writerOptions(mem))); s.Version != 60 || s.Txns["x"].Version != 60 {
				t.Errorf("version %d", s.Version)
			}
		})
	}
}

// Removed files stay in checkpoints for as long as the table says.
func TestTombstonesOfTheTable(t *testing.T) {
	for text, want := range map[string]int{"": 7, "interval 3 days": 3, "interval 1 year": 9, "interval 1 week": 7} {
		clock := objects.NewClock(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
		mem := objects.NewMem(clock.Now)
		opts := writerOptions(mem)
		opts.Now = clock.Now
		l := open(t, opts)
		if text != "" {
			setProperties(t, mem, l, map[string]string{configTombstoneRetention: text})
		}
		submit(t, l, &Change{Parts: on(l, "x", 1), Last: true, Adds: []Add{add("f0", Origin{})}})
		for i := range 9 {
			clock.Pass(day)
			submit(t, l, &Change{Parts: on(l, "x", int64(i+2)), Last: true,
				Adds: []Add{add(fmt.Sprint("f", i+1), Origin{})}, Removes: []string{live(l, fmt.Sprint("f", i)).Path}})
		}
		l.keeper.wait.Wait()
		clock.Pass(time.Hour)
		v := snapshot(l).Version
		_ = mem.Delete(t.Context(), l.checkpointKey(v))
		if err := l.WriteCheckpoint(t.Context(), v, -1); err != nil {
			t.Fatal(err)
		}
		if n := len(tombstones(t, mem, l, v)); n != want {
			t.Errorf("%q: %d tombstones of 9 days, want %d", text, n, want)
		}
	}
}

// A table that takes appends only refuses what removes rows, before it is made again and again, and goes on by itself
// once the property is unset.
func TestAppendOnlyTable(t *testing.T) {
	mem := objects.NewMem(nil)
	l := open(t, writerOptions(mem))
	submit(t, l, &Change{Parts: on(l, "x", 1), Last: true, Adds: []Add{add("f", Origin{})}})
	setProperties(t, mem, l, map[string]string{configAppendOnly: "true"})
	if err := l.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	change := func() *Change {
		return &Change{Parts: on(l, "r", 1), Last: true, Adds: []Add{add("g", Origin{})},
			Removes: []string{live(l, "f").Path}}
	}
	if err := l.Submit(t.Context(), change()); err == nil || l.CheckRemoves() == nil {
		t.Fatal("a file was removed from a table that takes appends only")
	}
	submit(t, l, &Change{Parts: on(l, "x", 2), Last: true, Adds: []Add{add("h", Origin{})}})
	setProperties(t, mem, l, map[string]string{configAppendOnly: "false"})
	if err := l.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.CheckRemoves(); err != nil {
		t.Fatal(err)
	}
	submit(t, l, change())
}
