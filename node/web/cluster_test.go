package web

import (
	"strings"
	"testing"
	"time"

	"deckle/node/condition"
	"deckle/node/status"
)

// /api/v1/cluster has of each node what it told last, null for what nobody knows, and the gravest of what all have
// found.
func TestCluster(t *testing.T) {
	src := newFakeSource()
	st := &src.status
	figures := &status.Figures{Version: "9", Level: 2, Knows: 3, Started: testNow.Add(-time.Hour), Leads: []uint32{0},
		Drained: true,
		Disk:    status.Fill{Used: 7, Limit: 10}, DiskFree: -1, Memory: 5, Certificates: []status.Certificate{
			{Key: "late", NotAfter: testNow.Add(time.Hour)}, {Key: "soon", NotAfter: testNow}}}
	st.Members = []status.Member{{Node: "a", Answers: true, UpToDate: true, Since: testNow, Figures: figures,
		At: testNow, Clock: new(250 * time.Millisecond)}, {Node: "b"}}
	st.CanLoseOne, st.Because = new(false), "b is away"
	_, body, _ := request(t, testHandler(src), "GET", "/api/v1/cluster")
	c := decode[apiCluster](t, body)
	if c.Health != "well" || c.Node != "a" || *c.CanLoseOne || c.Because != "b is away" || c.Shards.Count != 2 ||
		len(c.Shards.Leaderless) != 0 || *c.LagRecords != 25 || len(c.Sinks) != 2 || len(c.Members) != 2 {
		t.Errorf("%s", body)
	}
	a, b := c.Members[0], c.Members[1]
	f := a.Figures
	if !a.Answers || !a.UpToDate || !a.Since.Equal(testNow) || *a.Clock != 0.25 || f.Version != "9" || f.Level != 2 ||
		f.Knows != 3 || f.Leads[0] != 0 || f.Follows == nil || f.DiskBytes != 7 || !f.Drained || *f.DiskLimit != 10 ||
		f.DiskFree != nil || f.Files != nil || f.FileLimit != nil || f.LagRecords != nil || f.Memory != 5 ||
		f.Certificates[0].Key != "soon" {
		t.Errorf("%+v", f)
	}
	if b.Answers || b.Since != nil || b.Figures != nil || b.Clock != nil || b.ToldAt != nil ||
		!strings.Contains(body, `"figures": null`) {
		t.Errorf("%+v", b)
	}
	// What both have found about one topic is there once, and is no more than a notice.
	for _, node := range []string{"a", "b"} {
		of := condition.Condition{ID: condition.KeysUnproven, Severity: condition.Notice, Node: node,
			Subject: "topic x"}
		if node == "a" {
			st.Conditions = append(st.Conditions, of)
		} else {
			st.Others = append(st.Others, of)
		}
	}
	st.Shards[1].Leader = ""
	for _, path := range []string{"/api/v1/cluster", "/api/v1/status"} {
		_, body, _ = request(t, testHandler(src), "GET", path)
		found := decode[struct{ Conditions []condition.Found }](t, body).Conditions
		if len(found) != 1 || len(found[0].Nodes) != 2 || found[0].Node != "a" {
			t.Errorf("%s: %+v", path, found)
		}
	}
	_, body, _ = request(t, testHandler(src), "GET", "/api/v1/cluster")
	if c = decode[apiCluster](t, body); c.Health != "well" || len(c.Shards.Leaderless) != 1 {
		t.Errorf("%s", body)
	}
	st.Others = append(st.Others, condition.Condition{ID: condition.SinkStopped, Severity: condition.Stopped,
		Node: "b"})
	_, body, _ = request(t, testHandler(src), "GET", "/api/v1/cluster")
	if c = decode[apiCluster](t, body); c.Health != "stopped" {
		t.Errorf("%s", body)
	}
}
