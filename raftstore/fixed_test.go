package raftstore

import "testing"

// Nodes of versions that do not tell their fixed values are not compared: with them a cluster is founded, and joined.
func TestFixedValuesNotTold(t *testing.T) {
	c := newCluster(t, 3, 1, func(i int, o *Options) {
		if i == 2 {
			o.Fixed = []Setting{{"kafka.topic", "clicks"}, {"session.grace", "1s"}}
		}
	})
	c.start(c.all()...)
	c.ready(c.all()...)
	c.stop(2)
	c.wipe(2)
	c.start(2)
	c.ready(2)
	text := Differ([]Setting{{"a", "1"}, {"b", "2"}, {"c", "3"}}, []Setting{{"b", "4"}, {"a", "1"}}, "there")
	if text != "b is 2 here, and 4 there" {
		t.Error(text)
	}
}
