package condition

import (
	"slices"
	"testing"
	"time"
)

// What three nodes find about one topic is one condition, which names them; what each finds about itself is three.
func TestMerge(t *testing.T) {
	at := newClock().at
	c := func(id ID, s Severity, node, subject string, after time.Duration) Condition {
		return Condition{ID: id, Severity: s, Node: node, Subject: subject, Since: at.Add(after), Text: "by " + node}
	}
	a := []Condition{c(TopicCreateTime, Notice, "a", "topic x", 2), c(DiskHigh, Degraded, "a", "node", 0),
		c(MemberDown, Degraded, "a", "c", 1)}
	b := []Condition{c(TopicCreateTime, Notice, "b", "topic x", 1), c(DiskHigh, Degraded, "b", "node", 0),
		c(MemberDown, Failing, "b", "c", 2), c(TopicCreateTime, Notice, "b", "topic y", 0)}
	got := Merge(a, b, nil)
	want := []Found{
		{c(MemberDown, Failing, "b", "c", 1), []string{"a", "b"}},
		{c(DiskHigh, Degraded, "a", "node", 0), []string{"a"}},
		{c(DiskHigh, Degraded, "b", "node", 0), []string{"b"}},
		{c(TopicCreateTime, Notice, "b", "topic y", 0), []string{"b"}},
		{c(TopicCreateTime, Notice, "b", "topic x", 1), []string{"a", "b"}},
	}
	if !slices.EqualFunc(got, want, func(a, b Found) bool {
		return a.Condition == b.Condition && slices.Equal(a.Nodes, b.Nodes)
	}) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if got := Merge(); got == nil || len(got) != 0 {
		t.Errorf("%v, want an empty list, which JSON shows as one", got)
	}
}

// Only an id of the table can be shared, and none whose subject is the node itself.
func TestShared(t *testing.T) {
	shared := 0
	for _, s := range Table() {
		if Shared(s.ID) {
			if shared++; s.Subject == "node" || s.Subject == "the path" || s.Subject == "the key of the file" {
				t.Errorf("%s concerns %s, which each node has its own of", s.ID, s.Subject)
			}
		} else if s.Subject == "the topic" || s.Subject == "the dead letter topic" {
			t.Errorf("%s concerns %s, which all nodes look at", s.ID, s.Subject)
		}
	}
	if shared != 12 || Shared("unknown") {
		t.Errorf("%d shared ids of the table", shared)
	}
}
