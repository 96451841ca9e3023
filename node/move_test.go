package node

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/node/status"
	"deckle/node/web"
)

// verb asks a node over HTTP, and decodes a good answer into out.
func (n *Node) verb(t *testing.T, path, body string, out any) (code int, text string) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Host, r.RemoteAddr = "localhost", "127.0.0.1:40000"
	r.Header.Set("Content-Type", "application/json")
	n.Handler().ServeHTTP(w, r)
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
			t.Error(err)
		}
	}
	return w.Code, w.Body.String()
}

// leads returns the shards that a node leads.
func (n *Node) leads() (shards []uint32) {
	for _, s := range n.Status().Shards {
		if s.IsLeader {
			shards = append(shards, s.Shard)
		}
	}
	return shards
}

// Three nodes and three shards. Any node takes the verbs over HTTP. A node that is drained leads nothing, shows it to
// the others, and is given no shard; the last one that could lead is not drained. Undrained it has its shard back. A
// shard that was transferred stays with a node that is not its preferred one.
func TestDrainAndTransfer(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nodetest.NewBroker(t, 3), 3, func(cfg *config.Config) { cfg.Cluster.Shards = 3 })
	for i := range c.nodes {
		c.start(i)
	}
	c.ready()
	home := func(i int) func() bool {
		return func() bool { return slices.Equal(c.nodes[i].leads(), []uint32{uint32(i)}) }
	}
	for i := range c.nodes {
		nodetest.Until(t, "all are at home", home(i))
	}
	nodetest.Until(t, "node 0 and node 1 know of all", func() bool {
		return c.nodes[0].members.last().canLoseOne != nil && c.nodes[1].members.last().canLoseOne != nil &&
			c.nodes[2].members.last().canLoseOne != nil
	})
	const drain, undrain, transfer = "/api/v1/cluster/drain", "/api/v1/cluster/undrain", "/api/v1/cluster/transfer"
	var d status.DrainOutcome
	nodetest.Until(t, "node 1 is drained, asked at node 0", func() bool {
		code, text := c.nodes[0].verb(t, drain, `{"node":"n1"}`, &d)
		if code != http.StatusOK {
			t.Log(text)
		}
		return code == http.StatusOK
	})
	if d.Node != "n1" || !d.Drained || d.Leads == nil || d.Warnings == nil {
		t.Errorf("%+v", d)
	}
	nodetest.Until(t, "node 1 leads nothing, and all know it", func() bool {
		for _, n := range c.nodes {
			i := slices.IndexFunc(n.Status().Members, func(m status.Member) bool { return m.Node == "n1" })
			if f := n.Status().Members[i].Figures; f == nil || !f.Drained || len(f.Leads) > 0 {
				return false
			}
		}
		return len(c.nodes[1].leads()) == 0
	})
	if !has(c.nodes[1].Status().Conditions, condition.NodeDrained, subjectNode) {
		t.Error("no condition says it")
	}
	var moved status.TransferOutcome
	for body, want := range map[string]string{`{"shard":0,"to":"n1"}`: "drained", `{"shard":0,"to":"x"}`: "no node",
		`{"shard":9,"to":"n2"}`: "no shard 9"} {
		nodetest.Until(t, "a refusal", func() bool { // a leader may be on its way
			code, text := c.nodes[1].verb(t, transfer, body, &moved)
			return code == http.StatusConflict && strings.Contains(text, want)
		})
	}
	nodetest.Until(t, "node 2 is drained, too", func() bool {
		code, _ := c.nodes[2].verb(t, drain, `{"node":"n2"}`, &d)
		return code == http.StatusOK
	})
	nodetest.Until(t, "node 0 knows it, and refuses", func() bool {
		code, text := c.nodes[2].verb(t, drain, `{"node":"n0"}`, &d)
		if code == http.StatusOK { // it had not heard of it yet
			c.nodes[0].verb(t, undrain, `{"node":"n0"}`, &d)
		}
		return code == http.StatusConflict && strings.Contains(text, "node n1 is drained")
	})
	for _, name := range []string{"n1", "n2"} {
		if code, text := c.nodes[0].verb(t, undrain, `{"node":"`+name+`"}`, &d); code != http.StatusOK || d.Drained {
			t.Errorf("undrain: %d %s", code, text)
		}
	}
	nodetest.Until(t, "node 1 has its shard again", home(1))
	nodetest.Until(t, "node 2 has all, asked at node 1", func() bool {
		code, text := c.nodes[1].verb(t, transfer, `{"all":true,"to":"n2"}`, &moved)
		if code != http.StatusOK || !moved.Whole {
			t.Log(text)
		}
		return code == http.StatusOK && moved.Whole && len(moved.Shards) == 3
	})
	nodetest.Until(t, "it leads them", func() bool { return len(c.nodes[2].leads()) == 3 })
	if has(c.nodes[1].Status().Conditions, condition.NodeDrained, subjectNode) {
		t.Error("the condition stays")
	}
}

// A node that is alone, and one that another version asks something unknown, refuse and change nothing.
func TestDrainIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nodetest.NewBroker(t, 1), 1, nil)
	n := c.start(0)
	c.ready()
	var d status.DrainOutcome
	code, text := n.verb(t, "/api/v1/cluster/drain", `{"node":"n0"}`, &d)
	if code != http.StatusConflict || !strings.Contains(text, "the only one") || n.raft.Drained() {
		t.Errorf("%d %s, drained %t", code, text, n.raft.Drained())
	}
	asker := func(role string) string {
		return `{"principal":"a","role":"` + role + `","request":"0123456789abcdef"}`
	}
	for call, want := range map[string]string{
		`["cluster",{"Op":"rest","By":"x","Asker":` + asker("operator") + `}]`: "said",
		`["cluster",{"Op":"rest","By":"n1"}]`:                                  "who asks",
		`["cluster",{"Op":"rest","By":"n1","Asker":` + asker("viewer") + `}]`:  "role",
		`["cluster",{"Op":"no","By":"n1","Asker":` + asker("admin") + `}]`:     "know",
		`["other",{}]`: "does not know",
	} {
		var r moveReply
		answer := n.commands.obey(nodetest.Context(t), "n1", json.RawMessage(call))
		if err := json.Unmarshal(answer, &r); err != nil || !r.Refused || !strings.Contains(r.Error, want) {
			t.Errorf("%s: %s, %v", call, answer, err)
		}
	}
	if n.raft.Drained() {
		t.Error("it is drained")
	}
	if _, err := n.mover.Drain(nodetest.Context(t), &status.DrainRequest{Node: "n7"}); !errors.Is(err,
		status.ErrRefused) {
		t.Errorf("a node that is none: %v", err)
	}
	if need := web.Need(web.ClusterVerb(status.ClusterDrain)).String(); need != "operator" {
		t.Errorf("it takes the role %s", need)
	}
}
