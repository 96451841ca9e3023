package node

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"deckle/node/condition"
	"deckle/node/nodetest"
	"deckle/node/status"
	"deckle/raftstore"
)

// A member that does not answer is a condition, and its text says whether one more can be lost: a member that is
// catching up, does not vote, or tells nothing does not count.
func TestMembers(t *testing.T) {
	at := func(last, commit uint64) *told { return &told{Shards: []standing{{0, true, false, last, commit}}} }
	nonvoter := &told{Shards: []standing{{0, false, false, 100, 100}}}
	held := &told{Shards: []standing{{0, true, true, 100, 100}}}
	down := answer{err: errDown}
	for _, c := range []struct {
		name   string
		names  string
		rounds [][]answer // each: of a, b, c, …
		want   string     // the condition's severity, or "" for none
		can    string
	}{
		{"all are well", "abc", [][]answer{{{told: at(9, 9)}, {told: at(9, 9)}, {told: at(9, 8)}}}, "", "yes"},
		{"one lost answer is nothing", "abc", [][]answer{{{told: at(9, 9)}, {told: at(9, 9)}, down}}, "", "no"},
		{"one of three is down", "abc", [][]answer{{{told: at(9, 9)}, {told: at(9, 9)}, down},
			{{told: at(9, 9)}, {told: at(9, 9)}, down}}, "failing", "no"},
		{"one of five is down", "abcde", [][]answer{
			{{told: at(9, 9)}, {told: at(9, 9)}, {told: at(9, 9)}, {told: at(9, 9)}, down},
			{{told: at(9, 9)}, {told: at(9, 9)}, {told: at(9, 9)}, {told: at(9, 9)}, down}}, "degraded", "yes"},
		{"one of five is down, another is catching up", "abcde", [][]answer{
			{{told: at(90, 90)}, {told: at(90, 90)}, {told: at(90, 90)}, {told: at(9, 9)}, down},
			{{told: at(99, 99)}, {told: at(99, 99)}, {told: at(99, 99)}, {told: at(89, 89)}, down}}, "failing", "no"},
		{"one of five is down, another does not vote", "abcde", [][]answer{
			{{told: at(9, 9)}, {told: at(9, 9)}, {told: at(9, 9)}, {told: nonvoter}, down},
			{{told: at(9, 9)}, {told: at(9, 9)}, {told: at(9, 9)}, {told: nonvoter}, down}}, "failing", "no"},
		{"one of five is down, another is held", "abcde", [][]answer{
			{{told: at(9, 9)}, {told: at(9, 9)}, {told: at(9, 9)}, {told: held}, down},
			{{told: at(9, 9)}, {told: at(9, 9)}, {told: at(9, 9)}, {told: held}, down}}, "failing", "no"},
		{"it is back", "abc", [][]answer{{{told: at(9, 9)}, {told: at(9, 9)}, down},
			{{told: at(9, 9)}, {told: at(9, 9)}, down},
			{{told: at(9, 9)}, {told: at(9, 9)}, {told: at(9, 9)}}}, "", "yes"},
		{"a member of an earlier version answers without telling", "abc",
			[][]answer{{{told: at(9, 9)}, {told: at(9, 9)}, {}}}, "", "unknown"},
		{"a single node", "a", [][]answer{{{told: at(9, 9)}}}, "", "no"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &members{self: "a", names: strings.Split(c.names, ""), contacts: map[string]*contact{}, now: time.Now,
				list: condition.New("a", time.Now, nodetest.Log(t))}
			for _, r := range c.rounds {
				m.judge(r)
			}
			got, text := "", ""
			for _, f := range m.list.Snapshot() {
				got, text = f.Severity.String(), f.Text
			}
			can := "unknown"
			if l := m.last(); l.canLoseOne != nil {
				can = map[bool]string{true: "yes", false: "no"}[*l.canLoseOne]
			}
			if got != c.want || can != c.can {
				t.Errorf("severity %q, want %q; one more can be lost: %s, want %s", got, c.want, can, c.can)
			}
			if c.want != "" && !strings.Contains(text, "Can one more be lost: "+c.can) {
				t.Errorf("%q", text)
			}
		})
	}
}

// A round asks all others at once, and takes what they have found.
func TestMembersAsk(t *testing.T) {
	theirs := told{Conditions: []condition.Condition{{ID: condition.DiskHigh, Severity: condition.Degraded, Node: "b",
		Subject: "node", Text: "full"}}, Shards: []standing{{0, true, false, 5, 5}},
		Lags: []ledLag{{3, status.Lag{Records: new(int64(8))}}, {4, status.Lag{Unknown: 2}}}}
	m := &members{self: "a", names: []string{"a", "b", "c"}, contacts: map[string]*contact{}, now: time.Now,
		list: condition.New("a", time.Now, nodetest.Log(t)), tell: func() *told { return &told{Shards: []standing{}} },
		ask: func(_ context.Context, node string) (json.RawMessage, error) {
			if node == "c" {
				return nil, fmt.Errorf("x: %w", raftstore.ErrRefused)
			}
			return theirs.encode(), nil
		}}
	m.round(t.Context())
	l := m.last()
	if len(l.others) != 1 || l.others[0].Text != "full" || l.canLoseOne != nil || !l.members[2].Answers ||
		!l.members[1].UpToDate || l.members[2].UpToDate {
		t.Errorf("%+v", l)
	}
	three, four := l.lags[lagKey{"b", 3}], l.lags[lagKey{"b", 4}]
	if len(l.lags) != 2 || *three.Records != 8 || four.Records != nil || four.Unknown != 2 {
		t.Errorf("lags %+v", l.lags)
	}
}

// Since when a member answers, or does not, is when it began to; an answer that was lost alone ends nothing. Its clock
// is compared with the middle of the question, and what it told last stays when it is gone.
func TestContact(t *testing.T) {
	at := func(s int) time.Time { return time.Date(2026, 11, 30, 0, 0, s, 0, time.UTC) }
	well := func(s int) answer {
		return answer{asked: at(s - 2), at: at(s), told: &told{Now: at(s + 9), Figures: &status.Figures{Version: "x"}}}
	}
	lost := func(s int) answer { return answer{asked: at(s - 1), at: at(s), err: errDown} }
	var c contact
	for i, step := range []struct {
		a      answer
		since  int
		missed int
	}{{lost(3), 3, 1}, {well(6), 6, 0}, {well(9), 6, 0}, {lost(12), 12, 1}, {well(15), 6, 0}, {lost(18), 18, 1},
		{lost(21), 18, 2}, {lost(24), 18, 3}, {answer{at: at(27)}, 27, 0}, {well(30), 27, 0}} {
		c.take(&step.a)
		if !c.since.Equal(at(step.since)) || c.missed != step.missed {
			t.Errorf("step %d: since %v, missed %d, want %v, %d", i, c.since, c.missed, at(step.since), step.missed)
		}
		if i == 7 && (c.figures == nil || c.figures.Version != "x" || !c.at.Equal(at(15)) ||
			*c.clock != 10*time.Second) {
			t.Errorf("what it told before it was gone: %+v", c)
		}
	}
}

// Why one more may not be lost names each member that does not count, and what it lacks.
func TestBecause(t *testing.T) {
	m := &members{self: "a", names: strings.Split("abcde", ""), contacts: map[string]*contact{}, now: time.Now,
		list: condition.New("a", time.Now, nodetest.Log(t))}
	m.committed = map[uint32]uint64{0: 9, 1: 9, 2: 9}
	of := func(s ...standing) answer { return answer{told: &told{Shards: s}} }
	m.judge([]answer{of(standing{0, true, false, 9, 9}),
		of(standing{0, false, false, 9, 9}, standing{2, true, true, 9, 9}), {err: errDown}, {},
		of(standing{0, true, false, 8, 8}, standing{1, true, false, 9, 9}, standing{2, true, false, 1, 1})})
	want := "1 of 5 members are up to date in every shard, 3 are needed: node b has no vote yet in shard 0, is held " +
		"in shard 2; node c does not answer; node d tells nothing of itself: it is of an earlier version, or no " +
		"member yet; node e has not caught up in shards 0, 2"
	if got := m.last().because; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := because(1, 1, nil); got != "it is the only node" {
		t.Error(got)
	}
}

// However much a node has found, its answer fits: the lags of shards stay, those of partitions are left out first, and
// of the conditions the gravest come first.
func TestToldFits(t *testing.T) {
	all := &told{Shards: []standing{{0, true, false, 1, 1}}}
	for i := range 500 {
		all.Conditions = append(all.Conditions, condition.Condition{ID: condition.PartitionStopped,
			Severity: condition.Stopped, Subject: fmt.Sprint("partition ", i), Text: strings.Repeat("x", 1024)})
	}
	lag := status.Lag{Records: new(int64(7)), Unknown: 1}
	for p := range int32(1000) {
		lag.Partitions = append(lag.Partitions, status.PartitionLag{Partition: p, Records: new(int64(p))})
	}
	all.Lags = []ledLag{{0, lag}}
	check := func(conditions int) {
		t.Helper()
		b := all.encode()
		var back told
		if err := json.Unmarshal(b, &back); err != nil || len(b) > raftstore.MaxTold ||
			len(back.Conditions) < conditions || conditions > 0 && back.Conditions[0] != all.Conditions[0] ||
			len(back.Shards) != 1 || len(back.Lags) != 1 || *back.Lags[0].Lag.Records != 7 ||
			len(back.Lags[0].Lag.Partitions) != 0 {
			t.Errorf("%d bytes, %d conditions: %v", len(b), len(back.Conditions), err)
		}
	}
	check(10)
	all.Conditions = nil
	check(0)
	if len(all.Lags[0].Lag.Partitions) != 1000 {
		t.Error("what is told was changed")
	}
}

// Three nodes: what one finds, the others show, and a member that ends is told by the two that are left.
func TestConditionsOfTheCluster(t *testing.T) {
	t.Parallel()
	b := nodetest.NewBroker(t, 3)
	c := newCluster(t, b, 3, nil)
	for i := range 3 {
		c.start(i)
	}
	nodetest.Until(t, "one can be lost", func() bool {
		can := c.nodes[0].Status().CanLoseOne
		return can != nil && *can
	})
	c.nodes[1].list.Set(condition.DiskHigh, "node", 0, "full", "") // until its budget looks again
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				c.nodes[1].list.Set(condition.DiskHigh, "node", 0, "full", "")
			}
		}
	}()
	nodetest.Until(t, "node 0 shows what node 1 has found", func() bool {
		return has(c.nodes[0].Status().Others, condition.DiskHigh, "node")
	})
	// So do they with the lag, which only the leader of a shard measures.
	for i := range 3 {
		for shard := range c.nodes[i].cfg.Cluster.Shards {
			nodetest.Until(t, "every node knows the lag of every shard", func() bool {
				s := c.nodes[i].Status().Shards[shard]
				return s.IsLeader && s.Lag.Records != nil && s.Told == nil ||
					!s.IsLeader && s.Told != nil && s.Told.Records != nil && *s.Told.Records == 0
			})
		}
	}
	if st := c.nodes[0].Status(); has(st.Conditions, condition.DiskHigh, "node") {
		t.Errorf("node 0 shows it as its own: %+v", st.Conditions)
	}
	// Every node has the figures of all: each shard is led once, and a clock on the same machine is the same.
	for i := range 3 {
		nodetest.Until(t, "every node has told its figures", func() bool {
			led, followed := map[uint32]bool{}, 0
			for _, m := range c.nodes[i].Status().Members {
				f := m.Figures
				if f == nil || !m.Answers || m.Since.IsZero() || f.Version == "" || f.Level == 0 || f.Knows < f.Level ||
					f.Started.IsZero() || f.Disk.Used == 0 || f.Memory == 0 || f.Sessions.Limit == 0 ||
					(m.Clock == nil) != (m.Node == c.nodes[i].cfg.Node) {
					return false
				}
				for _, s := range f.Leads {
					led[s] = true
				}
				followed += len(f.Follows)
			}
			shards := c.nodes[i].cfg.Cluster.Shards
			return len(led) == shards && followed == 2*shards
		})
	}
	c.stop(2)
	for _, i := range []int{0, 1} {
		nodetest.Until(t, "the member that is down is told", func() bool {
			st := c.nodes[i].Status()
			last := st.Members[2]
			return has(st.Conditions, condition.MemberDown, "n2") && st.CanLoseOne != nil && !*st.CanLoseOne &&
				strings.Contains(st.Because, "node n2 does not answer") && !last.Answers && last.Figures != nil &&
				last.Since.After(last.At)
		})
	}
	c.start(2)
	nodetest.Until(t, "it is back", func() bool {
		st := c.nodes[0].Status()
		return !has(st.Conditions, condition.MemberDown, "n2") && st.CanLoseOne != nil && *st.CanLoseOne
	})
}
