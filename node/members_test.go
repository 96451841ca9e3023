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
			m := &members{self: "a", names: strings.Split(c.names, ""), missed: map[string]int{},
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
	m := &members{self: "a", names: []string{"a", "b", "c"}, missed: map[string]int{},
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
	c.stop(2)
	for _, i := range []int{0, 1} {
		nodetest.Until(t, "the member that is down is told", func() bool {
			st := c.nodes[i].Status()
			return has(st.Conditions, condition.MemberDown, "n2") && st.CanLoseOne != nil && !*st.CanLoseOne
		})
	}
	c.start(2)
	nodetest.Until(t, "it is back", func() bool {
		st := c.nodes[0].Status()
		return !has(st.Conditions, condition.MemberDown, "n2") && st.CanLoseOne != nil && *st.CanLoseOne
	})
}
