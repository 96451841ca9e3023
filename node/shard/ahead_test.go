package shard

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"deckle/node/kafka"
	"deckle/schema/level"
	"deckle/state"
)

// Who waits for whom. A partition that runs ahead waits for a backlog; near a budget it waits earlier; the one that
// holds the clock never waits, nor does one that is at the end of its log for the sake of slow devices.
func TestWhoWaits(t *testing.T) {
	now := time.Now()
	const clock = 1_000_000
	read := func(p *partition) { p.applied, p.end, p.head = 10, 10, now }
	behind := func(p *partition) { p.applied, p.end = 10, 99 }
	fails := func(p *partition) { p.failing = &failure{} }
	idle := func(s *state.PartitionStatus) { s.Idle = true }
	out := func(s *state.PartitionStatus) { s.Out = true }
	type part struct {
		by    int64 // ahead of the clock, s
		is    func(*partition)
		state func(*state.PartitionStatus)
		waits bool // does already
	}
	for _, c := range []struct {
		name  string
		level level.Level
		clock int64
		near  bool
		parts []part
		want  string // the partitions that wait
	}{
		{"an hour ahead of a backlog", level.Real, clock, false,
			[]part{{0, behind, nil, false}, {3601, behind, nil, false}}, "1"},
		{"not an hour", level.Real, clock, false, []part{{0, behind, nil, false}, {3600, behind, nil, false}}, ""},
		{"it waits on until the others have come nearer", level.Real, clock, false,
			[]part{{0, behind, nil, false}, {3300, behind, nil, true}}, "1"},
		{"they have", level.Real, clock, false, []part{{0, behind, nil, false}, {3240, behind, nil, true}}, ""},
		{"two hours ahead of a slow device", level.Real, clock, false,
			[]part{{0, read, nil, false}, {7200, read, nil, false}}, ""},
		{"level 1 waits for slow devices, too", level.First, clock, true,
			[]part{{0, read, nil, false}, {7200, read, nil, false}}, "1"},
		{"level 1 knows no budgets", level.First, clock, true,
			[]part{{0, behind, nil, false}, {600, behind, nil, false}}, ""},

		{"near a budget, ahead of a backlog", level.Real, clock, true,
			[]part{{0, behind, nil, false}, {241, behind, nil, false}, {300, read, nil, false}}, "12"},
		{"little ahead", level.Real, clock, true, []part{{0, behind, nil, false}, {240, behind, nil, false}}, ""},
		{"it waits on, near a budget", level.Real, clock, true,
			[]part{{0, behind, nil, false}, {121, behind, nil, true}}, "1"},
		{"they have come nearer, near a budget", level.Real, clock, true,
			[]part{{0, behind, nil, false}, {120, behind, nil, true}}, ""},
		{"the budget has room again", level.Real, clock, false,
			[]part{{0, behind, nil, false}, {600, behind, nil, true}}, ""},
		{"at the end of the log, two hours ahead of a slow device", level.Real, clock, true,
			[]part{{0, read, nil, false}, {7200, read, nil, false}}, ""},
		{"a backlog of its own, ahead of a slow device", level.Real, clock, true,
			[]part{{0, read, nil, false}, {7200, behind, nil, false}}, "1"},
		{"timers fire, and the clock is behind all of them", level.Real, clock, true,
			[]part{{900, behind, nil, false}, {1800, behind, nil, false}}, "1"},
		{"the one that is least ahead is idle", level.Real, clock, true,
			[]part{{0, read, idle, false}, {900, behind, nil, false}, {1800, behind, nil, false}}, "2"},
		{"the one that is least ahead is left out", level.Real, clock, true,
			[]part{{-9000, behind, out, false}, {0, behind, nil, false}, {1800, behind, nil, false}}, "2"},
		{"the one that holds the clock fails", level.Real, clock, true,
			[]part{{0, fails, nil, false}, {600, behind, nil, false}}, "1"},
		{"a partition that fails does not wait", level.Real, clock, true,
			[]part{{0, behind, nil, false}, {600, fails, nil, true}}, ""},
		{"alone", level.Real, clock, true, []part{{0, behind, nil, false}}, ""},
		{"the clock is not set: one has no time yet", level.Real, 0, true,
			[]part{{0, behind, nil, false}, {clock, behind, nil, false}}, "1"},
		{"the clock is not set, and there is room", level.Real, 0, false,
			[]part{{0, behind, nil, false}, {clock, behind, nil, false}}, ""},
	} {
		in, _ := newTestIntake(t)
		in.level, in.rules.ClockSlack, in.Config.Kafka.IdleAfter = c.level, 2*time.Minute, 30*time.Second
		if c.near {
			in.Near = func() string { return "the disk is nearly full" }
		}
		in.parts = map[int32]*partition{}
		view := &state.View{Clock: c.clock}
		for i, part := range c.parts {
			p := &partition{id: int32(i), ahead: part.waits}
			part.is(p)
			s := state.PartitionStatus{Partition: p.id, Watermark: c.clock + part.by}
			if part.state != nil {
				part.state(&s)
			}
			in.parts[p.id] = p
			view.Partitions = append(view.Partitions, s)
		}
		got := ""
		turns := &turns{}
		in.judgeAhead(view, now, turns)
		for i, part := range c.parts {
			p := in.parts[int32(i)]
			text, _ := in.cond.now().Get("partition-paused", partName(p.id))
			if p.ahead {
				got += fmt.Sprint(i)
				if nears := strings.Contains(text.Text, "the disk is nearly full"); text.Text == "" ||
					c.near && c.level >= level.Real && !nears {
					t.Errorf("%s: shown for partition %d: %q", c.name, i, text.Text)
				}
			} else if text.Text != "" {
				t.Errorf("%s: partition %d is read, and shown: %q", c.name, i, text.Text)
			}
			want := ""
			if reads := p.reads(); reads && p.ahead && !part.waits {
				want = "pause"
			} else if reads && !p.ahead && part.waits {
				want = "resume"
			}
			if turns.did[p.id] != want {
				t.Errorf("%s: partition %d: %q, want %q", c.name, i, turns.did[p.id], want)
			}
		}
		if got != c.want {
			t.Errorf("%s: %q wait, want %q", c.name, got, c.want)
		}
	}
}

// A partition of which something is held rests already, until its last record has been compared: it is not read again
// before, although the others have followed; nor is it said to wait for them.
func TestWhatIsHeldIsNotReadAgain(t *testing.T) {
	in, _ := newTestIntake(t)
	in.level, in.Near = level.Real, func() string { return "the disk is nearly full" }
	in.parts = map[int32]*partition{}
	view := &state.View{Clock: 1000}
	for i, p := range []*partition{{ahead: true}, {}, {}} {
		p.id, p.applied, p.end = int32(i), 10, 99
		if i < 2 {
			p.proof.held = []kafka.Part{{Partition: p.id}}
		}
		in.parts[p.id] = p
		view.Partitions = append(view.Partitions, state.PartitionStatus{Partition: p.id,
			Watermark: 1000 + int64(i%2)*9000})
	}
	turns := &turns{}
	in.judgeAhead(view, time.Now(), turns)
	if len(turns.did) > 0 || !in.parts[0].ahead || in.parts[1].ahead {
		t.Errorf("the source was told %v", turns.did)
	}
}

// turns notes what a source is told.
type turns struct{ did map[int32]string }

func (r *turns) Pause(p int32)  { r.note(p, "pause") }
func (r *turns) Resume(p int32) { r.note(p, "resume") }

func (r *turns) note(p int32, what string) {
	if r.did == nil {
		r.did = map[int32]string{}
	}
	r.did[p] += what
}

// A partition that has waited for the others has delivered nothing meanwhile. When it is read again the clock still
// waits for it: what it has would be too late otherwise. If it delivers nothing then either, it is at fault. It is the
// same if its wait ends because it begins to fail.
func TestWhoHasWaitedIsWaitedFor(t *testing.T) {
	for name, mark := range map[string]int64{"the others have followed": 1000, "it begins to fail": 9000} {
		in, _ := newTestIntake(t)
		in.level, in.rules.ClockSlack, in.rules.LeaveOut = level.Real, 2*time.Minute, 2*time.Minute
		in.Config.Kafka.IdleAfter = 30 * time.Second
		now := time.Now()
		long := now.Add(-time.Hour)
		in.began, in.unpaused, in.answered = long, long, long
		in.Watch = kafka.NewWatch(nil, 30*time.Second, nil)
		in.parts = map[int32]*partition{0: {id: 0, applied: 10, end: 99, moved: now},
			1: {id: 1, applied: 10, end: 99, moved: long, ahead: true}}
		if mark > 1000 {
			in.parts[1].failing = &failure{}
		}
		view := &state.View{Clock: 1000, Partitions: []state.PartitionStatus{{Partition: 0, Watermark: 1000},
			{Partition: 1, Watermark: mark}}}
		for _, step := range []struct {
			after time.Duration
			first bool // the other one delivers
			out   []int32
		}{{0, true, nil}, {time.Minute, false, nil}, {time.Minute, true, nil}, {2 * time.Minute, true, nil},
			{3 * time.Minute, true, []int32{1}}} {
			at := now.Add(step.after)
			if in.parts[0].moved = at; !step.first {
				in.parts[0].moved = long
			}
			in.judgeAhead(view, at, &turns{})
			in.findSilent(view, at)
			if in.parts[1].ahead || !slices.Equal(in.out, step.out) {
				t.Errorf("%s, after %v: it waits: %v, left out are %v, want %v", name, step.after,
					in.parts[1].ahead, in.out, step.out)
			}
		}
	}
}
